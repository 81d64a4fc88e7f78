"""Rates: so many calls in a period, on average."""

from __future__ import annotations

from typing import NamedTuple

from ..amount import shown
from ..decision import Reason
from .base import SECOND, Cell, Ending, Hold, Refusal, Taken

__all__ = ["Rate"]


class Rate(NamedTuple):
    """
    At most *burst* at once, refilled at *calls* per *period* µs (the generic cell rate algorithm).

    The cell is the time at which the bucket is full again, as whole microseconds and
    a remainder in *calls*-ths of one, so that no rounding ever adds up.
    """

    key: str
    rule: str
    calls: int
    period: int
    burst: int
    scope: str

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Take one, unless the bucket is empty."""
        at, calls, period = hold.at, self.calls, self.period
        full, part = (cell[0], cell[1]) if cell is not None and cell[0] >= at else (at, 0)
        carry, part = divmod(part + period, calls)  # exactly: full + part/calls + period/calls
        full += carry
        ahead = (full - at) * calls + part - self.burst * period
        if ahead > 0:
            return self._refuse(-(-ahead // calls))
        return (full, part)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """A rate counts attempts: nothing is given back, whatever became of the call."""
        return cell

    def _refuse(self, wait: int) -> Refusal:
        millis = max(1, -(-wait // 1000))
        message = (
            f"{self.calls} calls per {_span(self.period)}{self.scope} (at most {self.burst} at once) are used up; "
            f"the next one is possible in {shown(millis * 1000)} s"
        )
        return Refusal(Reason("rate", self.rule, message, millis / 1000))


def _span(period: int) -> str:
    names = {SECOND: "second", 60 * SECOND: "minute", 3600 * SECOND: "hour", 86400 * SECOND: "day"}
    return names.get(period) or f"{shown(period)} s"
