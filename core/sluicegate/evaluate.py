"""
The pure half of a decision: what the policy alone says about a proposal.

No clock, no randomness, no I/O, no environment: the same policy, proposal, facts
and time give the same verdict. A verdict is either all the reasons to refuse, or
the claims that the ledger still has to grant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from .amount import LARGEST, MICRO, Micros, micros
from .canonical import FrozenDict
from .claims import Claim
from .claims.base import build
from .decision import Reason
from .glob import matches
from .policy.rules import Call, Rules, ToolRule
from .policy.value import Expression, ExpressionError, Scope
from .proposal import Proposal
from .schema import complaints

__all__ = ["Allowed", "Objected", "Verdict", "evaluate"]

_SHOWN_NAMES: Final = 20
_WHOLE: Final = LARGEST // MICRO


class Objected(NamedTuple):
    """The policy says no, for all of these reasons."""

    reasons: tuple[Reason, ...]


class Allowed(NamedTuple):
    """
    The policy says yes, with these arguments, if the ledger grants all claims, and a
    person too if *asks* is not empty.
    """

    rule: ToolRule
    args: Mapping[str, Any]
    claims: tuple[Claim, ...]
    costs: Mapping[str, Micros]
    key: str | None
    asks: tuple[Reason, ...] = ()


Verdict: TypeAlias = Allowed | Objected


def evaluate(policy: Rules, proposal: Proposal, facts: Mapping[str, Any], now: int) -> Verdict:
    """What *policy* says of *proposal* at *now* (µs since 1970 UTC), given *facts* by plugin name."""
    rule = policy.rule(proposal.tool)
    if rule is None:
        return Objected((_unknown_tool(policy, proposal.tool),))
    if proposal.flaw is not None:
        return Objected((proposal.flaw,))
    if proposal.call_id == "":
        return Objected((_NAMELESS,))
    args = proposal.args if rule.unknown_args != "drop" else _kept(rule, proposal)
    scope = build(Scope, (proposal, args, facts, now))
    reasons: list[Reason] = []
    if proposal.tools and proposal.run is None:  # what narrows a run stands with the run
        reasons += _task(proposal)
    if rule.grants is not None:
        reasons += _grant(rule, scope)
    if not _fits(rule, proposal, args):
        # conditions and costs of arguments that are wrong would only add noise
        return Objected((*reasons, *_argument_reasons(rule, proposal, args)))
    if rule.when is not None:
        reasons += _condition(f"{rule.rule}.when", rule.when, scope)
    costs = _costs(rule, scope, reasons) if rule.costs else _FREE
    asks = _asked(rule, scope, reasons) if rule.approve is not None else ()
    if reasons:
        return Objected(tuple(reasons))
    return _claimed(rule, build(Call, (proposal, args, costs, facts)), asks)


_FREE: Final[Mapping[str, Micros]] = FrozenDict()


def _claimed(rule: ToolRule, call: Call, asks: tuple[Reason, ...]) -> Verdict:
    claims: list[Claim] = []
    reasons: list[Reason] = []
    for make in rule.makers:
        claim = make(call)
        if type(claim) is Reason:
            reasons.append(claim)
        elif claim is not None:
            claims.append(claim)  # type: ignore[arg-type]
    for made in rule.origin(call) if rule.origin is not None else ():
        if type(made) is Reason:
            reasons.append(made)
        else:
            claims.append(made)  # type: ignore[arg-type]
    if reasons:
        return Objected(tuple(reasons))
    key = rule.key(call) if rule.key is not None else None
    return build(Allowed, (rule, call.args, tuple(claims), call.costs, key, asks))


# --- the proposal itself -------------------------------------------------------------------------


_NAMELESS: Final = Reason(
    "duplicate_call",
    "call_id",
    "the call has no id, so it cannot be told from its own repetition; give each call an id of its own",
)


def _unknown_tool(policy: Rules, name: str) -> Reason:
    names = sorted(policy.names)
    close = difflib.get_close_matches(name, names, 1, 0.6) or [
        n for n in names if n.lower() == name.lower()
    ]
    meant = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
    return Reason(
        "unknown_tool",
        "tools",
        f"the policy has no entry for {name[:120]!r}.{meant} It has: {listed}",
    )


def _grant(rule: ToolRule, scope: Scope) -> Iterable[Reason]:
    subject = scope.proposal.subject
    errors: list[Reason] = []
    for grant in rule.grants or ():
        if not grant.fits(subject):
            continue
        if grant.when is None:
            return ()
        problems = list(_condition(f"{grant.rule}.when", grant.when, scope))
        if not problems:
            return ()
        errors += problems
    who = [
        f"{part} {value}"
        for part in ("tenant", "user", "agent")
        if (value := getattr(subject, part))
    ]
    who += [f"role {role}" for role in subject.roles]
    message = f"no grant lets {', '.join(who) or 'an unnamed subject'} call {rule.name}; ask for a grant in the policy"
    return (*errors, Reason("not_granted", "grants", message))


def _task(proposal: Proposal) -> Iterator[Reason]:
    for names in proposal.tools:
        if not any(matches(name, proposal.tool) for name in names):
            listed = ", ".join(names) or "no tools at all"
            yield Reason(
                "not_granted",
                "task",
                f"this task was narrowed to {listed}, and {proposal.tool} is not among them; "
                "a run cannot be widened again: begin a new one",
            )


def _asked(rule: ToolRule, scope: Scope, reasons: list[Reason]) -> tuple[Reason, ...]:
    """Why a person must say yes first, by the policy."""
    assert rule.approve is not None  # noqa: S101 - for the type checker
    where, when = rule.approve
    if when is None:
        message = f"every call of {rule.name} needs a person's yes to exactly these arguments"
        return (Reason("approval_required", where, message, "approval"),)
    try:
        if not when.holds(scope):
            return ()
    except ExpressionError as error:
        message = f"`{when.source}` cannot be decided: {error}"
        reasons.append(Reason("condition_error", where, message))
        return ()
    message = (
        f"`{when.source}` is true of this call, so a person must say yes to exactly these arguments"
    )
    return (Reason("approval_required", where, message, "approval"),)


# --- arguments -----------------------------------------------------------------------------------


def _kept(rule: ToolRule, proposal: Proposal) -> Mapping[str, Any]:
    """The arguments that would run: all, or without those that the policy drops."""
    declared = proposal.schema.names if proposal.schema is not None else None
    args = proposal.args
    if declared is None or declared.issuperset(args):
        return args
    return FrozenDict({name: value for name, value in args.items() if name in declared})


def _fits(rule: ToolRule, proposal: Proposal, args: Mapping[str, Any]) -> bool:
    schema = proposal.schema
    if schema is not None:
        closed = rule.unknown_args == "deny"
        if closed and schema.names is not None and not schema.names.issuperset(args):
            return False
        known = args if closed else _declared(rule, proposal, args)
        if not schema.holds(known, closed=closed):
            return False
    return rule.args is None or rule.args.is_valid(args)


def _declared(rule: ToolRule, proposal: Proposal, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """*args* without those that the policy lets through although the tool never declared them."""
    names = proposal.schema.names if proposal.schema is not None else None
    if rule.unknown_args != "allow" or names is None or names.issuperset(args):
        return args
    return FrozenDict({name: value for name, value in args.items() if name in names})


def _argument_reasons(
    rule: ToolRule, proposal: Proposal, args: Mapping[str, Any]
) -> Iterator[Reason]:
    schema = proposal.schema
    if schema is not None:
        closed = rule.unknown_args == "deny"
        known = args
        if closed and schema.names is not None:
            unknown = sorted(name for name in args if name not in schema.names)
            if unknown:
                yield _unknown_args(rule, unknown, schema.names)
            known = FrozenDict(
                {name: value for name, value in args.items() if name in schema.names}
            )
        for problem in schema.errors(_declared(rule, proposal, known), closed=closed):
            yield Reason(
                "args_invalid", f"{rule.rule}.schema", f"{problem} (by the tool's own schema)"
            )
    if rule.args is not None:
        for problem in complaints(rule.args, args):
            yield Reason("args_invalid", f"{rule.rule}.args", f"{problem} (by the policy)")


def _unknown_args(rule: ToolRule, unknown: list[str], declared: frozenset[str]) -> Reason:
    told: list[str] = []
    for name in unknown[:_SHOWN_NAMES]:
        close = difflib.get_close_matches(name, sorted(declared), 1, 0.6)
        told.append(f"{name[:80]!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    accepted = ", ".join(sorted(declared)) or "no arguments at all"
    message = f"{rule.name} never declared {', '.join(told)}; it accepts: {accepted}"
    return Reason("args_unknown", f"{rule.rule}.unknown_args", message)


# --- conditions and costs --------------------------------------------------------------------------


def _condition(rule: str, condition: Expression, scope: Scope) -> Iterator[Reason]:
    try:
        if condition.holds(scope):
            return
    except ExpressionError as error:
        message = f"`{condition.source}` cannot be decided: {error}"
        yield Reason("condition_error", rule, message)
        return
    yield Reason("condition", rule, f"`{condition.source}` must be true and is not")


def _costs(rule: ToolRule, scope: Scope, reasons: list[Reason]) -> Mapping[str, Micros]:
    costs: dict[str, Micros] = {}
    for name, expression in rule.costs:
        where = f"{rule.rule}.cost.{name}"
        try:
            value = expression.value(scope)
            if (
                type(value) is int and 0 <= value <= _WHOLE
            ):  # no more to check, and no name to write
                costs[name] = value * MICRO
            elif isinstance(value, str):  # "480" is no number, here as everywhere
                raise ExpressionError(f"it is the text {value!r:.80}, no number")
            else:
                costs[name] = micros(value, f"cost {name!r} (`{expression.source}`)")
        except ExpressionError as error:
            reasons.append(
                Reason(
                    "condition_error", where, f"cost `{expression.source}` cannot be told: {error}"
                )
            )
        except ValueError as error:
            reasons.append(Reason("budget", where, str(error)))
    return costs
