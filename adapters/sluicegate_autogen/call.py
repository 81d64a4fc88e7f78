"""One tool call on its way to the gate and back, whichever way AutoGen takes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from autogen_core import AgentId, CancellationToken, MessageHandlerContext

from sluicegate import (
    ApprovalRequired,
    Decision,
    Defer,
    Denied,
    Deny,
    Gate,
    Outcome,
    Permit,
    Proposal,
    Reason,
    Recorded,
    Succeeded,
    current,
    thaw,
)
from sluicegate.adapting import (
    Attempt,
    SubjectSource,
    Underway,
    arecord,
    inside,
    record,
    recorded_text,
)
from sluicegate.clock import random_id

from .arguments import Arguments

__all__ = [
    "RUNS",
    "UNDERWAY",
    "Answer",
    "Body",
    "Call",
    "Done",
    "Interrupted",
    "caller",
    "carry_out",
    "decide",
    "run_of",
    "settle",
]

_log: Final = logging.getLogger("sluicegate")
_END: Final = object()
_SETTLER: Final = "autogen"


class Answer(str):
    """What a tool gave, as text, where the tool itself was not run again."""

    __slots__ = ()


class Done(NamedTuple):
    """What came of a call: the value for the program, and the text for the model and the record."""

    value: Any
    text: str


class Interrupted(Exception):
    """The call was cancelled. Unlike a CancelledError, AutoGen tells an agent of this, and it goes on."""


Body: TypeAlias = Callable[[Any, Callable[[Any], None]], Coroutine[Any, Any, Done]]
"""Runs a tool with the permitted arguments, and emits what it streams on the way."""

UNDERWAY: Final[ContextVar[Underway | None]] = ContextVar("sluicegate_autogen", default=None)
"""The permitted call around this code. The guard nearest to the function settles it: see `settle`."""

RUNS: Final[WeakKeyDictionary[CancellationToken, str]] = WeakKeyDictionary()
"""The names of the runs that the program gave none."""


def caller() -> AgentId | None:
    """The agent in whose message handler this happens; None outside of a runtime."""
    try:
        return MessageHandlerContext.agent_id()
    except RuntimeError:
        return None


def run_of(token: CancellationToken | None, call_id: str | None) -> str | None:
    """
    The run of a call: the one that the program named, or else that of the agent or team.

    AutoGen has no name for it, but hands one cancellation token to all that belongs to it.
    A call with an id inside of a running tool is that of an agent in the tool: a run
    of its own, named after the permit that it runs under.
    """
    named, outer = current().run, UNDERWAY.get()
    if outer is not None and outer.proposal.run == named:
        return named if call_id is None else outer.permit.id
    if named is not None or token is None:
        return named
    return RUNS.setdefault(token, random_id())


class Call(NamedTuple):
    """A tool call, as AutoGen hands it over."""

    tool: str
    sent: Any
    call_id: str | None
    run: str | None
    turn: str | None = None

    def attempt(
        self, subject: SubjectSource, agent: AgentId | None, shape: Callable[[], Arguments | None]
    ) -> Attempt:
        """The call by *agent* as a proposal."""
        return Attempt(
            self.tool,
            self.sent,
            source="autogen",
            subject=subject,
            offered=agent,
            run=self.run,
            call_id=self.call_id,
            shape=shape,
            turn=self.turn,
        )

    def around(self, gate: Gate) -> Underway | None:
        """This very call, if *gate* permitted it on its way here."""
        outer = UNDERWAY.get()
        if outer is None or outer.gate is not gate or outer.args != self.sent:
            return None
        same = (outer.proposal.tool, outer.proposal.call_id) == (self.tool, self.call_id)
        return outer if same else None


async def decide(
    gate: Gate, attempt: Attempt, token: CancellationToken | None
) -> Permit | Recorded:
    """Ask *gate*; raises Denied, ApprovalRequired or Interrupted, and then nothing runs."""
    try:
        decision = await _unless_cancelled(gate.adecide(attempt.proposal), token)
        if not isinstance(decision, (Permit, Recorded, Defer, Deny)):
            raise TypeError(f"{decision!r:.80} is no decision")
    except Interrupted:
        raise
    except Exception as error:
        tool = attempt.proposal.tool
        _log.exception("the gate failed; the call of %s is refused", tool)
        message = f"the gate failed with {type(error).__name__}; its log says more"
        reason = Reason("internal_error", "autogen", message)
        raise Denied(Deny(tool=tool, reasons=(reason,))) from error
    if isinstance(decision, Defer):
        raise ApprovalRequired(decision)
    if isinstance(decision, Deny):
        raise Denied(decision)
    return decision


async def carry_out(
    gate: Gate,
    subject: SubjectSource,
    call: Call,
    shape: Callable[[], Arguments],
    body: Body,
    *,
    token: CancellationToken | None,
    nearest: bool,
) -> AsyncGenerator[Any, None]:
    """
    Decide about *call*, unless that was done on its way here, and run *body* if it may:
    gives what it emits, and then what is Done.

    *nearest* says that no other guard is between this one and the function. Raises what
    `decide` raises where it did not run, and whatever it raised.
    """
    permitted = await _permitted(gate, subject, call, shape, token)
    if isinstance(permitted, Recorded):
        text = recorded_text(permitted)
        yield Done(Answer(text), text)
        return
    proposal, permit, args = permitted
    events: asyncio.Queue[Any] = asyncio.Queue()
    with inside(gate, proposal, permit, args) as here:
        if nearest:
            here.pass_by(_SETTLER)  # or the function could call itself under the same permit
        mark = UNDERWAY.set(here)
        task = asyncio.ensure_future(body(thaw(args), events.put_nowait))  # in this context
        UNDERWAY.reset(mark)
    task.add_done_callback(lambda _: events.put_nowait(_END))
    try:
        while (event := await events.get()) is not _END:
            yield event
    except BaseException:  # the caller was cancelled, or wants no more of it
        task.cancel()
        try:
            await asyncio.wait({task})
        finally:
            if nearest or here.pass_by(_SETTLER):
                record(gate, permit, outcome(permit, _ending(task)))
        raise
    ending = _ending(task)
    if nearest or here.pass_by(_SETTLER):
        await asyncio.shield(arecord(gate, permit, outcome(permit, ending)))
    if isinstance(ending, asyncio.CancelledError):
        message = f"{proposal.tool} was cancelled; whether it took effect is not known"
        raise Interrupted(message) from ending
    if isinstance(ending, BaseException):
        raise ending
    yield ending


async def _permitted(
    gate: Gate,
    subject: SubjectSource,
    call: Call,
    shape: Callable[[], Arguments],
    token: CancellationToken | None,
) -> tuple[Proposal, Permit, Any] | Recorded:
    outer = call.around(gate)
    if outer is not None and outer.pass_by(_SETTLER):
        return outer.proposal, outer.permit, outer.args
    attempt = call.attempt(subject, caller(), shape)
    answer = await decide(gate, attempt, token)
    return (
        answer if isinstance(answer, Recorded) else (attempt.proposal, answer, attempt.kept(answer))
    )


async def settle(call: Underway, ending: Done | BaseException) -> None:
    """Settle the permit of *call*, unless a guard that is nearer to the function has done so."""
    if call.pass_by(_SETTLER):
        await arecord(call.gate, call.permit, outcome(call.permit, ending))


def outcome(permit: Permit, ending: Done | BaseException) -> Outcome:
    """What it means that a tool ended so."""
    return (
        permit.outcome_of(ending) if isinstance(ending, BaseException) else Succeeded(ending.text)
    )


def _ending(task: asyncio.Task[Done]) -> Done | BaseException:
    if not task.done() or task.cancelled():
        return asyncio.CancelledError("cancelled")
    error = task.exception()
    return task.result() if error is None else error


async def _unless_cancelled(
    asking: Coroutine[Any, Any, Decision], token: CancellationToken | None
) -> Decision:
    """What the gate says; it may make a call wait for a slot, and *token* ends that."""
    answer: asyncio.Future[Decision] = asyncio.ensure_future(asking)
    if token is not None:
        answer = token.link_future(answer)
    try:
        await asyncio.wait({answer})
    except asyncio.CancelledError:  # not the wait for a slot, but whoever waits for all of this
        answer.cancel()
        raise
    if answer.cancelled():
        raise Interrupted("the call was cancelled before it was permitted; it did not run")
    return answer.result()
