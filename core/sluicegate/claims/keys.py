"""Keys: one action, one success. One table of states serves business keys and call ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..decision import Code, Reason
from .base import Cell, Ending, Hold, Refusal, Replay, Taken
from .slot import pairs, without

__all__ = ["ENDINGS", "ONCE", "Once", "Seen", "Unsettled"]


class Once(NamedTuple):
    """
    At most one success of a key within *within* µs (None: ever), bound to tool and arguments.

    The cell is (state, binding, since, permit, number): see ONCE for the states. A success
    with a *within* has a sixth field, until when it is valid. *repeatable* calls (read,
    idempotent) may run again after an unknown outcome; then the state is "again", and the
    sixth field keeps the permit whose outcome is unknown. *wait* is for how long a call may
    wait for the result of the same call, in µs.
    """

    key: str
    rule: str
    name: str
    within: int | None
    repeatable: bool
    wait: int = 0

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Hold the key, answer with the recorded outcome, or refuse."""
        return _take_once(self, cell, hold, "key", _ONCE_CODES)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Follow the table; a key that another permit holds by now is left alone."""
        return _settle_once(self, cell, hold, ending)


class Seen(NamedTuple):
    """
    A call id is dispatched once: the same states as a key, said in the words of call ids.
    """

    key: str
    rule: str
    name: str
    repeatable: bool
    within: int | None = None
    wait: int = 0

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Note the id, answer with the recorded outcome, or refuse."""
        return _take_once(self, cell, hold, "call id", _SEEN_CODES)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Follow the table; an id that another permit holds by now is left alone."""
        return _settle_once(self, cell, hold, ending)


class Unsettled(NamedTuple):
    """
    No call that writes runs while an identical one of the same run has an unknown outcome.

    The cell is (permit, expires, …) of the calls under way; expires 0 is an outcome
    settled as unknown. Identical calls may run side by side: only doubt refuses.
    """

    key: str
    rule: str

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Join the calls under way, unless one of them was never settled."""
        for permit, expires in pairs(cell):
            if expires <= hold.at:
                return Refusal(
                    Reason(
                        "outcome_unknown", self.rule, _UNKNOWN.format("the identical call", permit)
                    )
                )
        return (*(cell or ()), hold.permit, hold.expires)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Leave the calls under way; after an unknown outcome stay, without an end."""
        others = without(cell or (), hold.permit)
        return (*(others or ()), hold.permit, 0) if ending.outcome == "unknown" else others


# --- keys: one table of states for Once and Seen -----------------------------------------------

_UNKNOWN: Final = (
    "{} ran under permit {} and its outcome is unknown; "
    "find out what happened and have a person reconcile it before it is tried again"
)

State: TypeAlias = Literal["absent", "held", "done", "unknown"]
Answer: TypeAlias = Literal["hold", "busy", "replay", "doubt", "conflict"]

ONCE: Final[Mapping[tuple[State, bool], Answer]] = {
    # (state, the same tool and arguments) → what a new call is told
    ("absent", True): "hold",
    ("held", True): "busy",
    ("held", False): "conflict",
    ("done", True): "replay",
    ("done", False): "conflict",
    ("unknown", True): "doubt",
    ("unknown", False): "conflict",
}
"""What a claim on a key is answered, by the state of the key."""

ENDINGS: Final[Mapping[tuple[str, str], State]] = {
    ("held", "succeeded"): "done",
    ("held", "failed"): "absent",
    ("held", "unknown"): "unknown",
    ("again", "succeeded"): "done",
    ("again", "failed"): "unknown",  # the earlier call is as unknown as before
    ("again", "unknown"): "unknown",
    ("unknown", "succeeded"): "done",  # found out later
    ("unknown", "failed"): "absent",
}
"""What a key becomes, by the outcome of the call that holds it."""

_ONCE_CODES: Final[Mapping[Answer, Code]] = {
    "busy": "in_progress", "conflict": "key_conflict", "doubt": "outcome_unknown"
}  # fmt: skip
_SEEN_CODES: Final[Mapping[Answer, Code]] = {
    "busy": "duplicate_call", "conflict": "duplicate_call", "doubt": "outcome_unknown"
}  # fmt: skip


def _state(cell: Sequence[Any], now: int, within: int | None) -> State:
    state: State = "held" if cell[0] == "again" else cell[0]
    if state == "held" and cell[4] <= now:
        return "unknown"  # nobody settled it while its lease lasted
    if state == "done" and within is not None and now >= cell[2] + within:
        return "absent"
    return state


def _take_once(
    claim: Once | Seen, cell: Cell, hold: Hold, what: str, codes: Mapping[Answer, Code]
) -> Taken:
    held = ("held", hold.binding, hold.at, hold.permit, hold.expires)
    if cell is None:
        return held
    state = _state(cell, hold.at, claim.within)
    answer = ONCE[state, state == "absent" or cell[1] == hold.binding]
    if answer == "hold":
        return held
    if answer == "doubt" and claim.repeatable:
        return ("again", hold.binding, hold.at, hold.permit, hold.expires, cell[3])
    if answer == "replay":
        return Replay(cell[4])
    retry: Literal["never"] | float = 1.0 if answer == "busy" else "never"
    told = _told(f"{what} {claim.name[:120]!r}", answer, cell)
    return Refusal(
        Reason(codes[answer], claim.rule, told, retry), claim.wait if answer == "busy" else 0
    )


def _told(key: str, answer: Answer, cell: Sequence[Any]) -> str:
    if answer == "busy":
        return f"{key} is being carried out right now under permit {cell[3]}; wait for its result"
    if answer == "doubt":
        return _UNKNOWN.format(key, cell[3])
    return (
        f"{key} was used before, by permit {cell[3]}, with other arguments; "
        "repeat the call with the same arguments, or use another key"
    )


def _settle_once(claim: Once | Seen, cell: Cell, hold: Hold, ending: Ending) -> Cell:
    if cell is None:
        return cell
    if cell[0] == "again" and ending.late and cell[5] == hold.permit:
        return ("held", *cell[1:5])  # the doubt is gone, and the call that runs now goes on
    if cell[3] != hold.permit or (cell[0], ending.outcome) not in ENDINGS:
        return cell
    if cell[0] == "unknown" and not ending.late:
        return cell
    state = ENDINGS[cell[0], ending.outcome]
    if state == "absent":
        return None
    permit = cell[5] if cell[0] == "again" and ending.outcome == "failed" else cell[3]
    valid = (cell[2] + claim.within,) if state == "done" and claim.within is not None else ()
    return (state, cell[1], cell[2], permit, ending.entry, *valid)
