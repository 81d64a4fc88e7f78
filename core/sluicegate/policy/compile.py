"""
A policy, compiled once into closures: no pydantic and no lookup of rules per call.

For each tool name the rules that concern it are found at its first call and kept.
Each limit becomes a *maker*: a function from a call to its claim, or to the reason
why there can be none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

from ..amount import MICRO
from ..canonical import quoted
from ..claims import (
    Breaker,
    Claim,
    Once,
    Quota,
    Rate,
    Seen,
    Slot,
    Unsettled,
)
from ..claims.base import build
from ..decision import Reason
from ..errors import PolicyError
from ..glob import matches, resolve
from ..schema import compiled
from ..window import Window
from .limits import Repeat as RepeatLimit
from .memory import Memory
from .model import Budget, Concurrency, Depth, Grant, Limit, Policy, RateLimit, Tool
from .model import Once as OnceSpec
from .model import Rate as RateSpec
from .parts import MissingPart, Scoper, filled, scoper
from .rules import ApproveRule, Call, Counter, GrantRule, Maker, ToolRule
from .standing import standing
from .value import compiled_expression

__all__ = ["CompiledPolicy"]

_KNOWN_NAMES: Final = 10_000
_EVERY_CALL: Final = "calls"
_A_DAY: Final = 86_400_000_000


class CompiledPolicy:
    """What `evaluate` works with. Raises PolicyError for what only shows when compiled."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.revision = policy.revision
        self.brief = policy.replies == "short"
        self._grants = None if policy.grants is None else list(_grants(policy.grants))
        self._counters = _distinct(policy, _counters(policy))
        self._memory = Memory(policy)
        self.standing = standing(policy, resolve)
        """What is looked at whatever the rules say, and what is missing for it."""
        self._rules: dict[str, ToolRule | None] = {}
        for name in policy.tools:  # so that a wrong expression shows now and not at its first call
            self._entry(name, policy.tools[name], name)

    @property
    def names(self) -> Collection[str]:
        """The names and patterns of all entries."""
        return self.policy.tools.keys()

    def rule(self, tool: str) -> ToolRule | None:
        """The rule for a tool of this name; None if the policy has no entry for it."""
        try:
            return self._rules[tool]
        except KeyError:
            pass
        pattern = tool if tool in self.policy.tools else resolve(self.policy.tools, tool)
        found = None if pattern is None else self._entry(pattern, self.policy.tools[pattern], tool)
        if len(self._rules) >= _KNOWN_NAMES:  # names come from the model: never without bound
            self._rules.clear()
        self._rules[tool] = found
        return found

    def _entry(self, pattern: str, entry: Tool, tool: str) -> ToolRule:
        rule = f"tools.{pattern}"
        grants = None
        if self._grants is not None:
            grants = tuple(
                grant for tools, grant in self._grants if any(matches(t, tool) for t in tools)
            )
        costs = tuple(
            (name, compiled_expression(text)) for name, text in sorted(entry.cost.items())
        )
        key = filled(entry.once.key) if entry.once is not None else None
        return ToolRule(
            name=tool,
            rule=rule,
            args=None if entry.args is None else compiled(entry.args, formats=True),
            unknown_args=entry.unknown_args,
            when=None if entry.when is None else compiled_expression(entry.when),
            grants=grants,
            costs=costs,
            makers=tuple(self._makers(rule, entry, tool)),
            key=key,
            lease=entry.lease,
            on_error=entry.on_error or ("unknown" if entry.effect == "write" else "failed"),
            origin=self._memory.origin(rule, entry),
            prompted=any("prompt" in origin.sources for origin in entry.origin.values()),
            approve=_approve(rule, entry),
            asking=entry.approve.within if entry.approve is not None else _A_DAY,
            notes=self._memory.notes(tool),
            labels=self._memory.labels(entry),
            digest=entry.record == "digest",
        )

    def _makers(self, rule: str, entry: Tool, tool: str) -> Iterable[Maker]:
        repeatable = entry.effect != "write"
        yield _seen(repeatable)
        if entry.once is not None:
            yield _once(f"{rule}.once", entry.once, repeatable)
        elif not repeatable:
            yield _unsettled(f"{rule}.effect")
        yield from self._memory.makers(rule, entry)
        if entry.breaker is not None:
            yield _breaker(f"{rule}.breaker", tool, entry.breaker.failures, entry.breaker.cooldown)
        for counter in _own_counters(rule, entry, tool):
            yield _fixed(counter, f" for {tool}")
        for index, limit in enumerate(self.policy.limits):
            if any(matches(pattern, tool) for pattern in limit.tools):
                yield from self._limited(f"limits[{index}]", limit, entry)

    def _limited(self, rule: str, limit: Limit, entry: Tool) -> Iterable[Maker]:
        if isinstance(limit, Depth):
            yield _depth(rule, limit.depth)
            return
        if isinstance(limit, RepeatLimit):
            return  # it stands, whatever else is decided
        counter = _counter(rule, limit)
        name = counter.name
        if counter.kind is Quota and name != _EVERY_CALL and name not in entry.cost:
            return
        wait = limit.wait if isinstance(limit, Concurrency) else 0
        yield _counted(counter, scoper(limit.per), wait)
        if "run" in limit.per and "root" not in limit.per:
            yield _counted(counter, scoper(limit.per, around=True), wait, around=True)

    def counters(self) -> Iterable[Counter]:
        """All limits: those of `limits`, then those of the tools that are listed by their exact name."""
        yield from self._counters.values()
        for name, entry in self.policy.tools.items():
            yield from _own_counters(f"tools.{name}", entry, name)


def _own_counters(rule: str, entry: Tool, tool: str) -> Iterable[Counter]:
    """The limits that a tool's entry sets for the tool itself, whoever calls it."""
    if entry.concurrency is not None:
        yield Counter(
            f"{rule}.concurrency",
            Slot,
            "slots",
            f"slot|tool|{quoted(tool)}",
            entry.concurrency * MICRO,
        )
    if entry.rate is not None:
        yield _rate_counter(
            f"{rule}.rate", f"rate|tool|{quoted(tool)}", entry.rate, entry.rate.count
        )


def _counters(policy: Policy) -> Iterable[tuple[int, Limit, Counter]]:
    for index, limit in enumerate(policy.limits):
        if not isinstance(limit, (Depth, RepeatLimit)):
            yield index, limit, _counter(f"limits[{index}]", limit)


def _distinct(policy: Policy, counters: Iterable[tuple[int, Limit, Counter]]) -> dict[int, Counter]:
    """Two limits that count the same thing would share cells, and count each call twice."""
    known: dict[tuple[str, tuple[str, ...]], str] = {}
    found: dict[int, Counter] = {}
    for index, limit, counter in counters:
        what = (counter.prefix, tuple(() if isinstance(limit, Depth) else limit.per))
        if what in known:
            mark = policy.position(("limits", index))
            raise PolicyError(
                f"{counter.rule} counts the same as {known[what]}",
                file=policy.source or "<policy>",
                line=mark.line if mark else 0,
                column=mark.column if mark else 0,
                hint="keep the stricter one of the two, or give them different `per`, `window` or `tools`",
            )
        known[what] = counter.rule
        found[index] = counter
    return found


def _grants(grants: Iterable[Grant]) -> Iterable[tuple[tuple[str, ...], GrantRule]]:
    for index, grant in enumerate(grants):
        parts = (
            ("tenant", grant.tenant),
            ("user", grant.user),
            ("agent", grant.agent),
            ("role", grant.role),
        )
        who = tuple((name, pattern) for name, pattern in parts if pattern is not None)
        when = None if grant.when is None else compiled_expression(grant.when)
        yield grant.tools, GrantRule(f"grants[{index}]", who, when)


# --- makers: from a call to a claim ---------------------------------------------------------------


def _counter(rule: str, limit: Budget | RateLimit | Concurrency) -> Counter:
    """
    Where a limit keeps its cells.

    What is counted is in the prefix, how much of it is allowed is not: a changed
    limit goes on from what was used before.
    """
    tools = ",".join(sorted(map(quoted, limit.tools)))
    if isinstance(limit, Budget):
        window = None if limit.window is None else Window[limit.window]
        prefix = f"quota|{limit.budget}|{limit.window}|{tools}"
        return Counter(rule, Quota, limit.budget, prefix, limit.limit, window)
    if isinstance(limit, RateLimit):
        burst = limit.burst or limit.rate.count
        return _rate_counter(
            rule, f"rate|{limit.rate.count}/{limit.rate.period}|{tools}", limit.rate, burst
        )
    return Counter(rule, Slot, "slots", f"slot|{tools}", limit.concurrency * MICRO)


def _rate_counter(rule: str, prefix: str, rate: RateSpec, burst: int) -> Counter:
    return Counter(rule, Rate, "attempts", prefix, burst * MICRO, None, rate.count, rate.period)


def _counted(counter: Counter, scope_of: Scoper, wait: int = 0, *, around: bool = False) -> Maker:
    """
    The maker of a limit: all that does not depend on the call is worked out here, once.

    With *around* it is the limit of the outermost run, which counts what is called inside of it.
    """
    rule, kind, name, prefix, limit, window, count, period = counter
    whole = limit // MICRO

    def make(call: Call) -> Claim | Reason | None:
        if around and call.proposal.root == call.proposal.run:
            return None
        try:
            key, scope = scope_of(call.proposal, call.args)
        except MissingPart as missing:
            return missing.reason(rule)
        if kind is Quota:
            amount = MICRO if name == _EVERY_CALL else call.costs[name]
            return build(Quota, (prefix + key, rule, name, amount, limit, window, scope))
        if kind is Rate:
            return build(Rate, (prefix + key, rule, count, period, whole, scope))
        return build(Slot, (prefix + key, rule, whole, wait, scope))

    return make


def _fixed(counter: Counter, whose: str) -> Maker:
    """The maker of a limit that counts all calls together: its claim is always the same."""
    rule, kind, _, key, limit, _, count, period = counter
    claim: Claim = (
        Rate(key, rule, count, period, limit // MICRO, whose)
        if kind is Rate
        else Slot(key, rule, limit // MICRO, 0, whose)
    )
    return lambda call: claim


def _once(rule: str, once: OnceSpec, repeatable: bool) -> Maker:
    shown = filled(once.key)
    within, wait = once.within, once.wait

    def make(call: Call) -> Claim | Reason | None:
        try:
            text = shown(call)
        except MissingPart as missing:
            return missing.reason(rule)
        tenant = call.proposal.subject.tenant
        owner = "" if tenant is None else quoted(tenant)
        key = f"once|{owner}|{_short(text)}"
        return build(Once, (key, rule, text, within, repeatable, wait))

    return make


def _breaker(rule: str, tool: str, failures: int, cooldown: int) -> Maker:
    claim = Breaker(f"breaker|{quoted(tool)}", rule, tool, failures, cooldown)
    return lambda call: claim


def _depth(rule: str, limit: int) -> Maker:
    def make(call: Call) -> Claim | Reason | None:
        proposal = call.proposal
        known = {proposal.run, proposal.parent, proposal.root} - {None}
        depth = max(proposal.depth, len(known) - 1)  # whatever it says: these are around it
        if depth <= limit:
            return None
        message = (
            f"this run is {depth} agents deep, of {limit} allowed (it was called by run "
            f"{call.proposal.parent}); do the work in a run further out"
        )
        return Reason("depth", rule, message)

    return make


def _approve(rule: str, entry: Tool) -> ApproveRule | None:
    if entry.approve is None:
        return None
    when = entry.approve.when
    return ApproveRule(f"{rule}.approve", None if when is None else compiled_expression(when))


def _seen(repeatable: bool) -> Maker:
    def make(call: Call) -> Claim | Reason | None:
        proposal = call.proposal
        if proposal.call_id is None:
            return None
        key = _short(f"{proposal.run}|{proposal.subject.text}|{proposal.call_id}")
        return build(Seen, (f"seen|{key}", "call_id", proposal.call_id, repeatable, None, 0))

    return make


def _unsettled(rule: str) -> Maker:
    def make(call: Call) -> Claim | Reason | None:
        running = call.proposal.running(call.args)
        return Unsettled(f"unsettled|{running.action[7:]}", rule)

    return make


def _short(text: str) -> str:
    """*text* as a part of a key: long ones by their hash, which nothing of readable length can equal."""
    return text if len(text) <= 200 else "sha256:" + hashlib.sha256(text.encode()).hexdigest()
