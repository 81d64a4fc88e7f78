"""
What people do: say yes or no to a request, halt and resume. Pure: as requests to the ledger.

A journal entry of such a deed, or of housekeeping, has all that it takes to do it again (`amending_of`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from .archiving import archived_as_told
from .claims import HALTS, Cell
from .claims.approval import verdict
from .claims.standing import run_key, scope_words
from .entries import amending_entry
from .housekeeping import swept
from .ledger.base import Amending

__all__ = ["Scope", "amending_of", "answering", "halting", "resuming"]

_MOST: Final = 1000
"""So many halts at most are in force: every decision looks at all of them."""


class Scope(NamedTuple):
    """What a halt is about: calls that have all the parts that are given. No part at all is everything."""

    tenant: str | None = None
    user: str | None = None
    agent: str | None = None
    run: str | None = None

    def __str__(self) -> str:
        return scope_words(self)

    @property
    def given(self) -> dict[str, str]:
        return {part: value for part, value in self._asdict().items() if value is not None}


def answering(
    now: int, key: str, request: str, word: Literal["approve", "reject"], by: str, note: str
) -> Amending:
    """A person says yes or no to *request*, whose cell is under *key*."""

    def amend(cells: tuple[Cell, ...], at: int) -> Sequence[Cell] | str:
        cell = cells[0]
        if cell is not None and cell[1] != request:
            return f"request {request} is over: the same call was asked for anew, as {cell[1]}"
        after = verdict(cell, at, word, by)
        if isinstance(after, str):
            return (
                f"request {request} cannot be {word}{'d' if word == 'approve' else 'ed'}: {after}"
            )
        return (after,)

    action = key.partition("|")[2]
    entry = amending_entry(
        "approval", by=by, note=note, of_action=f"sha256:{action}", request=request, verdict=word
    )
    return Amending(now, (key,), amend, entry)


def halting(now: int, scope: Scope, by: str, reason: str) -> Amending:
    """From now on nothing runs that *scope* is about. Doing it again changes nothing."""

    def amend(cells: tuple[Cell, ...], at: int) -> Sequence[Cell] | str:
        known = [tuple(halt) for halt in cells[0] or ()]
        if any(halt[:4] == tuple(scope) for halt in known):
            return cells
        if len(known) >= _MOST:
            return f"{len(known)} halts are in force already; resume some, or halt more with one"
        return ((*known, (*scope, by, reason, at)),)

    return Amending(
        now, (HALTS,), amend, amending_entry("halt", by=by, reason=reason, scope=scope.given)
    )


def resuming(now: int, scope: Scope, by: str, reason: str) -> Amending:
    """What was halted with exactly *scope* goes on; a run also if its own repetitions halted it."""
    run = None if scope.run is None else run_key(scope.run)

    def amend(cells: tuple[Cell, ...], at: int) -> Sequence[Cell] | str:
        known = [tuple(halt) for halt in cells[0] or ()]
        left = tuple(halt for halt in known if halt[:4] != tuple(scope))
        own = cells[1] if run is not None and len(scope.given) == 1 else None
        halted = own is not None and own[2] is not None
        if len(left) == len(known) and not halted:
            listed = "; ".join(scope_words(halt) for halt in known[:10]) or "nothing"
            return f"{scope} is not halted; halted by people are: {listed}"
        after: list[Cell] = [left or None]
        if run is not None:
            # It is heard of now, so that what it remembers is not taken for forgotten.
            after.append((*own[:2], None, at) if own is not None else cells[1])
        return after

    keys = (HALTS,) if run is None else (HALTS, run)
    return Amending(
        now, keys, amend, amending_entry("resume", by=by, reason=reason, scope=scope.given)
    )


def amending_of(entry: Mapping[str, Any]) -> Amending:
    """The request that a journal entry of one of these kinds records."""
    if entry["kind"] == "swept":
        return swept(entry)
    if entry["kind"] == "archived":
        return archived_as_told(entry)
    now, by = entry["at"], entry["by"]
    if entry["kind"] == "approval":
        key = f"approval|{entry['of_action'].removeprefix('sha256:')}"
        return answering(now, key, entry["request"], entry["verdict"], by, entry["note"])
    scope = Scope(**entry["scope"])
    do = halting if entry["kind"] == "halt" else resuming
    return do(now, scope, by, entry["reason"])
