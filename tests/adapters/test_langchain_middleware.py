"""GateMiddleware: what is refused does not run, who calls, which run it is, and how a run ends."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_scene import (
    ACME,
    WAYS,
    agent,
    answers,
    call,
    decided,
    entries,
    go,
    proposed,
    settled,
    told,
)
from langgraph.checkpoint.memory import InMemorySaver

import sluicegate
from sluicegate import Objection, Subject, hookimpl
from sluicegate_langchain import GateMiddleware

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
THREAD = {"configurable": {"thread_id": "t1"}}


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    @tool
    def refund(order: str, amount: int = 1) -> str:
        """Refund an order."""
        return effects.add("refund", order, amount)

    return refund


# --- yes and no -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
@pytest.mark.parametrize("way", WAYS)
def test_a_refused_call_does_not_run_and_the_agent_goes_on(way, ledger, refund, effects, make_gate):
    """The model reads why, the loop goes on, and only what is permitted reaches the shop."""
    gate = make_gate(
        {"tools": {"refund": {"args": {"properties": {"amount": {"maximum": 5}}}}}}, ledger
    )
    graph = agent(
        [refund],
        [call("refund", "a", order="A1", amount=600)],
        [call("refund", "b", order="A1", amount=3)],
        middleware=[GateMiddleware(gate, subject=ACME)],
    )
    messages = go(graph, way)
    assert effects.all == ["refund A1 3"]
    no, yes = answers(messages)
    assert (no.status, no.tool_call_id, no.name) == ("error", "a", "refund")
    assert no.content.startswith(
        "REFUSED: refund was not run.\n- args_invalid: amount: 600 is greater"
    )
    assert (yes.status, yes.content) == ("success", "refund A1 3")
    assert messages[-1].content == "done"
    assert decided(gate) == ["deny", "permit"]
    assert settled(gate) == ["succeeded"]
    assert gate.journal.verify() is None


@BOTH
def test_short_replies_keep_the_sentences_from_the_model(way, refund, effects, make_gate):
    """With `replies: short` the model is told the code only."""
    gate = make_gate({"replies": "short", "tools": {"other": {}}})
    (no,) = answers(
        go(agent([refund], [call("refund", order="A1")], middleware=[GateMiddleware(gate)]), way)
    )
    assert (
        no.content
        == "REFUSED (unknown_tool): refund was not run. Do not repeat this call unchanged."
    )
    assert effects.all == []


@BOTH
def test_usage_is_exact_afterwards(way, refund, effects, make_gate):
    """What was used is what ran, refused calls cost nothing."""
    limits = [{"budget": "eur", "limit": 10, "per": ["tenant"], "window": "day"}]
    gate = make_gate({"tools": {"refund": {"cost": {"eur": "args.amount"}}}, "limits": limits})
    turns = [[call("refund", f"c{n}", order=f"A{n}", amount=4)] for n in range(4)]
    messages = go(agent([refund], *turns, middleware=[GateMiddleware(gate, subject=ACME)]), way)
    assert told(messages) == [[], [], ["budget"], ["budget"]]
    assert effects.all == ["refund A0 4", "refund A1 4"]
    (row,) = gate.usage()
    assert row.left == 2_000_000


def test_the_journal_names_the_adapter_the_call_and_the_schema(refund, make_gate):
    """A decision can be traced to the call in the agent's history."""
    gate = make_gate({"tools": {"refund": {}}})
    go(
        agent(
            [refund],
            [call("refund", "call-7", order="A1")],
            middleware=[GateMiddleware(gate, subject=ACME)],
        )
    )
    (proposal,) = proposed(gate)
    assert proposal["source"] == "langchain"
    assert proposal["call_id"] == "call-7"
    assert (
        proposal["schema"] == sluicegate.Schema(refund.tool_call_schema.model_json_schema()).digest
    )
    assert proposal["subject"] == {"agent": "desk", "roles": [], "tenant": "acme", "user": "ada"}


@BOTH
def test_a_tool_that_the_agent_does_not_have_is_refused_also_where_the_policy_lists_it(
    way, refund, effects, make_gate
):
    """An invented tool name costs nothing and is answered, whatever the policy says of the name."""
    limits = [{"budget": "calls", "limit": 1, "per": ["run"]}]
    gate = make_gate({"tools": {"refund": {}, "refnd": {}}, "limits": limits})
    turns = [
        [call("refnd", "a", order="A1")],
        [call("nope", "b")],
        [call("refund", "c", order="A1")],
    ]
    messages = go(agent([refund], *turns, middleware=[GateMiddleware(gate)]), way)
    assert told(messages) == [["unknown_tool"], ["unknown_tool"], []]
    assert "the agent has no tool 'refnd'" in answers(messages)[0].content
    assert effects.all == ["refund A1 1"]


@BOTH
def test_observing_refuses_nothing_and_says_what_it_would_have_refused(
    way, refund, effects, make_gate
):
    """A gate that observes lets run what it would refuse, unchanged, and records it as observed."""
    gate = make_gate({"tools": {"other": {}}}, observe=True)
    turns = [[call("refund", "a", order="A1", amount="7")], [call("nope", "b")]]
    messages = go(agent([refund], *turns, middleware=[GateMiddleware(gate)]), way)
    assert effects.all == ["refund A1 7"]
    assert "not a valid tool" in answers(messages)[1].content
    assert decided(gate) == ["observed", "observed"]
    assert [entry["would"] for entry in entries(gate, "decision")] == ["deny", "deny"]


# --- who ------------------------------------------------------------------------------------------


@BOTH
def test_the_subject_comes_from_the_request(way, refund, make_gate):
    """A function makes the subject from what the request carries."""
    gate = make_gate({"tools": {"refund": {}}, "grants": [{"tenant": "acme", "tools": ["refund"]}]})

    def subject(request: Any) -> Subject:
        return Subject(tenant=request.runtime.config["configurable"]["tenant"])

    graph = agent(
        [refund], [call("refund", order="A1")], middleware=[GateMiddleware(gate, subject=subject)]
    )
    assert told(go(graph, way, config={"configurable": {"tenant": "acme"}})) == [[]]
    assert told(go(graph, way, config={"configurable": {"tenant": "other"}})) == [["not_granted"]]


@BOTH
def test_the_subject_comes_from_the_context(way, refund, make_gate):
    """Without `subject` it is what sluicegate.context says, in whatever thread the tool runs."""
    gate = make_gate({"tools": {"refund": {}}})
    graph = agent([refund], [call("refund", order="A1")], middleware=[GateMiddleware(gate)])
    with sluicegate.context(tenant="acme", user="bob", roles=("clerk",)):
        go(graph, way)
    assert proposed(gate)[0]["subject"] == {
        "agent": None,
        "roles": ["clerk"],
        "tenant": "acme",
        "user": "bob",
    }


@BOTH
@pytest.mark.parametrize("broken", [lambda _: 1 / 0, lambda _: None, lambda _: "ada"])
def test_a_subject_that_cannot_be_found_is_a_refusal(way, broken, refund, effects, make_gate):
    """Where nobody can tell who calls, nothing runs and the agent goes on."""
    gate = make_gate({"tools": {"refund": {}}})
    messages = go(
        agent(
            [refund],
            [call("refund", order="A1")],
            middleware=[GateMiddleware(gate, subject=broken)],
        ),
        way,
    )
    assert told(messages) == [["missing_subject"]]
    assert messages[-1].content == "done"
    assert effects.all == []
    assert decided(gate) == ["deny"]


# --- which run --------------------------------------------------------------------------------------


@BOTH
def test_an_invocation_is_a_run(way, refund, make_gate):
    """Each invocation has a run of its own, also in the same thread."""
    gate = make_gate(
        {"tools": {"refund": {}}, "limits": [{"budget": "calls", "limit": 1, "per": ["run"]}]}
    )
    turns = [
        [call("refund", "a", order="A1"), call("refund", "b", order="A2")],
        [],
        [call("refund", "c", order="A3")],
    ]
    graph = agent([refund], *turns, middleware=[GateMiddleware(gate)], checkpointer=InMemorySaver())
    first = go(graph, way, config=THREAD)
    assert sorted(told(first)) == [[], ["budget"]]
    second = go(graph, way, config=THREAD)
    assert told(second)[2:] == [[]]
    runs = [proposal["run"] for proposal in proposed(gate)]
    assert runs[0] == runs[1] != runs[2]


@BOTH
def test_the_context_names_the_run(way, refund, make_gate):
    """A run named by the program is the run of every call in it, over several invocations."""
    gate = make_gate({"tools": {"refund": {}}})
    graph = agent([refund], [call("refund", order="A1")], middleware=[GateMiddleware(gate)])
    with sluicegate.context(run="ticket-7"):
        go(graph, way)
    (proposal,) = proposed(gate)
    assert (proposal["run"], proposal["root"], proposal["parent"], proposal["depth"]) == (
        "ticket-7",
        "ticket-7",
        None,
        0,
    )


@BOTH
def test_a_resumed_run_is_the_same_run_and_repeats_nothing(way, effects, make_gate):
    """After a raise, resuming the thread does not run a write again whose outcome nobody knows."""

    @tool
    def send(to: str) -> str:
        """Send."""
        effects.add("send", to)
        if to == "b":
            raise ConnectionError("reply lost")
        return f"sent to {to}"

    gate = make_gate({"tools": {"send": {}}})
    turns = [[call("send", "1", to="a")], [call("send", "2", to="b")]]
    graph = agent([send], *turns, middleware=[GateMiddleware(gate)], checkpointer=InMemorySaver())
    with pytest.raises(ConnectionError):
        go(graph, way, config=THREAD)
    messages = go(graph, way, given=None, config=THREAD)
    assert effects.all == ["send a", "send b"]
    assert told(messages) == [[], ["outcome_unknown"]]
    assert len({proposal["run"] for proposal in proposed(gate)}) == 1
    assert settled(gate) == ["succeeded", "unknown"]


@BOTH
@pytest.mark.parametrize(("began", "resumed"), [("r1", None), ("r1", "r2"), (None, "r2")])
def test_a_run_keeps_the_name_that_it_began_with(began, resumed, way, effects, make_gate):
    """Resuming elsewhere, in no context or in another one, does not make the same calls new ones."""

    @tool
    def send(to: str) -> str:
        """Send."""
        effects.add("send", to)
        raise ConnectionError("reply lost")

    gate = make_gate({"tools": {"send": {}}})
    middleware = [GateMiddleware(gate)]
    graph = agent(
        [send], [call("send", to="a")], middleware=middleware, checkpointer=InMemorySaver()
    )
    with pytest.raises(ConnectionError), sluicegate.context(run=began):
        go(graph, way, config=THREAD)
    with sluicegate.context(run=resumed):
        messages = go(graph, way, given=None, config=THREAD)
    assert told(messages) == [["outcome_unknown"]]
    assert effects.all == ["send a"]
    first, second = (proposal["run"] for proposal in proposed(gate))
    assert first == second
    assert began in (None, first)


@BOTH
def test_a_resumed_read_runs_again(way, effects, make_gate):
    """What only reads may fail, and runs again when the thread is resumed."""

    @tool
    def look(order: str) -> str:
        """Look."""
        if len(effects.all) == 0:
            effects.add("failed")
            raise ConnectionError("down")
        return effects.add("looked at", order)

    gate = make_gate({"tools": {"look": {"effect": "read"}}})
    graph = agent(
        [look],
        [call("look", order="A1")],
        middleware=[GateMiddleware(gate)],
        checkpointer=InMemorySaver(),
    )
    with pytest.raises(ConnectionError):
        go(graph, way, config=THREAD)
    assert told(go(graph, way, given=None, config=THREAD)) == [[]]
    assert effects.all == ["failed", "looked at A1"]
    assert settled(gate) == ["failed", "succeeded"]


# --- the end of a run -------------------------------------------------------------------------------


class StopsAt:
    """A plugin that refuses one order for good."""

    @hookimpl
    def sluicegate_object(self, proposal):
        if proposal.args.get("order") == "evil":
            return Objection(message="fraud", final=True)
        return None


@pytest.mark.parametrize("way", WAYS)
def test_a_final_refusal_ends_the_run(way, refund, effects, make_gate):
    """The model is not asked again, and each call of the last turn has its answer."""
    gate = make_gate({"tools": {"refund": {}}}, plugins={"fraud": StopsAt()})
    turns = [
        [call("refund", "a", order="A1")],
        [call("refund", "b", order="evil"), call("refund", "c", order="evil", amount=2)],
        [call("refund", "d", order="A4")],
    ]
    graph = agent([refund], *turns, middleware=[GateMiddleware(gate)])
    messages = go(graph, way)
    assert effects.all == ["refund A1 1"]
    assert [message.tool_call_id for message in answers(messages)] == ["a", "b", "c"]
    # Of the two that are refused, the later one meets a run that is halted already.
    assert [codes[-1:] for codes in told(messages)] == [[], ["objection"], ["objection"]]
    assert all("Stop here" in answer.content for answer in answers(messages)[1:])
    assert isinstance(messages[-1], ToolMessage)


@BOTH
def test_the_next_run_of_the_thread_goes_on_after_a_final_refusal(way, refund, effects, make_gate):
    """What was final for one run says nothing about the next one."""
    gate = make_gate({"tools": {"refund": {}}}, plugins={"fraud": StopsAt()})
    turns = [[call("refund", "a", order="evil")], [call("refund", "b", order="A2")]]
    graph = agent([refund], *turns, middleware=[GateMiddleware(gate)], checkpointer=InMemorySaver())
    assert isinstance(go(graph, way, config=THREAD)[-1], ToolMessage)
    messages = go(graph, way, config=THREAD)
    assert messages[-1].content == "done"
    assert effects.all == ["refund A2 1"]


# --- without LangChain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["langchain", "langgraph.prebuilt"])
def test_without_langchain_the_error_names_the_extra(missing):
    """Importing the adapter without its framework says what to install."""
    program = f"import sys; sys.modules[{missing!r}] = None; import sluicegate_langchain"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (
        "ImportError: sluicegate_langchain needs LangChain: pip install sluicegate[langchain]"
        in done.stderr
    )
