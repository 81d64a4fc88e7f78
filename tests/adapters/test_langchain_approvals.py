"""A person's yes in LangChain: told to the model, or as a durable interrupt that the graph is resumed with."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_scene import (
    ACME,
    THREAD,
    agent,
    answers,
    asked,
    call,
    decided,
    entries,
    proposed,
    sender,
    settled,
    step,
    told,
    waiting_agent,
    yes,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import sluicegate
from sluicegate.testing import FakeClock
from sluicegate_langchain import GateMiddleware

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
POLICY = {"tools": {"send": {"approve": True}, "confirm": {"approve": True}}}


# --- the model is told to wait --------------------------------------------------------------------


@BOTH
def test_by_default_the_model_is_told_to_wait_and_the_run_goes_on(way, effects, make_gate):
    """The reply names the request and says not to repeat the call; approved meanwhile, it runs."""
    gate = make_gate(POLICY)
    turns = [[call("send", "1", to="bo")], [call("send", "2", to="bo")]]
    graph = agent([sender(effects, "both")], *turns, middleware=[GateMiddleware(gate)])
    messages = step(graph, way)["messages"]
    seen = [str(answer.content) for answer in answers(messages)]
    (waiting,) = gate.pending()
    assert seen[0].startswith(
        f"WAITING FOR APPROVAL: send was not run (request {waiting.id}).\n- approval_required: "
    )
    assert seen[0].endswith("Do not repeat this call before it is approved.")
    assert told(messages) == [["approval_required"]] * 2
    assert effects.all == []
    gate.approve(waiting.id, by="ada")
    with sluicegate.context(run=waiting.run):
        messages = step(
            agent([sender(effects, "both")], turns[0], middleware=[GateMiddleware(gate)]), way
        )["messages"]
    assert told(messages) == [[]]
    assert effects.all == ["send bo 1"]


@pytest.mark.parametrize("word", ["ask", "unfinished"])
def test_a_choice_that_does_not_exist_is_refused_when_the_middleware_is_made(word, make_gate):
    """A misspelt choice must not mean the default."""
    with pytest.raises(ValueError, match=f"{word} is 'prompt'; it must be one of "):
        GateMiddleware(make_gate(POLICY), **{word: "prompt"})


# --- the request interrupts the graph -----------------------------------------------------------------


@BOTH
def test_a_request_interrupts_and_its_yes_runs_the_call_once(way, effects, make_gate):
    """The interrupt says what is asked; resumed with a yes, which is recorded, the tool runs once."""
    gate = make_gate(POLICY)
    graph = waiting_agent(sender(effects, "both"), gate, [call("send", to="bo", copies=3)])
    (question,) = asked(step(graph, way))
    (waiting,) = gate.pending()
    assert question["request"] == waiting.id
    assert (question["tool"], question["args"]) == ("send", {"to": "bo", "copies": 3})
    assert [reason["code"] for reason in question["reasons"]] == ["approval_required"]
    assert question["expires"].endswith("+00:00")
    assert "problem" not in question
    assert effects.all == []
    state = step(graph, way, Command(resume=yes(question, note="they asked for it")))
    assert [answer.content for answer in answers(state["messages"])] == ["send bo 3"]
    assert effects.all == ["send bo 3"]
    (said,) = entries(gate, "approval")
    assert (said["by"], said["note"], said["verdict"]) == ("ada", "they asked for it", "approve")
    assert decided(gate)[-1] == "permit"
    assert settled(gate) == ["succeeded"]
    assert len({proposal["run"] for proposal in proposed(gate)}) == 1
    assert gate.journal.verify() is None


@BOTH
def test_a_no_is_told_to_the_model(way, effects, make_gate):
    """The model reads who said no, and the run goes on without the call."""
    gate = make_gate(POLICY)
    graph = waiting_agent(sender(effects, "both"), gate, [call("send", to="bo")])
    (question,) = asked(step(graph, way))
    answer = {"request": question["request"], "approve": False, "by": "ada"}
    messages = step(graph, way, Command(resume=answer))["messages"]
    assert "approval_rejected" in told(messages)[0]
    assert f"ada has rejected request {question['request']}" in answers(messages)[0].content
    assert messages[-1].content == "done"
    assert effects.all == []


@BOTH
def test_each_of_several_parallel_requests_is_resumed_by_itself(way, effects, make_gate):
    """Three calls of one turn wait; answered one by one and out of order, each runs or not by its own answer."""
    gate = make_gate(POLICY)
    calls = [call("send", name, to=name) for name in "abc"]
    graph = waiting_agent(sender(effects, "both"), gate, calls)
    state = step(graph, way)
    assert [question["args"]["to"] for question in asked(state)] == ["a", "b", "c"]
    for name, approve in (("b", True), ("c", False), ("a", True)):
        (pending,) = (p for p in state["__interrupt__"] if p.value["args"]["to"] == name)
        answer = {**yes(pending.value), "approve": approve}
        state = step(graph, way, Command(resume={pending.id: answer}))
    assert effects.all == ["send b 1", "send a 1"]
    codes = [code[-1:] for code in told(state["messages"])]
    assert codes == [[], [], ["approval_rejected"]]
    assert settled(gate) == ["succeeded", "succeeded"]


@BOTH
def test_several_parallel_requests_can_be_answered_at_once(way, effects, make_gate):
    """One resume with an answer for each interrupt runs them all, each once."""
    gate = make_gate(POLICY)
    calls = [call("send", name, to=name) for name in "abc"]
    graph = waiting_agent(sender(effects, "both"), gate, calls)
    pending = step(graph, way)["__interrupt__"]
    state = step(graph, way, Command(resume={each.id: yes(each.value) for each in pending}))
    assert told(state["messages"]) == [[], [], []]
    assert sorted(effects.all) == ["send a 1", "send b 1", "send c 1"]


@BOTH
def test_calls_that_need_no_yes_run_beside_one_that_waits_and_not_again(way, effects, make_gate):
    """Only the call that waits is held up; the others of its turn have run before it is resumed."""
    gate = make_gate({"tools": {"send": {"approve": True}, "post": {}}})
    made = sender(effects, "both")
    free = made.model_copy(update={"name": "post"})
    turn = [call("post", "1", to="a"), call("send", "2", to="b")]
    middleware = [GateMiddleware(gate, subject=ACME, ask="interrupt")]
    graph = agent([made, free], turn, middleware=middleware, checkpointer=InMemorySaver())
    (question,) = asked(step(graph, way))
    assert effects.all == ["send a 1"]
    state = step(graph, way, Command(resume=yes(question)))
    assert effects.all == ["send a 1", "send b 1"]
    assert told(state["messages"]) == [[], []]


@BOTH
def test_an_answer_given_in_another_process_counts(way, effects, make_gate, tmp_path):
    """Approved at the command line, the graph is resumed without an answer, and the call runs."""
    gate = make_gate(POLICY, f"sqlite:///{tmp_path / 'l.db'}")
    graph = waiting_agent(sender(effects, "both"), gate, [call("send", to="bo")])
    (question,) = asked(step(graph, way))
    (again,) = asked(step(graph, way, None))
    assert again["request"] == question["request"]
    assert effects.all == []
    program = (
        "import sys; from sluicegate import Gate; gate = Gate({'version': 1, 'tools': {'x': {}}}, sys.argv[1]); "
        "gate.approve(sys.argv[2], by='bo')"
    )
    ledger = f"sqlite:///{tmp_path / 'l.db'}"
    subprocess.run([sys.executable, "-c", program, ledger, question["request"]], check=True)
    state = step(graph, way, None)
    assert told(state["messages"]) == [[]]
    assert effects.all == ["send bo 1"]


@BOTH
def test_an_answer_of_null_looks_again(way, effects, make_gate):
    """A service that can only resume with a value says that it has no answer, and is asked once more."""
    gate = make_gate(POLICY)
    graph = waiting_agent(sender(effects, "both"), gate, [call("send", to="bo")])
    (question,) = asked(step(graph, way))
    undecided = Command(resume={"request": question["request"], "approve": None})
    (again,) = asked(step(graph, way, undecided))
    assert again["request"] == question["request"]
    assert entries(gate, "approval") == []
    gate.approve(question["request"], by="bo")
    assert told(step(graph, way, undecided)["messages"]) == [[]]
    assert effects.all == ["send bo 1"]


JUNK = [
    "yes",
    True,
    ["approve"],
    {"approve": True},
    {"approve": True, "by": "ada"},
    {"request": "{id}", "approve": "yes", "by": "ada"},
    {"request": "{id}", "approve": 1, "by": "ada"},
    {"request": "{id}", "approve": True},
    {"request": "{id}", "approve": True, "by": ""},
    {"request": "{id}", "approve": True, "by": 7},
    {"request": "{id}", "approve": True, "by": "a" * 1001},
    {"request": "{id}", "approve": True, "by": "ada", "note": None},
    {"request": "{id}", "approve": True, "by": "ada", "args": {"to": "eve"}},
    {"request": 7, "approve": True, "by": "ada"},
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: str(junk)[:80])
def test_what_is_no_answer_is_refused_with_the_form_and_asked_again(junk, effects, make_gate):
    """Nothing is recorded, nothing runs; the next interrupt quotes what came, and a good answer still works."""
    gate = make_gate(POLICY)
    graph = waiting_agent(sender(effects), gate, [call("send", to="bo")])
    (question,) = asked(step(graph, "invoke"))
    if isinstance(junk, dict) and junk.get("request") == "{id}":
        junk = {**junk, "request": question["request"]}
    (again,) = asked(step(graph, "invoke", Command(resume=junk)))
    if "1001" not in again["problem"]:  # that one is refused for its length
        assert f"{junk!r:.60}" in again["problem"]
        assert 'resume with {"request": "<its id>", "approve": true | false' in again["problem"]
    assert entries(gate, "approval") == []
    assert effects.all == []
    state = step(graph, "invoke", Command(resume=yes(again)))
    assert told(state["messages"]) == [[]]
    assert effects.all == ["send bo 1"]


def test_an_answer_to_another_request_is_no_answer(effects, make_gate):
    """The yes to one call is not taken for another one, whichever call the graph hands it to."""
    gate = make_gate(POLICY)
    other = gate.decide(sluicegate.Proposal("send", {"to": "eve"}, run="elsewhere"))
    graph = waiting_agent(sender(effects), gate, [call("send", to="bo")])
    step(graph, "invoke")
    answer = {"request": other.request_id, "approve": True, "by": "ada"}
    (again,) = asked(step(graph, "invoke", Command(resume=answer)))
    assert again["args"]["to"] == "bo"
    assert entries(gate, "approval") == []
    assert effects.all == []


@BOTH
def test_changed_arguments_need_a_request_of_their_own(way, effects, make_gate):
    """A yes to 1 copy does not run 900, although the graph is resumed with it."""
    gate = make_gate(POLICY)
    graph = waiting_agent(sender(effects, "both"), gate, [call("send", to="bo", copies=1)])
    state = step(graph, way)
    (question,) = asked(state)
    said = next(m for m in state["messages"] if isinstance(m, AIMessage))
    changed = [call("send", to="bo", copies=900)]
    graph.update_state(
        THREAD, {"messages": [AIMessage("", tool_calls=changed, id=said.id)]}, as_node="model"
    )
    (again,) = asked(step(graph, way, Command(resume=yes(question))))
    assert again["args"]["copies"] == 900
    assert again["request"] != question["request"]
    assert effects.all == []
    step(graph, way, Command(resume=yes(again)))
    assert effects.all == ["send bo 900"]


def test_a_yes_that_comes_too_late_asks_anew(effects, make_gate):
    """The request has expired: nothing runs, the reason says so, and the new request can be answered."""
    clock = FakeClock()
    gate = make_gate({"tools": {"send": {"approve": {"within": "2h"}}}}, clock=clock)
    graph = waiting_agent(sender(effects), gate, [call("send", to="bo")])
    (question,) = asked(step(graph, "invoke"))
    clock.advance(3 * 3600)
    (again,) = asked(step(graph, "invoke", Command(resume=yes(question))))
    assert again["request"] != question["request"]
    assert "cannot be approved: it is expired" in again["problem"]
    assert effects.all == []
    clock.advance(3600)
    step(graph, "invoke", Command(resume=yes(again)))
    assert effects.all == ["send bo 1"]


def test_policy_is_asked_again_after_the_yes(effects, make_gate):
    """A run that was halted while the person thought about it does not go on with their yes."""
    gate = make_gate(POLICY)
    graph = waiting_agent(sender(effects), gate, [call("send", to="bo")])
    (question,) = asked(step(graph, "invoke"))
    gate.halt(tenant="acme", by="ops", reason="incident 7")
    messages = step(graph, "invoke", Command(resume=yes(question)))["messages"]
    assert told(messages)[0][0] == "halted"
    assert effects.all == []


# --- a tool that asks as well -----------------------------------------------------------------------------


@tool
def confirm(what: str) -> str:
    """Do something, after a question of the tool itself."""
    return f"{what}: {interrupt('are you sure?')}"


@pytest.mark.parametrize("before", ["answered", "elsewhere", "null", "junk"])
def test_a_tool_never_gets_the_answer_that_was_meant_for_the_gate(before, make_gate):
    """However the request was answered, the question of the tool itself is asked, and gets its own answer."""
    gate = make_gate(POLICY)
    graph = waiting_agent(confirm, gate, [call("confirm", what="delete")])
    (question,) = asked(step(graph, "invoke"))
    if before == "junk":
        (question,) = asked(step(graph, "invoke", Command(resume="yes")))
    resume: Any = Command(resume=yes(question))
    if before in ("elsewhere", "null"):
        gate.approve(question["request"], by="bo")
        null = Command(resume={"request": question["request"], "approve": None})
        resume = None if before == "elsewhere" else null
    state = step(graph, "invoke", resume)
    assert [pending.value for pending in state["__interrupt__"]] == ["are you sure?"]
    state = step(graph, "invoke", Command(resume="no!"))
    (answer,) = answers(state["messages"])
    assert answer.content == "delete: no!"
    assert settled(gate) == ["failed", "succeeded"]


@BOTH
def test_resuming_the_others_is_no_repetition(way, effects, make_gate):
    """Five calls wait and are answered one by one: a graph that comes back proposes nothing again."""
    gate = make_gate({**POLICY, "limits": [{"repeat": 2, "per": ["run"], "oscillation": True}]})
    calls = [call("send", name, to=name) for name in "abcde"]
    graph = waiting_agent(sender(effects, "both"), gate, calls)
    state = step(graph, way)
    for _ in calls:
        (pending, *_) = state["__interrupt__"]
        state = step(graph, way, Command(resume={pending.id: yes(pending.value)}))
    assert told(state["messages"]) == [[], [], [], [], []]
    assert len(effects.all) == 5
