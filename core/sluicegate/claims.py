"""
Claims on shared state, as pure arithmetic.

A claim is a frozen value with two functions:

    take(cell, hold)            → the cell afterwards, or a refusal, or an earlier result
    settle(cell, hold, ending)  → the cell afterwards

A cell is what a ledger keeps under the claim's `key`: a tuple of JSON values, or
None where there is nothing. A ledger loads all cells of a batch under one lock,
takes every claim, and writes all of them or none. Nothing else changes state, so
limits are exact under any interleaving. These laws hold for each kind:

- a refusal changes nothing;
- after a failure, what was taken is given back exactly (a rate is not: it counts attempts);
- after an unknown outcome, nothing is given back;
- a lease that has expired counts as an unknown outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .amount import Micros, shown
from .decision import Code, Reason
from .window import Window, window_of

__all__ = [
    "Cell", "Claim", "Ending", "Hold", "Once", "Quota", "Rate", "Refusal", "Replay",
    "Seen", "Slot", "Taken", "Unsettled",
]  # fmt: skip

Cell: TypeAlias = "Sequence[Any] | None"


class Hold(NamedTuple):
    """What takes a claim: a permit, at a time, for a while, for exactly one tool and arguments."""

    permit: str
    at: int
    expires: int
    binding: str


class Ending(NamedTuple):
    """How a held claim ends. *used* has the real costs; *entry* is the outcome's place in the journal."""

    outcome: Literal["succeeded", "failed", "unknown"]
    used: Mapping[str, Micros]
    at: int
    entry: int


class Refusal(NamedTuple):
    """A claim's no. *wait* is for how long in all the caller may wait for a yes, in µs."""

    reason: Reason
    wait: int = 0


class Replay(NamedTuple):
    """The same call succeeded before; its outcome is the journal entry with this number."""

    entry: int


Taken: TypeAlias = "Sequence[Any] | Refusal | Replay"

SECOND: Final = 1_000_000


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
        current = window_of(hold.at, self.window)
        if cell is None or cell[0] != current:
            cell = (current, 0, 0)
        taken = cell[1] + cell[2]
        if taken + self.amount > self.limit:
            return self._refuse(taken, hold.at)
        return (current, cell[1], cell[2] + self.amount)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Turn what is held into what was used; a window that has passed is left alone."""
        if cell is None or cell[0] != window_of(hold.at, self.window):
            return cell
        used = cell[1]
        if ending.outcome == "succeeded":
            used += ending.used.get(self.name, self.amount)
        elif ending.outcome == "unknown":
            used += self.amount
        held = cell[2] - self.amount
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
        full, part = (cell[0], cell[1]) if cell is not None else (hold.at, 0)
        if full < hold.at:
            full, part = hold.at, 0
        full, part = _plus(full, part, self.period, self.calls)
        ahead = (full - hold.at) * self.calls + part - self.burst * self.period
        if ahead > 0:
            return self._refuse(-(-ahead // self.calls))
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
        return _without(cell, hold.permit)

    def _refuse(self, wait: int) -> Refusal:
        seconds = max(1, -(-wait // SECOND))
        calls = "1 call is" if self.limit == 1 else f"{self.limit} calls are"
        waited = f" after waiting {shown(self.wait)} s" if self.wait else ""
        message = (
            f"all slots{self.scope} are taken{waited}: {calls} allowed at the same time; "
            f"one is free when a call ends, in {seconds} s at the latest"
        )
        return Refusal(Reason("concurrency", self.rule, message, min(1.0, seconds)), self.wait)


class Once(NamedTuple):
    """
    At most one success of a key within *within* µs (None: ever), bound to tool and arguments.

    The cell is (state, binding, since, permit, number): see ONCE for the states.
    *repeatable* calls (read, idempotent) may run again after an unknown outcome; then
    the state is "again", and a sixth field keeps the permit whose outcome is unknown.
    """

    key: str
    rule: str
    name: str
    within: int | None
    repeatable: bool

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Hold the key, answer with the recorded outcome, or refuse."""
        return _take_once(self, cell, hold, "key", _ONCE_CODES)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Follow the table; a key that another permit holds by now is left alone."""
        return _settle_once(cell, hold, ending)


class Seen(NamedTuple):
    """
    A call id is dispatched once: the same states as a key, said in the words of call ids.
    """

    key: str
    rule: str
    name: str
    repeatable: bool
    within: int | None = None

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Note the id, answer with the recorded outcome, or refuse."""
        return _take_once(self, cell, hold, "call id", _SEEN_CODES)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Follow the table; an id that another permit holds by now is left alone."""
        return _settle_once(cell, hold, ending)


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
        for permit, expires in _pairs(cell):
            if expires <= hold.at:
                return Refusal(
                    Reason(
                        "outcome_unknown", self.rule, _UNKNOWN.format("the identical call", permit)
                    )
                )
        return (*(cell or ()), hold.permit, hold.expires)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Leave the calls under way; after an unknown outcome stay, without an end."""
        others = _without(cell or (), hold.permit)
        return (*(others or ()), hold.permit, 0) if ending.outcome == "unknown" else others


Claim: TypeAlias = Quota | Rate | Slot | Once | Seen | Unsettled

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
}
"""What a held key becomes, by the outcome of its call."""

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
    return Refusal(Reason(codes[answer], claim.rule, told, retry))


def _told(key: str, answer: Answer, cell: Sequence[Any]) -> str:
    if answer == "busy":
        return f"{key} is being carried out right now under permit {cell[3]}; wait for its result"
    if answer == "doubt":
        return _UNKNOWN.format(key, cell[3])
    return (
        f"{key} was used before, by permit {cell[3]}, with other arguments; "
        "repeat the call with the same arguments, or use another key"
    )


def _settle_once(cell: Cell, hold: Hold, ending: Ending) -> Cell:
    if cell is None or cell[3] != hold.permit or (cell[0], ending.outcome) not in ENDINGS:
        return cell
    state = ENDINGS[cell[0], ending.outcome]
    if state == "absent":
        return None
    permit = cell[5] if cell[0] == "again" and ending.outcome == "failed" else cell[3]
    return (state, cell[1], cell[2], permit, ending.entry)


# --- leases ---------------------------------------------------------------------------------


def _pairs(cell: Cell) -> list[tuple[str, int]]:
    return list(zip(cell[0::2], cell[1::2], strict=True)) if cell else []


def _living(cell: Cell, now: int) -> tuple[Any, ...]:
    if not cell:
        return ()
    if min(cell[1::2]) > now:
        return tuple(cell)
    return tuple(part for pair in _pairs(cell) if pair[1] > now for part in pair)


def _without(cell: Sequence[Any], permit: str) -> Cell:
    left = tuple(part for pair in _pairs(cell) if pair[0] != permit for part in pair)
    return left or None


# --- arithmetic -------------------------------------------------------------------------------


def _plus(whole: int, part: int, period: int, count: int) -> tuple[int, int]:
    """(whole + part/count) + period/count, exactly."""
    carry, part = divmod(part + period, count)
    return whole + carry, part


def _span(period: int) -> str:
    names = {SECOND: "second", 60 * SECOND: "minute", 3600 * SECOND: "hour", 86400 * SECOND: "day"}
    return names.get(period) or f"{shown(period)} s"
