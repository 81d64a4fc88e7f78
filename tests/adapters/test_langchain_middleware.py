"""GateMiddleware: what is refused does not run, what runs is settled, and the agent goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Annotated, Any

import pytest
from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.tools import InjectedState, ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langchain_scene import (
    ACME,
    HELLO,
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
from langgraph.types import Command, interrupt

import sluicegate
from sluicegate import LedgerError, MemoryLedger, NotExecuted, Objection, Subject, hookimpl
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
    turn = [
        call("refund", "a", order="A1"),
        call("refund", "b", order="evil"),
        call("refund", "c", order="evil", amount=2),
    ]
    graph = agent(
        [refund], turn, [call("refund", "d", order="A4")], middleware=[GateMiddleware(gate)]
    )
    messages = go(graph, way)
    assert effects.all == ["refund A1 1"]
    assert [message.tool_call_id for message in answers(messages)] == ["a", "b", "c"]
    assert told(messages) == [[], ["objection"], ["objection"]]
    assert "Stop here" in answers(messages)[1].content
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


# --- calls that were made before ----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
def test_an_identical_earlier_call_gives_its_recorded_result(
    way, ledger, refund, effects, make_gate
):
    """The second refund of an order is answered with the first one's result and does not run."""
    gate = make_gate(
        {"tools": {"refund": {"once": {"key": "refund:{order}", "within": "24h"}}}}, ledger
    )
    turns = [
        [call("refund", "a", order="A1")],
        [call("refund", "b", order="A1")],
        [call("refund", "c", order="A1", amount=2)],
    ]
    messages = go(agent([refund], *turns, middleware=[GateMiddleware(gate)]), way)
    assert effects.all == ["refund A1 1"]
    _, again, _ = answers(messages)
    assert (again.content, again.status, again.tool_call_id) == ("refund A1 1", "success", "b")
    assert again.additional_kwargs["sluicegate"]["decision"] == "recorded"
    assert told(messages) == [[], [], ["key_conflict"]]


@BOTH
@pytest.mark.parametrize(
    ("result", "content"),
    [
        ([{"type": "text", "text": "hello"}], [{"type": "text", "text": "hello"}]),
        ({"id": 7}, '{"id": 7}'),
        (None, "null"),
        (
            "x" * 70_000,
            "This call was made before and succeeded. It was not made again, and its result is not on record.",
        ),
    ],
)
def test_recorded_results_of_each_form(way, result, content, effects, make_gate):
    """Text and content blocks come back as they were; a result too large to record is said to be one."""

    @tool
    def send(to: str) -> Any:
        """Send."""
        effects.add("send", to)
        return result

    gate = make_gate({"tools": {"send": {"once": {"key": "send:{to}", "within": "1h"}}}})
    turns = [[call("send", "a", to="x")], [call("send", "b", to="x")]]
    _, again = answers(go(agent([send], *turns, middleware=[GateMiddleware(gate)]), way))
    assert (again.content, again.status) == (content, "success")
    assert effects.all == ["send x"]


@BOTH
@pytest.mark.parametrize("other", ["A1", "A2"])
def test_a_call_id_runs_once_however_often_it_stands_in_a_message(
    way, other, refund, effects, make_gate
):
    """Two calls with one id are one call, and a conflict if they differ; LangChain would run both."""
    gate = make_gate({"tools": {"refund": {}}})
    graph = agent(
        [refund],
        [call("refund", "x", order="A1"), call("refund", "x", order=other)],
        middleware=[GateMiddleware(gate)],
    )
    messages = go(graph, way)
    assert len(effects.all) == 1
    assert len(answers(messages)) == 2
    assert messages[-1].content == "done"


@BOTH
@pytest.mark.parametrize("missing", [None, ""])
def test_a_call_without_an_id_does_not_run(way, missing, refund, effects, make_gate):
    """A call that cannot be told from its repetition is refused, and the loop goes on."""
    gate = make_gate({"tools": {"refund": {}}})
    messages = go(
        agent([refund], [call("refund", missing, order="A1")], middleware=[GateMiddleware(gate)]),
        way,
    )
    assert effects.all == []
    assert told(messages) == [["duplicate_call"]]
    assert messages[-1].content == "done"


# --- what became of it -------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("entry", "error", "outcome"),
    [
        ({}, RuntimeError("lost"), "unknown"),
        ({}, NotExecuted("no stock"), "failed"),
        ({"on_error": "failed"}, RuntimeError("lost"), "failed"),
        ({"effect": "read"}, RuntimeError("lost"), "failed"),
        ({"effect": "idempotent"}, ToolException("no"), "failed"),
    ],
)
def test_what_a_tool_raises_is_settled_as_the_policy_says(way, entry, error, outcome, make_gate):
    """The error goes where it would have gone without a gate, and its meaning is the policy's."""

    @tool
    def send(to: str) -> str:
        """Send."""
        raise error

    gate = make_gate({"tools": {"send": entry}})
    with pytest.raises(type(error), match=str(error)):
        go(agent([send], [call("send", to="x")], middleware=[GateMiddleware(gate)]), way)
    assert settled(gate) == [outcome]


@BOTH
def test_an_error_that_langchain_made_a_message_of_is_an_error_still(way, make_gate):
    """A tool that handles its own ToolException did not succeed."""

    @tool
    def send(to: str) -> str:
        """Send."""
        raise ToolException("mail server said 421")

    send.handle_tool_error = True
    gate = make_gate({"tools": {"send": {}}})
    (answer,) = answers(
        go(agent([send], [call("send", to="x")], middleware=[GateMiddleware(gate)]), way)
    )
    assert (answer.status, answer.content) == ("error", "mail server said 421")
    assert settled(gate) == ["unknown"]


@BOTH
def test_an_interrupt_passes_through_and_the_tool_runs_when_it_is_answered(way, effects, make_gate):
    """A tool that asks a person is not spent by asking; its budget is used once."""

    @tool
    def send(to: str) -> str:
        """Send."""
        answer = interrupt("sure?")
        return effects.add("send", to, answer)

    limits = [{"budget": "calls", "limit": 1, "per": ["run"]}]
    gate = make_gate({"tools": {"send": {}}, "limits": limits})
    graph = agent(
        [send],
        [call("send", to="x")],
        middleware=[GateMiddleware(gate)],
        checkpointer=InMemorySaver(),
    )
    go(graph, way, config=THREAD)
    assert effects.all == []
    assert settled(gate) == ["failed"]
    messages = go(graph, way, given=Command(resume="yes"), config=THREAD)
    assert told(messages) == [[]]
    assert effects.all == ["send x yes"]
    assert settled(gate) == ["failed", "succeeded"]
    assert len({proposal["run"] for proposal in proposed(gate)}) == 1


@BOTH
def test_a_command_is_handed_on_and_its_message_recorded(way, effects, make_gate):
    """A tool that updates the agent's state does so; what it told the model is the result."""

    class Shop(AgentState):
        orders: int

    @tool
    def send(to: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command:
        """Send."""
        effects.add("send", to)
        return Command(
            update={"orders": 7, "messages": [ToolMessage("sent", tool_call_id=tool_call_id)]}
        )

    gate = make_gate({"tools": {"send": {}}})
    graph = agent(
        [send], [call("send", to="x")], middleware=[GateMiddleware(gate)], state_schema=Shop
    )
    state = graph.invoke(HELLO) if way == "invoke" else asyncio.run(graph.ainvoke(HELLO))
    assert state["orders"] == 7
    assert [entry["result"] for entry in entries(gate, "outcome")] == ["sent"]
    assert proposed(gate)[0]["args"] == {"to": "x"}


@BOTH
def test_an_artifact_survives(way, make_gate):
    """content_and_artifact tools keep both parts; the content is what is recorded."""

    @tool(response_format="content_and_artifact")
    def look(order: str) -> tuple[str, dict[str, int]]:
        """Look."""
        return "found", {"id": 7}

    gate = make_gate({"tools": {"look": {"effect": "read"}}})
    (answer,) = answers(
        go(agent([look], [call("look", order="A1")], middleware=[GateMiddleware(gate)]), way)
    )
    assert (answer.content, answer.artifact) == ("found", {"id": 7})
    assert [entry["result"] for entry in entries(gate, "outcome")] == ["found"]


@BOTH
def test_what_langchain_injects_arrives_and_is_not_shown_to_the_policy(way, effects, make_gate):
    """State, runtime and call id reach the tool; the policy sees what the model sent."""

    @tool
    def send(
        to: str,
        state: Annotated[dict[str, Any], InjectedState],
        runtime: ToolRuntime,
        tool_call_id: Annotated[str, InjectedToolCallId],
    ) -> str:
        """Send."""
        return effects.add("send", to, len(state["messages"]), runtime.tool_call_id, tool_call_id)

    gate = make_gate({"tools": {"send": {}}})
    messages = go(
        agent([send], [call("send", "c9", to="x")], middleware=[GateMiddleware(gate)]), way
    )
    assert told(messages) == [[]]
    assert effects.all == ["send x 2 c9 c9"]
    assert proposed(gate)[0]["args"] == {"to": "x"}


class Failing(MemoryLedger):
    """A ledger that goes down at a request of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def perform(self, request):
        if type(request).__name__ == self.kind:
            raise LedgerError("the disk is gone")
        return super().perform(request)


@BOTH
def test_a_ledger_that_is_down_refuses(way, refund, effects, make_gate):
    """Nothing runs without a record of it."""
    gate = make_gate({"tools": {"refund": {}}}, Failing("Claiming"))
    messages = go(
        agent([refund], [call("refund", order="A1")], middleware=[GateMiddleware(gate)]), way
    )
    assert told(messages) == [["ledger_unavailable"]]
    assert effects.all == []


@BOTH
def test_a_result_is_true_even_if_it_cannot_be_recorded(way, refund, effects, make_gate, caplog):
    """A tool that ran has run: its result is returned, and the loss is logged as an error."""
    gate = make_gate({"tools": {"refund": {}}}, Failing("Settling"))
    messages = go(
        agent([refund], [call("refund", order="A1")], middleware=[GateMiddleware(gate)]), way
    )
    assert [answer.content for answer in answers(messages)] == ["refund A1 1"]
    assert effects.all == ["refund A1 1"]
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "sluicegate")
    assert "counts as unknown" in record.getMessage()


class Broken:
    """A plugin that fails in the way that LangChain's callbacks swallow."""

    @hookimpl
    def sluicegate_object(self):
        raise NotImplementedError


@BOTH
def test_a_plugin_that_fails_refuses(way, refund, effects, make_gate):
    """A failure inside the gate is a refusal."""
    gate = make_gate({"tools": {"refund": {}}}, plugins={"broken": Broken()})
    messages = go(
        agent([refund], [call("refund", order="A1")], middleware=[GateMiddleware(gate)]), way
    )
    assert told(messages) == [["plugin_error"]]
    assert effects.all == []


# --- many at once --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
def test_of_twenty_parallel_calls_exactly_the_permitted_run(
    way, ledger, refund, effects, make_gate
):
    """A budget is exact for calls that are made at once."""
    limits = [{"budget": "calls", "limit": 7, "per": ["run"]}]
    gate = make_gate({"tools": {"refund": {}}, "limits": limits}, ledger)
    turn = [call("refund", f"c{n}", order=f"A{n}") for n in range(20)]
    messages = go(agent([refund], turn, middleware=[GateMiddleware(gate)]), way)
    assert len(effects.all) == 7
    assert sorted(told(messages)) == [[]] * 7 + [["budget"]] * 13
    assert decided(gate).count("permit") == settled(gate).count("succeeded") == 7


@BOTH
def test_no_more_bodies_at_once_than_slots(way, make_gate):
    """Calls wait for a slot as the policy says, and never more than two bodies run at once."""
    at_once, most, lock = 0, 0, threading.Lock()

    @tool
    def slow(n: int) -> str:
        """Be slow."""
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.02)
        with lock:
            at_once -= 1
        return "ok"

    gate = make_gate({"tools": {"slow": {}}, "limits": [{"concurrency": 2, "wait": "30s"}]})
    turn = [call("slow", f"c{n}", n=n) for n in range(6)]
    messages = go(agent([slow], turn, middleware=[GateMiddleware(gate)]), way)
    assert told(messages) == [[]] * 6
    assert most == 2


@BOTH
def test_each_call_keeps_its_own_subject(way, refund, make_gate):
    """Runs side by side do not mix their subjects or runs."""
    gate = make_gate({"tools": {"refund": {}}})

    def subject(request: Any) -> Subject:
        return Subject(tenant=request.runtime.config["configurable"]["tenant"])

    graph = agent(
        [refund],
        [call("refund", f"c{n}", order=f"A{n}") for n in range(3)],
        middleware=[GateMiddleware(gate, subject=subject)],
    )
    tenants = [f"tenant-{n}" for n in range(5)]
    configs: Any = [{"configurable": {"tenant": tenant}} for tenant in tenants]
    if way == "invoke":
        graph.batch([HELLO] * 5, configs)
    else:
        asyncio.run(graph.abatch([HELLO] * 5, configs))
    pairs = {(proposal["subject"]["tenant"], proposal["run"]) for proposal in proposed(gate)}
    assert sorted(tenant for tenant, _ in pairs) == tenants
    assert len(proposed(gate)) == 15


def test_a_cancelled_call_is_unknown_and_keeps_its_slot(effects, make_gate):
    """Cancelling `ainvoke` while a plain tool runs in its thread leaves the tool running, and the slot taken."""
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    @tool
    def slow(n: int) -> str:
        """Be slow."""
        started.set()
        go_on.wait(30)
        effects.add("slow", n)
        ended.set()
        return "ok"

    gate = make_gate({"tools": {"slow": {"concurrency": 1}}})
    graph = agent([slow], [call("slow", n=1)], middleware=[GateMiddleware(gate)])

    async def cancel() -> None:
        task = asyncio.ensure_future(graph.ainvoke(HELLO))
        await asyncio.to_thread(started.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await asyncio.to_thread(ended.wait, 30)

    asyncio.run(cancel())
    assert effects.all == ["slow 1"]
    assert settled(gate) == ["unknown"]
    started.clear()
    messages = go(agent([slow], [call("slow", n=2)], middleware=[GateMiddleware(gate)]))
    assert told(messages) == [["concurrency"]]
    assert not started.is_set()


@BOTH
def test_what_was_decided_is_what_runs(way, effects, make_gate):
    """Whoever changes the arguments after the decision changes nothing that runs, however deep."""

    @tool
    def order(items: list[dict[str, int]]) -> str:
        """Order."""
        return effects.add("order", items)

    class Meddler(AgentMiddleware):
        """It keeps the call on its way to the gate, and changes it once the gate has decided."""

        def wrap_tool_call(self, request, handler):
            self.sent = request.tool_call["args"]
            return handler(request)

        async def awrap_tool_call(self, request, handler):
            self.sent = request.tool_call["args"]
            return await handler(request)

        @hookimpl
        def sluicegate_record(self, entry):
            if entry.get("decision") == "permit":
                self.sent["items"][0]["quantity"] = 9000
                self.sent["items"].append({"quantity": 1})

    meddler = Meddler()
    gate = make_gate({"tools": {"order": {}}}, plugins={"meddler": meddler})
    turn = [call("order", items=[{"quantity": 1}])]
    go(agent([order], turn, middleware=[meddler, GateMiddleware(gate)]), way)
    assert meddler.sent == {"items": [{"quantity": 9000}, {"quantity": 1}]}
    assert effects.all == ["order [{'quantity': 1}]"]


# --- agents in agents -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("shared", [True, False])
def test_an_agent_inside_a_tool_is_a_run_inside_the_run(way, shared, refund, effects, make_gate):
    """The inner agent's calls are decided too, with the same root, one level deeper, for the same subject."""
    gate = make_gate({"tools": {"*": {}}})
    inner_gate = gate if shared else make_gate({"tools": {"*": {}}})
    inner = agent(
        [refund], [call("refund", "c1", order="A1")], middleware=[GateMiddleware(inner_gate)]
    )

    @tool
    def delegate(task: str) -> str:
        """Delegate."""
        return inner.invoke(HELLO)["messages"][-1].content

    @tool
    async def adelegate(task: str) -> str:
        """Delegate."""
        return (await inner.ainvoke(HELLO))["messages"][-1].content

    name = "delegate" if way == "invoke" else "adelegate"
    outer = agent(
        [delegate, adelegate],
        [call(name, "c1", task="x")],
        middleware=[GateMiddleware(gate, subject=ACME)],
    )
    assert told(go(outer, way)) == [[]]
    assert effects.all == ["refund A1 1"]
    first = proposed(gate)[0]
    second = proposed(inner_gate)[-1]
    assert (second["tool"], second["depth"], second["root"], second["parent"]) == (
        "refund",
        1,
        first["run"],
        first["run"],
    )
    assert second["run"] not in (None, first["run"])
    assert second["subject"]["tenant"] == "acme"


@BOTH
def test_a_guarded_function_inside_a_tool_belongs_to_the_run(way, effects, make_gate):
    """What a tool calls through `gate.guard` is decided for the same subject and run."""
    gate = make_gate({"tools": {"send": {}, "mail": {}}})

    @gate.guard
    def mail(to: str) -> str:
        return effects.add("mail", to)

    @tool
    def send(to: str) -> str:
        """Send."""
        return mail(to=to)

    go(agent([send], [call("send", to="x")], middleware=[GateMiddleware(gate, subject=ACME)]), way)
    first, second = proposed(gate)
    assert second["run"] == first["run"]
    assert second["subject"] == first["subject"]
    assert effects.all == ["mail x"]


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
