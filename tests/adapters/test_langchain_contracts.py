"""What a run owes at its end: "done" without the call that the policy's contracts want is not done."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_scene import WAYS, agent, call, entries, go, told
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

import sluicegate
from sluicegate import LedgerError, Objection, Unfinished, hookimpl
from sluicegate_langchain import GateMiddleware

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
THREAD: dict[str, Any] = {"configurable": {"thread_id": "t"}}
POLICY: dict[str, Any] = {
    "tools": {"refund": {}, "receipt": {"effect": "idempotent"}, "delegate": {}},
    "contracts": [{"when": "refund", "then": "receipt", "match": {"order": "order"}}],
}


@pytest.fixture
def shop(effects):
    """A tool that owes a receipt, and the receipt."""

    @tool
    def refund(order: str) -> str:
        """Refund."""
        return effects.add("refund", order)

    @tool
    def receipt(order: str) -> str:
        """Send the receipt."""
        if order == "A13":
            raise sluicegate.NotExecuted("the mail server is down")
        return effects.add("receipt", order)

    return [refund, receipt]


def paid(order: str = "A1") -> list[Any]:
    """A turn that owes a receipt."""
    return [call("refund", f"refund-{order}", order=order)]


def sent(order: str = "A1") -> list[Any]:
    """A turn with the receipt."""
    return [call("receipt", f"receipt-{order}", order=order)]


class ToldErrors(AgentMiddleware):
    """The model reads a tool's error and goes on."""

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        try:
            return handler(request)
        except sluicegate.NotExecuted as error:
            return ToolMessage(str(error), tool_call_id=request.tool_call["id"])

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except sluicegate.NotExecuted as error:
            return ToolMessage(str(error), tool_call_id=request.tool_call["id"])


def desk(shop: Any, gate: Any, *turns: Any, saver: Any = None, **options: Any) -> Any:
    """An agent for the shop."""
    return agent(shop, *turns, middleware=[GateMiddleware(gate, **options)], checkpointer=saver)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_did_what_it_owed_ends_as_ever(way, shop, effects, make_gate):
    """The refund was followed by its receipt."""
    messages = go(desk(shop, make_gate(POLICY), paid(), sent()), way)
    assert messages[-1].content == "done"
    assert effects.all == ["refund A1", "receipt A1"]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_owes_something_does_not_end_as_a_success(way, shop, effects, make_gate):
    """The model says "done"; whoever called the agent gets the error that says what is missing."""
    with pytest.raises(Unfinished) as raised:
        go(desk(shop, make_gate(POLICY), paid()), way)
    assert effects.all == ["refund A1"]
    assert "refund" in str(raised.value)
    assert "receipt" in str(raised.value)


@BOTH
@pytest.mark.parametrize("turns", [[paid(), sent("A2")], [paid("A13"), sent("A13")]])
def test_another_receipt_or_a_failed_one_is_not_what_was_owed(way, turns, shop, make_gate):
    """Only a success for the same order counts."""
    graph = agent(shop, *turns, middleware=[ToldErrors(), GateMiddleware(make_gate(POLICY))])
    with pytest.raises(Unfinished):
        go(graph, way)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_owed_can_be_told_in_a_last_message(way, shop, make_gate):
    """With `unfinished="tell"` nothing is raised; the last message is the gate's, and says what is missing."""
    messages = go(desk(shop, make_gate(POLICY), paid(), unfinished="tell"), way)
    last = messages[-1]
    assert isinstance(last, AIMessage)
    assert messages[-2].content == "done"
    assert "receipt" in last.text
    assert last.additional_kwargs["sluicegate"]["fulfilled"] is False


@BOTH
def test_what_the_gate_says_at_the_end_is_not_the_users_word(way, shop, make_gate):
    """The message of the gate is no message of the user, in the next run of the thread."""
    policy = {**POLICY, "tools": {**POLICY["tools"], "receipt": {"origin": {"order": ["prompt"]}}}}
    saver = InMemorySaver()
    # The message of the gate counts as a turn of the scripted model.
    turns = [paid(), [], [], sent()]
    graph = desk(shop, make_gate(policy), *turns, saver=saver, unfinished="tell")
    assert "receipt" in go(graph, way, config=THREAD)[-1].text
    assert told(go(graph, way, config=THREAD))[1:] == [["origin"]]


@BOTH
def test_each_run_of_a_thread_owes_for_itself(way, shop, make_gate):
    """The receipt of another run does not help."""
    saver = InMemorySaver()
    gate = make_gate(POLICY)
    assert (
        go(desk(shop, gate, paid(), sent(), saver=saver), way, config=THREAD)[-1].content == "done"
    )
    graph = desk(shop, gate, [], [], [], paid("A2"), saver=saver)
    with pytest.raises(Unfinished):
        go(graph, way, config=THREAD)


@BOTH
def test_a_run_that_waits_for_a_person_is_not_at_its_end(way, shop, effects, make_gate):
    """The interrupt surfaces and nothing is raised; what is owed is seen when the run really ends."""
    policy = {**POLICY, "tools": {**POLICY["tools"], "receipt": {"approve": True}}}
    gate = make_gate(policy)
    graph = desk(shop, gate, paid(), sent(), saver=InMemorySaver(), ask="interrupt")

    def step(given: Any) -> Any:
        if way == "ainvoke":
            return asyncio.run(graph.ainvoke(given, THREAD))
        return graph.invoke(given, THREAD)

    (pending,) = step({"messages": [HumanMessage("go")]})["__interrupt__"]
    answer = {"request": pending.value["request"], "approve": True, "by": "ada"}
    assert step(Command(resume=answer))["messages"][-1].content == "done"
    assert effects.all == ["refund A1", "receipt A1"]


@BOTH
def test_a_refused_receipt_is_still_owed(way, shop, effects, make_gate):
    """Not having been allowed to do it is no excuse: somebody has to know."""
    gate = make_gate({**POLICY, "grants": [{"tools": ["refund"]}]})
    with pytest.raises(Unfinished):
        go(desk(shop, gate, paid(), sent()), way)
    assert effects.all == ["refund A1"]


class StopsAtTheReceipt:
    """A plugin that ends the run where the receipt should be sent."""

    @hookimpl
    def sluicegate_object(self, proposal):
        return Objection(message="stop", final=True) if proposal.tool == "receipt" else None


@BOTH
def test_a_run_that_was_ended_for_good_still_owes(way, shop, make_gate):
    """A final refusal ends the loop, and does not make a success of it."""
    gate = make_gate(POLICY, plugins={"stop": StopsAtTheReceipt()})
    with pytest.raises(Unfinished):
        go(desk(shop, gate, paid(), sent(), paid("A2")), way)
    gate = make_gate(POLICY, plugins={"stop": StopsAtTheReceipt()})
    messages = go(desk(shop, gate, paid(), sent(), paid("A2"), unfinished="tell"), way)
    assert told(messages) == [[], ["objection"]]
    assert isinstance(messages[-1], AIMessage)


@BOTH
def test_an_agent_in_a_tool_owes_nothing_by_itself(way, shop, effects, make_gate):
    """It refunds and the outer agent sends the receipt: what is owed is the outermost run's."""
    gate = make_gate(POLICY)
    inner = desk(shop, gate, paid())

    @tool
    def delegate(task: str) -> str:
        """Let another agent do it."""
        return inner.invoke({"messages": [HumanMessage(task)]})["messages"][-1].content

    @tool("delegate")
    async def adelegate(task: str) -> str:
        """Let another agent do it."""
        return (await inner.ainvoke({"messages": [HumanMessage(task)]}))["messages"][-1].content

    made = adelegate if way == "ainvoke" else delegate
    turn = [call("delegate", task="refund")]
    messages = go(desk([*shop, made], gate, turn, sent()), way)
    assert messages[-1].content == "done"
    with pytest.raises(Unfinished):
        go(desk([*shop, made], gate, turn), way)


@BOTH
def test_a_gate_that_observes_raises_nothing(way, shop, make_gate, caplog):
    """It logs what would be owed, and the run ends as it would without the gate."""
    gate = make_gate(POLICY, observe=True)
    with caplog.at_level(logging.WARNING, "sluicegate"):
        assert go(desk(shop, gate, paid()), way)[-1].content == "done"
    assert "observing: UNFINISHED: " in caplog.text
    assert "receipt" in caplog.text


@BOTH
def test_what_a_report_cannot_be_made_of_is_no_success(way, shop, make_gate):
    """A ledger that is gone when the run ends cannot say that nothing is owed."""
    policy = {**POLICY, "tools": {**POLICY["tools"], "leave": {"effect": "read"}}}
    gate = make_gate(policy, "sqlite")

    @tool
    def leave() -> str:
        """Close the ledger, as a program does that is shutting down."""
        gate.close()
        return "closed"

    with pytest.raises(LedgerError):
        go(desk([*shop, leave], gate, [call("leave")]), way)


def test_without_contracts_nothing_is_asked_at_the_end(shop, make_gate):
    """A policy without contracts writes nothing more into the journal when a run ends."""
    gate = make_gate({"tools": POLICY["tools"]})
    assert go(desk(shop, gate, paid()))[-1].content == "done"
    kinds = {entry.content["kind"] for entry in gate.journal}
    assert kinds == {"policy", "schema", "decision", "outcome"}
    assert len(entries(gate, "outcome")) == 1
