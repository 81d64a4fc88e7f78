"""Budgets: so much of something in each window of time."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..amount import Micros, shown
from ..decision import Reason
from ..window import Window, window_of
from .base import SECOND, Cell, Ending, Hold, Refusal, Taken

__all__ = ["Quota"]


class Quota(NamedTuple):
    """
    At most *limit* of *name* within *window* (None: for as long as the key lives).

    The cell is (window, used, held), amounts in millionths.
    """

    key: str
    rule: str
    name: str
    amount: Micros
    limit: Micros
    window: Window | None
    scope: str

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Hold *amount*, unless used and held would pass the limit."""
        window, amount = self.window, self.amount
        current = 0 if window is None else window.number(hold.at)
        if cell is None or cell[0] != current:
            cell = (current, 0, 0)
        taken = cell[1] + cell[2]
        if taken + amount > self.limit:
            return self._refuse(taken, hold.at)
        return (current, cell[1], cell[2] + amount)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Turn what is held into what was used; a window that has passed is left alone."""
        own = window_of(hold.at, self.window)
        if cell is None:  # this call held nothing, and may have used something all the same
            cell = (own, self.amount, 0) if ending.late else (own, 0, self.amount)
        elif cell[0] != own:
            return cell
        used, held = cell[1], cell[2]
        if ending.late:  # what is unknown counts as used
            used -= self.amount
        else:
            held -= self.amount
        if ending.outcome == "succeeded":
            used += ending.used.get(self.name, self.amount)
        elif ending.outcome == "unknown":
            used += self.amount
        return (cell[0], used, held) if used or held else None

    def _refuse(self, taken: Micros, now: int) -> Refusal:
        left = max(0, self.limit - taken)
        retry: Literal["never"] | float = "never"
        when, resets = "", ""
        if self.window is not None:
            end = self.window.end(now)
            when = f" {self.window.spoken}"
            resets = f"; resets {self.window.shown(end)}"
            if self.amount <= self.limit:
                retry = -(-(end - now) // SECOND)
        need = f"this call needs {shown(self.amount)}"
        message = f"{self.name}{self.scope} has {shown(left)} of {shown(self.limit)} left{when}, {need}{resets}"
        if self.amount > self.limit:
            message += "; no single call may need more than the whole limit"
        return Refusal(Reason("budget", self.rule, message, retry))
