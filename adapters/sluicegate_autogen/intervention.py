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
from sluicegate.canonical import loads

from .arguments import Shape, Unfit
from .call import UNDERWAY, Attempt, Done, SubjectSource, Underway, arecord, recorded_text, run_of

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
        self._shapes = {tool.name: Shape(tool.schema, tool.args_type()) for tool in tools}
        self._underway: dict[tuple[AgentId, AgentId | None, str], Underway] = {}

    async def on_send(
        self, message: Any, *, message_context: MessageContext, recipient: AgentId
    ) -> Any:
        """The call with the permitted arguments; raises where there is no permit."""
        self._leave()
        if not isinstance(message, FunctionCall):
            return message
        sender = message_context.sender
        attempt = self._attempt(message, sender)
        call = attempt.permitted()  # by another handler of the same gate
        if call is None:
            call = await self._decided(attempt, message_context)
            self._underway[recipient, sender, message.id] = call
            UNDERWAY.set(call)  # the task that delivers the message keeps a copy of this context
        if call.permit.observed:
            return message
        return FunctionCall(message.id, json.dumps(thaw(call.args)), message.name)

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
                await arecord(call, _ToolFailed(message.content) if message.is_error else done)
        return message

    def _attempt(self, message: FunctionCall, sender: AgentId | None) -> Attempt:
        sent, flaw = None, None
        try:
            sent = loads(message.arguments)
        except NotCanonical as error:
            flaw = Unfit(
                "args_not_canonical",
                f"the arguments are no JSON that can be decided about: {error}",
            )
        run = self._run(sender) if callable(self._run) else self._run
        run = run_of(None, message.id) if run is None else run
        return Attempt(
            gate=self._gate,
            subject=self._subject,
            name=message.name,
            sent=sent,
            call_id=message.id,
            run=run,
            shape=self._shapes.get(message.name),
            flaw=flaw,
            agent=sender,
        )

    async def _decided(self, attempt: Attempt, where: MessageContext) -> Underway:
        """The call, permitted; raises where it is not."""
        try:
            answer = await attempt.decide(where.cancellation_token, by=self)
        except (Denied, ApprovalRequired) as refusal:
            raise _Refused(attempt.call_id or "", str(refusal), attempt.name) from refusal
        if isinstance(answer, Recorded):
            text = f"{attempt.name} was called before and was not run again; it gave: {recorded_text(answer)}"
            raise _Refused(attempt.call_id or "", text, attempt.name)
        return answer

    def _leave(self) -> None:
        """Forget the call that the last message was about; its own task remembers it."""
        call = UNDERWAY.get()
        if call is not None and call.by is self:
            UNDERWAY.set(call.outer)
        now = time.time_ns() // 1000
        for key in [key for key, old in self._underway.items() if old.permit.expires_at < now]:
            del self._underway[
                key
            ]  # its tool raised: the lease has ended, and the outcome is unknown
