"""The breaker of a tool: after some failures in a row it is left alone for a while."""

from __future__ import annotations

from typing import NamedTuple

from ..amount import shown
from ..decision import Reason
from .base import SECOND, Cell, Ending, Hold, Refusal, Taken

__all__ = ["Breaker"]


class Breaker(NamedTuple):
    """
    Closed until *failures* calls in a row failed, then open for *cooldown* µs, then one
    call may probe: its success closes the breaker, its failure opens it anew.

    The cell is (failures in a row, opened at, probing permit, end of its lease); the
    breaker is open from *failures* on. An unknown outcome is a failure, and so is a
    probe that was never settled.
    """

    key: str
    rule: str
    tool: str
    failures: int
    cooldown: int

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Pass while it is closed; after the cool-down, be the probe."""
        if cell is None or cell[0] < self.failures:
            return None
        count, opened, probe, lease = cell
        if probe and lease > hold.at:
            return self._refuse(count, min(lease - hold.at, SECOND), "a call is probing it now")
        left = max(opened, lease) + self.cooldown - hold.at
        if left > 0:
            return self._refuse(count, left, "one call may probe it")
        return (count, opened, hold.permit, hold.expires)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Count what failed in a row; while it is open only the probe counts."""
        count, opened, probe, _ = cell or (0, 0, "", 0)
        if ending.late or (count >= self.failures and probe != hold.permit):
            return cell
        if ending.outcome == "succeeded":
            return None
        count += 1
        return (count, ending.at if count >= self.failures else opened, "", 0)

    def _refuse(self, count: int, wait: int, then: str) -> Refusal:
        seconds = -(-wait // SECOND)
        message = (
            f"the breaker of {self.tool} is open: its last {count} calls failed "
            f"({self.failures} in a row open it for {shown(self.cooldown)} s); {then} in {seconds} s"
        )
        if then.endswith("now"):
            message = message.removesuffix(f" in {seconds} s") + "; wait for its result"
        return Refusal(Reason("breaker", self.rule, message, seconds))
