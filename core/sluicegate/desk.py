"""
The desk: where people answer requests, settle what is unknown, halt and resume.

All of it goes through the ledger, so it counts for every process that shares it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .canonical import FrozenDict
from .claims import HALTS
from .claims.approval import State, state_of
from .claims.standing import scope_words
from .decision import Permit, Reason
from .drive import drive
from .errors import LedgerError, PermitError
from .flow import Flow
from .ledger.base import Amended, Amending, Ledger, Out, Rejected
from .outcome import Failed, Outcome, Succeeded
from .past import NotKept, Past
from .people import Scope, answering, halting, resuming
from .plugins import Plugins
from .proposal import Subject, checked_name
from .requests import REQUEST

__all__ = ["Asking", "Desk", "Halted", "UnknownOutcome"]

_log: Final = logging.getLogger("sluicegate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """
    A request for a person's yes to exactly one action. Times are in µs since 1970 UTC.

    *args* is None where the journal keeps no arguments (`record: digest`).
    """

    id: str
    tool: str
    args: Mapping[str, Any] | None
    subject: Subject
    run: str | None
    reasons: tuple[Reason, ...]
    asked_at: int
    expires_at: int
    state: State
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownOutcome:
    """
    A call that was permitted at *at* and of which nobody knows whether it took effect.

    *expired* says that it was never settled: its process may have died. Otherwise it was
    settled as unknown. Times are in µs since 1970 UTC.
    """

    permit_id: str
    tool: str
    args: Mapping[str, Any] | None
    subject: Subject
    run: str | None
    at: int
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Halted:
    """A halt in force: what it is about, who halted it when (µs since 1970 UTC), and why."""

    scope: Mapping[str, str]
    by: str
    reason: str
    at: int

    def __str__(self) -> str:
        return f"{scope_words(Scope(**self.scope))}, halted by {self.by}: {self.reason}"


class Desk:
    """What people can do at one ledger. Each method raises LedgerError if it cannot be used."""

    def __init__(self, ledger: Ledger, flow: Flow, plugins: Plugins | None) -> None:
        self._ledger = ledger
        self._flow = flow
        self._plugins = plugins

    # --- requests -------------------------------------------------------------------------------

    def pending(self) -> list[Asking]:
        """Requests that wait for an answer, oldest first."""
        now = self._flow.now()
        found = [(cell[2], cell) for _, cell in self._ledger.cells("approval|")]
        found.sort(key=lambda pair: pair[:1])
        return [self._asking(cell, now) for _, cell in found if state_of(cell, now) == "pending"]

    def answer(self, request: str, word: Literal["approve", "reject"], by: str, note: str) -> None:
        """Say yes or no. Raises PermitError if there is nothing to answer (any more)."""
        checked_name(by, "by")
        if note != "":
            checked_name(note, "note")
        action = checked_name(request, "the request").partition(".")[0]
        found = list(self._ledger.cells(f"approval|{action}")) if len(action) == REQUEST else []
        if not found:
            waiting = ", ".join(asking.id for asking in self.pending()[:10]) or "none"
            raise PermitError(f"there is no request {request!r:.80}; waiting are: {waiting}")
        # of the same call, or as it was asked for anew
        key = next((key for key, cell in found if cell[1] == request), found[0][0])
        self._amend(answering(self._flow.now(), key, request, word, by, note))

    def _asking(self, cell: Any, now: int) -> Asking:
        state, request, asked, expires, entry, by = cell
        content = json.loads(self._ledger.body(entry))
        reasons = tuple(Reason(**reason) for reason in content["reasons"])
        return Asking(
            id=request,
            reasons=reasons,
            asked_at=asked,
            expires_at=expires,
            state=state_of(cell, now),
            by=by if state != "spent" else "",
            **_said(content),
        )

    # --- unknown outcomes ---------------------------------------------------------------------------

    def unknowns(self) -> list[UnknownOutcome]:
        """Calls whose outcome is unknown, oldest first."""
        now = self._flow.now()
        out = sorted(out for out in self._ledger.out() if out.expires <= now)
        found = [self._unknown(permit) for permit in out]
        return sorted(found, key=lambda unknown: (unknown.at, unknown.permit_id))

    def reconcile(self, permit_id: str, outcome: Outcome | None, by: str | None) -> Outcome | None:
        """
        Record what became of a call; without *outcome* ask the plugins, and give their answer.

        Raises PermitError if the outcome of that permit is not unknown.
        """
        permit = self._restored(permit_id)
        if outcome is None:
            if self._plugins is None:
                raise PermitError(
                    f"nobody says what became of {permit_id}: give an outcome, or load a plugin "
                    "with sluicegate_reconcile that can ask the provider"
                )
            outcome, by = self._plugins.reconcile(permit)
        if outcome is None:
            return None
        if not isinstance(outcome, (Succeeded, Failed)):
            raise TypeError(f"{outcome!r:.80} settles nothing; give Succeeded(…) or Failed(…)")
        who = checked_name(by, "by")
        drive(self._flow.settling(permit, outcome, who), self._ledger)
        return outcome

    def _restored(self, permit_id: str) -> Permit:
        out = next((out for out in self._ledger.out() if out.permit == permit_id), None)
        if out is None:
            raise PermitError(
                f"permit {permit_id!r:.80} is not out: it was settled or reconciled before, "
                "or another ledger gave it"
            )
        content, past = json.loads(self._ledger.body(out.entry)), Past()
        schema = content["proposal"].get("schema")
        marks = [f"policy|{content['policy']}", *([f"schema|{schema}"] if schema else [])]
        for mark in marks:
            cell = self._ledger.cell(mark)
            if cell is None:
                raise NotKept(
                    f"the ledger has no {mark[:30]}…, which it takes to reconcile {permit_id}"
                )
            past.learn(json.loads(self._ledger.body(cell[0])))
        return past.permit(content)

    def _unknown(self, out: Out) -> UnknownOutcome:
        content = json.loads(self._ledger.body(out.entry))
        return UnknownOutcome(
            permit_id=out.permit, at=content["at"], expired=out.expires > 0, **_said(content)
        )

    # --- halts ----------------------------------------------------------------------------------

    def halt(self, scope: Scope, by: str, reason: str) -> None:
        """Stop everything that *scope* is about, before its next decision in any process."""
        _named(scope, by, reason)
        self._amend(halting(self._flow.now(), scope, by, reason))

    def resume(self, scope: Scope, by: str, reason: str) -> None:
        """Take back a halt with exactly this scope. Raises PermitError if there is none."""
        _named(scope, by, reason)
        self._amend(resuming(self._flow.now(), scope, by, reason))

    def halts(self) -> list[Halted]:
        """All halts in force: those by people, and runs that were halted by their repetitions."""
        return [*self._by_people(), *self._by_repetition()]

    def _by_people(self) -> Iterator[Halted]:
        for halt in self._ledger.cell(HALTS) or ():
            yield Halted(
                scope=FrozenDict(Scope(*halt[:4]).given), by=halt[4], reason=halt[5], at=halt[6]
            )

    def _by_repetition(self) -> Iterator[Halted]:
        for key, cell in self._ledger.cells("run|"):
            if cell[2] is not None:
                run = key.partition("|")[2]
                yield Halted(
                    scope=FrozenDict({"run": run}), by="sluicegate", reason=cell[2], at=cell[0]
                )

    def _amend(self, request: Amending) -> None:
        answer = self._ledger.perform(request)
        if isinstance(answer, Rejected):
            raise PermitError(answer.problem)
        if not isinstance(answer, Amended):
            raise LedgerError(f"the ledger gave a {type(answer).__name__} for what a person did")


def _said(content: Mapping[str, Any]) -> dict[str, Any]:
    said = content["proposal"]
    return {
        "tool": said["tool"],
        "args": said.get("args"),
        "subject": Subject(**said["subject"]),
        "run": said["run"],
    }


def _named(scope: Scope, by: str, reason: str) -> None:
    checked_name(by, "by")
    if reason != "":
        checked_name(reason, "reason")
    for part, value in scope.given.items():
        checked_name(value, part)
