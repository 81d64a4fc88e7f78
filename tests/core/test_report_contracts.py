"""What a run owes under `contracts`: which calls ask for others, and which calls answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import Failed, Gate, MemoryLedger, Permit, Proposal, Subject, Succeeded, Unknown
from sluicegate.policy.compile import CompiledPolicy
from sluicegate.report import report_of
from sluicegate.testing import FakeClock, counted_ids

ANN = Subject(tenant="acme", user="ann")
RECEIPT = {"when": "refund", "then": "send_receipt", "match": {"order": "order"}}


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/l.db"


class Desk:
    """A gate, a clock, and calls with what is to become of them."""

    def __init__(self, *contracts, ledger="memory:", tools=None, limits=()):
        self.clock = FakeClock()
        self.policy = {
            "version": 1,
            "tools": tools or {"*": {"effect": "idempotent"}},
            "contracts": list(contracts),
            "limits": list(limits),
        }
        self.gate = Gate(self.policy, ledger, clock=self.clock, ids=counted_ids())

    def propose(self, tool, run="r", parent=None, root=None, **args):
        self.clock.advance(1)
        call = Proposal(tool, args, subject=ANN, run=run, parent=parent, root=root)
        return self.gate.decide(call)

    def do(self, tool, outcome=None, **where_and_args):
        decision = self.propose(tool, **where_and_args)
        assert isinstance(decision, Permit), decision
        self.clock.advance(1)
        self.gate.settle(decision, outcome or Succeeded("ok"))
        return decision

    def report(self, run="r"):
        policy = CompiledPolicy(self.gate.policy)
        return report_of(self.gate.ledger, policy, run, self.clock.now())

    def owed(self, run="r"):
        return [(one.call.tool, one.then, dict(one.match)) for one in self.report(run).owed]


# --- what asks and what answers -----------------------------------------------------------------


def test_a_call_that_succeeded_asks_for_another(ledger):
    """It is owed until a call with the same order succeeds; one for another order is no answer."""
    desk = Desk(RECEIPT, ledger=ledger)
    first = desk.do("refund", order="A-1", eur=40)
    desk.do("send_receipt", order="B-2")
    report = desk.report()
    assert not report.fulfilled
    (owed,) = report.owed
    assert (owed.contract, owed.then, owed.match) == (
        "contracts[0]",
        "send_receipt",
        (("order", '"A-1"'),),
    )
    assert (owed.call.tool, owed.call.args) == ("refund", '{"eur":40,"order":"A-1"}')
    assert owed.call.permit == first.id
    asked = json.loads(desk.gate.ledger.body(owed.call.entry))
    assert asked["permit"] == first.id
    desk.do("send_receipt", order="A-1", text="here you are")
    assert desk.report().fulfilled


def test_five_failed_sends_are_no_success(ledger):
    """The run that called a tool five times in vain owes the call, with the last error and the way out."""
    desk = Desk(RECEIPT, ledger=ledger)
    desk.do("refund", order="A-1")
    for _ in range(5):
        desk.do("send_receipt", Failed(OSError("503")), order="A-1")
    report = desk.report()
    (owed,) = report.owed
    assert "failed 5×, the last time with OSError: 503 (entry 12)" in owed.missing
    assert owed.way_out == 'call send_receipt with order "A-1"'
    assert len(report.failed) == 5
    desk.do("send_receipt", order="A-1")
    report = desk.report()
    assert report.fulfilled
    assert report.failed == ()


def test_an_answer_that_began_too_early_does_not_count():
    """What was decided before the first call had ended cannot have known that it would succeed."""
    desk = Desk(RECEIPT)
    refund = desk.propose("refund", order="A-1")
    early = desk.propose("send_receipt", order="A-1")
    desk.gate.settle(refund, Succeeded("ok"))
    desk.clock.advance(1)
    desk.gate.settle(early, Succeeded("sent"))
    (owed,) = desk.report().owed
    assert "succeeded 1×, but began before this one had ended" in owed.missing
    desk.do("send_receipt", order="A-1")
    assert desk.report().fulfilled


def test_entries_of_the_same_microsecond_keep_their_order():
    """A clock that stands still does not make an answer too early."""
    desk = Desk(RECEIPT)
    desk.clock.advance = lambda seconds: None  # a clock as coarse as they come
    desk.do("refund", order="A-1")
    assert len(desk.owed()) == 1
    desk.do("send_receipt", order="A-1")
    assert desk.report().fulfilled


def test_what_failed_or_was_refused_asks_for_nothing():
    """No effect, no obligation; and without any call nothing is owed at all."""
    desk = Desk(RECEIPT, tools={"refund": {"args": {"required": ["order"]}}, "send_receipt": {}})
    assert desk.report().fulfilled
    desk.do("refund", Failed("no money"), order="A-1")
    desk.propose("refund")
    assert desk.report().fulfilled


def test_a_call_of_which_nobody_knows_asks_as_well():
    """Unknown is not done: the report cannot say that nothing is owed, and says whom to ask."""
    desk = Desk(RECEIPT)
    permit = desk.do("refund", Unknown("timeout"), order="A-1")
    (owed,) = desk.report().owed
    assert owed.call.state == "unknown"
    assert "reconcile" in owed.way_out
    desk.gate.reconcile(permit.id, Failed("it never arrived"), by="ann")
    assert desk.report().clean is False  # it failed, and was not done again
    assert desk.report().fulfilled


def test_an_answer_to_an_unknown_call_still_counts_when_it_is_reconciled():
    """What was found out later happened earlier: the receipt in between came after the refund."""
    desk = Desk(RECEIPT)
    permit = desk.do("refund", Unknown("timeout"), order="A-1")
    desk.do("send_receipt", order="A-1")
    desk.gate.reconcile(permit.id, Succeeded("it arrived"), by="ann")
    assert desk.report().fulfilled


def test_a_lease_that_ended_is_an_unknown_outcome():
    """Never settled: from the end of its lease on an answer counts, before that it does not."""
    desk = Desk(RECEIPT)
    permit = desk.propose("refund", order="A-1")
    (owed,) = desk.report().owed
    assert owed.call.state == "open"
    assert owed.way_out == "wait for its end"
    desk.do("send_receipt", order="A-1")
    desk.clock.advance(301)
    (owed,) = desk.report().owed
    assert owed.call.state == "unknown"
    desk.do("send_receipt", order="A-1")
    assert desk.report().fulfilled
    desk.gate.reconcile(permit.id, Succeeded("it arrived"), by="ann")
    assert desk.report().fulfilled


def test_an_answer_with_an_unknown_outcome_is_owed_and_not_to_be_repeated():
    """A second receipt is as wrong as none: a person has to find out."""
    desk = Desk(RECEIPT)
    desk.do("refund", order="A-1")
    sent = desk.do("send_receipt", Unknown("timeout"), order="A-1")
    (owed,) = desk.report().owed
    assert f"unknown outcome (permit {sent.id})" in owed.missing
    assert "do not repeat it" in owed.way_out
    desk.gate.reconcile(sent.id, Succeeded("sent"), by="ann")
    assert desk.report().fulfilled


def test_a_recorded_answer_counts_and_a_recorded_call_asks_for_nothing():
    """Recorded says that it had succeeded; the effect itself is that of the run that made it."""
    once = {"once": {"key": "{order}"}}
    desk = Desk(RECEIPT, tools={"refund": once, "send_receipt": {"once": {"key": "s:{order}"}}})
    desk.do("refund", run="earlier", order="A-1")
    desk.do("send_receipt", run="earlier", order="A-1")
    desk.propose("refund", order="A-1")
    assert desk.report().fulfilled
    desk.do("refund", order="B-2")
    desk.do("send_receipt", run="other", order="B-2")
    assert len(desk.owed()) == 1  # another run has sent it, and this one does not know
    desk.propose("send_receipt", order="B-2")
    report = desk.report()
    assert report.fulfilled
    assert [tally.recorded for tally in report.calls] == [1, 1]


def test_sub_agents_count_as_the_run_that_called_them(ledger):
    """A receipt by a sub-agent answers, and a refund by a sub-agent of it asks."""
    desk = Desk(RECEIPT, ledger=ledger)
    desk.do("refund", run="a", order="A-1")
    desk.do("send_receipt", run="b", parent="a", root="a", order="A-1")
    desk.do("refund", run="c", parent="b", root="a", order="A-2")
    desk.do("refund", run="x", order="A-3")
    assert desk.owed("a") == [("refund", "send_receipt", {"order": '"A-2"'})]
    assert desk.owed("b") == [("refund", "send_receipt", {"order": '"A-2"'})]
    assert desk.owed("c") == [("refund", "send_receipt", {"order": '"A-2"'})]
    assert desk.owed("x") == [("refund", "send_receipt", {"order": '"A-3"'})]
    assert [owed.call.run for owed in desk.report("a").owed] == ["c"]


def test_what_a_sub_agent_did_first_counts(ledger):
    """A run that delegates before it calls anything itself began when its sub-agent did."""
    desk = Desk(RECEIPT, ledger=ledger)
    desk.do("refund", run="b", parent="a", root="a", order="A-1")
    desk.do("look", run="a")
    assert desk.owed("a") == [("refund", "send_receipt", {"order": '"A-1"'})]


def test_runs_without_a_name_are_in_no_run():
    """A call with an outermost run and none of its own is inside that one, and nothing else is for it."""
    desk = Desk(RECEIPT)
    desk.do("refund", run=None, root="a", order="A-1")
    desk.do("refund", run=None, order="A-2")
    desk.do("refund", run="x", order="A-3")
    assert desk.owed("a") == [("refund", "send_receipt", {"order": '"A-1"'})]


# --- patterns ---------------------------------------------------------------------------------------


def test_both_sides_can_be_patterns():
    """Any writing call asks, and any call of a checking tool answers all of those before it."""
    desk = Desk({"when": "write_*", "then": "check_*"})
    desk.do("write_a")
    desk.do("write_b")
    assert [tool for tool, _, _ in desk.owed()] == ["write_a", "write_b"]
    desk.do("check_types")
    assert desk.report().fulfilled
    desk.do("write_c")
    assert [tool for tool, _, _ in desk.owed()] == ["write_c"]


@pytest.mark.parametrize(
    ("when", "then", "calls", "owing"),
    [
        ("*", "log", ["a", "log"], []),
        ("*", "log", ["log", "a"], ["a"]),
        ("db_*", "db_commit*", ["db_put", "db_commit_all"], []),
        ("put", "*", ["put", "put"], ["put"]),
        ("put", "*", ["put", "put", "get"], []),
        ("p*t", "p*t", ["put"], ["put"]),
        ("put", "put", ["put"], ["put"]),
    ],
)
def test_a_narrower_answer_asks_for_no_answer(when, then, calls, owing):
    """`*` then `log` can be fulfilled, since `log` does not ask for another one; a wider one does."""
    desk = Desk({"when": when, "then": then})
    for tool in calls:
        desk.do(tool)
    assert [tool for tool, _, _ in desk.owed()] == owing


def test_each_contract_is_looked_at():
    """Two contracts on the same call are two obligations, each under its own name."""
    desk = Desk(RECEIPT, {"when": "refund", "then": "book"})
    desk.do("refund", order="A-1")
    assert [one.contract for one in desk.report().owed] == ["contracts[0]", "contracts[1]"]


# --- match ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [{"plan": {"id": 7}}, '{"plan": {"id": 7.0}}', [{"plan": {"id": 7}}]],
    ids=["object", "text", "list"],
)
def test_an_answer_can_match_on_the_result(result):
    """Results are read as `requires` reads them: also as JSON text, and numbers by their value."""
    desk = Desk({"when": "plan", "then": "apply", "match": {"plan.id": "result.plan.id"}})
    desk.do("plan", Succeeded(result))
    desk.do("apply", plan={"id": 8})
    assert desk.owed() == [("plan", "apply", {"plan.id": "7"})]
    desk.do("apply", plan={"id": 7})
    assert desk.report().fulfilled


def test_each_element_of_a_list_is_owed():
    """One call about three orders asks for three answers, which may come together or one by one."""
    desk = Desk({"when": "refund_all", "then": "send_receipt*", "match": {"order": "orders"}})
    desk.do("refund_all", orders=["A", "B", "C", "C"])
    desk.do("send_receipts", order=["B", "A"])
    assert [match for _, _, match in desk.owed()] == [{"order": '"C"'}]
    desk.do("send_receipt", order="C")
    assert desk.report().fulfilled


def test_an_empty_list_owes_nothing():
    """There is nothing that could be answered."""
    desk = Desk({"when": "find", "then": "pay", "match": {"id": "result.id"}})
    desk.do("find", Succeeded([]))
    assert desk.report().fulfilled


def test_values_of_one_element_stay_together():
    """Order and amount of the same line must be matched together, not crosswise."""
    match = {"order": "result.lines.order", "eur": "result.lines.eur"}
    desk = Desk({"when": "find", "then": "pay", "match": match})
    lines = [{"order": "A", "eur": 1}, {"order": "B", "eur": 2}]
    desk.do("find", Succeeded({"lines": lines}))
    desk.do("pay", order="A", eur=2)
    assert [match for _, _, match in desk.owed()] == [
        {"order": '"A"', "eur": "1"},
        {"order": '"B"', "eur": "2"},
    ]
    desk.do("pay", order="A", eur=1)
    desk.do("pay", order="B", eur=2)
    assert desk.report().fulfilled


def test_kinds_of_values_are_not_mixed():
    """1 and "1" and true are three values: what looks alike is no answer."""
    desk = Desk({"when": "a", "then": "b", "match": {"n": "n"}})
    desk.do("a", n=1)
    for other in ("1", True, [[2]], None):
        desk.do("b", n=other)
    assert len(desk.owed()) == 1
    desk.do("b", n=1.0)
    assert desk.report().fulfilled


@pytest.mark.parametrize(
    "result",
    [None, "plain text", {"other": 1}, {"id": None}, object(), f'{{"id": {10**40}}}'],
    ids=["none", "text", "another name", "null", "no JSON", "no canonical form"],
)
def test_a_value_that_is_not_there_cannot_be_answered(result):
    """What would have to be matched is not known: owed, with the name of what is missing."""
    desk = Desk({"when": "plan", "then": "apply", "match": {"id": "result.id"}})
    desk.do("plan", Succeeded(result))
    desk.do("apply", id=7)
    desk.do("apply")
    (owed,) = desk.report().owed
    assert "no result.id of it" in owed.missing


def test_what_the_journal_does_not_keep_cannot_be_matched():
    """`record: digest` has no arguments to compare; without a match the contract still holds."""
    digest = {"record": "digest"}
    tools = {"refund": digest, "send_receipt": digest}
    desk = Desk(RECEIPT, {"when": "refund", "then": "send_receipt"}, tools=tools)
    desk.do("refund", order="A-1")
    desk.do("send_receipt", order="A-1")
    (owed,) = desk.report().owed
    assert owed.contract == "contracts[0]"
    assert "no order of it" in owed.missing
    assert owed.call.args.startswith("sha256:")


def test_more_values_than_are_looked_at_are_owed():
    """A list of 1001 is not fulfilled by answers to the first 1000."""
    desk = Desk({"when": "a", "then": "b", "match": {"n": "n"}})
    desk.do("a", n=list(range(1001)))
    desk.do("b", n=list(range(1000)))
    desk.do("b", n=[1000])
    (owed,) = desk.report().owed
    assert "more than 1000 calls of b" in owed.missing


def test_two_long_lists_do_not_explode():
    """A million combinations are not listed: a thousand of them and one that says so."""
    desk = Desk({"when": "a", "then": "b", "match": {"x": "x", "y": "y"}})
    desk.do("a", x=list(range(5000)), y=list(range(5000)))
    assert len(desk.owed()) == 1001


def test_what_came_to_nothing_before_is_not_told():
    """A failure in front of the call that asks says nothing about what is owed; a doubt does."""
    desk = Desk(RECEIPT)
    desk.do("send_receipt", Failed("503"), order="A-1")
    desk.do("refund", order="A-1")
    assert "which was not called after it" in desk.report().owed[0].missing
    sent = desk.propose("send_receipt", order="A-2")
    desk.do("refund", order="A-2")
    desk.gate.settle(sent, Unknown("timeout"))
    assert f"do not repeat it: have a person reconcile permit {sent.id}" == (
        desk.report().owed[1].way_out
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["refund", "send_receipt"]),
            st.sampled_from([["A"], ["B"], ["A", "B"], []]),
            st.sampled_from([Succeeded("ok"), Failed("no"), Unknown("?"), None]),
        ),
        max_size=12,
    )
)
def test_what_is_owed_is_what_its_definition_says(history):
    """For calls one after another: every order of a call that may have succeeded needs a later success."""
    desk = Desk(RECEIPT)
    for tool, orders, outcome in history:
        permit = desk.propose(tool, order=orders)
        if outcome is not None:
            desk.gate.settle(permit, outcome)
    expected = [
        {"order": f'"{order}"'}
        for place, (tool, orders, outcome) in enumerate(history)
        if tool == "refund" and not isinstance(outcome, Failed)
        for order in orders
        if outcome is None
        or not any(
            later == "send_receipt" and order in others and isinstance(end, Succeeded)
            for later, others, end in history[place + 1 :]
        )
    ]
    assert [match for _, _, match in desk.owed()] == expected


# --- the words --------------------------------------------------------------------------------------


def test_the_text_tells_what_was_refused_and_what_waits():
    """A call that a person has to allow is owed with its request, a refused one with its codes."""
    tools = {"refund": {}, "send_receipt": {"approve": True, "args": {"required": ["to"]}}}
    desk = Desk(RECEIPT, tools=tools)
    desk.do("refund", order="A-1")
    assert "was never called" in desk.report().owed[0].missing
    desk.propose("send_receipt", order="A-1")
    assert "was refused 1× (args_invalid)" in desk.report().owed[0].missing
    asked = desk.propose("send_receipt", order="A-1", to="ann")
    (owed,) = desk.report().owed
    assert f"needs a person's yes (request {asked.request_id})" in owed.missing
    assert owed.way_out == "have a person answer, then make the same call again"
    desk.gate.approve(asked.request_id, by="bo")
    running = desk.propose("send_receipt", order="A-1", to="ann")
    (owed,) = desk.report().owed
    assert (f"is under way (permit {running.id})" in owed.missing, owed.way_out) == (
        True,
        "wait for its end",
    )


def test_observing_gates_tell_what_they_watched():
    """A call that would have been refused ran all the same, and counts as what became of it."""
    clock = FakeClock()
    policy = {
        "version": 1,
        "tools": {"refund": {}, "send_receipt": {"args": {"required": ["to"]}}},
        "contracts": [RECEIPT],
    }
    gate = Gate(policy, MemoryLedger(), clock=clock, observe=True)
    for tool in ("refund", "send_receipt"):
        permit = gate.decide(Proposal(tool, {"order": "A-1"}, run="r"))
        gate.settle(permit, Succeeded("ok"))
    report = report_of(gate.ledger, CompiledPolicy(gate.policy), "r", clock.now())
    assert [(tally.tool, tally.succeeded, tally.refused) for tally in report.calls] == [
        ("refund", 1, 0),
        ("send_receipt", 1, 0),
    ]
    assert report.fulfilled
