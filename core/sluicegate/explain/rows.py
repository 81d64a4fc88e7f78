"""One row for each rule that concerns a call, from what it finds and what was decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ..amount import Micros, shown
from ..claims import Cell, Halts, Refusal, Repeat, Replay, Run, Standing, Turns
from ..claims.approval import state_of
from ..decision import Decision, Defer, Deny, Permit, Reason, Recorded
from ..evaluate import Allowed, Verdict
from ..glob import matches
from ..policy.limits import Budget, Depth
from ..policy.limits import Repeat as RepeatLimit
from ..policy.rules import ToolRule
from ..proposal import Proposal, Subject
from .considered import Considered, RuleVerdict, found
from .look import Look, Looked

if TYPE_CHECKING:
    from ..policy.compile import CompiledPolicy
    from ..policy.tool import Tool

__all__ = ["Case", "rows"]

_ASKING: Final = frozenset({"approval_required", "approval_expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A proposal, what the policy and the ledger say of it, and the decision that came of it."""

    policy: CompiledPolicy
    proposal: Proposal
    verdict: Verdict | None
    """None where a plugin failed before the policy was asked."""
    look: Look
    decision: Decision
    plugins: tuple[str, ...] = ()

    @property
    def rule(self) -> ToolRule | None:
        return self.policy.rule(self.proposal.tool)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The reasons of the decision."""
        return self.decision.reasons if isinstance(self.decision, (Deny, Defer)) else ()

    @property
    def granted(self) -> bool:
        """Whether the gate gets as far as the ledger's claims."""
        return type(self.verdict) is Allowed and not self.look.request.reasons

    def stops(self, unfit: str | None) -> str | None:
        """Why the claims are not looked at, or those that are left; None if they are."""
        if not self.granted:
            return unfit or "the call is refused already"
        answered = "the call is answered with an earlier result"
        return answered if isinstance(self.decision, Recorded) else None

    def said(self, *rules: str) -> list[Reason]:
        """What the policy and plugins hold against the call, by the rule."""
        return [reason for reason in self.look.request.reasons if reason.rule in rules]

    def skips(self) -> str | None:
        """Why the policy's conditions are not looked at; None if they are."""
        if self.verdict is None:
            return "a plugin failed before"
        if self.proposal.flaw is not None or self.proposal.call_id == "":
            return "the proposal itself is refused"
        return None

    def told(
        self,
        rule: str,
        kind: str,
        message: str,
        *,
        value: str | None = None,
        limit: str | None = None,
        also: tuple[str, ...] = (),
        why: str | None = None,
    ) -> Iterator[Considered]:
        """The row of *rule*: its refusals, or that it passes, or *why* it is not looked at."""
        reasons = self.said(rule, *also)
        for reason in reasons:
            yield Considered(
                rule=reason.rule, kind=kind, verdict="refuses", message=reason.message,
                value=value, limit=limit,
            )  # fmt: skip
        if not reasons:
            verdict: RuleVerdict = "passes" if why is None else "skipped"
            text = message if why is None else f"not looked at: {why}"
            yield Considered(
                rule=rule, kind=kind, verdict=verdict, message=text,
                value=value if why is None else None, limit=limit,
            )  # fmt: skip


def rows(case: Case) -> tuple[Considered, ...]:
    """One row or more for each rule that concerns the call, in the order of the decision."""
    made = [*_standing(case), *_policy(case), *_plugins(case)]
    told = {(row.rule, row.message) for row in made if row.verdict in ("refuses", "asks")}
    for reason in case.reasons:  # whatever else the decision says must not be missing here
        if (reason.rule, reason.message) not in told:
            made.append(_other(reason))
    return tuple(made)


def _other(reason: Reason) -> Considered:
    verdict: RuleVerdict = "asks" if reason.code in _ASKING else "refuses"
    kind = reason.code.replace("_", " ")
    return Considered(rule=reason.rule, kind=kind, verdict=verdict, message=reason.message)


# --- what stands for every call -------------------------------------------------------------------


def _standing(case: Case) -> Iterator[Considered]:
    for each, cell, refusal, agreed in case.look.standing:
        rule, kind, value, limit, message = _stands(each, cell)
        verdict: RuleVerdict = "passes"
        if agreed:
            message = "a person has said yes to this very call"
        elif refusal is not None:
            rule, verdict, message = refusal.reason.rule, "refuses", refusal.reason.message
        yield Considered(
            rule=rule, kind=kind, verdict=verdict, message=message, value=value, limit=limit
        )


def _stands(each: Standing, cell: Cell) -> tuple[str, str, str | None, str | None, str]:
    """The rule, its kind, what is found and allowed, and what it means if nothing is wrong."""
    if isinstance(each, Halts):
        return "halt", "halt", None, None, "nothing that the call belongs to is halted"
    if isinstance(each, Run):
        lists = each.narrowing if cell is None else cell[1]
        tools = "; ".join(", ".join(names) or "no tools" for names in lists)
        message = f"run {each.run} goes on" + (f", for {tools} only" if tools else "")
        return "task", "run", each.tool, tools or None, message
    if isinstance(each, Repeat):
        count = 1 + (cell[0] if cell else 0)
        times = "once" if count == 1 else f"{count} times"
        message = f"proposed {times} with the same arguments{each.scope}, of {each.limit} allowed"
        return each.rule, "repeat", str(count), str(each.limit), message
    count = 0 if cell is None else int(cell[2])
    message = f"two tools took turns for {count} calls{each.scope}, of {2 * each.limit} allowed"
    return each.rule, "repeat", str(count), str(2 * each.limit), message


# --- what the policy says alone -------------------------------------------------------------------


def _policy(case: Case) -> Iterator[Considered]:
    proposal, rule = case.proposal, case.rule
    entry = (
        "it has an entry" if rule is None else f"the entry {rule.rule.partition('.')[2]} is for it"
    )
    no_plugin = None if case.verdict is not None or rule is None else "a plugin failed before"
    yield from case.told("tools", "tool", entry, value=proposal.tool, why=no_plugin)
    if rule is None:
        return
    flaw = "proposal" if proposal.flaw is None else proposal.flaw.rule
    flaw = "call_id" if proposal.flaw is None and proposal.call_id == "" else flaw
    yield from case.told(flaw, "proposal", "the call is plain JSON", why=no_plugin)
    yield from _who(case, rule)
    yield from _arguments(case, rule)
    entry_ = case.policy.policy.tools[rule.rule.partition(".")[2]]
    yield from _conditions(case, rule, entry_)
    yield from _claims(case, rule, entry_)
    if rule.approve is not None:
        yield from _approve(case, rule)


def _who(case: Case, rule: ToolRule) -> Iterator[Considered]:
    why = case.skips()
    if case.proposal.tools and case.proposal.run is None:  # otherwise it stands with the run
        lists = "; ".join(", ".join(names) or "no tools" for names in case.proposal.tools)
        message = "the task may call it"
        tool = case.proposal.tool
        yield from case.told("task", "task", message, value=tool, limit=lists, why=why)
    if rule.grants is not None:
        fit = [grant.rule for grant in rule.grants if grant.fits(case.proposal.subject)]
        also = tuple(f"{name}.when" for name in fit) if case.said("grants") else ()
        message = f"granted by {' or '.join(fit) or 'nothing'}"
        who = _named(case.proposal.subject)
        limit = ", ".join(grant.rule for grant in rule.grants) or "no grant is for this tool"
        yield from case.told("grants", "grant", message, value=who, limit=limit, also=also, why=why)


def _named(who: Subject) -> str:
    told = [
        f"{part} {value}" for part in ("tenant", "user", "agent") if (value := getattr(who, part))
    ]
    return ", ".join([*told, *(f"role {role}" for role in who.roles)]) or "nobody"


def _arguments(case: Case, rule: ToolRule) -> Iterator[Considered]:
    why, where = case.skips(), rule.rule
    schema = case.proposal.schema
    if schema is not None:
        names = None if schema.names is None else ", ".join(sorted(schema.names))
        message = "all arguments are declared, or may be undeclared"
        unknown = f"{where}.unknown_args"
        given = ", ".join(sorted(case.proposal.args))
        yield from case.told(unknown, "unknown args", message, value=given, limit=names, why=why)
        message = "the arguments fit the tool's own schema"
        yield from case.told(f"{where}.schema", "schema", message, why=why)
    if rule.args is not None:
        yield from case.told(f"{where}.args", "args", "the arguments fit the policy", why=why)


def _conditions(case: Case, rule: ToolRule, entry: Tool) -> Iterator[Considered]:
    why, where = _unfit(case, rule), rule.rule
    if rule.when is not None:
        message = f"`{rule.when.source}` is true"
        yield from case.told(f"{where}.when", "when", message, limit=rule.when.source, why=why)
    costs: Mapping[str, Micros] = {}
    if isinstance(case.verdict, Allowed):
        costs = case.verdict.costs
    for name, expression in rule.costs:
        value = shown(costs[name]) if name in costs else None
        message = f"it costs {value or expression.source} {name}"
        place = f"{where}.cost.{name}"
        yield from case.told(place, "cost", message, value=value, why=why)


def _unfit(case: Case, rule: ToolRule) -> str | None:
    places = (f"{rule.rule}.{part}" for part in ("schema", "unknown_args", "args"))
    return "the arguments are refused" if case.said(*places) else case.skips()


# --- what the ledger has to grant ------------------------------------------------------------------


def _claims(case: Case, rule: ToolRule, entry: Tool) -> Iterator[Considered]:
    why = case.stops(_unfit(case, rule))
    looked: dict[str | None, list[Looked]] = {}
    for each in case.look.claims:
        looked.setdefault(each.rule, []).append(each)
    for place, kind, message, value, limit in _rules(case, rule, entry):
        found_here = looked.pop(place, [])
        for each in found_here:
            yield _claimed(case, place, each)
        if not found_here:
            yield from case.told(place, kind, message, value=value, limit=limit, why=why)
    for name, others in looked.items():  # labels, and claims of plugins
        for each in others:
            yield _claimed(case, name or f"{rule.rule}.labels", each)


def _claimed(case: Case, rule: str, looked: Looked) -> Considered:
    finding = found(looked.claim, looked.cells, case.look.at)
    answer, message = looked.answer, finding.message
    verdict: RuleVerdict = "passes"
    if isinstance(answer, Replay):
        message = f"the same call succeeded before (journal entry {answer.entry})"
        if isinstance(case.decision, Recorded):
            message += ": its result is shown again"
    elif isinstance(answer, Refusal):
        message = answer.reason.message
        verdict = "asks" if answer.ask else "refuses"
        if answer.ask and isinstance(case.decision, Permit):
            verdict, message = "passes", f"a person has said yes, although {message}"
    return Considered(
        rule=rule, kind=finding.kind, verdict=verdict, message=message,
        value=finding.value, limit=finding.limit, left=finding.left,
    )  # fmt: skip


class _Place(NamedTuple):
    """A rule that becomes claims, and what it means if there is nothing to claim."""

    rule: str
    kind: str
    message: str
    value: str | None = None
    limit: str | None = None


def _rules(case: Case, rule: ToolRule, entry: Tool) -> Iterator[_Place]:
    where = rule.rule
    if case.proposal.call_id is not None:
        yield _Place("call_id", "call id", "the call has an id of its own")
    if entry.once is not None:
        yield _Place(f"{where}.once", "once", "the key is free")
    elif entry.effect == "write":
        yield _Place(f"{where}.effect", "effect", "no identical call has an unknown outcome")
    for index in range(len(entry.requires)):
        yield _Place(f"{where}.requires[{index}]", "requires", "it was done")
    for index, flow in enumerate(case.policy.policy.flows):
        if any(label in flow.deny for label in entry.labels):
            yield _Place(f"flows[{index}]", "flow", "the run has not seen it")
    for name in ("breaker", "concurrency", "rate"):
        if getattr(entry, name) is not None:
            yield _Place(f"{where}.{name}", name, "nothing to count")
    for name in entry.origin:
        yield _Place(
            f"{where}.origin.{name}", "origin", f"{name} has no value that needs an origin"
        )
    yield from _limits(case)


def _limits(case: Case) -> Iterator[_Place]:
    tool = case.proposal.tool
    standing = {each.rule for each, *_ in case.look.standing if isinstance(each, (Repeat, Turns))}
    for index, limit in enumerate(case.policy.policy.limits):
        place = f"limits[{index}]"
        if place in standing or not any(matches(pattern, tool) for pattern in limit.tools):
            continue
        if isinstance(limit, Depth):
            depth, most = str(case.proposal.depth), str(limit.depth)
            yield _Place(place, "depth", f"{depth} agents deep, of {most} allowed", depth, most)
        elif isinstance(limit, RepeatLimit):
            yield _Place(place, "repeat", "repetitions of this tool are not counted")
        elif isinstance(limit, Budget):
            yield _Place(place, "budget", f"this call costs no {limit.budget}")
        else:
            yield _Place(
                place, type(limit).__name__.lower().removesuffix("limit"), "nothing to count"
            )


# --- people and plugins ----------------------------------------------------------------------------


def _approve(case: Case, rule: ToolRule) -> Iterator[Considered]:
    approve, request = rule.approve, case.look.request
    assert approve is not None  # noqa: S101 - for the type checker
    place = approve.rule
    limit = "every call" if approve.when is None else approve.when.source
    state = None if request.approval is None else state_of(case.look.asked, case.look.at)
    reasons = [reason for reason in case.reasons if reason.rule == place]
    for reason in reasons:
        verdict: RuleVerdict = "asks" if reason.code in _ASKING else "refuses"
        yield Considered(
            rule=place, kind="approve", verdict=verdict, message=reason.message,
            value=state, limit=limit,
        )  # fmt: skip
    if reasons:
        return
    why = case.stops(_unfit(case, rule))
    message = "nobody has to be asked about this call"
    if why is None and request.asks:
        message = "a person has said yes to exactly this call"
        if not isinstance(case.decision, Permit):
            why = "a person is asked only about a call that nothing else stops"
    yield from case.told(place, "approve", message, value=state, limit=limit, why=why)


def _plugins(case: Case) -> Iterator[Considered]:
    reasons = [r for r in case.look.request.reasons if r.rule.startswith("plugin")]
    names = ", ".join(case.plugins)
    for reason in reasons:
        yield Considered(
            rule=reason.rule, kind="plugin", verdict="refuses", message=reason.message, value=names
        )
    if case.plugins and not reasons:
        yield Considered(
            rule="plugins",
            kind="plugin",
            verdict="passes",
            message="no plugin objects",
            value=names,
        )
