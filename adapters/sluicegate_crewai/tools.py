"""Tools that ask the gate themselves, whichever way CrewAI calls them."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from crewai.tools import BaseTool
from crewai.tools.structured_tool import CrewStructuredTool
from crewai.tools.tool_failure import ToolFailure, ToolFailurePolicy
from crewai.utilities.string_utils import sanitize_tool_name
from pydantic import Field, PrivateAttr, SkipValidation

from sluicegate import Defer, Deny, Gate, Outcome, Permit, Recorded, Succeeded, current
from sluicegate.adapting import Attempt, No, SubjectSource, acarry_out, carry_out, recorded_text

from .arguments import Arguments
from .caller import Caller, caller, who
from .finish import called
from .hooks import attend
from .prompt import prompt_of
from .runs import in_run, in_tool

__all__ = ["GuardedTool", "guard_tools"]


def guard_tools(
    tools: Iterable[BaseTool], gate: Gate, *, subject: SubjectSource = None
) -> list[BaseTool]:
    """
    Tools that look the same to the model as *tools* and decide each call by *gate* before they run.

    A call that is refused is answered with a ToolFailure. *subject* may be a function
    of the `Caller`. Raises TypeError for what is no tool of CrewAI, or has no JSON
    Schema, or is guarded by another gate already.
    """
    return [_guarded(tool, gate, subject) for tool in tools]


def _guarded(tool: BaseTool, gate: Gate, subject: SubjectSource) -> BaseTool:
    if not isinstance(tool, BaseTool):
        kind = type(tool).__qualname__
        raise TypeError(f"{tool!r:.80} cannot be guarded: it is a {kind} and no CrewAI tool")
    if isinstance(tool, GuardedTool):
        if tool.gate is gate:
            return tool
        raise TypeError(f"{tool.name} is guarded by another gate already; guard its .inner instead")
    looks: dict[str, Any] = {name: getattr(tool, name) for name in BaseTool.model_fields}
    looks["cache_function"] = _never
    return GuardedTool(**looks, inner=tool, gate=gate, subject=subject)


def _never(_args: Any = None, _result: Any = None) -> bool:
    """CrewAI would answer from its cache without asking the tool, and so without asking the gate."""
    return False


class GuardedTool(BaseTool):
    """A tool of CrewAI around another one, which it runs when *gate* permits it."""

    inner: SkipValidation[BaseTool] = Field(exclude=True, repr=False)
    gate: SkipValidation[Gate] = Field(exclude=True, repr=False)
    subject: SkipValidation[Any] = Field(default=None, exclude=True, repr=False)
    _arguments: Arguments = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Prepare the schema once; raises TypeError for a tool that has none."""
        super().model_post_init(context)
        try:
            self._arguments = Arguments(self.inner)
        except Exception as error:
            problem = f"its arguments have no JSON Schema: {error}"
            raise TypeError(f"{self.name} cannot be guarded: {problem}") from error

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        attempt, refused = self._attempt(args, kwargs)

        def body(permitted: dict[str, Any]) -> Any:
            with in_tool():
                result = self.inner._run(**self._arguments.received(permitted))
                return _ended(result) if asyncio.iscoroutine(result) else result

        return carry_out(self.gate, attempt, body, refused=refused, outcome=_outcome)

    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        if type(self.inner)._arun is BaseTool._arun:
            return await self.inner._arun()  # there is none, and this says so
        attempt, refused = self._attempt(args, kwargs)

        async def body(permitted: dict[str, Any]) -> Any:
            with in_tool():
                return await self.inner._arun(**self._arguments.received(permitted))

        return await acarry_out(self.gate, attempt, body, refused=refused, outcome=_outcome)

    def _attempt(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Attempt, Any]:
        """
        The call, and how a no is answered.

        CrewAI tells a tool no id of the call, so each attempt is a call of its own: also
        those of its text mode, which runs a tool that raises up to six times.
        """
        names, calls = self._arguments.names, caller(self)
        if len(args) > len(names):
            raise TypeError(f"{self.name} takes {len(names)} arguments, {len(args)} were given")
        called(calls.crew, self.gate)
        with in_run(prompt_of(calls.crew)):
            attempt = Attempt(
                sanitize_tool_name(self.name),
                {**dict(zip(names, args, strict=False)), **kwargs},
                source="crewai",
                subject=partial(who, self.subject),
                offered=calls,
                run=current().run,
                call_id=None,
                shape=lambda: (self._arguments.shape, self._arguments.decided),
                turn=getattr(calls.structured, "_turn", None),
            )
        return attempt, partial(_answer, calls)

    def _validate_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """First the decision, and then the validation: it coerces and drops."""
        return kwargs

    def to_structured_tool(self) -> CrewStructuredTool:
        """What CrewAI makes of each tool when a run starts."""
        attend()
        structured = _StructuredTool(**dict(super().to_structured_tool()))
        structured._original_tool = self  # pyright: ignore[reportPrivateUsage]
        return structured

    def format_output_for_agent(self, raw_result: Any) -> str:
        """The inner tool's own way to say its result."""
        if isinstance(raw_result, ToolFailure):
            return raw_result.as_agent_message()
        return self.inner.format_output_for_agent(raw_result)


class _StructuredTool(CrewStructuredTool):
    """The form that a tool has in one run. In its text mode CrewAI drops and coerces arguments in it."""

    _turn: str | None = PrivateAttr(default=None)

    def _parse_args(self, raw_args: str | dict[str, Any]) -> dict[str, Any]:
        parsed: Any = json.loads(raw_args) if isinstance(raw_args, str) else raw_args
        sent: Any = caller(self._original_tool).sent or {}
        same = all(name in sent and sent[name] is value for name, value in parsed.items())
        return dict(sent) if sent and same else parsed  # with what CrewAI has dropped by now

    async def ainvoke(self, input: str | dict[str, Any], config: Any = None, **kwargs: Any) -> Any:
        """In a thread that knows its context, which CrewAI's own does not."""
        return await asyncio.to_thread(self.invoke, input, config, **kwargs)


def _ended(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of an async tool, as CrewAI runs it: to its end, in a loop of its own."""
    with ThreadPoolExecutor(1) as pool:  # this thread may have a loop that is running
        return pool.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()


def _answer(calls: Caller, no: No) -> Any:
    """What the model is told of a call that did not run."""
    if isinstance(no, Recorded):
        return no.result if no.complete else recorded_text(no)
    final = isinstance(no, Deny) and no.final
    if final and calls.structured is not None:
        # The run's own copy of the tool: with this, CrewAI ends the run with the failure.
        calls.structured.tool_failure_policy = ToolFailurePolicy.RAISE
    note = {
        "decision": type(no).__name__.lower(),
        "codes": [reason.code for reason in no.reasons],
        "final": final,
    }
    later = isinstance(no, Defer) or no.retry != "never"
    return ToolFailure(message=no.render(), retryable=later, details=note)


def _outcome(permit: Permit, ended: object) -> Outcome:
    if isinstance(ended, BaseException):
        return permit.outcome_of(ended)
    if isinstance(ended, ToolFailure):  # the tool's own word that it did not do what it should
        return permit.outcome_of(RuntimeError(ended.as_agent_message()))
    return Succeeded(ended)
