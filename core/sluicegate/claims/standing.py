"""
What is looked at for every proposal, refused ones included: halts, the run, repetitions.

    meet(cell, at)  → the cell afterwards, and a refusal or None

Unlike a claim it changes its cell whether or not the call is permitted, and it has no end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from ..decision import Reason
from ..glob import matches
from .base import Cell, Refusal

__all__ = [
    "HALTS", "HEARD", "TASK", "Halts", "Met", "Narrowing", "Repeat", "Run", "Standing", "Turns",
    "run_key", "scope_words",
]  # fmt: skip

Met: TypeAlias = "tuple[Cell, Refusal | None]"

Narrowing: TypeAlias = "tuple[tuple[str, ...], ...]"
"""Lists of names and patterns of tools; a tool must fit one of each list."""

TASK = "task"
"""The rule by which a run may call only what its task was narrowed to."""

HALTS = "halts"
"""The key of the one cell that has all halts by people."""

PARTS = ("tenant", "user", "agent", "run")

HEARD = 86_400_000_000
"""A run's cell says when it was last heard of, to so many µs: a call changes it once a day at most."""


def run_key(run: str) -> str:
    """The key of the cell that has what holds for the whole of *run*."""
    return f"run|{run}"


class Halts(NamedTuple):
    """
    Nothing that a person has halted goes on.

    The cell is a list of (tenant, user, agent, run, by, reason, at); a call is halted
    if all the parts that are given are its own. *runs* are the call's run and those around it.
    """

    key: str
    tenant: str | None
    user: str | None
    agent: str | None
    runs: tuple[str, ...]

    def meet(self, cell: Cell, at: int) -> Met:
        """Refuse for good what is halted."""
        if cell is None:
            return None, None
        who = (self.tenant, self.user, self.agent)
        for halt in cell:
            same = all(want is None or want == part for want, part in zip(halt, who, strict=False))
            if same and (halt[3] is None or halt[3] in self.runs):
                return cell, _halted(scope_words(halt), f"by {halt[4]}: {halt[5]}")
        return cell, None


class Run(NamedTuple):
    """
    What holds for a whole run: which tools it may call at all, and whether it is over.

    The cell is (since, narrowing, why it was halted or None), and after the first day when it
    was last heard of. A run can only be narrowed further. One that is not *own* is around
    the call's own, and is not narrowed by it.
    """

    key: str
    run: str
    tool: str
    narrowing: Narrowing
    own: bool

    def meet(self, cell: Cell, at: int) -> Met:
        """Join the run, narrow it, and refuse what it may not do."""
        if cell is not None and cell[2] is not None:
            return cell, _halted(f"run {self.run}", cell[2])
        if (
            cell is not None
            and not cell[1]
            and not self.narrowing
            and len(cell) == 3
            and at - cell[0] < HEARD
        ):
            return cell, None  # as most are: a call of its first day, and not narrowed
        known = [tuple(tools) for tools in cell[1]] if cell is not None else []
        added = [tools for tools in self.narrowing if tools not in known] if self.own else []
        if cell is None:  # it begins with its first call, its sub-agents' included
            cell = (at, (*added,), None)
        elif at - cell[-1 if len(cell) > 3 else 0] >= HEARD:
            cell = (cell[0], (*known, *added), None, at)
        elif added:
            cell = (cell[0], (*known, *added), *cell[2:])
        refused = _outside((*known, *added), self.tool)
        if refused is None:
            return cell, None
        message = (
            f"the task of run {self.run} was narrowed to {refused}, and {self.tool} is not "
            "among them; a run cannot be widened again: begin a new one"
        )
        return cell, Refusal(Reason("not_granted", TASK, message))

    def halt(self, cell: Cell, at: int, why: str) -> Cell:
        """The cell of a run that is over."""
        since, narrowing, _, *heard = cell or (at, self.narrowing, None)
        return (since, narrowing, why, *heard)


class Repeat(NamedTuple):
    """
    At most *limit* identical proposals; twice as many end the run.

    The cell is (count, *calls). *call* is the call by its id in its turn: a framework that
    comes back with the same one, as after an interrupt, proposes nothing new.
    """

    key: str
    rule: str
    tool: str
    limit: int
    scope: str
    call: str | None = None

    def meet(self, cell: Cell, at: int) -> Met:
        """Count one more, unless it is the same call once more."""
        count, *calls = cell or (0,)
        if self.call is None or self.call not in calls:
            count += 1
            calls = [*calls, self.call][-2 * self.limit :] if self.call is not None else calls
        what = f"{self.tool} was proposed {count} times with the same arguments{self.scope}"
        return (count, *calls), _repeated(self.rule, what, count, self.limit, "times")


class Turns(NamedTuple):
    """
    At most *limit* rounds in which two tools take turns; twice as many end the run.

    The cell is (last tool, the one before, how many calls have alternated, *calls).
    *call* is as for Repeat.
    """

    key: str
    rule: str
    tool: str
    limit: int
    scope: str
    call: str | None = None

    def meet(self, cell: Cell, at: int) -> Met:
        """See whether the last two tools go on taking turns."""
        last, before, count, *calls = cell or ("", "", 0)
        again = self.call is not None and self.call in calls
        if not again:
            calls = [*calls, self.call][-4 * self.limit :] if self.call is not None else calls
            if self.tool == last or not last:
                return (self.tool, "", 1, *calls), None
            last, before, count = self.tool, last, count + 1 if self.tool == before else 2
        what = f"{before} and {last} have taken turns for {count} calls{self.scope}"
        refusal = _repeated(self.rule, what, count, 2 * self.limit, "calls")
        return (last, before, count, *calls), refusal


Standing: TypeAlias = Halts | Run | Repeat | Turns


def _repeated(rule: str, what: str, count: int, limit: int, unit: str) -> Refusal | None:
    if count <= limit:
        return None
    if count >= 2 * limit:
        message = f"{what}, of {limit} allowed: the run is halted; a person can resume it"
        return Refusal(Reason("repeat", rule, message), final=True)
    message = (
        f"{what}, of {limit} allowed; use the results that you have, or do something else "
        f"(at {2 * limit} {unit} the run is halted)"
    )
    return Refusal(Reason("repeat", rule, message))


def _halted(what: str, why: str) -> Refusal:
    message = f"{what} is halted ({why}); nothing more runs until a person resumes it"
    return Refusal(Reason("halted", "halt", message), final=True)


def _outside(narrowing: Sequence[Sequence[str]], tool: str) -> str | None:
    """The first list that *tool* is not in, in words."""
    for tools in narrowing:
        if not any(matches(pattern, tool) for pattern in tools):
            return ", ".join(tools) or "no tools at all"
    return None


def scope_words(halt: Sequence[Any]) -> str:
    """What a halt is about, in words."""
    told = [
        f"{part} {value}" for part, value in zip(PARTS, halt, strict=False) if value is not None
    ]
    return ", ".join(told) or "everything"
