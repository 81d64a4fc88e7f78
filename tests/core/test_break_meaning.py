"""What requests to a ledger mean at the edges: which cells they touch, and what they refuse."""

from __future__ import annotations

import json

import pytest

from sluicegate import (
    Defer,
    Failed,
    Gate,
    LedgerError,
    MemoryLedger,
    Permit,
    PermitError,
    Proposal,
    Subject,
    Succeeded,
    Unknown,
)
from sluicegate.claims import Quota
from sluicegate.decision import Reason
from sluicegate.ledger.base import Claiming
from sluicegate.ledger.meaning import keys, perform
from sluicegate.past import NotKept, Past
from sluicegate.testing import FakeClock


class Locked:
    """The books of a ledger that has locked only the cells that it was told of."""

    def __init__(self, books, known):
        self._books = books
        self._known = known

    def __getattr__(self, name):
        return getattr(self._books, name)

    def cell(self, key):
        assert key in self._known
        return self._books.cell(key)

    def put(self, key, cell):
        assert key in self._known
        self._books.put(key, cell)


class Locking(MemoryLedger):
    """A ledger that locks cells by key before it does anything."""

    def perform(self, request):
        found = keys(request)
        assert found == sorted(set(found))
        return perform(request, Locked(self._books, set(found)))


POLICY = {
    "version": 1,
    "tools": {
        "look": {"effect": "read", "labels": ["untrusted"]},
        "pay": {
            "requires": [{"tool": "look", "match": {"to": "result.to"}}],
            "origin": {"to": {"from": ["prompt", "look"], "otherwise": "approve"}},
            "once": {"key": "pay:{to}"},
            "cost": {"eur": "args.eur"},
            "rate": "9/s",
            "breaker": {"failures": 2},
            "approve": True,
        },
        "send": {"labels": ["out"], "concurrency": 2, "approve": True},
    },
    "limits": [
        {"budget": "eur", "limit": 50, "per": ["tenant"], "window": "day"},
        {"repeat": 3, "per": ["run"], "oscillation": True},
    ],
    "flows": [{"name": "f", "after": ["untrusted"], "deny": ["out"]}],
}


def test_a_ledger_can_lock_the_cells_of_each_request():
    """No request looks at or changes a cell that `keys` does not name, whatever becomes of it."""
    clock = FakeClock()
    gate = Gate(POLICY, Locking(), clock=clock)

    def ask(tool, run="r1", outcome=None, **args):
        call = Proposal(
            tool, args, subject=Subject(tenant="a"), run=run, parent="r0", depth=1, prompt="pay bob",
        )  # fmt: skip
        decision = gate.decide(call)
        if isinstance(decision, Defer):
            gate.approve(decision.request_id, by="ada")
            decision = gate.decide(call)
        if isinstance(decision, Permit) and outcome is not None:
            gate.settle(decision, outcome)
        return decision

    ask("send", n=1, outcome=Succeeded())
    ask("look", outcome=Succeeded({"to": ["bob", "eve"]}))
    paid = ask("pay", to="bob", eur=5, outcome=Unknown("lost"))
    gate.reconcile(paid.id, Succeeded("ok", cost={"eur": 4}), by="ada")
    ask("pay", to="bob", eur=5)
    ask("pay", to="eve", eur=5, outcome=Failed("no"))
    ask("pay", to="dan", eur=500)
    ask("send", n=2)
    for _ in range(7):
        ask("nope")
        clock.advance(1)
    gate.resume(run="r1", by="ada")
    gate.halt(tenant="a", by="ada")
    ask("look", run="r2")
    kinds = [entry.content["kind"] for entry in gate.journal]
    assert {"decision", "outcome", "prompt", "approval", "halt", "resume"} <= set(kinds)


def test_an_answer_that_no_claim_gives_is_an_error():
    """A claim that gives something else is a fault of the program, and nothing is granted."""

    class Odd(Quota):
        def take(self, cell, hold):
            return "yes"

    ledger = MemoryLedger()
    claim = Odd("k", "r", "x", 1, 1, None, "")
    with pytest.raises(LedgerError, match="a Odd among the claims gave 'yes'"):
        ledger.perform(Claiming("p", 1, 1, "b", (claim,), None, reasons=()))
    assert not list(ledger.out())


def test_what_is_still_held_is_no_unknown_outcome():
    """Nobody can reconcile a call whose lease has not ended: it may settle itself yet."""
    clock = FakeClock()
    gate = Gate({"version": 1, "tools": {"t": {"lease": "1m"}}}, "memory:", clock=clock)
    permit = gate.decide(Proposal("t", {}))
    with pytest.raises(PermitError, match="is still held, for 60 s at most"):
        gate.reconcile(permit.id, Failed("no"), by="ada")
    clock.advance(60)
    with pytest.raises(PermitError, match="so its outcome is on record as unknown"):
        gate.settle(permit, Succeeded())
    gate.reconcile(permit.id, Failed("no"), by="ada")


class Forgetful(MemoryLedger):
    """A ledger that was emptied of what is kept under marks."""

    def cell(self, key):
        return None if key.startswith("policy|") else super().cell(key)


def test_a_call_whose_policy_is_lost_cannot_be_reconciled():
    """Without the policy that permitted it, nobody knows what the call holds: it stays unknown."""
    gate = Gate({"version": 1, "tools": {"t": {}}}, Forgetful(), clock=FakeClock())
    permit = gate.decide(Proposal("t", {}))
    gate.settle(permit, Unknown("lost"))
    with pytest.raises(NotKept, match=r"the ledger has no policy\|sha256:"):
        gate.reconcile(permit.id, Failed("no"), by="ada")
    assert [unknown.permit_id for unknown in gate.unknowns()] == [permit.id]


class Confused(MemoryLedger):
    """A ledger that answers what nobody asked."""

    def perform(self, request):
        return None


def test_a_ledger_that_answers_something_else_has_not_halted():
    """A halt that the ledger did not carry out is an error, and not taken for done."""
    gate = Gate({"version": 1, "tools": {"t": {}}}, Confused(), clock=FakeClock())
    with pytest.raises(LedgerError, match="gave a NoneType for what a person did"):
        gate.halt(by="ada")


def entries_of(gate):
    return [json.loads(entry.body) for entry in gate.journal]


def test_a_journal_without_a_schema_says_so():
    """A decision that looked at the tool's own schema cannot be derived without it."""
    gate = Gate({"version": 1, "tools": {"t": {}}}, "memory:", clock=FakeClock())
    gate.decide(Proposal("t", {}, schema={"type": "object", "properties": {}}))
    policy, schema, decision = entries_of(gate)
    past = Past()
    past.learn(policy)
    past.learn(decision)
    with pytest.raises(NotKept, match="the journal has no schema sha256:"):
        past.proposal(decision)
    past.learn(schema)
    assert past.permit(decision).tool == "t"


def test_a_permit_that_its_policy_does_not_give_is_not_made_again():
    """An entry that says permit where the policy refuses is no permit to settle."""
    gate = Gate({"version": 1, "tools": {"t": {"effect": "read"}}}, "memory:", clock=FakeClock())
    gate.decide(Proposal("t", {}))
    policy, decision = entries_of(gate)
    past = Past()
    past.learn(policy)
    decision["proposal"]["tool"] = "other"
    with pytest.raises(NotKept, match="its policy does not permit the call"):
        past.permit(decision)


def test_a_reason_given_by_hand_refuses():
    """A request that is refused already takes no claim, and says what its claims would have said."""
    gate = Gate({"version": 1, "tools": {"t": {}}}, "memory:", clock=FakeClock())
    ledger = gate.ledger

    class Silent:
        def refused(self, reasons, final):
            return f'"final":{json.dumps(final)},"kind":"x"}}'

    claim = Quota("k", "r", "x", 2, 1, None, "")
    reason = Reason("objection", "p", "no")
    answer = ledger.perform(Claiming("p", 1, 1, "b", (claim,), Silent(), reasons=(reason,)))
    assert [given.code for given in answer.reasons] == ["objection", "budget"]
    assert ledger.cell("k") is None


def test_an_unknown_outcome_is_for_a_person_to_settle():
    """Once a call was settled as unknown, the program that ran it has no second word."""
    gate = Gate({"version": 1, "tools": {"t": {}}}, "memory:", clock=FakeClock())
    permit = gate.decide(Proposal("t", {}))
    gate.settle(permit, Unknown("lost"))
    with pytest.raises(PermitError, match="as unknown; a person has to reconcile it"):
        gate.settle(permit, Succeeded())
    assert [unknown.permit_id for unknown in gate.unknowns()] == [permit.id]


def test_what_is_refused_is_answered_by_no_recorded_result():
    """A halted run is not shown the result of an earlier call either."""
    once = {"version": 1, "tools": {"t": {"once": {"key": "k"}}}}
    gate = Gate(once, "memory:", clock=FakeClock())
    gate.settle(gate.decide(Proposal("t", {}, run="r1")), Succeeded("secret"))
    gate.halt(run="r2", by="ada")
    refused = gate.decide(Proposal("t", {}, run="r2"))
    assert [reason.code for reason in refused.reasons] == ["halted"]


def test_values_of_one_result_share_a_cell():
    """All values of a result are remembered, also those that fall into one bucket."""
    tools = {"look": {"effect": "read"}, "read": {"effect": "read"}}
    tools["pay"] = {"origin": {"to": ["look", "*oo*"]}}
    gate = Gate({"version": 1, "tools": tools}, "memory:", clock=FakeClock())
    gate.settle(gate.decide(Proposal("look", {}, run="r1")), Succeeded(list(range(1000, 1600))))
    for value in (1000, 1300, 1599):
        assert isinstance(gate.decide(Proposal("pay", {"to": value}, run="r1")), Permit)


def test_a_part_that_is_missing_is_a_reason_in_any_decision():
    """What a limit is counted by must be there, whether or not the policy would allow the call."""
    limits = [{"repeat": 3, "per": ["tenant"]}]
    gate = Gate({"version": 1, "tools": {"t": {}}, "limits": limits}, "memory:", clock=FakeClock())
    for tool, expected in (("t", ["missing_subject"]), ("u", ["unknown_tool", "missing_subject"])):
        refused = gate.decide(Proposal(tool, {}))
        assert [reason.code for reason in refused.reasons] == expected
    assert not list(gate.ledger.cells("repeat"))


def test_a_cost_that_shows_only_afterwards_is_counted():
    """Calls that hold nothing of a budget and use some of it cannot pass it one after the other."""
    tools = {"t": {"effect": "read", "cost": {"eur": "args.eur"}}}
    limits = [{"budget": "eur", "limit": 5}]
    gate = Gate({"version": 1, "tools": tools, "limits": limits}, "memory:", clock=FakeClock())
    free = [gate.decide(Proposal("t", {"eur": 0, "n": n})) for n in range(3)]
    gate.settle(free[0], Succeeded())
    gate.settle(free[1], Succeeded(cost={"eur": 3}))
    gate.settle(free[2], Succeeded(cost={"eur": 2}))
    refused = gate.decide(Proposal("t", {"eur": 1}))
    assert [reason.code for reason in refused.reasons] == ["budget"]
    assert gate.usage()[0].used == 5_000_000


def test_a_task_without_a_run_is_narrowed_all_the_same():
    """A call that names no run fits each list of its own, or is refused with what they allow."""
    gate = Gate({"version": 1, "tools": {"t": {}, "u": {}}}, "memory:", clock=FakeClock())
    assert isinstance(gate.decide(Proposal("t", {}, tools=[["t", "u"], ["t*"]])), Permit)
    (reason,) = gate.decide(Proposal("u", {}, tools=[["t", "u"], ["t*"]])).reasons
    assert (reason.code, "narrowed to t*, and u" in reason.message) == ("not_granted", True)
    (reason,) = gate.decide(Proposal("u", {}, tools=[[]])).reasons
    assert "narrowed to no tools at all" in reason.message


def test_who_must_be_asked_depends_on_the_call():
    """A condition that is true asks, one that is false does not, and one in doubt refuses."""
    tools = {"t": {"approve": "args.big"}}
    gate = Gate({"version": 1, "tools": tools}, "memory:", clock=FakeClock())
    assert isinstance(gate.decide(Proposal("t", {"big": True})), Defer)
    assert isinstance(gate.decide(Proposal("t", {"big": False})), Permit)
    (reason,) = gate.decide(Proposal("t", {})).reasons
    assert (reason.code, reason.rule) == ("condition_error", "tools.t.approve")


def test_a_flaw_that_an_adapter_found_is_derived_again():
    """The adapter's own reason is in the entry, and comes out of it with its words and its place."""
    gate = Gate({"version": 1, "tools": {"t": {}}}, "memory:", clock=FakeClock())
    flaw = Reason("missing_subject", "desk", "nobody can tell who is calling")
    gate.decide(Proposal("t", {}, flaw=flaw, source="desk"))
    policy, decision = entries_of(gate)
    past = Past()
    past.learn(policy)
    assert past.proposal(decision).flaw == flaw
    assert past.proposal({**decision, "reasons": []}).flaw == flaw
    assert past.verdict(decision, past.policy(decision)).reasons == (flaw,)
