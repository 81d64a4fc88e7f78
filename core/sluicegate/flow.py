"""
How a decision and a settlement go, step by step, without waiting for anything.

Both are generators: they yield what has to be done (a request to the ledger, a
question to plugins, a pause) and are sent the answer. `drive` carries them out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from .canonical import FrozenDict
from .claims import Claim, Hold
from .claims.base import build
from .clock import Clock, Ids
from .decision import Code, Decision, Defer, Deny, Permit, Reason, Recorded
from .drive import Inquire, Pause, Steps
from .entries import outcome_entry, policy_entry, prompt_entry, recalled_entry, schema_entry
from .errors import LedgerError, PermitError, PluginError
from .evaluate import Allowed, Objected, Verdict, evaluate
from .ledger.base import (
    Answer,
    Claiming,
    Deferred,
    Granted,
    Ledger,
    Noting,
    Refused,
    Rejected,
    Replayed,
    Settled,
    Settling,
)
from .outcome import Outcome, Succeeded
from .plugins import Plugins
from .proposal import Proposal
from .requests import (
    UNLISTED_LEASE,
    claiming,
    heard,
    noted,
    prompt_mark,
    recalled,
    used_by,
    word_of,
)
from .sweeper import Sweeper

__all__ = ["Flow"]

_log: Final = logging.getLogger("sluicegate")
_NO_FACTS: Final[Mapping[str, Any]] = FrozenDict()
_NO_CLAIMS: Final[tuple[Claim, ...]] = ()
_SECOND: Final = 1_000_000
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.05
_KNOWN: Final = 10_000

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy


class _Draft(Permit):
    """A permit that is being made: each field of a frozen one takes ten times as long to set."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


class Flow:
    """
    The flow of one gate: its policy, plugins, clock and ids.

    The only state it keeps is what it has told the journal already: that is a matter of
    speed, since the ledger takes note of each such thing once.
    """

    def __init__(
        self,
        policy: CompiledPolicy,
        ledger: Ledger,
        plugins: Plugins | None,
        clock: Clock,
        ids: Ids,
        *,
        observe: bool,
        sweeper: Sweeper | None = None,
    ) -> None:
        self._policy = policy
        self._revision = policy.revision
        self._ledger = ledger
        self._plugins = plugins
        self._clock = clock
        self._ids = ids
        self._observe = observe
        self._sweeper = sweeper
        self._told: set[str] = set()

    # --- deciding -------------------------------------------------------------------------------

    def deciding(self, proposal: Proposal) -> Steps[Decision]:
        """Decide about *proposal*; whatever goes wrong on the way is a refusal."""
        now = 0
        try:
            now = self.now()
            if self._sweeper is not None and self._sweeper.due():
                yield from self._sweeper.stepping(now)
            return (yield from self._decide(proposal, now))
        except LedgerError as error:
            _log.error("the ledger could not be used: %s", error)
            message = f"the ledger could not be used, so nothing was decided or spent: {error}"
            return self._failed(proposal, now, "ledger_unavailable", message, 1.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a refusal
            _log.exception("the gate failed; the call is refused")
            message = f"the gate failed with {type(error).__name__}, so nothing was decided; its log says more"
            return self._failed(proposal, now, "internal_error", message, "never")

    def _decide(self, proposal: Proposal, now: int) -> Steps[Decision]:
        told, schema = self._told, proposal.schema
        if self._revision not in told or (schema is not None and schema.digest not in told):
            yield from self._announce(proposal, now)
        facts, extra, final = "{}", _NO_CLAIMS, False
        if self._plugins is None:
            verdict = evaluate(self._policy, proposal, _NO_FACTS, now)
        else:
            verdict, facts, extra, final = yield from self._consult(self._plugins, proposal, now)
        if type(verdict) is Allowed and verdict.rule.prompted and proposal.prompt:
            yield from self._hear(proposal, now)
        request = claiming(
            self._policy,
            proposal,
            now,
            verdict,
            permit=self._ids() if self._observe or type(verdict) is Allowed else "",
            facts=facts,
            extra=extra,
            final=final,
            observe=self._observe,
        )
        answer = yield request
        if type(answer) is Granted:
            return self._granted(proposal, request, verdict, answer.at)
        return (yield from self._answered(proposal, request, verdict, answer))

    def _consult(
        self, plugins: Plugins, proposal: Proposal, now: int
    ) -> Steps[tuple[Verdict, str, tuple[Claim, ...], bool]]:
        """The verdict, facts as text, claims of plugins, and whether their objections end the run."""
        facts_text, extra, final = "{}", _NO_CLAIMS, False
        try:
            facts, facts_text = yield Inquire(lambda: plugins.facts(proposal))
            verdict, final = self._objected(plugins, proposal, facts, now)
            if type(verdict) is Allowed:
                extra = plugins.claims(proposal, facts)
        except PluginError as error:
            verdict = Objected((Reason("plugin_error", "plugins", str(error)),))
        return verdict, facts_text, extra, final

    def _objected(
        self, plugins: Plugins, proposal: Proposal, facts: Mapping[str, Any], now: int
    ) -> tuple[Verdict, bool]:
        verdict = evaluate(self._policy, proposal, facts, now)
        objections = plugins.objections(proposal, facts)
        if not objections.reasons:
            return verdict, False
        before = verdict.reasons if type(verdict) is Objected else ()
        return Objected((*before, *objections.reasons)), objections.final

    def _answered(
        self, proposal: Proposal, request: Claiming, verdict: Verdict, answer: Answer
    ) -> Steps[Decision]:
        wording = request.wording
        if type(answer) is Refused and answer.wait and not self._observe:
            answer = yield from self._wait(request, answer.wait)
        if type(answer) is Granted:
            return self._granted(proposal, request, verdict, answer.at)
        if type(answer) is Replayed:
            self._tell(answer.at, wording.replayed, 0)
            return (yield from self._replay(proposal, answer, request.permit))
        if type(answer) is Deferred:
            told = answer.request, answer.expires, answer.reasons
            self._tell(answer.at, wording.deferred, *told)
            if self._observe:
                return self._watched(proposal, answer.at, request.permit)
            return Defer(
                tool=proposal.tool,
                request_id=answer.request,
                reasons=answer.reasons,
                expires_at=answer.expires,
            )
        assert type(answer) is Refused  # noqa: S101 - for the type checker
        reasons, final = answer.reasons, answer.final
        self._tell(answer.at, wording.refused, reasons, final)
        return self._no(proposal, answer.at, reasons, final, request.permit)

    def _granted(self, proposal: Proposal, request: Claiming, allowed: Verdict, at: int) -> Permit:
        assert type(allowed) is Allowed  # noqa: S101 - for the type checker
        if self._plugins is not None:
            self._tell(at, request.wording.permitted, request.permit, request.lease, None)
        rule, approval = allowed.rule, request.approval
        permit: Any = object.__new__(_Draft)
        permit.id = request.permit
        permit.tool = proposal.tool
        permit.args = allowed.args
        permit.at = at
        permit.expires_at = at + rule.lease
        permit.claims = request.claims if approval is None else (*request.claims, approval)
        permit.revision = self._revision
        permit.binding = request.binding
        permit.costs = allowed.costs
        permit.on_error = rule.on_error
        permit.key = allowed.key
        permit.observed = False
        permit.digest = rule.digest
        permit.proposal = proposal
        permit.rule = rule
        permit.__class__ = Permit
        made: Permit = permit
        return made

    def _wait(self, request: Claiming, limit: int) -> Steps[Any]:
        """Ask again until it is our turn; the last answer is the one that counts and is recorded."""
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

    def _replay(self, proposal: Proposal, answer: Replayed, permit_id: str) -> Steps[Decision]:
        if self._observe:  # it runs again, and its own result is shown
            return self._watched(proposal, answer.at, permit_id)
        content = json.loads(answer.outcome)
        permit, result = content["permit"], content.get("result")
        rule = self._policy.rule(proposal.tool)
        notes = tuple(recalled(rule, proposal, permit, result))
        if notes:  # the model is shown the result, as if the call had just succeeded
            said = proposal.digests if rule is not None and rule.digest else proposal.text
            yield Noting(answer.at, recalled_entry(permit, said), notes=notes)
        return Recorded(
            tool=proposal.tool,
            permit_id=permit,
            outcome=Succeeded(result),
            at=content["at"],
            complete="result" in content,
        )

    def _no(
        self, proposal: Proposal, now: int, reasons: tuple[Reason, ...], final: bool, permit: str
    ) -> Decision:
        if self._observe:
            return self._watched(proposal, now, permit)
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
        reason = Reason(code, "gate", message, retry)
        permit = self._ids() if self._observe else ""
        return self._no(proposal, now, (reason,), final=False, permit=permit)

    def _watched(self, proposal: Proposal, now: int, permit: str) -> Permit:
        """What a gate that merely observes gives for a call that it would not have permitted."""
        rule = self._policy.rule(proposal.tool)
        lease = rule.lease if rule is not None else UNLISTED_LEASE
        return Permit(
            id=permit,
            tool=proposal.tool,
            args=proposal.raw if proposal.defect else proposal.args,
            at=now,
            expires_at=now + lease,
            claims=(),
            revision=self._policy.revision,
            binding=proposal.binding,
            observed=True,
            digest=rule is not None and rule.digest,
            proposal=proposal,
            rule=rule,
        )

    # --- settling -------------------------------------------------------------------------------

    def settling(self, permit: Permit, outcome: Outcome, by: str | None = None) -> Steps[None]:
        """
        Record what became of *permit*; raises PermitError or LedgerError, and then nothing has changed.

        *by* has found out what became of a call whose outcome is on record as unknown.
        """
        used = used_by(permit, outcome)
        now = self.now()
        rest = outcome_entry(permit, outcome, used, by)
        notes = noted(permit, outcome)
        if permit.observed:
            ended = f"ended|{permit.id}"
            if ended in self._told:
                problem = f"permit {permit.id} was settled before; each permit is settled once"
                raise PermitError(problem, outcome=outcome)
            answer = yield Noting(now, rest, notes=notes)
            self._remember(ended)
            self._tell(answer.at, str, rest)
            return
        hold = build(Hold, (permit.id, permit.at, permit.expires_at, permit.binding))
        word, late = word_of(outcome), by is not None
        answer = yield build(Settling, (hold, permit.claims, now, word, used, rest, notes, late))
        if type(answer) is Rejected:
            raise PermitError(answer.problem, outcome=outcome)
        assert type(answer) is Settled  # noqa: S101 - for the type checker
        if self._plugins is not None:
            self._tell(answer.at, str, rest)

    def now(self) -> int:
        """The time that a decision made now would have, in µs since 1970 UTC."""
        now, floor = self._clock.now(), self._ledger.floor
        return now if now > floor else floor

    # --- the journal ----------------------------------------------------------------------------

    def _announce(self, proposal: Proposal, now: int) -> Steps[None]:
        """Let the journal have what its entries refer to: the policy, and the tool's own schema."""
        revision, schema = self._policy.revision, proposal.schema
        if revision not in self._told:
            document = self._policy.policy.document
            yield Noting(now, policy_entry(revision, document), f"policy|{revision}")
            self._remember(revision)
        if schema is not None and schema.digest not in self._told:
            yield Noting(now, schema_entry(schema), f"schema|{schema.digest}")
            self._remember(schema.digest)

    def _hear(self, proposal: Proposal, now: int) -> Steps[None]:
        """Let the run remember what the user said."""
        root, prompt = proposal.root, proposal.prompt
        if root is None or prompt is None:
            return
        mark = prompt_mark(root, prompt)
        if mark not in self._told:
            yield Noting(now, prompt_entry(root, prompt), mark, tuple(heard(root, prompt)))
            self._remember(mark)

    def _remember(self, told: str) -> None:
        if len(self._told) >= _KNOWN:
            self._told.clear()
        self._told.add(told)

    def _tell(self, at: int, rest: Callable[..., str], *given: Any) -> None:
        """Let plugins have the entry that ends with *rest* of what is *given*."""
        if self._plugins is not None:
            self._plugins.record(json.loads(f'{{"at":{at},{rest(*given)}'))
