"""
Would this whole sequence of calls pass, one by one, from here? Decided and not done.

Each step is decided by the gate's own flow against books that keep their changes to
themselves. A step that is permitted is taken to succeed at once, at the cost that was
estimated; a step that is refused, or waits for a person, is not done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from .amount import shown
from .canonical import FrozenDict, is_object
from .claims import Came, Cell, Done, Needs, Traced
from .decision import Decision, Permit, Recorded
from .glob import matches
from .ledger.base import Claiming, Ledger
from .outcome import Succeeded
from .plugins import Plugins
from .policy.parts import at_path
from .policy.rules import Call, Counter
from .policy.tool import Require
from .proposal import Proposal
from .rehearsal import Asked, Rehearsal, Unforeseen
from .usage import Usage, usage

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy

__all__ = ["Plan", "PlannedStep", "Use", "plan"]

_NOTHING: Final[Mapping[str, Any]] = FrozenDict()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """
    One step and what the gate would say to it; *number* counts from 1.

    *assumes* names what nobody can know before the plan is carried out, such as a value
    that an earlier step's result must have: the decision holds if it comes true. The
    permit of step 3 is called `step-3`; it, and a request that only the plan makes, exist
    nowhere else.
    """

    number: int
    proposal: Proposal
    decision: Decision
    assumes: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether the step would be done, or was done before: a step that waits for a person is not."""
        return isinstance(self.decision, (Permit, Recorded))


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One limit that the plan would use up in part, before and after it; amounts are in millionths."""

    before: Usage
    after: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The steps of a plan with their decisions, and what they would use of which limits.

    It holds for the state at *at* (µs since 1970 UTC) and promises nothing: others use
    the same limits, and every step is decided anew when it is proposed.
    """

    at: int
    steps: tuple[PlannedStep, ...]
    uses: tuple[Use, ...]

    @property
    def passes(self) -> bool:
        """Whether every step would pass, if all that is assumed comes true."""
        return all(step.passes for step in self.steps)

    @property
    def assumes(self) -> tuple[str, ...]:
        """All that is assumed, each with its step."""
        return tuple(f"step {s.number}: {text}" for s in self.steps for text in s.assumes)

    @property
    def stuck(self) -> PlannedStep | None:
        """The first step that would not pass."""
        return next((step for step in self.steps if not step.passes), None)

    def __bool__(self) -> NoReturn:
        raise TypeError("a plan has no truth value; ask plan.passes, and read plan.assumes")


def plan(
    policy: CompiledPolicy,
    ledger: Ledger,
    proposals: Iterable[Proposal],
    now: int,
    *,
    plugins: Plugins | None = None,
) -> Plan:
    """
    Decide about *proposals* in their order, all of them at *now*; nothing is spent or recorded.

    Plugins are asked for facts and objections, and told nothing. Raises LedgerError if
    what the limits have left cannot be read.
    """
    planner = _Planner(policy, ledger, now, plugins)
    steps = tuple(planner.step(number, each) for number, each in enumerate(proposals, 1))
    return Plan(at=now, steps=steps, uses=tuple(planner.uses()))


class _Made(NamedTuple):
    """A step that counts as done, with a result that nobody knows yet."""

    number: int
    proposal: Proposal
    args: Mapping[str, Any]

    def __str__(self) -> str:
        return f"step {self.number} ({self.proposal.tool})"


class _Planner:
    def __init__(
        self, policy: CompiledPolicy, ledger: Ledger, now: int, plugins: Plugins | None
    ) -> None:
        self._policy = policy
        self._now = now
        asked = None if plugins is None else Asked(plugins)
        self._number = 0
        self._rehearsal = Rehearsal(policy, ledger, now, asked, self._suppose, self._id)
        self._books = self._rehearsal.books
        self._made: list[_Made] = []
        self._permits: dict[str, _Made] = {}
        self._proposal: Proposal
        self._assumed: list[str] = []

    def step(self, number: int, proposal: Proposal) -> PlannedStep:
        """Decide about one proposal, and take it to succeed if it is permitted."""
        self._number, self._proposal, self._assumed = number, proposal, []
        decision = self._rehearsal.decide(proposal)
        if self._rehearsal.waits:
            longest = shown(self._rehearsal.waits)
            self._assumed.append(
                f"the calls that are under way do not end within the {longest} s that it would wait"
            )
        made = None
        if isinstance(decision, Permit):
            self._rehearsal.settle(decision, Succeeded(Unforeseen()))
            made = self._permits[decision.id] = _Made(number, proposal, decision.args)
        elif isinstance(decision, Recorded) and decision.permit_id in self._permits:
            first = self._permits[decision.permit_id]
            self._assumed.append(f"its result is that of {first}, which is not known yet")
            made = _Made(number, proposal, first.args)
        if made is not None:
            self._made.append(made)
        return PlannedStep(
            number=number, proposal=proposal, decision=decision, assumes=tuple(self._assumed)
        )

    def _id(self) -> str:
        """The permit of a step: messages name it, and so say which step they are about."""
        return f"step-{self._number}"

    # --- what a result might have in it ------------------------------------------------------------

    def _suppose(self, request: Claiming) -> Claiming:
        """Let earlier results have what the call needs of them, where they could, and say so."""
        for claim in request.claims:
            if type(claim) is Needs and self._books.cell(claim.key) is None:
                self._suppose_step(claim)
            elif type(claim) is Traced:
                cells = [self._books.cell(key) for key in claim.keys]
                if claim.trace(cells) is not None:
                    self._suppose_value(claim)
        return request

    def _suppose_step(self, claim: Needs) -> None:
        """A step that must have had a certain result: it will have had it."""
        require = self._require(claim.rule)
        values = _wanted(require, self._proposal.args)
        result = _result_with(values)
        if result is None:
            return
        for made in reversed(self._made):
            rule = self._policy.rule(made.proposal.tool)
            if rule is None or rule.notes is None:
                continue
            call = Call(made.proposal, made.args, _NOTHING, _NOTHING)
            notes = list(rule.notes(call, result.value))
            if any(type(note) is Done and note.key == claim.key for note in notes):
                self._books.put(claim.key, (self._books.next,))
                self._assumed.append(f"{made} turns out to be {claim.wanted}")
                return

    def _require(self, where: str) -> Require | None:
        rule = self._policy.rule(self._proposal.tool)
        if rule is None or not where.startswith(f"{rule.rule}.requires["):
            return None
        entry = self._policy.policy.tools[rule.rule.partition(".")[2]]
        return entry.requires[int(where.removeprefix(f"{rule.rule}.requires[").rstrip("]"))]

    def _suppose_value(self, claim: Traced) -> None:
        """A value that must have come up in a result: it will have come up."""
        sources = [source for source in claim.sources if source != "prompt"]
        able = [
            (made, source)
            for made in self._made
            for source in sources
            if matches(source, made.proposal.tool)
            and made.proposal.root == self._proposal.root
            and (made.proposal.turn is None or made.proposal.turn != claim.turn)
        ]
        if not able or not claim.forms:
            return
        made, source = able[0]
        came = Came(claim.keys[0], source, made.proposal.turn, claim.forms[:1])
        cell = came.write(self._books.cell(came.key), self._now, self._books.next)
        self._books.put(came.key, cell)
        where = " or ".join(dict.fromkeys(str(each) for each, _ in able))
        self._assumed.append(f"{claim.shown} comes up in the result of {where}")

    # --- what it would use -------------------------------------------------------------------------

    def uses(self) -> Iterator[Use]:
        """The limits of which something would be used."""
        counters = list(self._policy.counters())
        touched = list(self._books.changed)
        cells = {key: self._books.before(key) for key in touched}
        before = {_scope(row): row for row in _rows(counters, cells, self._now)}
        for row in _rows(counters, self._books.changed, self._now):
            full = replace(row, used=0, held=0, left=row.limit, resets_at=None)
            earlier = before.get(_scope(row), full)
            if (earlier.used, earlier.held) != (row.used, row.held):
                yield Use(before=earlier, after=row)


class _Result(NamedTuple):
    value: object


def _wanted(require: Require | None, args: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """What the result of the earlier call must have, by its path in there."""
    if require is None:
        return {}
    return {
        tuple(theirs.split(".")[1:]): at_path(args, tuple(own.split(".")))
        for own, theirs in require.match.items()
        if theirs.partition(".")[0] == "result"
    }


def _result_with(values: Mapping[tuple[str, ...], Any]) -> _Result | None:
    """A result with these values at these paths; None if there is none, or nothing to have."""
    if not values or (() in values and len(values) > 1):
        return None
    if () in values:
        return _Result(values[()])
    whole: dict[str, Any] = {}
    for path, value in sorted(values.items()):
        inner = whole
        for name in path[:-1]:
            deeper: object = inner.setdefault(name, {})
            if not is_object(deeper):
                return None
            inner = cast("dict[str, Any]", deeper)
        inner[path[-1]] = value
    return _Result(whole)


class _Cells:
    """Some cells, looked through as `usage` looks through a ledger."""

    def __init__(self, cells: Mapping[str, Cell]) -> None:
        self._cells = cells

    def cells(self, prefix: str) -> list[tuple[str, Sequence[Any]]]:
        found = self._cells.items()
        return [(key, cell) for key, cell in found if cell is not None and key.startswith(prefix)]


def _rows(counters: Iterable[Counter], cells: Mapping[str, Cell], now: int) -> list[Usage]:
    return usage(counters, cast("Ledger", _Cells(cells)), {}, now)


def _scope(row: Usage) -> tuple[str, tuple[tuple[str, str], ...]]:
    return row.rule, tuple(sorted(row.scope.items()))
