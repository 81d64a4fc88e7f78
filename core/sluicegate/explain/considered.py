"""One rule that was looked at: what it found, what it allows, and what it said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from ..amount import MICRO, Micros, shown
from ..claims import (
    Approval,
    Barrier,
    Breaker,
    Cell,
    Claim,
    Labels,
    Needs,
    Once,
    Quota,
    Rate,
    Seen,
    Slot,
    Traced,
    Unsettled,
)
from ..claims.approval import state_of
from ..claims.marks import seen_labels
from ..window import window_of

__all__ = ["Considered", "Finding", "Left", "RuleVerdict", "found"]

RuleVerdict: TypeAlias = Literal["passes", "refuses", "asks", "skipped"]
"""
What a rule said: nothing against the call, no, that a person must say yes first, or
nothing at all because the gate does not get to it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """
    What a limit has left, before this call. Amounts are in millionths, of calls and slots too.

    *resets_at* is in µs since 1970 UTC; None where nothing resets.
    """

    used: Micros
    held: Micros
    limit: Micros
    resets_at: int | None = None

    @property
    def left(self) -> Micros:
        return max(0, self.limit - self.used - self.held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """
    One rule, its value and its limit.

    *rule* is its place in the policy, *kind* the word for what it is. *value* is what was
    found and *limit* what is allowed, both for people; None where there is no such thing.
    *left* has the numbers of a budget, a rate or slots. *message* of a refusal is that of
    the decision's reason.
    """

    rule: str
    kind: str
    verdict: RuleVerdict
    message: str
    value: str | None = None
    limit: str | None = None
    left: Left | None = None


class Finding(NamedTuple):
    """What a claim finds before it is taken: *message* is what it says when it is granted."""

    kind: str
    value: str | None
    limit: str | None
    message: str
    left: Left | None = None


def found(claim: Claim, cells: Sequence[Cell], at: int) -> Finding:
    """What *claim* finds in its *cells* at *at* (µs since 1970 UTC)."""
    return _FOUND[type(claim)](claim, cells[0], at)


# --- limits -------------------------------------------------------------------------------------


def _quota(claim: Quota, cell: Cell, at: int) -> Finding:
    used, held = 0, 0
    if cell is not None and cell[0] == window_of(at, claim.window):
        used, held = cell[1], cell[2]
    resets = None if claim.window is None else claim.window.end(at)
    state = Left(used=used, held=held, limit=claim.limit, resets_at=resets)
    ends = "" if claim.window is None else f"; resets {claim.window.shown(claim.window.end(at))}"
    message = (
        f"{claim.name}{claim.scope}: {shown(used)} used and {shown(held)} held of "
        f"{shown(claim.limit)}, {shown(state.left)} left, this call needs {shown(claim.amount)}{ends}"
    )
    return Finding("budget", shown(used + held), shown(claim.limit), message, state)


def _rate(claim: Rate, cell: Cell, at: int) -> Finding:
    limit = claim.burst * MICRO
    ahead = 0 if cell is None else max(0, cell[0] - at)
    used = min(limit, -(-ahead * MICRO * claim.calls // claim.period))
    resets = cell[0] if cell is not None and ahead else None
    state = Left(used=used, held=0, limit=limit, resets_at=resets)
    now = state.left // MICRO
    message = (
        f"{claim.calls} in {shown(claim.period)} s{claim.scope}: {now} possible at once now, "
        f"of {claim.burst} at most"
    )
    return Finding("rate", str(claim.burst - now), str(claim.burst), message, state)


def _slot(claim: Slot, cell: Cell, at: int) -> Finding:
    leased = sum(1 for expires in (cell or ())[1::2] if expires > at)
    state = Left(used=0, held=leased * MICRO, limit=claim.limit * MICRO)
    message = f"{leased} of {claim.limit} slots{claim.scope} are taken"
    return Finding("concurrency", str(leased), str(claim.limit), message, state)


# --- keys and failures ----------------------------------------------------------------------------


def _key(claim: Once | Seen, cell: Cell, at: int) -> Finding:
    what = "key" if type(claim) is Once else "call id"
    state = "was not used" if cell is None else f"is {cell[0]}, by permit {cell[3]}"
    if cell is not None and cell[0] == "done" and claim.within is not None:
        state = "may be used again" if at >= cell[2] + claim.within else state
    within = None if claim.within is None else f"once in {shown(claim.within)} s"
    name = claim.name if len(claim.name) <= 120 else f"{claim.name[:119]}…"
    kind = "once" if type(claim) is Once else "call id"
    return Finding(kind, name, within or "once", f"{what} {name!r} {state}")


def _unsettled(claim: Unsettled, cell: Cell, at: int) -> Finding:
    count = len(cell or ()) // 2
    message = f"no identical call of this run has an unknown outcome ({count} are under way)"
    return Finding("effect", str(count), None, message)


def _breaker(claim: Breaker, cell: Cell, at: int) -> Finding:
    failed = 0 if cell is None else int(cell[0])
    state = "closed" if failed < claim.failures else "open, and this call may probe it"
    message = (
        f"{failed} calls of {claim.tool} failed in a row, {claim.failures} open the breaker for "
        f"{shown(claim.cooldown)} s: it is {state}"
    )
    return Finding("breaker", str(failed), str(claim.failures), message)


# --- what a run remembers -----------------------------------------------------------------------------


def _needs(claim: Needs, cell: Cell, at: int) -> Finding:
    entry = f" (journal entry {cell[0]})" if cell and cell[0] > 0 else ""
    message = f"{claim.wanted} has succeeded earlier in this run{entry}"
    return Finding("requires", None if cell is None else "done", claim.wanted, message)


def _barrier(claim: Barrier, cell: Cell, at: int) -> Finding:
    seen = seen_labels(cell, at, claim.turn)
    both = [label for label in claim.after if label in seen]
    missing = ", ".join(label for label in claim.after if label not in seen)
    message = f"flow {claim.name}: this run has not seen {missing}"
    return Finding("flow", ", ".join(both) or "none", ", ".join(claim.after), message)


def _labelled(claim: Labels, cell: Cell, at: int) -> Finding:
    seen = ", ".join(seen_labels(cell, at, claim.turn)) or "none"
    message = f"the result will mark the run as having seen {', '.join(claim.labels)}"
    return Finding("labels", seen, None, message)


def _traced(claim: Traced, cell: Cell, at: int) -> Finding:
    message = f"{claim.shown} came from {claim.words}"
    return Finding("origin", claim.shown, claim.words, message)


def _approval(claim: Approval, cell: Cell, at: int) -> Finding:
    state = state_of(cell, at)
    return Finding("approve", state, None, f"a person's yes to this call is {state}")


_Read: TypeAlias = Callable[[Any, Any, int], Finding]

_FOUND: Final = cast(
    "Mapping[object, _Read]",
    {
        Quota: _quota,
        Rate: _rate,
        Slot: _slot,
        Once: _key,
        Seen: _key,
        Unsettled: _unsettled,
        Breaker: _breaker,
        Needs: _needs,
        Barrier: _barrier,
        Labels: _labelled,
        Traced: _traced,
        Approval: _approval,
    },
)
