"""
The gate's own flow against an overlay: what it would decide, without doing it.

A plan and an explanation go through exactly what a decision goes through, so they
cannot disagree with it; nothing of it reaches the ledger, its journal or a plugin's record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .claims import Claim
from .clock import Ids
from .decision import Decision, Permit
from .drive import drive
from .flow import Flow
from .ledger.base import Answer, Claiming, Ledger, Refused, Request
from .ledger.meaning import perform
from .ledger.overlay import Below, Overlay
from .outcome import Outcome
from .plugins import Objections, Plugins
from .proposal import Proposal

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy

__all__ = ["Asked", "Rehearsal", "Unforeseen"]


class Unforeseen:
    """The result of a call that was not made: no JSON value, and equal to none."""


class Asked(Plugins):
    """Plugins that are asked and never told: what is rehearsed did not happen."""

    def __init__(self, plugins: Plugins) -> None:
        self.names = plugins.names
        self._plugins = plugins
        self.found: Mapping[str, Any] | None = None
        """The facts that were given last; None until there are some."""

    def facts(self, proposal: Proposal) -> tuple[Mapping[str, Any], str]:
        self.found = None
        facts, text = self._plugins.facts(proposal)
        self.found = facts
        return facts, text

    def objections(self, proposal: Proposal, facts: Mapping[str, Any]) -> Objections:
        return self._plugins.objections(proposal, facts)

    def claims(self, proposal: Proposal, facts: Mapping[str, Any]) -> tuple[Claim, ...]:
        return self._plugins.claims(proposal, facts)

    def record(self, entry: Mapping[str, Any]) -> None:
        """Nothing to tell."""


class _Still:
    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now


class Rehearsal:
    """
    Decides from the state *below* on, at *now* (µs since 1970 UTC); time stands still.

    *before* is called with each claiming request, when all that precedes it is done.
    Nothing is waited for: a call that would wait for a slot or a key is refused, as
    it would be if nothing became free, and `waits` says for how long it would have waited.
    """

    def __init__(
        self,
        policy: CompiledPolicy,
        below: Below,
        now: int,
        plugins: Asked | None,
        before: Callable[[Claiming], Claiming],
        ids: Ids,
    ) -> None:
        self.books = Overlay(below)
        self.waits = 0
        self._before = before
        # A flow asks its ledger for nothing but the time; all else goes through `perform`.
        self._ledger = cast("Ledger", self)
        self._flow = Flow(
            policy,
            self._ledger,
            plugins,
            _Still(now),
            ids,
            observe=False,
        )

    @property
    def floor(self) -> int:
        return self.books.floor

    def perform(self, request: Request) -> Answer:
        """Carry out *request* on the overlay."""
        if type(request) is not Claiming:
            return perform(request, self.books)
        answer = perform(self._before(request)._replace(patient=False), self.books)
        if type(answer) is Refused:
            self.waits = answer.wait
            return answer._replace(wait=0)
        return answer

    def decide(self, proposal: Proposal) -> Decision:
        """What a gate would answer."""
        self.waits = 0
        return drive(self._flow.deciding(proposal), self._ledger)

    def settle(self, permit: Permit, outcome: Outcome) -> None:
        """What a gate would record of a call that was permitted here."""
        drive(self._flow.settling(permit, outcome), self._ledger)
