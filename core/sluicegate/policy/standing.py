"""What is looked at for every proposal, whatever the rules for its tool say: see `claims.standing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from ..canonical import quoted
from ..claims import HALTS, Halts, Repeat, Run, Standing, Turns
from ..claims.base import build
from ..claims.standing import run_key
from ..decision import Reason
from ..glob import matches
from ..proposal import Proposal
from .limits import Repeat as RepeatLimit
from .model import Policy
from .parts import MissingPart, Scoper, scoper

__all__ = ["standing"]

_KNOWN_NAMES: Final = 10_000

Stand: TypeAlias = Callable[[Proposal], tuple[list[Standing], list[Reason]]]
Resolve: TypeAlias = Callable[[Mapping[str, Any], str], "str | None"]


class _Counting(NamedTuple):
    """A `repeat` limit as it is for one tool."""

    rule: str
    prefix: str
    limit: int
    scope_of: Scoper
    oscillation: bool


def standing(policy: Policy, resolve: Resolve) -> Stand:
    """A function that says what stands for a proposal, and what is missing for it."""
    limits = [
        (f"limits[{index}]", limit)
        for index, limit in enumerate(policy.limits)
        if isinstance(limit, RepeatLimit)
    ]
    known: dict[str, tuple[_Counting, ...]] = {}

    def counting(tool: str) -> tuple[_Counting, ...]:
        if tool not in known:
            if len(known) >= _KNOWN_NAMES:  # names come from the model: never without bound
                known.clear()
            pattern = tool if tool in policy.tools else resolve(policy.tools, tool)
            own = policy.tools[pattern].repeat if pattern is not None else None
            known[tool] = () if own is False else tuple(_counting(limits, tool, own))
        return known[tool]

    def stand(proposal: Proposal) -> tuple[list[Standing], list[Reason]]:
        found = _always(proposal)
        reasons: list[Reason] = []
        turn, call_id = proposal.turn, proposal.call_id
        call = f"{turn}|{call_id}" if turn is not None and call_id else None
        for rule, prefix, limit, scope_of, oscillation in counting(proposal.tool) if limits else ():
            try:
                key, scope = scope_of(proposal, proposal.args)
            except MissingPart as missing:
                reasons.append(missing.reason(rule))
                continue
            what = f"{prefix}{key}|{proposal.binding}"
            found.append(build(Repeat, (what, rule, proposal.tool, limit, scope, call)))
            if oscillation:
                found.append(Turns(f"turns{prefix}{key}", rule, proposal.tool, limit, scope, call))
        return found, reasons

    return stand


def _counting(limits: list[tuple[str, RepeatLimit]], tool: str, own: int | None) -> list[_Counting]:
    return [
        _Counting(
            rule,
            f"repeat|{','.join(sorted(map(quoted, limit.tools)))}",
            own or limit.repeat,
            scoper(limit.per),
            limit.oscillation,
        )
        for rule, limit in limits
        if any(matches(pattern, tool) for pattern in limit.tools)
    ]


def _always(proposal: Proposal) -> list[Standing]:
    """Halts, and the runs that the call is made in: its own and all around it, as far as they are known."""
    who, run, tool = proposal.subject, proposal.run, proposal.tool
    if run is None and proposal.root is None:
        return [Halts(HALTS, who.tenant, who.user, who.agent, ())]
    if run is not None and run == proposal.root == (proposal.parent or run):
        return [
            build(Halts, (HALTS, who.tenant, who.user, who.agent, (run,))),
            build(Run, (run_key(run), run, tool, proposal.tools, True)),
        ]
    around = (run, proposal.parent, *proposal.within, proposal.root)
    runs = tuple(dict.fromkeys(r for r in around if r is not None))
    return [
        Halts(HALTS, who.tenant, who.user, who.agent, runs),
        *(Run(run_key(r), r, tool, proposal.tools, own=r == run) for r in runs),
    ]
