"""A person's yes to exactly one action, for once, for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..decision import Reason
from .base import Cell, Ending, Hold, Refusal

__all__ = ["ANSWERS", "VERDICTS", "Approval", "Asked", "State", "state_of", "verdict"]

State: TypeAlias = Literal["absent", "pending", "approved", "rejected", "spent", "expired"]

ANSWERS: Final[Mapping[State, Literal["ask", "wait", "spend", "refuse"]]] = {
    "absent": "ask",
    "pending": "wait",
    "approved": "spend",
    "rejected": "refuse",
    "spent": "ask",
    "expired": "ask",
}
"""What a call that needs a person's yes is told, by the state of the request."""

VERDICTS: Final[Mapping[tuple[State, Literal["approve", "reject"]], State]] = {
    ("pending", "approve"): "approved",
    ("pending", "reject"): "rejected",
    ("approved", "reject"): "rejected",  # taken back before it was used
}
"""What becomes of a request when a person decides; anything else is refused."""


class Asked(NamedTuple):
    """A person has to say yes first. *cell* is that of the request; *new* if it was made just now."""

    cell: Sequence[Any]
    new: bool
    lapsed: str | None

    @property
    def request(self) -> str:
        return str(self.cell[1])

    @property
    def expires(self) -> int:
        return int(self.cell[3])


class Approval(NamedTuple):
    """
    The claim on a person's yes, looked at when all else would be granted.

    The cell is (state, request, since, expires, journal entry of the request, by or permit).
    *request* is the name of the request that is made if there is none; it lives for *within* µs.
    """

    key: str
    rule: str
    request: str
    within: int

    def take(self, cell: Cell, hold: Hold) -> Sequence[Any] | Refusal | Asked:
        """Spend the yes, refuse after a no, or ask."""
        state = state_of(cell, hold.at)
        answer = ANSWERS[state]
        if cell is not None and answer == "spend":
            return ("spent", *cell[1:5], hold.permit)
        if cell is not None and answer == "refuse":
            message = (
                f"{cell[5]} has rejected request {cell[1]} for exactly this call; do something else"
            )
            return Refusal(Reason("approval_rejected", self.rule, message))
        if cell is not None and answer == "wait":
            return Asked(cell, new=False, lapsed=None)
        lapsed = str(cell[1]) if cell is not None and state == "expired" else None
        new = ("pending", self.request, hold.at, hold.at + self.within, 0, "")
        return Asked(new, new=True, lapsed=lapsed)

    def granted(self, cell: Cell, at: int) -> bool:
        """Whether a person has said yes to this very call."""
        return state_of(cell, at) == "approved"

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """After a failure nothing has happened, and the yes still stands."""
        if (
            cell is None
            or ending.outcome != "failed"
            or (cell[0], cell[5]) != ("spent", hold.permit)
        ):
            return cell
        return ("approved", *cell[1:5], "")


def state_of(cell: Cell, at: int) -> State:
    """The state of a request at *at*. A no lapses like a yes: then the call may be asked for again."""
    if cell is None:
        return "absent"
    state: State = cell[0]
    if state != "spent" and cell[3] <= at:
        return "absent" if state == "rejected" else "expired"
    return state


def verdict(
    cell: Cell, at: int, word: Literal["approve", "reject"], by: str
) -> Sequence[Any] | str:
    """The cell after a person has decided, or why there is nothing to decide."""
    state = state_of(cell, at)
    after = VERDICTS.get((state, word))
    if cell is None or after is None:
        return f"it is {state}" if state != "absent" else "there is no such request"
    return (after, *cell[1:5], by)
