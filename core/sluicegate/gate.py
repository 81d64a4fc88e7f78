"""The gate: decide about a proposal, settle what became of it, and nothing runs in between unpermitted."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from .archive import Archive
from .canonical import thaw
from .clock import Clock, Ids, SystemClock, random_id
from .context import under
from .decision import Decision, Defer, Deny, Permit, Recorded
from .drive import adrive, drive
from .errors import ApprovalRequired, Denied, LedgerError, NotExecuted
from .flow import Flow
from .given import ledger_given, outcome_given, permit_given, policy_given, proposal_given
from .housekeeping import Keep
from .journal import Journal
from .ledger import Ledger
from .outcome import Failed, Outcome, Succeeded, Unknown
from .people import Scope
from .plugins import Plugins, PluginSource
from .proposal import Proposal, Subject
from .sweeper import sweeper_given
from .usage import Usage, usage

__all__ = ["Gate"]

_log: Final = logging.getLogger("sluicegate")

if TYPE_CHECKING:
    from .desk import Asking, Desk, Halted, UnknownOutcome
    from .explain import Explanation
    from .plan import Plan
    from .policy.model import Policy
    from .report import Report

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class Gate:
    """
    The policy decision point, and the only thing that can permit a call.

    *policy* is the path of a policy file, a `Policy`, or the same document as a
    mapping. *ledger* is a `Ledger` or its URL (`memory:`, `sqlite:///file.db`);
    by default SQLite in `.sluicegate/` beside the policy file. With *observe* the
    gate decides and records but refuses nothing. *plugins* are taken by name only,
    see `sluicegate.hookspec`. *housekeeping* says for how long what is over is kept
    (`sluicegate.housekeeping.Keep`); False leaves it to the command. Journal entries older
    than 90 days, or as an `Archive` says, are moved to the folder *archive*; without one they
    stay. *clock* and *ids* are there for tests.

    Safe for threads and for asyncio; make one per policy and keep it. Raises
    PolicyError, LedgerError or PluginError if it cannot be made.
    """

    def __init__(
        self,
        policy: str | Path | Policy | Mapping[str, Any],
        ledger: str | Ledger | None = None,
        *,
        observe: bool = False,
        plugins: PluginSource = (),
        housekeeping: bool | Keep = True,
        archive: str | Path | Archive | None = None,
        clock: Clock | None = None,
        ids: Ids = random_id,
    ) -> None:
        from .policy.compile import CompiledPolicy  # pydantic is loaded where a gate is made

        self.policy = policy_given(policy)
        self._compiled = CompiledPolicy(self.policy)
        named = Plugins(plugins)
        self.ledger = ledger_given(ledger, self.policy)
        self.journal = Journal(self.ledger)
        self.observe = observe
        self._plugins = named if named.names else None
        self._flow = Flow(
            self._compiled,
            self.ledger,
            self._plugins,
            clock or SystemClock(),
            ids,
            observe=observe,
            sweeper=sweeper_given(self.ledger, housekeeping, archive),
        )

    # --- decide and settle ----------------------------------------------------------------------

    def decide(self, proposal: Proposal) -> Decision:
        """
        Permit | Deny | Defer | Recorded, recorded in the journal when it returns.

        Never raises for anything that could go wrong on the way: a ledger that is
        down, a rule or a plugin that fails are a Deny. A `Permit` must be settled.
        """
        return drive(self._flow.deciding(proposal_given(proposal)), self.ledger)

    async def adecide(self, proposal: Proposal) -> Decision:
        """`decide` for asyncio. A cancelled decision holds nothing."""
        return await adrive(self._flow.deciding(proposal_given(proposal)), self.ledger)

    def settle(self, permit: Permit, outcome: Outcome) -> None:
        """
        Record what became of a permitted call: commit what was used, give back what
        was not, or mark the outcome as unknown.

        Raises PermitError if the permit is spent, expired or of another ledger, and
        LedgerError if the ledger cannot be used; then nothing has changed.
        """
        drive(self._flow.settling(permit_given(permit), outcome_given(outcome)), self.ledger)

    async def asettle(self, permit: Permit, outcome: Outcome) -> None:
        """`settle` for asyncio."""
        await adrive(self._flow.settling(permit_given(permit), outcome_given(outcome)), self.ledger)

    # --- decide, run, settle --------------------------------------------------------------------

    def call(self, proposal: Proposal, fn: Callable[..., R]) -> R:
        """
        Decide, run `fn(**permit.args)` if permitted, settle, and return its result.

        An identical call that was made before is answered with the recorded result.
        Raises Denied or ApprovalRequired if the call did not run, and whatever *fn*
        raises. If the outcome cannot be recorded, PermitError or LedgerError is
        raised with the outcome in its `outcome`: the function did run.
        """
        if inspect.iscoroutinefunction(fn):
            raise TypeError(f"{fn!r} is async; use `await gate.acall(proposal, fn)`")
        _runs_when_called(fn)
        permit = _permitted(self.decide(proposal))
        if isinstance(permit, Recorded):
            return cast("R", permit.result)
        try:
            with under(permit):
                result = fn(**thaw(permit.args))
        except BaseException as error:
            self._settle_after(error, permit)
            raise
        if inspect.isawaitable(result):
            self.settle(permit, _unawaited(result))
            what = type(result).__name__
            raise TypeError(f"{fn!r} gave a {what}; use `await gate.acall(proposal, fn)`")
        outcome = Succeeded(result)
        try:
            self.settle(permit, outcome)
        except LedgerError as error:
            error.outcome = outcome
            raise
        return result

    async def acall(self, proposal: Proposal, fn: Callable[..., Awaitable[R] | R]) -> R:
        """`call` for asyncio; *fn* may be async or plain, and a plain one runs on the event loop."""
        _runs_when_called(fn)
        permit = _permitted(await self.adecide(proposal))
        if isinstance(permit, Recorded):
            return cast("R", permit.result)
        try:
            with under(permit):
                result = fn(**thaw(permit.args))
                if inspect.isawaitable(result):
                    result = await result
        except BaseException as error:
            # Blocking for a moment is right here: an await could be cancelled a second time.
            self._settle_after(error, permit)
            raise
        outcome = Succeeded(result)
        try:
            await self.asettle(permit, outcome)
        except LedgerError as error:
            error.outcome = outcome
            raise
        return cast("R", result)

    @overload
    def guard(self, tool: F, /) -> F: ...

    @overload
    def guard(
        self,
        tool: str | None = None,
        *,
        subject: Subject | Callable[[], Subject] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Callable[[F], F]: ...

    def guard(
        self,
        tool: Any = None,
        *,
        subject: Subject | Callable[[], Subject] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Any:
        """
        Guard a plain Python function, sync or async: `@gate.guard`, `@gate.guard("refund")`.

        The tool's name is the function's, and its schema comes from the signature. The
        subject and the run come from `sluicegate.context` unless *subject* says who.
        The function raises Denied when it is refused.
        """
        from .guard import Guard

        if callable(tool):
            return Guard(self, tool, subject=subject, schema=schema).function()

        def around(function: F) -> F:
            guard = Guard(self, function, name=tool, subject=subject, schema=schema)
            return cast("F", guard.function())

        return around

    def _settle_after(self, error: BaseException, permit: Permit) -> None:
        """Settle a call that raised; the function's own error is the one that is told."""
        try:
            self.settle(permit, permit.outcome_of(error))
        except Exception:  # noqa: BLE001 - the tool ran; what it raised must reach the caller
            _log.exception(
                "the outcome of permit %s could not be recorded; it counts as unknown", permit.id
            )

    # --- people -----------------------------------------------------------------------------------

    @property
    def _desk(self) -> Desk:
        from .desk import Desk  # a program that only decides need not load it

        return Desk(self.ledger, self._flow, self._plugins)

    def pending(self) -> list[Asking]:
        """Requests that wait for a person's yes, oldest first."""
        return self._desk.pending()

    def approve(self, request_id: str, *, by: str, note: str = "") -> None:
        """
        Say yes to a request: exactly that action may run once, if the policy still permits
        it when it is proposed again. Raises PermitError if the request is not pending.
        """
        self._desk.answer(request_id, "approve", by, note)

    def reject(self, request_id: str, *, by: str, note: str = "") -> None:
        """Say no to a request, or take back a yes that was not used yet. Raises PermitError."""
        self._desk.answer(request_id, "reject", by, note)

    def unknowns(self) -> list[UnknownOutcome]:
        """Calls of which nobody knows whether they took effect, oldest first."""
        return self._desk.unknowns()

    def reconcile(
        self, permit_id: str, outcome: Outcome | None = None, *, by: str | None = None
    ) -> Outcome | None:
        """
        Record what became of a call whose outcome is unknown: Succeeded or Failed, and who says so.

        Without an outcome the plugins ask their providers (`sluicegate_reconcile`); None means
        that nobody knows yet. Raises PermitError if the outcome is not unknown.
        """
        return self._desk.reconcile(permit_id, outcome, by)

    def halt(
        self,
        *,
        by: str,
        reason: str = "",
        tenant: str | None = None,
        user: str | None = None,
        agent: str | None = None,
        run: str | None = None,
    ) -> None:
        """
        The kill switch: refuse all calls that have these parts, or every call if none is given.

        Every process sees it before its next decision. Halting twice is halting once.
        """
        self._desk.halt(Scope(tenant, user, agent, run), by, reason)

    def resume(
        self,
        *,
        by: str,
        reason: str = "",
        tenant: str | None = None,
        user: str | None = None,
        agent: str | None = None,
        run: str | None = None,
    ) -> None:
        """Take back the halt with exactly these parts, also one by repetitions. Raises PermitError."""
        self._desk.resume(Scope(tenant, user, agent, run), by, reason)

    def halts(self) -> list[Halted]:
        """What is halted now, by whom and why."""
        return self._desk.halts()

    # --- looking --------------------------------------------------------------------------------

    def usage(
        self,
        *,
        tenant: str | None = None,
        user: str | None = None,
        agent: str | None = None,
        run: str | None = None,
    ) -> list[Usage]:
        """What each limit has left, for all that has been counted so far, or for the parts given."""
        wanted = {"tenant": tenant, "user": user, "agent": agent, "run": run}
        now = self._flow.now()
        return usage(
            self._compiled.counters(),
            self.ledger,
            {k: v for k, v in wanted.items() if v is not None},
            now,
        )

    def plan(self, proposals: Iterable[Proposal]) -> Plan:
        """
        Decide about a whole sequence, one by one from here, as if each step that may run succeeded.

        Nothing is spent and nothing recorded. Raises LedgerError.
        """
        from .plan import plan

        given = map(proposal_given, proposals)
        return plan(self._compiled, self.ledger, given, self._flow.now(), plugins=self._plugins)

    def explain(self, what: Proposal | int) -> Explanation:
        """
        Every rule that is looked at for a proposal, with its value and its limit, and what it says.

        A number is that of a decision in the journal: it is explained from the state as it
        was then. Nothing is changed. Raises LedgerError.
        """
        from .explain import explain, explain_entry

        if isinstance(what, int):
            return explain_entry(self.journal, what)
        given, now = proposal_given(what), self._flow.now()
        return explain(self._compiled, self.ledger, given, now, plugins=self._plugins)

    def finish(self, run: str) -> Report:
        """
        What a run has done and spent, what failed, and what it still owes under `contracts`.

        It changes nothing and may be asked at any time. Raises LedgerError.
        """
        from .report import report_of

        return report_of(self.ledger, self._compiled, run, self._flow.now())

    def close(self) -> None:
        """Release the ledger. A closed gate refuses every call."""
        self.ledger.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        mode = ", observe=True" if self.observe else ""
        return f"Gate({self.policy.source or 'a policy'}, {self.ledger!r}{mode})"


def _runs_when_called(fn: Callable[..., Any]) -> None:
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{fn!r} is a generator: its body runs after the call; give what it calls")


def _unawaited(result: Awaitable[Any]) -> Outcome:
    """What became of a call of which something is left to wait for, and nobody does."""
    if inspect.iscoroutine(result):
        result.close()
        return Failed(NotExecuted("the function gave a coroutine, which was not run"))
    return Unknown(f"the function gave a {type(result).__name__}, for whose end nobody waited")


def _permitted(decision: Decision) -> Permit | Recorded:
    if isinstance(decision, Deny):
        raise Denied(decision)
    if isinstance(decision, Defer):
        raise ApprovalRequired(decision)
    return decision
