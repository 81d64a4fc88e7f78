"""A person's yes by way of LangGraph: the request is a durable interrupt, and the answer resumes it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import set_config_context
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from sluicegate import Defer, Gate, PermitError, thaw
from sluicegate.adapting import No
from sluicegate.canonical import is_object

from .call import Call
from .siblings import SCRATCHPAD

__all__ = ["Asking"]

_FORM: Final = (
    'resume with {"request": "<its id>", "approve": true | false, "by": "<who>", "note": "<why>"} '
    '(without "note" if you like), or with {"request": "<its id>", "approve": null} to look whether '
    "it was answered elsewhere"
)
_ONE_AT_A_TIME: Final = threading.Lock()
"""LangGraph counts the interrupts of a task; a hand-built graph runs several calls in one task."""


class Answer(NamedTuple):
    """What a person said to a request; *approve* is None where they said nothing."""

    request: str
    approve: bool | None
    by: str
    note: str

    @staticmethod
    def read(value: Any) -> Answer:
        """The answer that a graph was resumed with; raises ValueError for anything else."""
        given: Mapping[str, Any] = value if is_object(value) else {}
        request, approve, by, note = (given.get(part, "") for part in Answer._fields)
        if (
            not given.keys() <= set(Answer._fields)
            or not (approve is None or isinstance(approve, bool))
            or not all(isinstance(text, str) for text in (request, by, note))
            or not (request and (by or approve is None))
        ):
            raise ValueError(f"{value!r:.200} is no answer to a request; {_FORM}")
        return Answer(request, approve, by, note)


class Asking:
    """
    How one call asks a person: LangGraph runs a task from its beginning when it is resumed.

    The answers are read from where LangGraph keeps them, and not only from what
    `interrupt` gives: that hands them out by the order in which it is called, and a call
    that was approved elsewhere meanwhile does not ask again. What it left there would
    be taken for the answer to the next question, that of the tool itself.

    Without *config* nobody is asked: the model is told to wait.
    """

    def __init__(self, gate: Gate, call: Call, config: Any) -> None:
        self._gate = gate
        self.call = call
        self._config = config
        self._problem: str | None = None
        self.answers: list[Answer] = []
        self._consumed = 0
        action = call.proposal.action.partition(":")[2]
        for number, value in enumerate(_resumed_with(config), 1):
            try:
                answer = Answer.read(value)
            except ValueError as error:
                self._problem = str(error)
                continue
            self._problem, self._consumed = None, number
            if action.startswith(answer.request.partition(".")[0]):  # about this very action
                self.answers.append(answer)

    def record(self) -> None:
        """Record what people said. An answer that was recorded before, or comes too late, changes nothing."""
        for answer in self.answers:
            if answer.approve is None:
                continue
            say = self._gate.approve if answer.approve else self._gate.reject
            try:
                say(answer.request, by=answer.by, note=answer.note)
            except (PermitError, ValueError) as error:
                self._problem = self._problem or str(error)

    def refused(self, no: No) -> ToolMessage:
        """The answer of a call that does not run; one that has to wait interrupts the graph."""
        if self._config is None or not isinstance(no, Defer):
            return self.call.message(no)
        while True:  # past the answers that we have seen, until LangGraph has no more
            self._interrupt(self._question(no))

    def passed(self) -> None:
        """Leave no answer of ours behind for an `interrupt` in the tool."""
        with suppress(GraphInterrupt):  # another call of the same task has taken them
            for _ in range(self._consumed):
                self._interrupt(None)

    def _interrupt(self, question: object) -> None:
        with _ONE_AT_A_TIME, set_config_context(self._config) as context:
            context.run(interrupt, question)

    def _question(self, waiting: Defer) -> dict[str, Any]:
        expires = datetime.fromtimestamp(waiting.expires_at // 1_000_000, timezone.utc)
        question: dict[str, Any] = {
            "request": waiting.request_id,
            "tool": waiting.tool,
            "args": thaw(self.call.proposal.args),
            "reasons": [{"code": r.code, "message": r.message} for r in waiting.reasons],
            "expires": expires.isoformat(),
            "answer": _FORM,
        }
        return question if self._problem is None else {**question, "problem": self._problem}


def _resumed_with(config: Any) -> list[Any]:
    """All values that the task of this call was resumed with, in order, also those not handed out yet."""
    pad = None if config is None else config.get("configurable", {}).get(SCRATCHPAD)
    if pad is None:  # nobody is to be asked, or no graph is running
        return []
    latest = pad.get_null_resume()
    return [*pad.resume, *([] if latest is None else [latest])]
