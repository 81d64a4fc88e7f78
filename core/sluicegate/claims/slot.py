"""Slots: so many calls at the same time, each with a lease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..amount import shown
from ..decision import Reason
from .base import SECOND, Cell, Ending, Hold, Refusal, Taken

__all__ = ["Slot", "pairs", "without"]


class Slot(NamedTuple):
    """
    At most *limit* calls at the same time; a slot comes back when its lease expires.

    The cell is (permit, expires, permit, expires, …). *wait* is for how long a call
    may wait for a slot, in µs.
    """

    key: str
    rule: str
    limit: int
    wait: int
    scope: str

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Take a slot, unless all of them are leased."""
        leased = _living(cell, hold.at)
        if len(leased) >= 2 * self.limit:
            return self._refuse(min(leased[1::2]) - hold.at)
        return (*leased, hold.permit, hold.expires)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Give the slot back; after an unknown outcome it stays leased until it expires."""
        if cell is None or ending.outcome == "unknown":
            return cell
        return without(cell, hold.permit)

    def _refuse(self, wait: int) -> Refusal:
        seconds = max(1, -(-wait // SECOND))
        calls = "1 call is" if self.limit == 1 else f"{self.limit} calls are"
        waited = f" after waiting {shown(self.wait)} s" if self.wait else ""
        message = (
            f"all slots{self.scope} are taken{waited}: {calls} allowed at the same time; "
            f"one is free when a call ends, in {seconds} s at the latest"
        )
        return Refusal(Reason("concurrency", self.rule, message, min(1.0, seconds)), self.wait)


def pairs(cell: Cell) -> list[tuple[str, int]]:
    """The permits in a cell, each with the end of its lease."""
    return list(zip(cell[0::2], cell[1::2], strict=True)) if cell else []


def _living(cell: Cell, now: int) -> tuple[Any, ...]:
    if not cell:
        return ()
    if min(cell[1::2]) > now:
        return tuple(cell)
    return tuple(part for pair in pairs(cell) if pair[1] > now for part in pair)


def without(cell: Sequence[Any], permit: str) -> Cell:
    """The cell without *permit*; None if no other is left."""
    if len(cell) == 2 and cell[0] == permit:
        return None  # as it mostly is
    left = tuple(part for pair in pairs(cell) if pair[0] != permit for part in pair)
    return left or None
