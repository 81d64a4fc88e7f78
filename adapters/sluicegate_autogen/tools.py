"""Tools that ask the gate themselves, wherever they are called from."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn, cast

from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, FunctionTool, StreamTool, ToolSchema
from pydantic import BaseModel

from sluicegate import Gate
from sluicegate.adapting import SubjectSource

from .arguments import arguments_of
from .call import Answer, Body, Call, Done, Interrupted, caller, carry_out, run_of

__all__ = ["GuardedTool", "guard_tools"]


def guard_tools(
    tools: Iterable[BaseTool[Any, Any] | Callable[..., Any]],
    gate: Gate,
    *,
    subject: SubjectSource = None,
) -> list[BaseTool[Any, Any]]:
    """
    Tools that look the same to the model and decide each call by *gate* before they run.

    A call that is refused raises Denied or ApprovalRequired, which AutoGen's workbenches
    make a result of with the reason in it. Plain functions become a `FunctionTool`, as in
    an `AssistantAgent`. *subject* may be a function of the calling agent's id. Raises
    TypeError for what is no tool, and for a tool that another gate guards already.
    """
    return [_guarded(tool, gate, subject) for tool in tools]


def _guarded(
    tool: BaseTool[Any, Any] | Callable[..., Any], gate: Gate, subject: SubjectSource
) -> BaseTool[Any, Any]:
    if isinstance(tool, GuardedTool):
        if tool.gate is gate:
            return tool
        raise TypeError(f"{tool.name} is guarded by another gate already; guard its .tool instead")
    if isinstance(tool, BaseTool):
        inner = _with_context(tool)  # pyright: ignore[reportUnknownArgumentType]
    elif callable(tool):
        inner = _with_context(FunctionTool(tool, description=tool.__doc__ or ""))
    else:
        raise TypeError(f"{tool!r:.80} is no tool; give a BaseTool or a function")
    kind = GuardedStreamTool if isinstance(inner, StreamTool) else GuardedTool
    return kind(inner, gate, subject)


class GuardedTool(BaseTool[Any, Any]):
    """A tool behind a gate. All but its calls is that of the *tool* itself."""

    def __init__(self, tool: BaseTool[Any, Any], gate: Gate, subject: SubjectSource) -> None:
        super().__init__(tool.args_type(), tool.return_type(), tool.name, tool.description)
        self.tool = tool
        self.gate = gate
        self._subject = subject
        self._arguments = arguments_of(tool.schema, tool.args_type())

    @property
    def schema(self) -> ToolSchema:
        return self.tool.schema

    def state_type(self) -> type[BaseModel] | None:
        return self.tool.state_type()

    def return_value_as_string(self, value: Any) -> str:
        return str(value) if isinstance(value, Answer) else self.tool.return_value_as_string(value)

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> Any:
        sent = args.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return await self.run_json(sent, cancellation_token)

    async def run_json(
        self,
        args: Mapping[str, Any],
        cancellation_token: CancellationToken,
        call_id: str | None = None,
    ) -> Any:
        async def body(permitted: Any, _: Callable[[Any], None]) -> Done:
            value = await self.tool.run_json(permitted, cancellation_token, call_id=call_id)
            return Done(value, self.tool.return_value_as_string(value))

        async with aclosing(self._carried_out(args, cancellation_token, call_id, body)) as items:
            return [item async for item in items][-1]

    async def _carried_out(
        self, args: Any, token: CancellationToken, call_id: str | None, body: Body
    ) -> AsyncGenerator[Any, None]:
        """What *body* emits, and then what it gives, if the gate lets it."""
        run = run_of(token if _one_for_a_run() else None, call_id)
        items = carry_out(
            self.gate,
            self._subject,
            Call(self.name, args, call_id, run),
            lambda: self._arguments,
            body,
            token=token,
            nearest=True,
        )
        try:
            async with aclosing(items):
                async for item in items:
                    yield item.value if isinstance(item, Done) else item
        except asyncio.CancelledError:
            if not token.is_cancelled():
                raise
            raise Interrupted(f"{self.name} was cancelled") from None  # see Interrupted

    async def save_state_json(self) -> Mapping[str, Any]:
        return await self.tool.save_state_json()

    async def load_state_json(self, state: Mapping[str, Any]) -> None:
        await self.tool.load_state_json(state)

    def _to_config(self) -> NoReturn:
        raise NotImplementedError(
            f"{self.name} is guarded, and a configuration has no place for a gate: what was loaded "
            "from it would run without one; serialise its .tool, and guard that after loading"
        )


class GuardedStreamTool(GuardedTool):
    """A tool behind a gate that streams, such as an agent or a team."""

    async def run_json_stream(
        self,
        args: Mapping[str, Any],
        cancellation_token: CancellationToken,
        call_id: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        tool: Any = self.tool

        async def body(permitted: Any, emit: Callable[[Any], None]) -> Done:
            held: list[Any] = []  # the last item is what the tool gives
            async for item in tool.run_json_stream(permitted, cancellation_token, call_id=call_id):
                for event in held:
                    emit(event)
                held = [item]
            value = held[0] if held else None
            return Done(value, tool.return_value_as_string(value))

        async with aclosing(self._carried_out(args, cancellation_token, call_id, body)) as items:
            async for item in items:
                yield item


def _one_for_a_run() -> bool:
    """Whether a cancellation token is that of a run: a ToolAgent gets a new one with each message."""
    agent = caller()
    return agent is None or agent.type.endswith(f"_{agent.key}")  # as AgentChat names its agents


def _with_context(tool: BaseTool[Any, Any]) -> BaseTool[Any, Any]:
    """
    *tool*, as it is unless its function is a plain one.

    A FunctionTool runs those in a thread without the context, where nobody could tell who
    calls, and an agent inside of the tool would be taken for a run of its own.
    """
    function = getattr(tool, "_func", None)
    if not isinstance(tool, FunctionTool) or function is None:
        return tool
    if inspect.iscoroutinefunction(function):
        return tool

    @functools.wraps(function)
    async def in_context(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)

    twin: Any = copy.copy(tool)
    twin._func = in_context
    return cast("BaseTool[Any, Any]", twin)
