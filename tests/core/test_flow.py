"""The flow of a decision: what it hands out, and what it asks of the ledger."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from sluicegate import Gate, Permit, Proposal, Subject
from sluicegate.testing import FakeClock, counted_ids

POLICY = {
    "version": 1,
    "tools": {
        "pay": {
            "cost": {"eur": "args.eur"},
            "once": {"key": "pay:{order}"},
            "record": "digest",
            "lease": "7s",
            "on_error": "failed",
        },
        "ask": {"approve": True},
    },
    "limits": [{"budget": "eur", "limit": 100, "per": ["tenant"]}],
}
CALL = Proposal("pay", {"eur": 3, "order": "A1"}, subject=Subject(tenant="acme"), run="r")


def permitted(proposal=CALL):
    """A permit for *proposal*, and its gate."""
    gate = Gate(POLICY, "memory:", clock=FakeClock(), ids=counted_ids())
    permit = gate.decide(proposal)
    assert type(permit) is Permit
    return permit, gate


def test_a_permit_of_the_gate_is_like_any_other():
    """Every field is set, to what the policy and the ledger said; nothing tells it from one made by hand."""
    permit, gate = permitted()
    told = {field.name: getattr(permit, field.name) for field in fields(Permit)}
    assert [type(claim).__name__ for claim in told.pop("claims")] == ["Once", "Quota"]
    rule = told.pop("rule")
    assert (rule.name, rule.lease) == ("pay", 7_000_000)
    assert told == {
        "id": "permit-1",
        "tool": "pay",
        "args": {"eur": 3, "order": "A1"},
        "at": permit.at,
        "expires_at": permit.at + 7_000_000,
        "revision": gate.policy.revision,
        "binding": CALL.binding,
        "costs": {"eur": 3_000_000},
        "on_error": "failed",
        "key": "pay:A1",
        "observed": False,
        "digest": True,
        "proposal": CALL,
    }
    twin = Permit(claims=permit.claims, rule=rule, **told)
    assert (permit, repr(permit)) == (twin, repr(twin))
    assert replace(permit, key="other") == replace(twin, key="other")


@pytest.mark.parametrize("field", [field.name for field in fields(Permit)])
def test_a_permit_of_the_gate_is_frozen(field):
    """What was decided is what runs: no field can be set or deleted."""
    permit, _ = permitted()
    with pytest.raises(FrozenInstanceError):
        setattr(permit, field, None)
    with pytest.raises(FrozenInstanceError):
        delattr(permit, field)
    with pytest.raises(TypeError, match="no truth value"):
        bool(permit)


def test_a_permit_of_the_gate_can_be_copied():
    """A copy is a permit too, and as frozen."""
    permit, _ = permitted()
    twin = copy.copy(permit)
    assert (type(twin), twin) == (Permit, permit)
    with pytest.raises(FrozenInstanceError):
        twin.tool = "other"


def test_an_approval_is_among_the_claims_of_its_permit():
    """It is spent with the permit, so it has to be settled with it."""
    gate = Gate(POLICY, "memory:", clock=FakeClock(), ids=counted_ids())
    call = Proposal("ask", {}, run="r")
    gate.approve(gate.decide(call).request_id, by="ann")
    permit = gate.decide(call)
    assert [type(claim).__name__ for claim in permit.claims][-1] == "Approval"
