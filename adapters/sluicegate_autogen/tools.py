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

from .arguments import Shape
from .call import Answer, Attempt, Done, Interrupted, SubjectSource, caller, carry_out, run_of

__all__ = ["GuardedTool", "guard_tools"]

Emit = Callable[[Any], None]


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
    an `AssistantAgent`. Raises TypeError for a tool that another gate guards already.
    """
    return [_guarded(tool, gate, subject) for tool in tools]


def _guarded(
    tool: BaseTool[Any, Any] | Callable[..., Any], gate: Gate, subject: SubjectSource
) -> BaseTool[Any, Any]:
    if isinstance(tool, GuardedTool):
        if tool.gate is gate:
            return tool
        raise TypeError(
            f"{tool.name} is guarded by another gate already; guard the tool inside of it"
        )
    if not isinstance(tool, BaseTool):
        if not callable(tool):
            raise TypeError(f"{tool!r:.80} is no tool; give a BaseTool or a function")
        tool = FunctionTool(tool, description=tool.__doc__ or "")
    kind = GuardedStreamTool if isinstance(tool, StreamTool) else GuardedTool
    return kind(_with_context(tool), gate, subject)


class GuardedTool(BaseTool[Any, Any]):
    """A tool behind a gate. All but its calls is that of the tool itself."""

    def __init__(self, tool: BaseTool[Any, Any], gate: Gate, subject: SubjectSource) -> None:
        super().__init__(tool.args_type(), tool.return_type(), tool.name, tool.description)
        self.tool = tool
        self.gate = gate
        self._subject = subject
        self._shape = Shape(tool.schema, tool.args_type())

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
        async def body(permitted: Any, _: Emit) -> Done:
            value = await self.tool.run_json(permitted, cancellation_token, call_id=call_id)
            return Done(value, self.tool.return_value_as_string(value))

        async with aclosing(self._carried_out(args, cancellation_token, call_id, body)) as items:
            return [item async for item in items][-1]

    async def _carried_out(
        self, args: Any, token: CancellationToken, call_id: str | None, body: Any
    ) -> AsyncGenerator[Any, None]:
        """What *body* emits, and then what it gives, if the gate lets it."""
        attempt = Attempt(
            gate=self.gate,
            subject=self._subject,
            name=self.name,
            sent=args,
            call_id=call_id,
            run=run_of(token if _one_for_a_run() else None, call_id),
            shape=self._shape,
        )
        try:
            async with aclosing(carry_out(attempt, token, body, offer=False)) as items:
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
            f"{self.name} is guarded, and its gate has no place in a configuration: what was loaded "
            "from it would run without one. Serialise the tool itself, and guard it after loading"
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

        async def body(permitted: Any, emit: Emit) -> Done:
            held: list[Any] = []
            async for item in tool.run_json_stream(permitted, cancellation_token, call_id=call_id):
                held.append(item)
                if len(held) > 1:
                    emit(held.pop(0))
            value = held[0] if held else None  # the last one is what the tool gives
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
