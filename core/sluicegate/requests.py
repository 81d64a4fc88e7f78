"""
What is asked of the ledger for a proposal and for an outcome: pure, so that a plan, an
explanation and a replay ask exactly what the gate asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from .amount import Micros
from .canonical import FrozenDict
from .claims import (
    Approval,
    Claim,
    Needs,
    Note,
    Once,
    Quota,
    Rate,
    Seen,
    Shown,
    Slot,
    Traced,
)
from .claims.base import build
from .claims.marks import labels_key
from .decision import Permit, Reason
from .entries import Considered, told_claims
from .errors import PermitError
from .evaluate import Allowed, Objected, Verdict
from .ledger.base import Claiming
from .outcome import Failed, Outcome, Succeeded
from .policy.rules import Call, ToolRule
from .proposal import Proposal
from .recall import came

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy

__all__ = ["claiming", "heard", "noted", "prompt_mark", "recalled", "used_by", "word_of"]

_NOTHING: Final[Mapping[str, Any]] = FrozenDict()
_ACTION: Final = 7  # len("sha256:")
REQUEST: Final = 16
"""So many digits of an action begin the name of a request for it."""

UNLISTED_LEASE: Final = 300_000_000
"""How long a call lives that is only watched and that the policy does not list, in µs."""


def claiming(
    policy: CompiledPolicy,
    proposal: Proposal,
    now: int,
    verdict: Verdict,
    *,
    permit: str,
    facts: str,
    extra: tuple[Claim, ...] = (),
    final: bool = False,
    observe: bool = False,
) -> Claiming:
    """
    The request for a proposal about which the policy has said *verdict*.

    *facts* are their canonical text, *extra* the claims of plugins; *final* says that the
    verdict's reasons end the run.
    """
    standing, missing = policy.standing(proposal)
    claims: tuple[Claim, ...] = ()
    reasons: tuple[Reason, ...] = ()
    approval: Approval | None = None
    asks: tuple[Reason, ...] = ()
    runs = proposal
    rule: ToolRule | None
    if type(verdict) is Allowed:
        rule = verdict.rule
        if verdict.args is not proposal.args:
            runs = proposal.running(verdict.args)
        claims = verdict.claims + extra if extra else verdict.claims
        asks = verdict.asks
        looked = verdict.rule.origin is not None or extra
        if asks or (looked and any(map(_asks, claims))):
            approval = _approval(proposal, verdict, permit)
    else:
        assert type(verdict) is Objected  # noqa: S101 - for the type checker
        rule = policy.rule(proposal.tool)
        reasons = verdict.reasons
    if missing:
        reasons = tuple(dict.fromkeys((*reasons, *missing)))
        claims = ()
    digest = rule is not None and rule.digest
    told = _wordless(claims if approval is None else (*claims, approval)) if digest else extra
    lease = rule.lease if rule is not None else UNLISTED_LEASE
    wording = build(Considered, (
        now, facts, proposal.digests if digest else proposal.text, policy.revision, observe,
        told_claims(told) if told else "", ',"record":"digest"' if digest else "",
        permit if observe else "", lease, final,
    ))  # fmt: skip
    return build(Claiming, (
        permit, now, lease, runs.binding, claims, wording, not observe,
        standing, reasons, final, approval, asks, observe,
    ))  # fmt: skip


def _wordless(claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    """Claims without the words that are only there for messages, and that show arguments."""
    return tuple(
        claim._replace(name="")
        if isinstance(claim, (Once, Seen))
        else claim._replace(wanted="")
        if isinstance(claim, Needs)
        else claim._replace(shown="")
        if isinstance(claim, Traced)
        else claim._replace(scope="")
        if isinstance(claim, (Quota, Rate, Slot))
        else claim
        for claim in claims
    )


def _asks(claim: Claim) -> bool:
    return type(claim) is Traced and claim.ask


def _approval(proposal: Proposal, allowed: Allowed, permit: str) -> Approval:
    action, rule = proposal.action[_ACTION:], allowed.rule
    where = rule.approve.rule if rule.approve is not None else f"{rule.rule}.origin"
    return Approval(f"approval|{action}", where, f"{action[:REQUEST]}.{permit}", rule.asking)


# --- what became of it --------------------------------------------------------------------------


def word_of(outcome: Outcome) -> Literal["succeeded", "failed", "unknown"]:
    """The outcome in a word."""
    if type(outcome) is Succeeded:
        return "succeeded"
    return "failed" if type(outcome) is Failed else "unknown"


def used_by(permit: Permit, outcome: Outcome) -> Mapping[str, Micros]:
    """The costs that this outcome settles, in millionths; raises PermitError for one not metered."""
    if type(outcome) is not Succeeded or not outcome.cost:
        return permit.costs if type(outcome) is not Failed else _NOTHING
    used = outcome.used
    for name in used:
        if name not in permit.costs and not permit.observed:
            held = ", ".join(sorted(permit.costs)) or "nothing"
            raise PermitError(
                f"the permit does not meter {name!r}; it meters {held}", outcome=outcome
            )
    return {**permit.costs, **used}


def noted(permit: Permit, outcome: Outcome) -> tuple[Note, ...]:
    """What the run will remember of the call, by the policy that permitted it."""
    rule, proposal = permit.rule, permit.proposal
    if rule is None or proposal is None:
        return ()
    if permit.observed:  # it holds no claims, and so no labels either
        result = outcome.result if type(outcome) is Succeeded else None
        return tuple(recalled(rule, proposal, permit.id, result, type(outcome) is Succeeded))
    if rule.notes is None or type(outcome) is not Succeeded:
        return ()
    return tuple(rule.notes(Call(proposal, permit.args, permit.costs, _NOTHING), outcome.result))


def recalled(
    rule: ToolRule | None, proposal: Proposal, permit: str, result: object, done: bool = True
) -> Iterator[Note]:
    """What a run will remember to which *result* was shown, of a call that was made under *permit*."""
    root = proposal.root
    if rule is None or root is None:
        return
    if rule.labels:
        yield Shown(labels_key(root), rule.labels, proposal.tool, permit)
    if rule.notes is not None and done:
        yield from rule.notes(Call(proposal, proposal.args, _NOTHING, _NOTHING), result)


# --- what the user said -------------------------------------------------------------------------


def prompt_mark(root: str, prompt: str) -> str:
    """The mark under which the journal keeps what the user said, once for each run."""
    return f"prompt|{root}|{hashlib.sha256(prompt.encode('utf-8', 'replace')).hexdigest()}"


def heard(root: str, prompt: str) -> Iterator[Note]:
    """What a run will remember of the user's words."""
    return came(root, "prompt", None, prompt)
