"""One tool call on its way to the gate and back: decided, run and settled."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from ..canonical import FrozenDict, NotCanonical, freeze, is_object, thaw
from ..context import in_a_call
from ..decision import Defer, Deny, Permit, Reason, Recorded
from ..outcome import Outcome
from ..proposal import Proposal, Subject
from ..schema import Schema
from .shape import Receive, Shape
from .surroundings import inside, named
from .unfit import SubjectSource, Unfit, subject_of

if TYPE_CHECKING:
    from ..gate import Gate

__all__ = ["Attempt", "No", "acarry_out", "arecord", "carry_out", "record", "recorded_text"]

No: TypeAlias = Deny | Defer | Recorded
"""A decision by which the tool does not run."""

R = TypeVar("R")
_log: Final = logging.getLogger("sluicegate")
_UNRECORDED: Final = "the outcome of permit %s could not be recorded; it counts as unknown"


class Attempt:
    """
    A tool call as a proposal, and what it takes to run it as it was decided.

    *sent* are the arguments as the model sent them; they are copied. *shape* makes a
    function that gives the tool's `Shape` and its way of receiving arguments, or None
    for a tool that nobody knows. Whatever fails on the way becomes a refusal.

    *prompt* is what the user said, as the framework has it; what the program said in
    `sluicegate.context` goes first, and an agent inside of a run hears no user but a model.
    *turn* names the message of the model that the call came in.
    """

    def __init__(
        self,
        tool: str,
        sent: Any,
        *,
        source: str,
        subject: SubjectSource,
        offered: Any = None,
        run: str | None,
        call_id: str | None,
        shape: Callable[[], tuple[Shape, Receive | None] | None],
        prompt: str | None = None,
        turn: str | None = None,
    ) -> None:
        self.sent, canonical = _copied(sent)
        self.shape: Shape | None = None
        args, who, flaw = self.sent, Subject(), None
        schema: Schema | None = None
        try:
            who = subject_of(subject, offered)
            found = shape()
            if found is not None:
                self.shape, receive = found
                schema = self.shape.facing
                if canonical:  # what is not, the proposal finds out by itself
                    args, schema = self.shape.given(self.sent, receive)
        except Unfit as unfit:
            flaw = unfit.reason(source)
        except Exception as error:  # noqa: BLE001 - it becomes a refusal
            _log.exception("a call of %s cannot be described, so it is refused", tool)
            problem = f"the call cannot be described: {type(error).__name__}; the log says more"
            flaw = Reason("internal_error", source, problem)
        with named(who, run) as here:
            inner = here.depth > 0 or in_a_call()
            self.proposal = Proposal(
                tool,
                args,
                subject=who,
                run=here.run,
                call_id=call_id,
                schema=schema,
                parent=here.parent,
                root=here.root,
                depth=here.depth,
                tools=here.tools,
                within=here.within,
                prompt=here.prompt if here.prompt is not None or inner else prompt,
                turn=turn,
                source=source,
                flaw=flaw,
            )

    def kept(self, permit: Permit) -> Mapping[str, Any]:
        """
        What to run with: the arguments as they were sent, without those that the policy
        dropped. Defaults are decided about and left to the tool, which has the same ones.
        """
        if permit.observed or self.shape is None:
            return cast("Mapping[str, Any]", self.sent)
        runs = self.shape.runs
        return FrozenDict({n: v for n, v in self.sent.items() if runs(n, permit.args)})


def carry_out(
    gate: Gate,
    attempt: Attempt,
    body: Callable[[dict[str, Any]], R],
    *,
    refused: Callable[[No], R],
    outcome: Callable[[Permit, object], Outcome],
) -> R:
    """
    Decide; run *body* with the permitted arguments and settle it, or give what *refused* makes.

    *outcome* says what it means that the tool gave or raised something.
    """
    decision = gate.decide(attempt.proposal)
    if not isinstance(decision, Permit):
        return refused(decision)
    args = attempt.kept(decision)
    try:
        with inside(gate, attempt.proposal, decision, args):
            result = body(thaw(args))
    except BaseException as error:
        record(gate, decision, outcome(decision, error))
        raise
    record(gate, decision, outcome(decision, result))
    return result


async def acarry_out(
    gate: Gate,
    attempt: Attempt,
    body: Callable[[dict[str, Any]], Awaitable[R]],
    *,
    refused: Callable[[No], R],
    outcome: Callable[[Permit, object], Outcome],
) -> R:
    """`carry_out` for asyncio."""
    decision = await gate.adecide(attempt.proposal)
    if not isinstance(decision, Permit):
        return refused(decision)
    args = attempt.kept(decision)
    try:
        with inside(gate, attempt.proposal, decision, args):
            result = await body(thaw(args))
    except BaseException as error:
        # Blocking for a moment is right here: an await could be cancelled a second time.
        record(gate, decision, outcome(decision, error))
        raise
    await asyncio.shield(arecord(gate, decision, outcome(decision, result)))
    return result


def record(gate: Gate, permit: Permit, outcome: Outcome) -> None:
    """Settle *permit*. What the tool did is done, also where this fails: then it is logged."""
    try:
        gate.settle(permit, outcome)
    except Exception:  # noqa: BLE001 - the ledger counts what is not settled as unknown
        _log.exception(_UNRECORDED, permit.id)


async def arecord(gate: Gate, permit: Permit, outcome: Outcome) -> None:
    """`record` for asyncio."""
    try:
        await gate.asettle(permit, outcome)
    except Exception:  # noqa: BLE001 - the ledger counts what is not settled as unknown
        _log.exception(_UNRECORDED, permit.id)


def recorded_text(decision: Recorded) -> str:
    """What the earlier call gave, as the model should read it."""
    result = decision.result
    if not decision.complete or result is None:
        return (
            "This call was made before and succeeded. It was not made again, "
            "and its result is not on record."
        )
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _copied(sent: Any) -> tuple[Any, bool]:
    """A copy of *sent* that nobody can change; as it is where it is no JSON object."""
    try:
        copy = freeze(dict(sent) if is_object(sent) else sent)[0]
    except NotCanonical:
        return sent, False
    return cast("Any", copy), type(copy) is FrozenDict
