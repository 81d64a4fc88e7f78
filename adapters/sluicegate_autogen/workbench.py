"""A workbench whose every call is decided first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, NoReturn

from autogen_core import CancellationToken
from autogen_core.tools import (
    BaseTool,
    StaticStreamWorkbench,
    TextResultContent,
    ToolResult,
    ToolSchema,
    Workbench,
)

from sluicegate import ApprovalRequired, Denied, Gate
from sluicegate.adapting import SubjectSource, Unfit
from sluicegate.clock import random_id

from .arguments import Arguments, arguments_of
from .call import Call, Done, Interrupted, carry_out, run_of
from .tools import guard_tools

__all__ = ["GateWorkbench"]

_log: Final = logging.getLogger("sluicegate")

Part = Workbench | BaseTool[Any, Any] | Callable[..., Any]


class _Listed(NamedTuple):
    """A tool, and the workbench that has it."""

    part: Workbench
    tool: ToolSchema
    arguments: Arguments


class _Asked(NamedTuple):
    """That *task* has asked for the tools; *around* is what a task around it has asked."""

    task: asyncio.Task[Any] | None
    turn: str
    around: str | None


_ASKED: Final[ContextVar[_Asked | None]] = ContextVar("sluicegate_autogen_asked", default=None)


class _ToolError(Exception):
    """A tool failed; the workbench has made a result of it."""

    def __init__(self, result: ToolResult) -> None:
        self.result = result
        super().__init__(result.to_text("[image]"))


class GateWorkbench(StaticStreamWorkbench):
    """
    Decide about every call: `AssistantAgent(…, workbench=GateWorkbench([tool, …], gate))`.

    *tools* are functions, tools or workbenches, in any mixture, or one workbench. Of two
    workbenches with a tool of one name the first counts, and before both a tool of its own. *subject* says who calls: a
    `Subject`, a function of the calling agent's id (None outside of a team), or None for
    what `sluicegate.context` says. A run is one `run` of the agent or team, unless
    `sluicegate.context` names one.

    A refused call becomes a result with the reason in it, and the agent goes on. Nothing
    is ever raised into an agent: AutoGen would wait for that call forever.
    """

    component_provider_override = "sluicegate_autogen.GateWorkbench"

    # An AssistantAgent calls `call_tool_stream` of a StaticStreamWorkbench and `call_tool` of
    # all others, so this is one that holds no tools of its own and decides in both.

    def __init__(
        self, tools: Workbench | Sequence[Part], gate: Gate, *, subject: SubjectSource = None
    ) -> None:
        super().__init__([])
        given = [tools] if isinstance(tools, Workbench) else list(tools)
        own = guard_tools([t for t in given if not isinstance(t, Workbench)], gate, subject=subject)
        names = [tool.name for tool in own]
        if len(set(names)) < len(names):
            raise ValueError(f"tool names must be unique: {', '.join(sorted(names))}")
        self.gate = gate
        self.parts: list[Workbench] = [part for part in given if isinstance(part, Workbench)]
        if own:
            self.parts.insert(0, StaticStreamWorkbench(own))
        self._subject = subject
        self._models = {tool.name: tool.args_type() for tool in own}
        self._listed: dict[str, _Listed] = {}

    async def list_tools(self) -> list[ToolSchema]:
        """
        The tools of all parts, each name once.

        Where they cannot be asked any more, the last answer stands: an agent asks in the
        midst of a call as well, and would hang.
        """
        _begin_turn()
        try:
            found = [(part, tool) for part in self.parts for tool in await part.list_tools()]
        except Exception:
            if not self._listed:
                raise
            _log.exception("the tools could not be listed; the last list stands")
        else:
            known, self._listed = self._listed, {}
            for part, tool in found:
                old = known.get(tool["name"])
                if old is None or old.part is not part or old.tool != tool:
                    old = _Listed(part, tool, arguments_of(tool, self._models.get(tool["name"])))
                self._listed.setdefault(tool["name"], old)
        return [listed.tool for listed in self._listed.values()]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        """Decide, and call the tool if it may run; the last word is always a ToolResult."""
        answers = self._answers(name, arguments, cancellation_token, call_id, stream=False)
        async with aclosing(answers) as items:
            result: ToolResult = [item async for item in items][-1]
            return result

    async def call_tool_stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> AsyncGenerator[Any | ToolResult, None]:
        """`call_tool`, with what the tool streams on the way."""
        answers = self._answers(name, arguments, cancellation_token, call_id, stream=True)
        async with aclosing(answers) as items:
            async for item in items:
                yield item

    async def _answers(
        self,
        name: str,
        arguments: Any,
        token: CancellationToken | None,
        call_id: str | None,
        *,
        stream: bool,
    ) -> AsyncGenerator[Any, None]:
        """What the tool streams, and last a ToolResult, whatever happens."""
        try:
            sent: Any = {} if arguments is None else arguments
            call = Call(name, sent, call_id, run_of(token, call_id), _turn())
            async with aclosing(self._calls(call, token, stream)) as items:
                async for item in items:
                    yield _result(name, item) if isinstance(item, Done) else item
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise  # who awaits this call has cancelled it, and waits for just that
        except _ToolError as error:
            yield error.result
        except (Denied, ApprovalRequired, Interrupted) as no:
            yield _failed(name, str(no))
        except BaseException as error:  # noqa: BLE001 - the agent would hang
            _log.exception("a call of %s failed", name)
            yield _failed(name, str(error) or type(error).__name__)

    async def _calls(
        self, call: Call, token: CancellationToken | None, stream: bool
    ) -> AsyncGenerator[Any, None]:
        name = call.tool
        if name not in self._listed:
            await self.list_tools()
        listed = self._listed.get(name)
        part = None if listed is None else listed.part

        def shape() -> Arguments:
            if listed is None:
                raise Unfit("unknown_tool", f"no workbench has a tool {name!r:.120}")
            return listed.arguments

        async def body(permitted: Any, emit: Callable[[Any], None]) -> Done:
            result: Any = None
            if stream and isinstance(part, StaticStreamWorkbench):
                async for item in part.call_tool_stream(name, permitted, token, call.call_id):
                    if isinstance(item, ToolResult):
                        result = item
                    else:
                        emit(item)
            elif part is not None:
                result = await part.call_tool(name, permitted, token, call.call_id)
            if not isinstance(result, ToolResult):
                raise TypeError(
                    f"the workbench of {name} gave a {type(result).__qualname__} and no ToolResult"
                )
            if result.is_error:
                raise _ToolError(result)
            return Done(result, result.to_text("[image]"))

        items = carry_out(self.gate, self._subject, call, shape, body, token=token, nearest=False)
        async with aclosing(items):
            async for item in items:
                yield item

    # --- the rest of a workbench --------------------------------------------------------------

    async def start(self) -> None:
        for part in self.parts:
            await part.start()

    async def stop(self) -> None:
        for part in reversed(self.parts):
            await part.stop()

    async def reset(self) -> None:
        for part in self.parts:
            await part.reset()

    async def save_state(self) -> Mapping[str, Any]:
        return {"parts": [await part.save_state() for part in self.parts]}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        for part, saved in zip(self.parts, state["parts"], strict=True):
            await part.load_state(saved)

    def _to_config(self) -> NoReturn:
        raise NotImplementedError(
            "a GateWorkbench has no configuration: what was loaded from it would run without a gate. "
            "Serialise the workbench inside of it, and put a gate around it after loading"
        )

    @classmethod
    def _from_config(cls, config: Any) -> NoReturn:
        raise NotImplementedError(
            "a GateWorkbench cannot be loaded: there is no gate in a configuration"
        )


def _result(name: str, done: Done) -> ToolResult:
    if isinstance(done.value, ToolResult):
        return done.value
    return ToolResult(name=name, result=[TextResultContent(content=done.text)])


def _failed(name: str, text: str) -> ToolResult:
    return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=True)


# An AssistantAgent asks for the tools before it asks its model, and once more in the task of
# each call that the model made. So what was asked around such a task names the turn.


def _begin_turn() -> None:
    last, task = _ASKED.get(), asyncio.current_task()
    around = None if last is None else last.around if last.task is task else last.turn
    _ASKED.set(_Asked(task, random_id(), around))


def _turn() -> str | None:
    """The message of the model that this call came in; None for a call of anything but an AssistantAgent."""
    asked = _ASKED.get()
    _ASKED.set(None)  # an agent in the tool has turns of its own
    return asked.around if asked is not None and asked.task is asyncio.current_task() else None
