"""The gate as middleware of `create_agent`, and as the wrapper of a `ToolNode`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

from langchain.agents.middleware import AgentMiddleware, AgentState, hook_config
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from typing_extensions import NotRequired

from sluicegate import Gate, Unfinished
from sluicegate.adapting import SubjectSource, in_a_call, own_run
from sluicegate.canonical import is_object

from .asking import Asking
from .call import KEY, Call, acarry_out, carry_out
from .said import Said
from .siblings import beside_others

__all__ = ["GateMiddleware", "tool_node"]

Ask: TypeAlias = Literal["reply", "interrupt"]
Unfulfilled: TypeAlias = Literal["raise", "tell"]
R = TypeVar("R")
_log: Final = logging.getLogger("sluicegate")


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

    *ask* says what becomes of a call that a person must say yes to: "reply" tells the
    model to wait, "interrupt" makes a LangGraph interrupt of the request, and the graph
    is resumed with the answer. *unfinished* says what becomes of a run that ends and
    owes something by the policy's contracts: "raise" raises Unfinished, "tell" adds a
    message that says what is owed. *messages_key* is where the state has its messages.
    """

    state_schema = GateState

    def __init__(
        self,
        gate: Gate,
        *,
        subject: SubjectSource = None,
        ask: Ask = "reply",
        unfinished: Unfulfilled = "raise",
        messages_key: str = "messages",
    ) -> None:
        super().__init__()
        for name, given, known in (
            ("ask", ask, get_args(Ask)),
            ("unfinished", unfinished, get_args(Unfulfilled)),
        ):
            if given not in known:
                raise ValueError(f"{name} is {given!r}; it must be one of {', '.join(known)}")
        self._gate = gate
        self._subject = subject
        self._ask = ask
        self._unfinished = unfinished
        self._messages = messages_key

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

    def after_agent(self, state: GateState, runtime: Any) -> dict[str, Any] | None:
        """
        See what the run owes by the policy's contracts; one that waits for a person does not come by here.

        An agent inside of a running tool owes nothing by itself: the outermost run does. A gate
        that observes merely logs it.
        """
        run, gate = state.get("sluicegate_run"), self._gate
        if run is None or not gate.policy.contracts or in_a_call():
            return None
        report = gate.finish(run)
        if report.fulfilled:
            return None
        if gate.observe:
            _log.warning("observing: %s", report.render())
            return None
        if self._unfinished == "raise":
            raise Unfinished(report)
        note = {"run": run, "fulfilled": False}
        return {"messages": [AIMessage(report.render(), additional_kwargs={KEY: note})]}

    async def aafter_agent(self, state: GateState, runtime: Any) -> dict[str, Any] | None:
        return await asyncio.to_thread(self.after_agent, state, runtime)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Any]
    ) -> Any:
        asking = self._asking(request)
        asking.record()
        return carry_out(self._gate, asking.call, _body(asking, request, handler), asking.refused)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> Any:
        async with beside_others(request.runtime.config):  # pyright: ignore[reportUnknownMemberType]
            asking = self._asking(request)
            if asking.answers:
                await asyncio.to_thread(asking.record)
            body = _body(asking, request, handler)
            return await acarry_out(self._gate, asking.call, body, asking.refused)

    def _asking(self, request: ToolCallRequest) -> Asking:
        sent, tool = request.tool_call, request.tool
        state: Any = request.state
        config: Any = request.runtime.config  # pyright: ignore[reportUnknownMemberType]
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
            said=Said.of(state, self._messages),
        )
        return Asking(self._gate, call, config if self._ask == "interrupt" else None)


def tool_node(
    tools: Sequence[BaseTool | Callable[..., Any]],
    gate: Gate,
    *,
    subject: SubjectSource = None,
    ask: Ask = "reply",
    **options: Any,
) -> ToolNode:
    """
    A `ToolNode` for a graph built by hand whose every call is decided by *gate*.

    *options* are those of `ToolNode`; *ask* is that of `GateMiddleware`. The run is that
    of `sluicegate.context`, or else the thread. The graph itself has to end the run after
    a final refusal: its message has `additional_kwargs["sluicegate"]["final"]`.
    """
    messages = options.get("messages_key", "messages")
    middleware = GateMiddleware(gate, subject=subject, ask=ask, messages_key=messages)
    return ToolNode(
        tools,
        wrap_tool_call=middleware.wrap_tool_call,
        awrap_tool_call=middleware.awrap_tool_call,
        **options,
    )


def _body(
    asking: Asking, request: ToolCallRequest, handler: Callable[[ToolCallRequest], R]
) -> Callable[[dict[str, Any]], R]:
    """What runs with the arguments that are permitted."""

    def body(args: dict[str, Any]) -> R:
        asking.passed()
        return handler(request.override(tool_call={**request.tool_call, "args": args}))

    return body


def _stopped(messages: Sequence[AnyMessage], run: str | None) -> bool:
    answers = [message for message in messages if isinstance(message, ToolMessage)]
    notes: list[Any] = [answer.additional_kwargs.get(KEY, {}) for answer in answers]
    return any(note.get("final") and note.get("run") == run for note in notes)
