"""The gate as middleware of `create_agent`, and as the wrapper of a `ToolNode`."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from langchain.agents.middleware import AgentMiddleware, AgentState, hook_config
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AnyMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from typing_extensions import NotRequired

from sluicegate import Gate
from sluicegate.adapting import SubjectSource, own_run
from sluicegate.canonical import is_object

from .call import KEY, Call, acarry_out, carry_out

__all__ = ["GateMiddleware", "tool_node"]


class GateState(AgentState[Any]):
    """What the agent remembers for the gate: the run, from its first step on and across a resume."""

    sluicegate_run: NotRequired[Annotated[str, PrivateStateAttr]]


class GateMiddleware(AgentMiddleware[GateState, Any]):
    """
    Decide about every tool call of an agent: `create_agent(…, middleware=[…, GateMiddleware(gate)])`.

    Put it last, so that it sees the calls as the other middleware leaves them. *subject*
    says who calls: a `Subject`, a function of the `ToolCallRequest`, or None for what
    `sluicegate.context` says. A run is one invocation of the agent, resumed or not; its
    name is that of `sluicegate.context` where it began, or a new one.

    A refused call becomes a ToolMessage with the reason, and the agent goes on; after
    a final refusal it ends before it asks the model again.
    """

    state_schema = GateState

    def __init__(self, gate: Gate, *, subject: SubjectSource = None) -> None:
        super().__init__()
        self._gate = gate
        self._subject = subject

    def before_agent(self, state: GateState, runtime: Any) -> dict[str, Any]:
        """Give the run its name; a resumed run does not come by here and keeps the one it has."""
        return {"sluicegate_run": own_run() or uuid.uuid4().hex}

    async def abefore_agent(self, state: GateState, runtime: Any) -> dict[str, Any]:
        return self.before_agent(state, runtime)

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: GateState, runtime: Any) -> dict[str, Any] | None:
        """End the run if a call of the last turn was refused for good; all its calls are answered by now."""
        stopped = _stopped(state["messages"], state.get("sluicegate_run"))
        return {"jump_to": "end"} if stopped else None

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: GateState, runtime: Any) -> dict[str, Any] | None:
        return self.before_model(state, runtime)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Any]
    ) -> Any:
        call, with_args = self._call(request)
        return carry_out(self._gate, call, lambda args: handler(with_args(args)), call.message)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> Any:
        call, with_args = self._call(request)
        return await acarry_out(
            self._gate, call, lambda args: handler(with_args(args)), call.message
        )

    def _call(
        self, request: ToolCallRequest
    ) -> tuple[Call, Callable[[dict[str, Any]], ToolCallRequest]]:
        """The call, and the request to hand on with the arguments that are permitted."""
        sent, tool = request.tool_call, request.tool
        state: Any = request.state
        config = request.runtime.config  # pyright: ignore[reportUnknownMemberType]
        call = Call(
            tool,
            tool.name if tool is not None else sent["name"],  # what runs, not what it was called
            sent["args"],
            sent.get("id") or "",
            config=config.get("configurable", {}),
            subject=self._subject,
            offered=request,
            kept=state.get("sluicegate_run") if is_object(state) else None,
            exists=tool is not None,
        )
        return call, lambda args: request.override(tool_call={**sent, "args": args})


def tool_node(
    tools: Sequence[BaseTool | Callable[..., Any]],
    gate: Gate,
    *,
    subject: SubjectSource = None,
    **options: Any,
) -> ToolNode:
    """
    A `ToolNode` for a graph built by hand whose every call is decided by *gate*.

    *options* are those of `ToolNode`. The run is that of `sluicegate.context`, or else
    the thread. The graph itself has to end the run after a final refusal: its message
    has `additional_kwargs["sluicegate"]["final"]`.
    """
    middleware = GateMiddleware(gate, subject=subject)
    return ToolNode(
        tools,
        wrap_tool_call=middleware.wrap_tool_call,
        awrap_tool_call=middleware.awrap_tool_call,
        **options,
    )


def _stopped(messages: Sequence[AnyMessage], run: str | None) -> bool:
    answers = [message for message in messages if isinstance(message, ToolMessage)]
    notes: list[Any] = [answer.additional_kwargs.get(KEY, {}) for answer in answers]
    return any(note.get("final") and note.get("run") == run for note in notes)
