"""Whatever goes wrong on the way is a refusal: a ledger, a rule, a plugin, the gate itself."""

from __future__ import annotations

import asyncio

import pytest

from sluicegate import (
    Deny,
    Gate,
    LedgerError,
    MemoryLedger,
    Permit,
    Proposal,
    Subject,
    Succeeded,
    hookimpl,
)
from sluicegate.testing import FakeClock, counted_ids

POLICY = {"version": 1, "tools": {"t": {}}}


class Down(MemoryLedger):
    """A real ledger whose every request fails with the given error."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def perform(self, request):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LedgerError("disk full"), "ledger_unavailable"),
        (RuntimeError("bug"), "internal_error"),
        (OSError("io"), "internal_error"),
        (NotImplementedError("swallowed by some frameworks"), "internal_error"),
        (AssertionError("bug"), "internal_error"),
        (RecursionError("deep"), "internal_error"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_ledger_that_fails_is_a_refusal(error, code, asynchronous):
    """An error of the ledger, of any kind, is a Deny and no exception, blocking or not."""
    gate = Gate(POLICY, Down(error))
    proposal = Proposal("t", {})
    decision = asyncio.run(gate.adecide(proposal)) if asynchronous else gate.decide(proposal)
    assert isinstance(decision, Deny)
    assert [reason.code for reason in decision.reasons] == [code]


def test_a_ledger_that_is_down_gives_a_retry_hint():
    """A ledger that is down may come back: the model is told that it may try again."""
    decision = Gate(POLICY, Down(LedgerError("disk full"))).decide(Proposal("t", {}))
    assert decision.retry == 1.0
    assert "disk full" in decision.render()


def test_an_interrupt_passes_through():
    """Ctrl-C is no refusal: it goes to whoever waits for it, and nothing was permitted."""
    with pytest.raises(KeyboardInterrupt):
        Gate(POLICY, Down(KeyboardInterrupt())).decide(Proposal("t", {}))


def test_a_clock_or_id_that_fails_is_a_refusal():
    """A clock or an id source that raises cannot lead to a permit."""

    class Broken:
        def now(self):
            raise OSError("no clock")

    def no_ids():
        raise OSError("no entropy")

    for gate in (Gate(POLICY, "memory:", clock=Broken()), Gate(POLICY, "memory:", ids=no_ids)):
        assert gate.decide(Proposal("t", {})).reasons[0].code == "internal_error"


def test_an_id_that_is_used_twice_is_refused():
    """Two permits under one id could be settled for one another."""
    gate = Gate(POLICY, "memory:", ids=lambda: "same")
    assert isinstance(gate.decide(Proposal("t", {"n": 1})), Permit)
    assert gate.decide(Proposal("t", {"n": 2})).reasons[0].code == "ledger_unavailable"


class Plugin:
    """A plugin that does as it is told."""

    def __init__(self, hook, answer):
        def implementation(proposal):
            return answer()

        setattr(self, hook, hookimpl(implementation))


def raises():
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        ("sluicegate_facts", raises),
        ("sluicegate_facts", lambda: 5),
        ("sluicegate_facts", lambda: {"x": float("nan")}),
        ("sluicegate_facts", lambda: {1: 2}),
        ("sluicegate_object", raises),
        ("sluicegate_object", lambda: True),
        ("sluicegate_object", lambda: 0),
        ("sluicegate_claims", raises),
        ("sluicegate_claims", lambda: 5),
        ("sluicegate_claims", lambda: ["no claim"]),
        ("sluicegate_claims", lambda: (raises() for _ in range(1))),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_plugin_that_fails_is_a_refusal(hook, answer, asynchronous):
    """A plugin that raises or gives something else than it should refuses the call, with its name."""
    gate = Gate(POLICY, "memory:", plugins={"acme": Plugin(hook, answer)})
    proposal = Proposal("t", {})
    decision = asyncio.run(gate.adecide(proposal)) if asynchronous else gate.decide(proposal)
    assert isinstance(decision, Deny)
    assert [reason.code for reason in decision.reasons] == ["plugin_error"]
    assert gate.journal.tail(1)[0].content["reasons"][0]["code"] == "plugin_error"


def test_a_coroutine_is_no_answer():
    """A hook whose answer is a coroutine refuses: it would be true, and would say nothing."""

    async def later():
        return None

    gate = Gate(POLICY, "memory:", plugins={"acme": Plugin("sluicegate_object", later)})
    assert "coroutine" in gate.decide(Proposal("t", {})).reasons[0].message


def test_observing_refuses_nothing_and_says_so():
    """A gate that observes permits all, takes what it can, and logs nothing as allowed."""
    policy = {**POLICY, "limits": [{"budget": "calls", "limit": 1, "per": ["run"]}]}
    clock = FakeClock()
    gate = Gate(policy, "memory:", observe=True, clock=clock, ids=counted_ids())
    args = [{"n": 1}, {"n": 2}, {"n": float("nan")}]
    for arg in args:
        permit = gate.decide(Proposal("t", arg, run="r"))
        assert isinstance(permit, Permit)
        assert dict(permit.args).keys() == {"n"}
        gate.settle(permit, Succeeded())
    assert isinstance(gate.decide(Proposal("other", {})), Permit)
    decisions = [e.content for e in gate.journal if e.content["kind"] == "decision"]
    assert [d["decision"] for d in decisions] == ["observed"] * 4
    assert [d["would"] for d in decisions] == ["permit", "deny", "deny", "deny"]
    assert (gate.usage()[0].used, gate.usage()[0].left) == (1_000_000, 0)
    assert gate.journal.verify() is None


def test_observing_runs_what_would_be_recorded_and_survives_a_ledger():
    """A gate that observes also runs repeated calls, and calls while its ledger is down."""
    policy = {"version": 1, "tools": {"t": {"once": {"key": "k"}}}}
    gate = Gate(policy, "memory:", observe=True)
    for _ in range(2):
        permit = gate.decide(Proposal("t", {}))
        gate.settle(permit, Succeeded())
    assert gate.journal.tail(2)[0].content["would"] == "recorded"
    assert isinstance(
        Gate(policy, Down(LedgerError("x")), observe=True).decide(Proposal("t", {})), Permit
    )


def test_wrong_use_is_a_type_error():
    """What is no proposal, no permit or no outcome is the program's own fault and is said so."""
    gate = Gate(POLICY, "memory:")
    permit = gate.decide(Proposal("t", {}, subject=Subject()))
    for wrong in (
        lambda: gate.decide("t"),
        lambda: gate.settle("p", Succeeded()),
        lambda: gate.settle(permit, True),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_a_closed_gate_refuses(tmp_path):
    """After `close` a gate on a file refuses every call instead of opening it again."""
    gate = Gate(POLICY, f"sqlite:///{tmp_path / 'l.db'}")
    assert isinstance(gate.decide(Proposal("t", {})), Permit)
    gate.close()
    assert gate.decide(Proposal("t", {})).reasons[0].code == "ledger_unavailable"
