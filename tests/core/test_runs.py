"""What a gate remembers of a run: steps, labels, values, repetitions, its task, its sub-agents."""

from __future__ import annotations

import threading

import pytest

from sluicegate import (
    Deny,
    Gate,
    LedgerError,
    MemoryLedger,
    Permit,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
    context,
    current,
)
from sluicegate.ledger.base import Noting, Settling
from sluicegate.replay import replay
from sluicegate.testing import FakeClock, counted_ids


def made(tools=None, ledger="memory:", **sections):
    """A gate over these tools."""
    policy = {"version": 1, "tools": tools or {"t": {}}, **sections}
    return Gate(policy, ledger, clock=FakeClock(), ids=counted_ids())


def ask(gate, tool="t", args=None, run="r1", **more):
    return gate.decide(Proposal(tool, args or {}, run=run, **more))


def do(gate, tool="t", args=None, result=None, **more):
    """Decide and succeed; anything but a permit is an error of the test."""
    permit = ask(gate, tool, args, **more)
    assert isinstance(permit, Permit), permit
    gate.settle(permit, Succeeded(result))
    return permit


def codes(decision):
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


# --- order ------------------------------------------------------------------------------------

REFUND = {
    "get_order": {"effect": "read"},
    "refund": {"requires": [{"tool": "get_order", "match": {"order_id": "id"}}]},
}


def test_a_step_must_have_succeeded_on_the_same_thing():
    """Another order, another run, or a call that failed is no step."""
    gate = made(REFUND)
    do(gate, "get_order", {"id": "A1"})
    do(gate, "get_order", {"id": "A2"}, run="r2")
    failed = ask(gate, "get_order", {"id": "A3"})
    gate.settle(failed, Unknown("lost"))
    assert isinstance(ask(gate, "refund", {"order_id": "A1"}), Permit)
    assert codes(ask(gate, "refund", {"order_id": "A2"})) == ["order"]
    assert codes(ask(gate, "refund", {"order_id": "A3"})) == ["order"]


def test_a_step_can_be_matched_by_its_result():
    """`apply` needs a plan of the same hash, also where the framework hands the result on as text."""
    gate = made(
        {
            "plan": {"effect": "read"},
            "apply": {"requires": [{"tool": "plan", "match": {"hash": "result.hash"}}]},
        }
    )
    do(gate, "plan", {}, {"hash": "abc"})
    do(gate, "plan", {"again": True}, '{"hash": "def"}')
    assert isinstance(ask(gate, "apply", {"hash": "abc"}), Permit)
    assert isinstance(ask(gate, "apply", {"hash": "def"}), Permit)
    assert codes(ask(gate, "apply", {"hash": "xyz"})) == ["order"]


def test_each_element_of_a_result_is_a_step():
    """A list that was read covers every thing in it."""
    gate = made(
        {
            "list": {"effect": "read"},
            "drop": {"requires": [{"tool": "li*", "match": {"id": "result.items.id"}}]},
        }
    )
    do(gate, "list", {}, {"items": [{"id": 1}, {"id": 2}]})
    assert isinstance(ask(gate, "drop", {"id": 2}), Permit)
    assert codes(ask(gate, "drop", {"id": 3})) == ["order"]
    assert codes(ask(gate, "drop", {"id": "2"})) == ["order"]


def test_a_step_of_one_run_counts_for_those_inside_it():
    """Sub-agents share the memory of the outermost run."""
    gate = made(REFUND)
    do(gate, "get_order", {"id": "A1"})
    assert isinstance(
        ask(gate, "refund", {"order_id": "A1"}, run="child", parent="r1", root="r1", depth=1),
        Permit,
    )


def test_without_a_run_there_is_no_memory_to_look_into():
    """A rule about the run refuses a call that has none."""
    assert codes(ask(made(REFUND), "refund", {"order_id": "A1"}, run=None)) == ["missing_subject"]


def test_a_recorded_result_is_a_step_of_the_run_it_is_shown_to():
    """Another run gets the recorded plan, and may go on from it."""
    gate = made(
        {
            "plan": {"once": {"key": "p"}},
            "apply": {"requires": [{"tool": "plan", "match": {"h": "result.h"}}]},
        }
    )
    do(gate, "plan", {}, {"h": 1})
    assert isinstance(ask(gate, "plan", {}, run="r2"), Recorded)
    assert isinstance(ask(gate, "apply", {"h": 1}, run="r2"), Permit)


# --- labels -----------------------------------------------------------------------------------

FLOW = {"flows": [{"name": "f", "after": ["untrusted", "sensitive"], "deny": ["external"]}]}
LABELLED = {
    "web": {"effect": "read", "labels": ["untrusted"], "once": {"key": "web"}},
    "crm": {"effect": "read", "labels": ["sensitive"]},
    "send": {"labels": ["external"]},
}


def test_a_flow_closes_when_the_run_has_seen_all_its_labels():
    """One of two is not enough; from the second on nothing goes out, in sub-agents either."""
    gate = made(LABELLED, **FLOW)
    do(gate, "web")
    do(gate, "send")
    crm = ask(gate, "crm", turn="t1")
    do(gate, "send", turn="t1")
    gate.settle(crm, Succeeded("secret"))
    refused = ask(gate, "send", turn="t1")
    assert codes(refused) == ["flow"]
    assert (
        "untrusted (from web, permit permit-1) and sensitive (from crm, permit permit-"
        in refused.reasons[0].message
    )
    assert codes(ask(gate, "send", run="child", parent="r1", root="r1", depth=1)) == ["flow"]
    assert isinstance(ask(gate, "send", run="r2"), Permit)


def test_a_recorded_result_carries_its_labels():
    """What was untrusted once is so for every run that is shown it."""
    gate = made(LABELLED, **FLOW)
    do(gate, "web")
    assert isinstance(ask(gate, "web", run="r2"), Recorded)
    do(gate, "crm", run="r2")
    assert codes(ask(gate, "send", run="r2")) == ["flow"]


class Failing(MemoryLedger):
    """A real ledger that is down while *fails* is a kind of request."""

    fails: type | None = None

    def perform(self, request):
        if type(request) is self.fails:
            raise LedgerError("the disk is full")
        return super().perform(request)


def test_what_could_not_be_recorded_has_been_seen_all_the_same():
    """A result may be handed on although its end is not on record: from the next call on nothing goes out."""
    ledger = Failing()
    gate, other = made(LABELLED, ledger, **FLOW), made(LABELLED, ledger, **FLOW)
    do(gate, "crm")
    web = ask(gate, "web", turn="t1")
    ledger.fails = Settling
    with pytest.raises(LedgerError):
        gate.settle(web, Succeeded("a stranger's words"))
    ledger.fails = None
    for where in (gate, other):
        refused = ask(where, "send", turn="t2")
        assert codes(refused) == ["flow"]
        assert "permit permit-2, whose end is not on record" in refused.reasons[0].message
    assert codes(ask(gate, "send")) == ["flow"]
    inside = {"run": "child", "parent": "r1", "root": "r1", "depth": 1}
    assert codes(ask(gate, "send", turn="t3", **inside)) == ["flow"]
    assert isinstance(ask(gate, "send", turn="t2", run="r2"), Permit)
    assert replay(gate.journal).difference is None


def test_calls_of_one_turn_do_not_wait_for_each_other():
    """The model composed them at once; the next turn may know the results of both."""
    gate = made(LABELLED, **FLOW)
    out = [ask(gate, tool, turn="t1") for tool in ("web", "crm", "send")]
    assert all(isinstance(permit, Permit) for permit in out)
    for permit in out:
        gate.settle(permit, Succeeded("x"))
    assert codes(ask(gate, "send", turn="t2")) == ["flow"]
    assert replay(gate.journal).difference is None


def test_a_recorded_result_is_shown_only_with_its_labels():
    """If it cannot be put on record that the run is shown it, it is not shown it."""
    ledger = Failing()
    gate = made(LABELLED, ledger, **FLOW)
    do(gate, "web")
    do(gate, "crm", run="r2")
    ledger.fails = Noting
    assert codes(ask(gate, "web", run="r2")) == ["ledger_unavailable"]
    ledger.fails = None
    do(gate, "send", run="r2")
    assert isinstance(ask(gate, "web", run="r2"), Recorded)
    assert codes(ask(gate, "send", run="r2")) == ["flow"]
    assert replay(gate.journal).difference is None


class Hostile(dict):
    """A result that cannot be read, and says things while somebody tries."""

    def items(self, *_):
        raise ValueError("4111 1111 1111 1111")

    __iter__ = keys = values = __getitem__ = __contains__ = __len__ = items


@pytest.mark.parametrize("needing", ["requires", "origin"])
def test_a_result_that_cannot_be_read_is_not_remembered_and_logged(needing, caplog):
    """What needs it is refused; the log names the tool and the error, and nothing of the result."""
    wants = {
        "requires": [{"tool": "look", "match": {"to": "result.to"}}],
        "origin": {"to": ["look"]},
    }
    gate = made({"look": {"effect": "read"}, "pay": {needing: wants[needing]}})
    do(gate, "look", result=Hostile(to="bob"))
    (told,) = (r for r in caplog.records if r.name == "sluicegate" and r.levelname == "WARNING")
    assert told.getMessage() == (
        "a result of 'look' cannot be read (ValueError); its run remembers nothing more of it, "
        "and what needs that is refused"
    )
    assert told.exc_info is None
    assert codes(ask(gate, "pay", {"to": "bob"})) == ["order" if needing == "requires" else needing]


# --- origin -----------------------------------------------------------------------------------

PAY = {
    "get_order": {"effect": "read"},
    "pay": {
        "origin": {
            "iban": ["prompt", "get_order"],
            "to": {"from": ["prompt"], "otherwise": "approve"},
        }
    },
}
IBAN, OTHER = "DE89370400440532013000", "GB82WEST12345698765432"


def test_a_value_may_come_from_the_users_words_or_an_earlier_result():
    """In whatever way it is written there; anything else is refused."""
    gate = made(PAY)
    do(gate, "get_order", {}, {"bank": "GB82 WEST 1234 5698 7654 32"})
    said = "please pay DE89 3704 0044 0532 0130 00"
    assert isinstance(ask(gate, "pay", {"iban": IBAN}, prompt=said), Permit)
    assert isinstance(ask(gate, "pay", {"iban": OTHER}, prompt=said), Permit)
    invented = ask(gate, "pay", {"iban": "FR1420041010050500013M02606"}, prompt=said)
    assert codes(invented) == ["origin"]
    assert (
        "iban 'FR1420041010050500013M02606' did not come from the user's words or"
        in invented.reasons[0].message
    )


def test_what_the_user_said_stays_said():
    """A later call of the run needs not bring the prompt again."""
    gate = made(PAY)
    assert isinstance(ask(gate, "pay", {"iban": IBAN}, prompt=f"to {IBAN}"), Permit)
    assert isinstance(ask(gate, "pay", {"iban": IBAN, "n": 1}), Permit)
    assert codes(ask(gate, "pay", {"iban": IBAN}, run="r2")) == ["origin"]


def test_a_result_of_the_same_turn_was_not_known():
    """Calls of one message cannot have their values from one another."""
    gate = made(PAY)
    do(gate, "get_order", {}, {"bank": IBAN}, turn="m1")
    assert codes(ask(gate, "pay", {"iban": IBAN}, turn="m1")) == ["origin"]
    assert isinstance(ask(gate, "pay", {"iban": IBAN}, turn="m2"), Permit)


def test_a_value_from_elsewhere_can_be_asked_about():
    """`otherwise: approve` turns the refusal into a request, and a yes lets it through."""
    gate = made(PAY)
    asked = ask(gate, "pay", {"to": "bob@example.com"}, prompt="hello")
    assert [reason.code for reason in asked.reasons] == ["origin"]
    gate.approve(asked.request_id, by="ada")
    assert isinstance(ask(gate, "pay", {"to": "bob@example.com"}), Permit)


# --- repetitions --------------------------------------------------------------------------------


def test_refused_and_unknown_calls_are_counted_too():
    """A model that insists is stopped, whatever it insists on."""
    gate = made({"t": {"args": {"maxProperties": 0}}}, limits=[{"repeat": 2, "per": ["run"]}])
    assert codes(ask(gate, "nope", {"a": 1})) == ["unknown_tool"]
    answers = [ask(gate, "t", {"a": 1}) for _ in range(4)]
    assert [codes(answer) for answer in answers] == [
        ["args_invalid"],
        ["args_invalid"],
        ["repeat", "args_invalid"],
        ["repeat", "args_invalid"],
    ]
    assert [answer.final for answer in answers] == [False, False, False, True]
    assert codes(ask(gate, "t", {})) == ["halted"]
    gate.resume(run="r1", by="ada")
    assert isinstance(ask(gate, "t", {}), Permit)


def test_a_polling_tool_can_be_exempt():
    """`repeat: false` is for tools that are meant to be asked again, and a number is their own."""
    gate = made(
        {"poll": {"repeat": False}, "twice": {"repeat": 2}}, limits=[{"repeat": 1, "per": ["run"]}]
    )
    for _ in range(9):
        do(gate, "poll")
    do(gate, "twice")
    do(gate, "twice")
    assert codes(ask(gate, "twice")) == ["repeat"]


# --- tasks and sub-agents ---------------------------------------------------------------------------


def within(tool):
    """A proposal as an adapter makes it from what surrounds it."""
    here = current()
    return Proposal(
        tool,
        {},
        run=here.run,
        parent=here.parent,
        root=here.root,
        depth=here.depth,
        tools=here.tools,
        within=here.within,
    )


def test_a_task_is_narrowed_for_good():
    """Neither an inner block, nor the same run without its block, nor a thread can widen it."""
    gate = made({"get_order": {}, "send": {}, "refund": {}})
    with context(run="task", tools=["get_*", "send"]):
        assert isinstance(gate.decide(within("send")), Permit)
        with context(tools=["*"]):
            assert codes(gate.decide(within("refund"))) == ["not_granted"]
        with context(run="child", tools=["get_*", "refund"]):
            assert isinstance(gate.decide(within("get_order")), Permit)
            assert codes(gate.decide(within("refund"))) == ["not_granted"]
            assert set(codes(gate.decide(within("send")))) == {"not_granted"}
    found = []
    thread = threading.Thread(target=lambda: found.append(ask(gate, "refund", run="task")))
    thread.start()
    thread.join()
    assert codes(found[0]) == ["not_granted"]
    assert "the task of run task was narrowed to get_*, send" in found[0].reasons[0].message
    assert codes(ask(gate, "refund", run="lost", parent="child", root="task", depth=2)) == [
        "not_granted"
    ]
    assert isinstance(ask(gate, "refund", run="other"), Permit)


def test_a_runs_budget_includes_its_sub_agents():
    """A child has no budget of its own on top of what its outermost run has left."""
    gate = made(limits=[{"budget": "calls", "limit": 3, "per": ["run"]}])
    inside = {"parent": "r1", "root": "r1", "depth": 1}
    ask(gate)
    ask(gate, run="c1", **inside)
    ask(gate, run="c2", **inside)
    refused = ask(gate, run="c3", **inside)
    assert codes(refused) == ["budget"]
    assert "for run r1 has 0 of 3 left" in refused.reasons[0].message
    assert codes(ask(gate)) == ["budget"]
    assert isinstance(ask(gate, run="r2"), Permit)


def test_agents_can_be_only_so_deep():
    """The refusal says how deep, and which run called."""
    gate = made(limits=[{"depth": 1}])
    assert isinstance(ask(gate, run="c", parent="r1", root="r1", depth=1), Permit)
    (reason,) = ask(gate, run="d", parent="c", root="r1", depth=2).reasons
    assert reason.code == "depth"
    assert "2 agents deep, of 1 allowed (it was called by run c)" in reason.message


def test_every_run_around_a_call_holds_for_it():
    """A halt or a narrowing of a run in the middle reaches the agents of its agents."""
    gate = made({"get": {}, "send": {}})
    with context(run="a"), context(run="b"), context(run="c"), context(run="d"):
        here = current()
        assert (here.run, here.parent, here.within, here.root, here.depth) == (
            "d",
            "c",
            ("b",),
            "a",
            3,
        )
        deep = within("get")
        with context(run="e"):
            deeper = within("get")
    assert deeper.within == ("b", "c")
    assert isinstance(gate.decide(deep), Permit)
    gate.halt(run="b", by="ada")
    assert codes(gate.decide(deep)) == codes(gate.decide(deeper)) == ["halted"]
    gate.resume(run="b", by="ada")
    ask(gate, "get", run="c", tools=[["send"]])
    assert codes(gate.decide(deeper)) == ["not_granted"]
    assert replay(gate.journal).difference is None


@pytest.mark.parametrize("scope", [{"tenant": "acme"}, {"agent": "a"}, {"run": "r1"}, {}])
def test_a_halt_is_seen_by_every_gate_on_the_ledger(tmp_path, scope):
    """Two gates on one file, as in two processes: what one halts, the other does not permit."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    first, second = made(ledger=url), made(ledger=url)
    who = Subject(tenant="acme", agent="a")
    assert isinstance(ask(first, subject=who), Permit)
    second.halt(by="ada", reason="fire", **scope)
    refused = ask(first, subject=who)
    assert codes(refused) == ["halted"]
    assert refused.final
    second.resume(by="ada", **scope)
    assert isinstance(first.decide(Proposal("t", {}, subject=who, run="r1")), Permit)
