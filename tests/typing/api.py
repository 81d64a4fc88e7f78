"""The public API as a user's type checkers see it: checked by mypy and pyright, never run."""

# Each `ignore` here is a test: both checkers complain about one that is not needed.
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import assert_never, assert_type

import sluicegate
from sluicegate import (
    ApprovalRequired,
    Decision,
    Defer,
    Denied,
    Deny,
    Failed,
    Gate,
    NotExecuted,
    Outcome,
    Permit,
    PermitError,
    Proposal,
    Reason,
    Recorded,
    SluicegateError,
    Subject,
    Succeeded,
    Unknown,
)

subject = Subject(tenant="acme", user="ann", agent="support-1", roles=("intern",))
proposal = Proposal(
    "issue_refund",
    {"order_id": "A1", "amount": 12.5},
    subject=subject,
    run="run-1",
    call_id="call-1",
    schema={"type": "object", "properties": {"order_id": {}, "amount": {}}},
)
gate = Gate("sluicegate.yaml", ledger="memory:", observe=False)


def all_four(decision: Decision) -> str:
    match decision:
        case Permit(args=args, expires_at=expires_at):
            assert_type(args, Mapping[str, Any])
            assert_type(expires_at, int)
            return decision.id
        case Deny(reasons=reasons, final=final):
            assert_type(reasons, tuple[Reason, ...])
            assert_type(final, bool)
            return decision.render()
        case Defer(request_id=request_id):
            return request_id
        case Recorded():
            return "ran before"
        case _:
            assert_never(decision)


def a_forgotten_decision_is_found(decision: Decision) -> None:
    match decision:  # type: ignore[exhaustive-match]
        case Permit() | Deny() | Defer():
            pass


def a_decision_has_no_truth_value(decision: Decision) -> bool:
    return not decision  # pyright: ignore[reportGeneralTypeIssues]


def decisions_are_frozen(permit: Permit) -> None:
    permit.id = "another"  # type: ignore[misc]


def proposals_are_keyword_only_after_args() -> None:
    Proposal("issue_refund", {}, subject)  # type: ignore[call-arg]


def by_hand(amount: float) -> None:
    decision = gate.decide(proposal)
    assert_type(decision, Decision)
    if isinstance(decision, Permit):
        try:
            gate.settle(decision, Succeeded({"refunded": amount}, cost={"eur": "12.50"}))
        except PermitError as error:
            assert_type(error.outcome, Outcome | None)


async def by_hand_async() -> None:
    decision = await gate.adecide(proposal)
    assert_type(decision, Decision)
    if isinstance(decision, Permit):
        outcomes: tuple[Outcome, ...] = (Failed("refused by the bank"), Unknown(TimeoutError()))
        await gate.asettle(decision, outcomes[0])


def in_one_go() -> None:
    def refund(order_id: str, amount: float) -> str:
        raise NotExecuted(f"{order_id}: {amount}")

    try:
        gate.call(proposal, refund)
    except (Denied, ApprovalRequired) as refusal:
        refused: SluicegateError = refusal
        raise refused from None


@gate.guard()
def refund(order_id: str, amount: float) -> str:
    return f"{order_id}: {amount}"


@gate.guard()
async def refund_async(order_id: str, amount: float) -> str:
    return f"{order_id}: {amount}"


async def a_guarded_function_keeps_its_signature() -> None:
    with sluicegate.context(tenant="acme", agent="support-1", run="run-1"):
        assert_type(refund("A1", amount=12.5), str)
        assert_type(await refund_async("A1", 12.5), str)
        refund(order="A1")  # type: ignore[call-arg]
