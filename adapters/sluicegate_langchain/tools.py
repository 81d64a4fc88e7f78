"""Tools that ask the gate themselves, wherever they are called from."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.tools import BaseTool

from sluicegate import ApprovalRequired, Defer, Denied, Gate, Recorded
from sluicegate.adapting import No, SubjectSource, subject_of, underway
from sluicegate.canonical import is_object

from .arguments import Arguments
from .call import Call, acarry_out, carry_out, passes

__all__ = ["guard_tools", "is_guarded"]


def guard_tools(
    tools: Iterable[BaseTool], gate: Gate, *, subject: SubjectSource = None
) -> list[BaseTool]:
    """
    Copies of *tools* that look the same to the model and decide each call by *gate* before they run.

    *subject* may be a function of the call's `RunnableConfig`. A tool call that is
    refused is answered with a ToolMessage. Whoever calls the tool in another way
    (`tool.invoke({…})`, `tool.func(…)`) gets Denied or ApprovalRequired. Raises
    TypeError for a tool that cannot be guarded, or that another gate guards already.
    """
    return [_guarded(tool, gate, subject) for tool in tools]


def is_guarded(tool: BaseTool) -> bool:
    """Whether *tool* came from `guard_tools`."""
    return isinstance(tool, _Guarded)


def _guarded(tool: BaseTool, gate: Gate, subject: SubjectSource) -> BaseTool:
    if isinstance(tool, _Guarded):
        if tool.sluicegate_gate is gate:
            return tool
        raise TypeError(f"{tool.name} is guarded by another gate; guard what it was made from")
    guard = functools.partial(_guarded_function, tool.name, gate, subject)
    parts = [part for part in ("func", "coroutine") if getattr(tool, part, None) is not None]
    copy = tool.model_copy(update={part: guard(part, getattr(tool, part)) for part in parts})
    kind: Any = types.new_class(type(tool).__name__, (_Guarded, type(tool)))
    kind.sluicegate_gate, kind.sluicegate_subject = gate, (subject,)
    for part in ("_run", "_arun") if not parts else ():
        if getattr(type(tool), part) is not getattr(BaseTool, part):
            setattr(kind, part, guard(part, getattr(type(tool), part)))
    object.__setattr__(copy, "__class__", kind)
    try:
        Arguments.of(copy)
    except Exception as error:
        raise TypeError(
            f"{tool.name} cannot be guarded: its schema cannot be made: {error}"
        ) from error
    return copy


class _Guarded(BaseTool if TYPE_CHECKING else object):  # type: ignore[misc]
    """What a guarded tool does before its own class does the same; `batch` and all others end here."""

    __slots__ = ()
    sluicegate_gate: ClassVar[Gate]
    sluicegate_subject: ClassVar[tuple[SubjectSource]]
    """In a tuple, so that a function does not become a method."""

    def invoke(self, input: Any, config: Any = None, **options: Any) -> Any:
        return super().invoke(_with_id(input), config, **options)

    async def ainvoke(self, input: Any, config: Any = None, **options: Any) -> Any:
        return await super().ainvoke(_with_id(input), config, **options)

    def run(self, tool_input: Any, *rest: Any, **options: Any) -> Any:
        call, body = self._call(super().run, tool_input, rest, options)
        if call is None:
            return body({})
        return carry_out(self.sluicegate_gate, call, body, functools.partial(_refused, call))

    async def arun(self, tool_input: Any, *rest: Any, **options: Any) -> Any:
        call, body = self._call(super().arun, tool_input, rest, options)
        if call is None:
            return await body({})
        return await acarry_out(self.sluicegate_gate, call, body, functools.partial(_refused, call))

    def _call(
        self, inner: Any, tool_input: Any, rest: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Call | None, Callable[[dict[str, Any]], Any]]:
        """The call, None for one that was decided on its way here, and what runs if it may."""
        gate, arguments = self.sluicegate_gate, Arguments.of(self)
        config: Any = options.get("config") or {}
        given: Any = tool_input if is_object(tool_input) else {arguments.first: tool_input}
        injected = arguments.shape.injected  # the program's: not the model's, and not the policy's
        sent = {name: value for name, value in given.items() if name not in injected}
        if passes(gate, self.name, "tool", options.get("tool_call_id"), sent):
            return None, lambda _: inner(tool_input, *rest, **options)

        def body(args: dict[str, Any]) -> Any:
            passes(gate, self.name, "tool")
            filled = {name: value for name, value in given.items() if name in injected}
            return inner({**args, **filled}, *rest, **options)

        call = Call(
            self,
            self.name,
            sent,
            options.get("tool_call_id"),
            config=config.get("configurable", {}),
            subject=self.sluicegate_subject[0],
            offered=config,
        )
        return call, body


def _with_id(input: Any) -> Any:
    """A tool call without an id gets an empty one: it is refused, and not taken for a plain call."""
    if is_object(input) and input.get("type") == "tool_call" and not input.get("id"):
        return {**input, "id": ""}
    return input


def _refused(call: Call, no: No) -> object:
    if call.proposal.call_id is not None:
        return call.message(no)
    if isinstance(no, Recorded):
        return no.result
    raise ApprovalRequired(no) if isinstance(no, Defer) else Denied(no)


def _guarded_function(
    tool: str, gate: Gate, subject: SubjectSource, part: str, function: Callable[..., Any]
) -> Callable[..., Any]:
    """The function of a guarded tool: its tool just runs it; called by others it is decided as a function."""
    decided = gate.guard(tool, subject=lambda: subject_of(subject, {}))(function)

    def chosen() -> Callable[..., Any]:
        call = underway(gate, tool)
        in_tool = call is not None and not call.pass_by("tool") and call.pass_by(part)
        return function if in_tool else decided

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            return await chosen()(*args, **kwargs)

        return run_async

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return chosen()(*args, **kwargs)

    return run
