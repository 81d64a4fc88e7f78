"""
How a decision and a settlement go, step by step, without waiting for anything.

Both are generators: they yield what has to be done (a request to the ledger, a
question to plugins, a pause) and are sent the answer. `drive` does it blocking,
`adrive` does it on an event loop, and so there is one flow and not two.
"""

from __future__ import annotations

import json
import logging
import time  # noqa: TID251 - to wait is not to ask for the time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from .amount import Micros
from .canonical import FrozenDict
from .claims import Claim, Hold
from .clock import Clock, Ids
from .decision import Code, Decision, Deny, Permit, Reason, Recorded
from .entries import Considered, outcome_entry, plugin_claims, policy_entry
from .errors import LedgerError, PermitError, PluginError
from .evaluate import Allowed, Objected, Verdict, evaluate
from .ledger.base import (
    Claiming,
    Granted,
    Ledger,
    Noting,
    Refused,
    Rejected,
    Replayed,
    Request,
    Settled,
    Settling,
)
from .outcome import Failed, Outcome, Succeeded
from .plugins import Plugins
from .proposal import Proposal

__all__ = ["Flow", "adrive", "drive"]

_log: Final = logging.getLogger("sluicegate")
_NO_FACTS: Final[Mapping[str, Any]] = FrozenDict()
_SECOND: Final = 1_000_000
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.05

T = TypeVar("T")

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy


class Pause(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


class Inquire(NamedTuple):
    """Ask plugins, which may do I/O."""

    question: Callable[[], Any]


Step: TypeAlias = Request | Pause | Inquire
Steps: TypeAlias = Generator[Step, Any, T]


class Flow:
    """The flow of one gate: its policy, plugins, clock and ids. It keeps no state of its own."""

    def __init__(
        self,
        policy: CompiledPolicy,
        ledger: Ledger,
        plugins: Plugins | None,
        clock: Clock,
        ids: Ids,
        *,
        observe: bool,
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._plugins = plugins
        self._clock = clock
        self._ids = ids
        self._observe = observe
        self._announced = False

    # --- deciding -------------------------------------------------------------------------------

    def deciding(self, proposal: Proposal) -> Steps[Decision]:
        """Decide about *proposal*; whatever goes wrong on the way is a refusal."""
        now = 0
        try:
            now = self.now()
            if not self._announced:
                yield from self._announce(now)
            return (yield from self._decide(proposal, now))
        except LedgerError as error:
            _log.error("the ledger could not be used: %s", error)
            message = f"the ledger could not be used, so nothing was decided or spent: {error}"
            return self._failed(proposal, now, "ledger_unavailable", message, 1.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a refusal
            _log.exception("the gate failed; the call is refused")
            message = f"the gate failed with {type(error).__name__}, so nothing was decided; its log says more"
            return self._failed(proposal, now, "internal_error", message, "never")

    def _announce(self, now: int) -> Steps[None]:
        revision = self._policy.revision
        yield Noting(
            now, policy_entry(revision, self._policy.policy.document), f"policy|{revision}"
        )
        self._announced = True

    def _decide(self, proposal: Proposal, now: int) -> Steps[Decision]:
        facts, facts_text = _NO_FACTS, "{}"
        extra: tuple[Claim, ...] = ()
        final = False
        plugins = self._plugins
        if plugins is None:
            verdict = evaluate(self._policy, proposal, facts, now)
        else:
            try:
                facts, facts_text = yield Inquire(lambda: plugins.facts(proposal))
                verdict, final = self._objected(plugins, proposal, facts, now)
                if type(verdict) is Allowed:
                    extra = plugins.claims(proposal, facts)
            except PluginError as error:
                verdict = Objected((Reason("plugin_error", "plugins", str(error)),))
        considered = Considered(
            now,
            facts_text,
            proposal.text,
            self._policy.revision,
            self._observe,
            plugin_claims(extra) if extra else "",
        )
        if type(verdict) is Objected:
            yield from self._noted(now, considered.refused(verdict.reasons))
            return self._no(proposal, now, verdict.reasons, final)
        assert type(verdict) is Allowed  # noqa: S101 - for the type checker
        return (yield from self._claim(proposal, now, considered, verdict, extra))

    def _objected(
        self, plugins: Plugins, proposal: Proposal, facts: Mapping[str, Any], now: int
    ) -> tuple[Verdict, bool]:
        verdict = evaluate(self._policy, proposal, facts, now)
        objections = plugins.objections(proposal, facts)
        if not objections.reasons:
            return verdict, False
        before = verdict.reasons if type(verdict) is Objected else ()
        return Objected((*before, *objections.reasons)), objections.final

    def _claim(
        self,
        proposal: Proposal,
        now: int,
        considered: Considered,
        allowed: Allowed,
        extra: tuple[Claim, ...],
    ) -> Steps[Decision]:
        rule = allowed.rule
        claims = allowed.claims + extra if extra else allowed.claims
        permit = self._ids()
        request = Claiming(
            permit,
            now,
            rule.lease,
            proposal.binding,
            claims,
            considered.permitted(permit, rule.lease),
            considered.refused,
            considered.replayed,
            not self._observe,
        )
        answer = yield request
        if type(answer) is Refused and answer.wait and not self._observe:
            answer = yield from self._wait(request, answer.wait)
        if type(answer) is Granted:
            self._tell(answer.at, request.granted)
            return Permit(
                id=permit,
                tool=proposal.tool,
                args=allowed.args,
                at=answer.at,
                expires_at=answer.at + rule.lease,
                claims=claims,
                revision=self._policy.revision,
                binding=proposal.binding,
                costs=allowed.costs,
                on_error=rule.on_error,
                key=allowed.key,
            )
        if type(answer) is Replayed:
            self._tell(answer.at, considered.replayed(0))
            return self._replay(proposal, answer)
        assert type(answer) is Refused  # noqa: S101 - for the type checker
        self._tell(answer.at, considered.refused(answer.reasons))
        return self._no(proposal, answer.at, answer.reasons, final=False)

    def _wait(self, request: Claiming, limit: int) -> Steps[Any]:
        """Ask again until a slot is free; the last answer is the one that counts and is recorded."""
        pause, left = _FIRST_PAUSE, limit / _SECOND
        while True:
            pause = min(pause, left)
            yield Pause(pause)
            left -= pause
            now = self.now()
            answer = yield request._replace(now=now, patient=left > 0)
            if type(answer) is not Refused or not answer.wait or left <= 0:
                return answer
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _replay(self, proposal: Proposal, answer: Replayed) -> Decision:
        if self._observe:
            return self._watched(proposal, answer.at)
        content = json.loads(answer.outcome)
        result = Succeeded(content.get("result"))
        return Recorded(
            tool=proposal.tool,
            permit_id=content["permit"],
            outcome=result,
            at=content["at"],
            complete="result" in content,
        )

    def _no(
        self, proposal: Proposal, now: int, reasons: tuple[Reason, ...], final: bool
    ) -> Decision:
        if self._observe:
            return self._watched(proposal, now)
        return Deny(tool=proposal.tool, reasons=reasons, final=final, brief=self._policy.brief)

    def _failed(
        self,
        proposal: Proposal,
        now: int,
        code: Code,
        message: str,
        retry: Literal["never"] | float,
    ) -> Decision:
        if self._observe:
            _log.warning("observing: %s would have been refused: %s", proposal.tool, message)
        return self._no(proposal, now, (Reason(code, "gate", message, retry),), final=False)

    def _watched(self, proposal: Proposal, now: int) -> Permit:
        """What a gate that merely observes gives for a call that it would not have permitted."""
        rule = self._policy.rule(proposal.tool)
        lease = rule.lease if rule is not None else 300 * _SECOND
        return Permit(
            id=self._ids(),
            tool=proposal.tool,
            args=proposal.raw if proposal.defect else proposal.args,
            at=now,
            expires_at=now + lease,
            claims=(),
            revision=self._policy.revision,
            binding=proposal.binding,
            observed=True,
        )

    # --- settling -------------------------------------------------------------------------------

    def settling(self, permit: Permit, outcome: Outcome) -> Steps[None]:
        """Record what became of *permit*; raises PermitError or LedgerError, and then nothing has changed."""
        used = _used(permit, outcome)
        now = self.now()
        rest = outcome_entry(permit, outcome, used)
        if permit.observed:
            yield from self._noted(now, rest)
            return
        word: Literal["succeeded", "failed", "unknown"] = (
            "succeeded"
            if type(outcome) is Succeeded
            else "failed"
            if type(outcome) is Failed
            else "unknown"
        )
        hold = Hold(permit.id, permit.at, permit.expires_at, permit.binding)
        answer = yield Settling(hold, permit.claims, now, word, used, rest)
        if type(answer) is Rejected:
            raise PermitError(answer.problem, outcome=outcome)
        assert type(answer) is Settled  # noqa: S101 - for the type checker
        self._tell(answer.at, rest)

    def now(self) -> int:
        """The time that a decision made now would have, in µs since 1970 UTC."""
        return max(self._clock.now(), self._ledger.floor)

    # --- the journal ----------------------------------------------------------------------------

    def _noted(self, now: int, rest: str) -> Steps[None]:
        answer = yield Noting(now, rest)
        self._tell(answer.at, rest)

    def _tell(self, at: int, rest: str) -> None:
        if self._plugins is not None:
            self._plugins.record(json.loads(f'{{"at":{at},{rest}'))


def _used(permit: Permit, outcome: Outcome) -> Mapping[str, Micros]:
    """The costs that this outcome settles, in millionths."""
    if type(outcome) is not Succeeded or not outcome.cost:
        return permit.costs if type(outcome) is not Failed else _NO_FACTS
    used = outcome.used
    for name in used:
        if name not in permit.costs and not permit.observed:
            held = ", ".join(sorted(permit.costs)) or "nothing"
            raise PermitError(
                f"the permit does not meter {name!r}; it meters {held}", outcome=outcome
            )
    return {**permit.costs, **used}


def drive(flow: Steps[T], ledger: Ledger) -> T:
    """Carry out *flow*, blocking where it waits."""
    try:
        step = next(flow)
        while True:
            try:
                kind = type(step)
                if kind is Pause or kind is Inquire:
                    answer = _done(step)  # type: ignore[arg-type]
                else:
                    answer = ledger.perform(step)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - it is the flow's to say what an error means
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _done(step: Pause | Inquire) -> Any:
    if type(step) is Inquire:
        return step.question()
    assert type(step) is Pause  # noqa: S101 - for the type checker
    return time.sleep(step.seconds)


async def adrive(flow: Steps[T], ledger: Ledger) -> T:
    """Carry out *flow* on an event loop without blocking it."""
    try:
        step = next(flow)
        while True:
            try:
                answer = await _adone(step, ledger)
            except Exception as error:  # noqa: BLE001 - it is the flow's to say what an error means
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


async def _adone(step: Step, ledger: Ledger) -> Any:
    import asyncio  # not at the top: a program without an event loop need not load one

    if type(step) is Pause:
        return await asyncio.sleep(step.seconds)
    if type(step) is Inquire:
        return await asyncio.to_thread(step.question)
    return await ledger.aperform(step)  # type: ignore[arg-type]
