"""One tool call on its way to the gate and back, whichever way AutoGen takes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from autogen_core import AgentId, CancellationToken, MessageHandlerContext

from sluicegate import (
    ApprovalRequired,
    Decision,
    Defer,
    Denied,
    Deny,
    Gate,
    Outcome,
    Permit,
    Reason,
    Recorded,
    Succeeded,
    current,
    thaw,
)
from sluicegate.adapting import Attempt, Underway, arecord, inside, record, recorded_text
from sluicegate.clock import random_id
from sluicegate.decision import Code

__all__ = [
    "CALL",
    "Answer",
    "Done",
    "Interrupted",
    "caller",
    "carry_out",
    "decide",
    "passing",
    "run_of",
    "settle",
]

_log: Final = logging.getLogger("sluicegate")
_END: Final = object()
_SETTLER: Final = "autogen"
_ENDED_RUNS: Final = 10_000


class Answer(str):
    """What a tool gave, as text, where the tool itself was not run again."""

    __slots__ = ()


class Done(NamedTuple):
    """What came of a call: the value for the program, and the text for the model and the record."""

    value: Any
    text: str


class Interrupted(Exception):
    """The call was cancelled. Unlike a CancelledError, AutoGen tells an agent of this, and it goes on."""


Body: TypeAlias = Callable[[Any, Callable[[Any], None]], Coroutine[Any, Any, Done]]
"""Runs a tool with the permitted arguments, and emits what it streams on the way."""

CALL: Final[ContextVar[Underway | None]] = ContextVar("sluicegate_autogen", default=None)
"""The permitted call around this code. The guard nearest to the function settles it: see `settle`."""

_RUNS: Final[WeakKeyDictionary[CancellationToken, str]] = WeakKeyDictionary()
_ENDED: Final[WeakKeyDictionary[Gate, dict[str, None]]] = WeakKeyDictionary()


def caller() -> AgentId | None:
    """The agent in whose message handler this happens; None outside of a runtime."""
    try:
        return MessageHandlerContext.agent_id()
    except RuntimeError:
        return None


def run_of(token: CancellationToken | None, call_id: str | None) -> str | None:
    """
    The run of a call: the one that the program named, or else that of the agent or team.

    AutoGen has no name for it, but hands one cancellation token to all that belongs to it.
    A call with an id inside of a running tool is that of an agent in the tool: a run
    of its own, named after the permit that it runs under.
    """
    named, outer = current().run, CALL.get()
    if outer is not None and outer.proposal.run == named:
        return named if call_id is None else outer.permit.id
    if named is not None or token is None:
        return named
    return _RUNS.setdefault(token, random_id())


def passing(gate: Gate, tool: str, call_id: str | None, sent: Any) -> Underway | None:
    """This very call, if *gate* permitted it on its way here."""
    call = CALL.get()
    if call is None or call.gate is not gate or call.args != sent:
        return None
    return call if (call.proposal.tool, call.proposal.call_id) == (tool, call_id) else None


async def decide(gate: Gate, attempt: Attempt, token: CancellationToken | None) -> Permit | Recorded:
    """Ask *gate*; raises Denied, ApprovalRequired or Interrupted, and then nothing runs."""
    tool, run = attempt.proposal.tool, attempt.proposal.run
    if run in _ENDED.get(gate, ()):
        message = f"the run {run} was ended by an earlier refusal"
        raise Denied(_refusal(tool, "halted", message, final=True))
    try:
        decision = await _unless_cancelled(gate.adecide(attempt.proposal), token)
        if not isinstance(decision, (Permit, Recorded, Defer, Deny)):
            raise TypeError(f"{decision!r:.80} is no decision")
    except Interrupted:
        raise
    except Exception as error:
        _log.exception("the gate failed; the call of %s is refused", tool)
        message = f"the gate failed with {type(error).__name__}; its log says more"
        raise Denied(_refusal(tool, "internal_error", message)) from error
    if isinstance(decision, Defer):
        raise ApprovalRequired(decision)
    if isinstance(decision, Deny):
        if decision.final and run is not None:
            _end(gate, run)
        raise Denied(decision)
    return decision


async def carry_out(
    gate: Gate,
    attempt: Callable[[], Attempt],
    body: Body,
    *,
    passed: Underway | None,
    token: CancellationToken | None,
    nearest: bool,
) -> AsyncGenerator[Any, None]:
    """
    Decide, unless the call was permitted on its way here and *passed*, and run *body* if it
    may: gives what it emits, and then what is Done.

    *nearest* says that there can be no other guard between this one and the function.
    Raises what `decide` raises where it did not run, and whatever it raised.
    """
    if passed is not None and nearest and not passed.pass_by(_SETTLER):
        passed = None  # somebody else runs that one
    with ExitStack() as around:
        if passed is None:
            made = attempt()
            answer = await decide(gate, made, token)
            if isinstance(answer, Recorded):
                text = recorded_text(answer)
                yield Done(Answer(text), text)
                return
