"""What surrounds a tool while it runs: for whom, in which run, and under which permit."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ..context import Context, context, current, under
from ..decision import Permit
from ..proposal import Proposal, Subject

if TYPE_CHECKING:
    from ..gate import Gate

__all__ = ["Underway", "inside", "named", "own_run", "underway"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Underway:
    """
    A permitted call whose tool is running with *args*, inside of the call *outer*.

    One call may pass several guards on its way to the function: a middleware, a guarded
    tool, a callback. It is decided by the first and consumed once: the others `pass_by`.
    """

    gate: Gate
    proposal: Proposal
    permit: Permit
    args: Mapping[str, Any]
    outer: Underway | None
    _passed: dict[str, object] = field(default_factory=dict[str, object])

    def pass_by(self, guard: str) -> bool:
        """Let this very call pass the guard of that name; True for the first who asks."""
        mine = object()
        return self._passed.setdefault(guard, mine) is mine  # atomic: of two threads one passes


_UNDERWAY: Final[ContextVar[Underway | None]] = ContextVar("sluicegate_underway", default=None)


def underway(gate: Gate, tool: str) -> Underway | None:
    """The call of *tool* that *gate* has permitted and that is running around this code."""
    call = _UNDERWAY.get()
    return call if call is not None and call.gate is gate and call.proposal.tool == tool else None


def own_run() -> str | None:
    """
    The run that the program named for this code; None if it named none.

    Inside of a running tool, the run around is that of the agent who called the tool:
    an agent in the tool has a run of its own.
    """
    run, outer = current().run, _UNDERWAY.get()
    return None if outer is not None and outer.proposal.run == run else run


@contextmanager
def named(who: Subject, run: str | None) -> Generator[Context, None, None]:
    """The context of a call by *who* in *run*."""
    with context(subject=who, run=run) as here:
        yield here


@contextmanager
def inside(
    gate: Gate, proposal: Proposal, permit: Permit, args: Mapping[str, Any]
) -> Generator[Underway, None, None]:
    """While the tool runs: what is called in it is called for the same subject, in a run below this one."""
    call = Underway(gate=gate, proposal=proposal, permit=permit, args=args, outer=_UNDERWAY.get())
    with named(proposal.subject, proposal.run), under(permit):
        token = _UNDERWAY.set(call)
        try:
            yield call
        finally:
            _UNDERWAY.reset(token)
