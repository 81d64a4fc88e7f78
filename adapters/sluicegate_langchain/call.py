"""A tool call on its way to the gate and back, whichever way LangChain takes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, ToolException
from langgraph.errors import GraphInterrupt
from langgraph.types import Command

from sluicegate import Deny, Failed, Gate, Outcome, Permit, Recorded, Succeeded, adapting, current
from sluicegate.adapting import No, SubjectSource, Unfit, own_run, recorded_text, underway
from sluicegate.canonical import is_object

from .arguments import Arguments
from .said import UNHEARD, Said

__all__ = ["KEY", "Call", "acarry_out", "carry_out", "outcome", "passes"]

KEY: Final = "sluicegate"
"""Where a ToolMessage that the gate wrote says so, in its `additional_kwargs`."""

_THREAD: Final[ContextVar[str | None]] = ContextVar("sluicegate_langchain_thread", default=None)
"""The LangGraph thread of the call whose tool is running around us."""

R = TypeVar("R")


class Call(adapting.Attempt):
    """
    A call of *tool*, which is None where the agent has none of that *name*, or nobody knows.

    Its run is the one that the agent has *kept* since its first step, the one that the program
    named, or the thread; inside of a running tool that of the call around it, unless the thread
    is another.
    """

    def __init__(
        self,
        tool: BaseTool | None,
        name: str,
        sent: Mapping[str, Any],
        call_id: str | None,
        *,
        config: Mapping[str, Any],
        subject: SubjectSource,
        offered: object,
        kept: str | None = None,
        exists: bool = True,
        said: Said = UNHEARD,
    ) -> None:
        thread = config.get("thread_id")
        self._thread = None if thread is None else str(thread)
        around = current().run
        if around is None or self._thread != _THREAD.get():
            around = self._thread or around

        def shape() -> Any:
            if tool is not None:
                return Arguments.of(tool)[:2]
            if not exists:
                raise Unfit("unknown_tool", f"the agent has no tool {name!r:.120}")
            return None

        super().__init__(
            name,
            sent,
            source="langchain",
            subject=subject,
            offered=offered,
            run=kept or own_run() or around,
            call_id=call_id,
            shape=shape,
            prompt=said.prompt,
            turn=said.turn,
        )

    def message(self, no: No) -> ToolMessage:
        """The answer of a call that did not run, as the model is shown it."""
        note: dict[str, Any] = {"decision": type(no).__name__.lower(), "run": self.proposal.run}
        if isinstance(no, Recorded):
            # Text and content blocks come back as they were.
            blocks = type(no.result) is list
            content: Any = no.result if blocks else recorded_text(no)
        else:
            content = no.render()
            note["codes"] = [reason.code for reason in no.reasons]
            note["final"] = isinstance(no, Deny) and no.final
        return ToolMessage(
            content,
            status="success" if isinstance(no, Recorded) else "error",
            tool_call_id=self.proposal.call_id or "",
            name=self.proposal.tool,
            additional_kwargs={KEY: note},
        )

    @contextmanager
    def in_thread(self) -> Generator[None, None, None]:
        """The block in which this call is carried out."""
        token = _THREAD.set(self._thread)
        try:
            yield
        finally:
            _THREAD.reset(token)


def carry_out(
    gate: Gate, call: Call, body: Callable[[dict[str, Any]], R], refused: Callable[[No], R]
) -> R:
    """Decide about *call*; run *body* with what is permitted and settle it, or give what *refused* makes."""
    with call.in_thread():
        return adapting.carry_out(gate, call, body, refused=refused, outcome=outcome)


async def acarry_out(
    gate: Gate,
    call: Call,
    body: Callable[[dict[str, Any]], Awaitable[R]],
    refused: Callable[[No], R],
) -> R:
    """`carry_out` for asyncio."""
    with call.in_thread():
        return await adapting.acarry_out(gate, call, body, refused=refused, outcome=outcome)


def passes(gate: Gate, tool: str, by: str, call_id: str | None = None, args: object = None) -> bool:
    """
    Whether *gate* has permitted this very call further out; each guard *by* its name lets it pass once.

    Without *args* neither they nor the id are compared.
    """
    call = underway(gate, tool)
    if call is None or (args is not None and (call.proposal.call_id, call.args) != (call_id, args)):
        return False
    return call.pass_by(by)


def outcome(permit: Permit, ended: object) -> Outcome:
    """What it means that a tool raised or gave *ended*."""
    if isinstance(ended, GraphInterrupt):
        return Failed("interrupted: the tool asked for input, and runs again from its beginning")
    if isinstance(ended, BaseException):
        return permit.outcome_of(ended)
    answer = _answer(ended)
    if answer is None:
        return Succeeded(None if isinstance(ended, Command) else ended)
    if answer.status == "error":  # an exception that LangChain has made a message of
        return permit.outcome_of(ToolException(str(answer.content)))
    return Succeeded(answer.content)


def _answer(ended: object) -> ToolMessage | None:
    """The message to the model in what a tool gave, which may be a state update or several of them."""
    if isinstance(ended, ToolMessage):
        return ended
    if isinstance(ended, Command):
        update: Any = ended.update
        ended = update.get("messages") if is_object(update) else update
    if type(ended) is not list:
        return None
    answers = map(_answer, cast("list[object]", ended))
    return next((answer for answer in answers if answer is not None), None)
