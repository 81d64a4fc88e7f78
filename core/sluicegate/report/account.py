"""The report of a run, out of its journal entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from ..amount import Micros
from ..canonical import FrozenDict, freeze
from ..claims import Quota
from ..entries import claims_of
from ..evaluate import Allowed, evaluate
from ..journal import Entry
from ..policy.parts import MissingPart
from ..policy.rules import Call as RuleCall
from ..proposal import Proposal, checked_name
from .acts import Act, Acts, Moment
from .owed import owed
from .value import Report, Spent, Tally, Waiting

if TYPE_CHECKING:
    from ..policy.compile import CompiledPolicy

__all__ = ["report"]

_CALLS: Final = "calls"
"""A budget that counts calls is no resource: calls have tallies of their own."""

_NOTHING: Final[Mapping[str, Any]] = FrozenDict()
_DONE: Final = frozenset({"succeeded", "recorded"})
_HELD: Final = frozenset({"open", "unknown"})
_PERMITTED: Final = ("succeeded", "failed", "unknown", "open")


def report(run: str, policy: CompiledPolicy, entries: Iterable[Entry], now: int) -> Report:
    """
    What *run* has done and owes at *now* (µs since 1970 UTC), as *entries* say.

    They are those of the journal, in its order, from the run's first one on; what belongs to
    other runs is left aside. Raises ValueError or TypeError for what cannot be a run's name.
    """
    checked_name(run, "run")
    seen = Acts(run)
    for entry in entries:
        seen.learn(entry)
    acts = seen.until(now)
    found: dict[str, list[Act]] = {}
    for act in acts:
        found.setdefault(act.state, []).append(act)
    codes = Counter(code for act in found.get("refused", ()) for code in act.codes)
    return Report(
        run=run,
        began=seen.first,
        ended=seen.last,
        owed=tuple(owed(policy.policy.contracts, acts)),
        failed=tuple(act.call() for act in _unmended(acts, policy)),
        unknown=tuple(act.call() for act in found.get("unknown", ())),
        open=tuple(act.call() for act in found.get("open", ())),
        waiting=tuple(_waiting(acts, seen.answers, now)),
        refused=FrozenDict(sorted(codes.items())),
        spent=_spent(acts, policy),
        calls=_tallies(acts),
        brief=policy.brief,
    )


# --- what failed ---------------------------------------------------------------------------------


def _unmended(acts: Sequence[Act], policy: CompiledPolicy) -> list[Act]:
    """Calls that failed, without an identical one, or one with the same key, that succeeded later."""
    failed = [act for act in acts if act.state == "failed"]
    tools = {act.tool for act in failed}
    done: dict[object, Moment] = {}
    for act in acts:
        if act.state in _DONE and act.tool in tools and act.ended is not None:
            for name in _names(act, policy):
                done[name] = max(act.ended, done.get(name, act.ended))
    return [
        act
        for act in failed
        if not any(done.get(name, (0, 0)) > act.began for name in _names(act, policy))
    ]


def _names(act: Act, policy: CompiledPolicy) -> Iterator[object]:
    """What makes two calls the same one: tool and arguments, or tool, tenant and key."""
    yield act.tool, act.text
    rule = policy.rule(act.tool)
    if rule is None or rule.key is None or act.args is None:
        return
    proposal = Proposal(act.tool, act.args)
    try:
        key = rule.key(RuleCall(proposal, proposal.args, _NOTHING, _NOTHING))
    except MissingPart:
        return
    yield act.tool, act.said["subject"]["tenant"], key


# --- what waits ----------------------------------------------------------------------------------


def _waiting(acts: Sequence[Act], answers: Mapping[str, str], now: int) -> Iterator[Waiting]:
    used = {act.content.get("request") for act in acts if act.state != "deferred"}
    asked = {act.content["request"]: act for act in acts if act.state == "deferred"}
    for request, act in asked.items():
        answer = answers.get(request)
        if request in used or answer == "reject":
            continue
        expires = int(act.content["expires"])
        yield Waiting(
            call=act.call(),
            request=request,
            expires=expires,
            state="expired" if expires <= now else "approved" if answer else "pending",
        )


# --- sums ----------------------------------------------------------------------------------------


def _spent(acts: Iterable[Act], policy: CompiledPolicy) -> tuple[Spent, ...]:
    settled: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for act in acts:
        settled.update(act.cost or {})
        if act.cost is None and act.state in _HELD:
            held.update(_held(act, policy))
    names = sorted(settled.keys() | held.keys())
    return tuple(Spent(name=name, settled=settled[name], held=held[name]) for name in names)


def _held(act: Act, policy: CompiledPolicy) -> Mapping[str, Micros]:
    """What an unsettled call holds: derived again, since the journal has costs with the outcome only."""
    content = act.content
    if act.args is None:
        claims = claims_of(content.get("claims", ()))
        amounts = {claim.name: claim.amount for claim in claims if isinstance(claim, Quota)}
        return {name: amount for name, amount in amounts.items() if name != _CALLS}
    facts = cast("FrozenDict", freeze(content["facts"])[0])
    # Without its schema: it has passed it, and the journal may have it in front of the run.
    proposal = Proposal.restored(act.said, None, None)
    verdict = evaluate(policy, proposal, facts, content["now"])
    return verdict.costs if type(verdict) is Allowed else _NOTHING


def _tallies(acts: Iterable[Act]) -> tuple[Tally, ...]:
    counts: dict[str, Counter[str]] = {}
    for act in acts:
        counts.setdefault(act.tool, Counter())[act.state] += 1
    return tuple(
        Tally(tool=tool, permitted=sum(count[state] for state in _PERMITTED), **count)
        for tool, count in sorted(counts.items())
    )
