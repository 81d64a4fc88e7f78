"""What people do: say yes and no, halt and resume."""

from __future__ import annotations

import threading

import pytest

from sluicegate import (
    Defer,
    Deny,
    Failed,
    Gate,
    NotExecuted,
    Permit,
    PermitError,
    Proposal,
    Subject,
    Succeeded,
)
from sluicegate.testing import FakeClock

HOUR = 3600
SECOND = 1_000_000


def made(tool=None, ledger="memory:", clock=None, **more):
    """A gate over one tool, `pay`."""
    sections = {key: more.pop(key) for key in ("limits", "flows") if key in more}
    policy = {
        "version": 1,
        "tools": {"pay": {"cost": {"eur": "args.eur"}, **(tool or {})}},
        **sections,
    }
    return Gate(policy, ledger, clock=clock or FakeClock(), **more)


def pay(eur=5, **more):
    return Proposal("pay", {"eur": eur}, subject=Subject(tenant="acme"), run="r1", **more)


def codes(decision):
    return (
        [reason.code for reason in decision.reasons] if isinstance(decision, (Deny, Defer)) else []
    )


# --- approvals ----------------------------------------------------------------------------------

ASKED = {"approve": True}


def test_a_yes_lets_exactly_this_call_run_once():
    """Until then the model waits; after it was used, the same call needs another yes."""
    gate = made(ASKED)
    asked = gate.decide(pay())
    assert codes(asked) == ["approval_required"]
    assert gate.decide(pay()).request_id == asked.request_id
    (asking,) = gate.pending()
    assert (asking.id, asking.tool, asking.args, asking.run) == (
        asked.request_id,
        "pay",
        {"eur": 5},
        "r1",
    )
    gate.approve(asked.request_id, by="ada", note="fine")
    assert gate.pending() == []
    permit = gate.decide(pay())
    assert isinstance(permit, Permit)
    gate.settle(permit, Succeeded())
    again = gate.decide(pay())
    assert isinstance(again, Defer)
    assert again.request_id != asked.request_id


@pytest.mark.parametrize(
    "other",
    [
        pay(6),
        Proposal("pay", {"eur": 5}, subject=Subject(tenant="other"), run="r1"),
        Proposal("pay", {"eur": 5}, subject=Subject(tenant="acme"), run="r2"),
    ],
    ids=["arguments", "subject", "run"],
)
def test_a_yes_is_for_nothing_else(other):
    """Changed arguments, another subject or another run need a request of their own."""
    gate = made(ASKED)
    gate.approve(gate.decide(pay()).request_id, by="ada")
    assert isinstance(gate.decide(other), Defer)


def test_nobody_is_asked_about_what_the_policy_refuses():
    """The policy goes first; and again when the approved call comes back."""
    gate = made(ASKED, limits=[{"budget": "eur", "limit": 10}])
    assert codes(gate.decide(pay(11))) == ["budget"]
    assert gate.pending() == []
    first, second = gate.decide(pay(6)), gate.decide(pay(7))
    gate.approve(first.request_id, by="ada")
    gate.approve(second.request_id, by="ada")
    gate.settle(gate.decide(pay(6)), Succeeded())
    assert codes(gate.decide(pay(7))) == ["budget"]


def test_asking_holds_nothing():
    """While a person thinks, others may use the budget."""
    gate = made(ASKED, limits=[{"budget": "eur", "limit": 10}])
    gate.decide(pay(6))
    assert gate.usage() == []


def test_a_no_is_told_to_the_model():
    """The same call is refused; a yes that was not used can be taken back."""
    gate = made(ASKED)
    request = gate.decide(pay()).request_id
    gate.approve(request, by="ada")
    gate.reject(request, by="bob", note="wait")
    refused = gate.decide(pay())
    assert codes(refused) == ["approval_rejected"]
    assert refused.retry == "never"
    assert "bob has rejected request" in refused.reasons[0].message


def test_a_request_and_its_yes_live_for_a_while():
    """Who comes too late is told so, and asks anew; an old request cannot be answered any more."""
    clock = FakeClock()
    gate = made({"approve": {"within": "1h"}}, clock=clock)
    first = gate.decide(pay()).request_id
    clock.advance(HOUR)
    assert gate.pending() == []
    with pytest.raises(PermitError, match="cannot be approved: it is expired"):
        gate.approve(first, by="ada")
    asked = gate.decide(pay())
    assert codes(asked) == ["approval_expired", "approval_required"]
    assert f"request {first} has expired" in asked.reasons[0].message
    with pytest.raises(PermitError, match="is over: the same call was asked for anew"):
        gate.approve(first, by="ada")
    gate.approve(asked.request_id, by="ada")
    clock.advance(HOUR)
    assert "approval_expired" in codes(gate.decide(pay()))


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_what_is_decided_is_decided(word):
    """Nobody says yes twice, or no to what was used."""
    gate = made(ASKED)
    request = gate.decide(pay()).request_id
    gate.approve(request, by="ada")
    gate.settle(gate.decide(pay()), Succeeded())
    with pytest.raises(PermitError, match="it is spent"):
        getattr(gate, word)(request, by="ada")


def test_a_request_that_nobody_made_cannot_be_answered():
    """The error lists what waits."""
    gate = made(ASKED)
    request = gate.decide(pay()).request_id
    with pytest.raises(PermitError, match=f"there is no request 'x'; waiting are: {request}"):
        gate.approve("x", by="ada")
    with pytest.raises(ValueError, match="by has 0 characters"):
        gate.approve(request, by="")


def test_a_yes_from_another_process_counts(tmp_path):
    """Two gates on one file, as in two processes."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    agent, desk = made(ASKED, url), made(ASKED, url)
    request = agent.decide(pay()).request_id
    assert [asking.id for asking in desk.pending()] == [request]
    desk.approve(request, by="ada")
    assert isinstance(agent.decide(pay()), Permit)


def test_two_threads_cannot_use_one_yes(tmp_path):
    """A yes is spent in the transaction that permits the call."""
    gate = made(ASKED, f"sqlite:///{tmp_path / 'ledger.db'}")
    gate.approve(gate.decide(pay()).request_id, by="ada")
    found = []
    threads = [threading.Thread(target=lambda: found.append(gate.decide(pay()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(decision, Permit) for decision in found) == 1


def test_what_a_person_asked_for_is_no_repetition():
    """The model was told to wait, and did: a call with a yes is not refused for having been proposed before."""
    gate = made(ASKED, limits=[{"repeat": 2, "per": ["run"]}])
    request = gate.decide(pay()).request_id
    gate.decide(pay())
    gate.approve(request, by="ada")
    assert isinstance(gate.decide(pay()), Permit)
    assert "repeat" in codes(gate.decide(pay()))


def test_after_a_failure_the_yes_still_stands():
    """Nothing happened, so the same person need not be asked the same again."""
    gate = made(ASKED)
    gate.approve(gate.decide(pay()).request_id, by="ada")
    gate.settle(gate.decide(pay()), Failed(NotExecuted("busy")))
    assert isinstance(gate.decide(pay()), Permit)


def test_a_gate_that_watches_asks_nobody():
    """It records that it would have asked, and lets the call run."""
    gate = made(ASKED, observe=True)
    assert gate.decide(pay()).observed
    assert next(iter(gate.journal.tail(1))).content["would"] == "defer"


# --- halts ----------------------------------------------------------------------------------------


def test_halts_are_listed_and_taken_back_by_their_scope():
    """Halting twice is halting once; what is not halted cannot be resumed."""
    gate = made()
    gate.halt(tenant="acme", by="ada", reason="fraud")
    gate.halt(tenant="acme", by="bob", reason="again")
    assert [str(halt) for halt in gate.halts()] == ["tenant acme, halted by ada: fraud"]
    with pytest.raises(
        PermitError, match="agent a is not halted; halted by people are: tenant acme"
    ):
        gate.resume(agent="a", by="ada")
    gate.resume(tenant="acme", by="ada")
    assert gate.halts() == []
    with pytest.raises(ValueError, match="by has 0 characters"):
        gate.halt(by="")


def test_a_run_that_halted_itself_is_listed_and_resumed():
    """Repetitions say why; a person takes it back."""
    gate = made(limits=[{"repeat": 1, "per": ["run"]}])
    gate.decide(pay())
    assert gate.decide(pay()).final
    (halt,) = gate.halts()
    assert (halt.scope, halt.by) == ({"run": "r1"}, "sluicegate")
    gate.resume(run="r1", by="ada")
    assert gate.halts() == []
    assert isinstance(gate.decide(pay(6)), Permit)


def test_there_is_a_bound_to_halts():
    """Every decision looks at all of them; one that covers more is better than a thousand."""
    gate = made()
    for number in range(1000):
        gate.halt(run=f"r{number}", by="ada")
    with pytest.raises(PermitError, match="1000 halts are in force already"):
        gate.halt(run="one more", by="ada")
    gate.halt(run="r5", by="ada")
