"""What becomes of a call: recorded results, errors, interrupts, commands, and ledgers that fail."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from langchain.agents.middleware import AgentState
from langchain.tools import InjectedState, ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langchain_scene import (
    HELLO,
    agent,
    answers,
    call,
    entries,
    go,
    proposed,
    settled,
    told,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from sluicegate import LedgerError, MemoryLedger, NotExecuted, hookimpl
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
