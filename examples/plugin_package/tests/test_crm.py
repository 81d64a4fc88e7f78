"""The plugin behind a real gate, found by its entry point: install it before (`pip install .`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluicegate import Deny, Gate, Permit, Proposal, Succeeded

POLICY = {
    "version": 1,
    "tools": {"send_email": {"when": "facts.crm.newsletter"}, "close_account": {}},
}
CUSTOMERS = {
    "C-1": {"newsletter": True},
    "C-2": {"newsletter": False},
    "C-3": {"newsletter": True, "legal_hold": True},
}


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    file = tmp_path / "customers.json"
    file.write_text(json.dumps(CUSTOMERS), encoding="utf-8")
    monkeypatch.setenv("SLUICEGATE_CRM_FILE", str(file))
    with Gate(POLICY, ledger="memory:", plugins=["crm"]) as gate:
        yield gate


def email(customer_id: str) -> Proposal:
    return Proposal("send_email", {"customer_id": customer_id})


def codes(gate: Gate, proposal: Proposal) -> list[str]:
    decision = gate.decide(proposal)
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


def test_facts_decide(gate: Gate) -> None:
    """The policy reads what the CRM says about the customer."""
    assert codes(gate, email("C-1")) == []
    assert codes(gate, email("C-2")) == ["condition"]


def test_an_unknown_customer_is_refused(gate: Gate) -> None:
    """An id that the model made up is an objection, and the rule lacks its fact."""
    assert codes(gate, email("C-9")) == ["condition_error", "objection"]


def test_a_legal_hold_ends_the_run(gate: Gate) -> None:
    """An objection can be final."""
    decision = gate.decide(Proposal("close_account", {"customer_id": "C-3"}))
    assert isinstance(decision, Deny)
    assert decision.final


def test_three_contacts_a_week(gate: Gate) -> None:
    """The plugin's own limit is counted with the limits of the policy."""
    for number in range(3):
        permit = gate.decide(Proposal("send_email", {"customer_id": "C-1", "text": str(number)}))
        assert isinstance(permit, Permit)
        gate.settle(permit, Succeeded())
    assert codes(gate, email("C-1")) == ["budget"]


def test_a_crm_that_is_down_refuses(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer from the CRM is a no."""
    monkeypatch.setenv("SLUICEGATE_CRM_FILE", "/nowhere.json")
    assert codes(gate, email("C-1")) == ["plugin_error"]


def test_refusals_are_told(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """The record hook sees each entry after it is in the journal."""
    with caplog.at_level(logging.WARNING, logger="sluicegate_crm"):
        codes(gate, email("C-2"))
    assert caplog.messages == ["send_email was refused: condition"]
