"""The gate as an intervention handler of a core runtime: it can say no and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from autogen_core import AgentId, DefaultInterventionHandler, FunctionCall, MessageContext
from autogen_core.models import FunctionExecutionResult
from autogen_core.tool_agent import ToolException
from autogen_core.tools import Tool

from sluicegate import ApprovalRequired, Denied, Gate, NotCanonical, Recorded, thaw
from sluicegate.adapting import SubjectSource, Underway, Unfit, recorded_text
from sluicegate.canonical import loads

from .arguments import Arguments, arguments_of
from .call import UNDERWAY, Call, Done, decide, run_of, settle

__all__ = ["GateInterventionHandler"]

RunSource = str | Callable[[AgentId | None], str | None] | None


class _Refused(ToolException):
    """A refusal that `tool_agent_caller_loop` shows to the model; of its own kind it prints nothing."""

    def __str__(self) -> str:
        return self.content


class _ToolFailed(Exception):
    """The tool agent answered with an error."""


class GateInterventionHandler(DefaultInterventionHandler):
    """
    Decide about every `FunctionCall` that is sent in a core runtime, before it is delivered.

    Put it last: a runtime shows each handler the message as it was sent and delivers what
    the last one makes of it. Messages have no schema: give the *tools* as well, or arguments
    that a tool never declared go unnoticed. *subject* may be a function of the sender's id.
    *run* names the run, or is a function of the same; a runtime has no notion of one.

    A refused call raises in the sender, and `tool_agent_caller_loop` tells the model. A
    handler never learns that a tool raised: that permit is unknown when its lease ends,
    unless the tool agent has guarded tools, which then settle what was decided here.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        subject: SubjectSource = None,
        run: RunSource = None,
        tools: Iterable[Tool] = (),
    ) -> None:
        self._gate = gate
        self._subject = subject
        self._run = run
        self._arguments = {t.name: arguments_of(t.schema, t.args_type()) for t in tools}
        self._underway: dict[tuple[AgentId, AgentId | None, str], Underway] = {}
        self._last: Underway | None = None

    async def on_send(
        self, message: Any, *, message_context: MessageContext, recipient: AgentId
    ) -> Any:
        """The call with the permitted arguments; raises where there is no permit."""
        self._leave()
        if not isinstance(message, FunctionCall):
            return message
        call, flaw = self._call(message, message_context.sender)
        around = call.around(self._gate)  # permitted by another handler of the same gate
        if around is None:
            around = await self._decided(call, flaw, message_context)
            self._underway[recipient, message_context.sender, message.id] = self._last = around
            UNDERWAY.set(around)  # the task that delivers the message keeps a copy of this context
        if around.permit.observed:
            return message
        return FunctionCall(message.id, json.dumps(thaw(around.args)), message.name)

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        """Refuse a published call: every subscriber would run it, and nobody would hear of it."""
        self._leave()
        if isinstance(message, FunctionCall):
            raise _Refused(
                message.id,
                f"{message.name} was published; send the call to one agent",
                message.name,
            )
        return message

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        """Settle the permit of the call that this answers."""
        self._leave()
        if isinstance(message, FunctionExecutionResult):
            call = self._underway.pop((sender, recipient, message.call_id), None)
            if call is not None:
                done = Done(message, message.content)
                await settle(call, _ToolFailed(message.content) if message.is_error else done)
        return message

    def _call(self, message: FunctionCall, sender: AgentId | None) -> tuple[Call, Unfit | None]:
        sent, flaw = None, None
        try:
            sent = loads(message.arguments)
        except NotCanonical as error:
            problem = f"the arguments are no JSON that can be decided about: {error}"
            flaw = Unfit("args_not_canonical", problem)
        run = self._run(sender) if callable(self._run) else self._run
        return Call(message.name, sent, message.id, run or run_of(None, message.id)), flaw

    async def _decided(self, call: Call, flaw: Unfit | None, where: MessageContext) -> Underway:
        """The call, permitted; raises where it is not."""

        def shape() -> Arguments | None:
            if flaw is not None:
                raise flaw
            return self._arguments.get(call.tool)

        attempt = call.attempt(self._subject, where.sender, shape)
        try:
            answer = await decide(self._gate, attempt, where.cancellation_token)
        except (Denied, ApprovalRequired) as refusal:
            raise _Refused(call.call_id or "", str(refusal), call.tool) from refusal
        if isinstance(answer, Recorded):
            text = f"{call.tool} was not run again: it was called before, and gave: {recorded_text(answer)}"
            raise _Refused(call.call_id or "", text, call.tool)
        return Underway(
            gate=self._gate,
            proposal=attempt.proposal,
            permit=answer,
            args=attempt.kept(answer),
            outer=UNDERWAY.get(),
        )

    def _leave(self) -> None:
        """Forget the call that the last message was about; its own task remembers it."""
        if self._last is not None and UNDERWAY.get() is self._last:
            UNDERWAY.set(self._last.outer)
        now = time.time_ns() // 1000
        # A tool that raised leaves its call here; when the lease has ended, the outcome is unknown.
        for key in [key for key, old in self._underway.items() if old.permit.expires_at < now]:
            del self._underway[key]
