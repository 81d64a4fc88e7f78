"""`sluicegate pending`, `approve`, `reject`, `unknowns`, `reconcile`, `halt`, `resume`, `halts`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Defer, Deny, Gate, Permit, Proposal, Recorded, Subject, Unknown

Run = Callable[..., Any]

POLICY = """\
version: 1
tools:
  pay:
    approve: true
    once: {key: "pay:{order}"}
    cost: {eur: args.eur}
  send: {}
"""


@pytest.fixture
def till(folder: Path) -> Gate:
    """The gate of an agent whose payments need a yes; the commands share its ledger."""
    (folder / "sluicegate.yaml").write_text(POLICY, encoding="utf-8")
    return Gate("sluicegate.yaml")


def pay(order: str = "A1") -> Proposal:
    """The payment for an order."""
    who = Subject(tenant="acme", agent="desk")
    return Proposal("pay", {"order": order, "eur": 5}, subject=who, run="monday")


def waiting(gate: Gate) -> str:
    """The request for a payment."""
    decision = gate.decide(pay())
    assert isinstance(decision, Defer)
    return decision.request_id


def test_pending_shows_what_a_person_needs_to_decide(run: Run, till: Gate) -> None:
    """The request, the exact action, for whom, why, and until when."""
    request = waiting(till)
    out = run("pending").stdout
    assert f"{request}  pay" in out
    assert "order='A1'" in out
    assert "acme/desk · run monday" in out
    assert "every call of pay needs a person's yes" in out
    told = json.loads(run("pending", "--json").stdout)
    (asking,) = told["pending"]
    assert (asking["id"], asking["tool"], asking["args"]) == (
        request,
        "pay",
        {"eur": 5, "order": "A1"},
    )


def test_an_approval_on_the_command_line_lets_the_call_run(run: Run, till: Gate) -> None:
    """The agent's gate sees it at its next decision; afterwards nothing waits."""
    request = waiting(till)
    done = run("approve", request, "--by", "ada", "--note", "fine")
    assert (done.exit_code, done.stdout) == (
        0,
        f"ada approved {request}: the same call may run once\n",
    )
    assert isinstance(till.decide(pay()), Permit)
    assert run("pending").stdout == "Nothing waits for an answer.\n"


def test_a_rejection_is_told_to_the_model(run: Run, till: Gate) -> None:
    """With the name of who said no, by default whoever is logged in."""
    request = waiting(till)
    assert run("reject", request, "--json").stdout == '{\n  "ok": true\n}\n'
    refused = till.decide(pay())
    assert isinstance(refused, Deny)
    assert refused.reasons[-1].code == "approval_rejected"


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_what_cannot_be_answered_is_a_no(run: Run, till: Gate, word: str) -> None:
    """Exit code 1, and what waits instead."""
    request = waiting(till)
    wrong = run(word, "nothing")
    assert wrong.exit_code == 1
    assert f"there is no request 'nothing'; waiting are: {request}" in " ".join(
        wrong.output.split()
    )
    assert json.loads(run(word, "nothing", "--json").stdout)["ok"] is False


def doubtful(gate: Gate, run: Run) -> Permit:
    """A payment of which nobody knows what became."""
    run("approve", waiting(gate))
    permit = gate.decide(pay())
    assert isinstance(permit, Permit)
    gate.settle(permit, Unknown("no reply"))
    return permit


def test_an_unknown_outcome_is_listed_and_settled(run: Run, till: Gate) -> None:
    """After a success on record a repeated call gets the result."""
    permit = doubtful(till, run)
    assert permit.id in run("unknowns").stdout
    (unknown,) = json.loads(run("unknowns", "--json").stdout)["unknowns"]
    assert (unknown["permit_id"], unknown["tool"], unknown["expired"]) == (permit.id, "pay", False)
    done = run(
        "reconcile", permit.id, "--succeeded", "--result", '{"id": 7}', "--cost", '{"eur": 4}'
    )
    assert done.exit_code == 0
    assert run("unknowns").stdout == "No outcome is unknown.\n"
    decision = till.decide(pay())
    assert isinstance(decision, Recorded)
    assert decision.result == {"id": 7}


def test_a_failure_on_record_lets_the_call_be_made_again(run: Run, till: Gate) -> None:
    """And the yes of the person still stands."""
    permit = doubtful(till, run)
    assert run("reconcile", permit.id, "--failed").exit_code == 0
    assert isinstance(till.decide(pay()), Permit)
    assert run("reconcile", permit.id, "--failed").exit_code == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "say what became of the call"),
        (("--succeeded", "--failed"), "say what became of the call"),
        (("--failed", "--result", "1"), "gave nothing and used nothing"),
        (("--succeeded", "--result", "{"), "--result is no JSON"),
        (("--succeeded", "--cost", "5"), "--cost is 5, no object"),
    ],
)
def test_half_an_outcome_is_wrong_use(
    run: Run, till: Gate, options: tuple[str, ...], problem: str
) -> None:
    """Exit code 2, before anything is looked at."""
    result = run("reconcile", "p", *options)
    assert result.exit_code == 2
    assert problem in result.output


def test_a_halt_stops_the_agent_and_a_resume_lets_it_go_on(run: Run, till: Gate) -> None:
    """By tenant here; the model is told who and why."""
    assert run("halt", "--tenant", "acme", "--by", "ada", "--reason", "fraud").exit_code == 0
    refused = till.decide(pay())
    assert isinstance(refused, Deny)
    assert refused.final
    assert refused.reasons[0].message.startswith("tenant acme is halted (by ada: fraud)")
    assert "tenant acme, halted by ada: fraud" in run("halts").stdout
    assert json.loads(run("halts", "--json").stdout)["halts"][0]["scope"] == {"tenant": "acme"}
    assert run("resume", "--agent", "desk").exit_code == 1
    assert run("resume", "--tenant", "acme").exit_code == 0
    assert isinstance(till.decide(pay()), Defer)
    assert run("halts").stdout == "Nothing is halted.\n"


@pytest.mark.parametrize("word", ["halt", "resume"])
def test_everything_has_to_be_meant(run: Run, till: Gate, word: str) -> None:
    """No option at all is no halt of everything; --all is, and it is not mixed with parts."""
    assert run(word).exit_code == 2
    assert run(word, "--all", "--tenant", "acme").exit_code == 2
    assert run("halt", "--all").exit_code == 0
    assert run("resume", "--all").exit_code == 0


def test_the_journal_says_what_people_did(run: Run, till: Gate) -> None:
    """Approvals, halts and resumptions are lines like others."""
    run("approve", waiting(till), "--by", "ada", "--note", "fine")
    run("halt", "--run", "monday", "--by", "bob", "--reason", "lunch")
    run("resume", "--run", "monday", "--by", "bob")
    lines = [line.split("  ", 1)[1] for line in run("journal", "tail").stdout.splitlines()]
    assert any(line.startswith("approve") and "by ada" in line and "fine" in line for line in lines)
    assert any(
        line.startswith("halt") and "run monday" in line and "lunch" in line for line in lines
    )
    assert any(line.startswith("resume") for line in lines)
    assert any(line.startswith("defer") for line in lines)
