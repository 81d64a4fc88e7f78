"""Inside of a running tool: the permit and its key, and a halt that arrives from elsewhere meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool, tool
from langchain_scene import ACME, agent, answers, call, decided, each, entries, go, told
from langgraph.graph import START, MessagesState, StateGraph

import sluicegate
from sluicegate import PermitError, current_permit
from sluicegate_langchain import GateCallbackHandler, GateMiddleware, guard_tools, tool_node

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
ONCE = {"tools": {"charge": {"once": {"key": "charge:{order}"}}}}


def charger(seen: list[Any], kind: str) -> StructuredTool:
    """A tool that hands its key on to a provider, as a provider's client would get it."""

    def charge(order: str) -> str:
        """Charge."""
        seen.append((order, current_permit().key, current_permit().id, threading.get_ident()))
        return f"charged {order}"

    async def acharge(order: str) -> str:
        """Charge."""
        await asyncio.sleep(0)
        return charge(order)

    return StructuredTool.from_function(
        None if kind == "async" else charge,
        None if kind == "sync" else acharge,
        name="charge",
        description="Charge.",
    )


@each("invoke", "ainvoke", "batch", "abatch")
@pytest.mark.parametrize("guard", ["middleware", "tools", "both"])
def test_a_tool_can_hand_the_key_of_its_own_call_to_the_provider(guard, kind, way, make_gate):
    """Parallel calls, each in its thread or task, see the key and the permit of their own call."""
    gate, seen = make_gate(ONCE), []
    made = charger(seen, kind)
    if guard != "middleware":
        (made,) = guard_tools([made], gate)
    middleware = [GateMiddleware(gate)] if guard != "tools" else []
    turn = [call("charge", f"c{n}", order=f"A{n}") for n in range(4)]
    assert told(go(agent([made], turn, middleware=middleware), way)) == [[]] * 4
    assert sorted((order, key) for order, key, *_ in seen) == [
        (f"A{n}", f"charge:A{n}") for n in range(4)
    ]
    assert len({permit for *_, permit, _ in seen}) == 4
    with pytest.raises(PermitError):
        current_permit()


@BOTH
def test_the_key_reaches_what_the_tool_runs_through_langchain(way, make_gate):
    """A runnable that the tool invokes, or that LangChain moves to a thread, is still within the call."""
    gate, seen = make_gate(ONCE), []
    provider = RunnableLambda(lambda order: seen.append((order, current_permit().key)))

    @tool
    def charge(order: str) -> str:
        """Charge."""
        provider.batch([order, order])
        return "charged"

    @tool("charge")
    async def acharge(order: str) -> str:
        """Charge."""
        await provider.abatch([order, order])
        return "charged"

    made = acharge if way == "ainvoke" else charge
    graph = agent([made], [call("charge", order="A1")], middleware=[GateMiddleware(gate)])
    assert told(go(graph, way)) == [[]]
    assert seen == [("A1", "charge:A1")] * 2


@BOTH
def test_the_key_is_there_in_a_tool_node(way, make_gate):
    """A graph built by hand offers it too."""
    gate, seen = make_gate(ONCE), []
    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", tool_node([charger(seen, "both")], gate))
    graph.add_edge(START, "tools")
    made = AIMessage("", tool_calls=[call("charge", order="A1")])
    go(graph.compile(), way, {"messages": [made]})
    assert [key for _, key, *_ in seen] == ["charge:A1"]


def test_a_callback_handler_offers_no_permit(make_gate):
    """It stands beside the call and not around it: the tool is told that no permitted call is running."""
    gate = make_gate(ONCE)
    graph = agent([charger([], "sync")], [call("charge", order="A1")])
    with pytest.raises(PermitError, match="no permitted call is running here"):
        go(graph.with_config(callbacks=[GateCallbackHandler(gate)]))


# --- halts ---------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
from sluicegate import Gate
ledger, word, scope = sys.argv[1:]
with Gate({"version": 1, "tools": {"x": {}}}, ledger) as gate:
    getattr(gate, word)(by="ops", reason="incident 7", **json.loads(scope))
"""


def elsewhere(ledger: str, word: str, scope: str) -> None:
    """Halt or resume in another process."""
    subprocess.run([sys.executable, "-c", PROGRAM, ledger, word, scope], check=True)


@pytest.mark.parametrize(
    ("way", "scope"), [("invoke", '{"run": "ticket-7"}'), ("ainvoke", '{"tenant": "acme"}')]
)
def test_a_halt_from_another_process_stops_a_running_agent(
    way, scope, effects, make_gate, tmp_path
):
    """The call that is running ends; the next one is refused for good, and the model is not asked again."""
    ledger = f"sqlite:///{tmp_path / 'l.db'}"
    gate = make_gate({"tools": {"work": {}}}, ledger)

    @tool
    def work(step: int) -> str:
        """Work."""
        if step == 2:
            elsewhere(ledger, "halt", scope)
        return str(effects.add("step", step))

    turns = [[call("work", f"c{n}", step=n)] for n in (1, 2, 3, 4)]
    graph = agent([work], *turns, middleware=[GateMiddleware(gate, subject=ACME)])
    with sluicegate.context(run="ticket-7"):
        messages = go(graph, way)
    assert effects.all == ["step 1", "step 2"]
    assert told(messages) == [[], [], ["halted"]]
    last = answers(messages)[-1]
    assert messages[-1] is last
    assert last.additional_kwargs["sluicegate"]["final"] is True
    assert "(by ops: incident 7)" in last.content
    assert "Stop here" in last.content
    assert decided(gate) == ["permit", "permit", "deny"]
    assert len(entries(gate, "halt")) == 1
    elsewhere(ledger, "resume", scope)
    with sluicegate.context(run="ticket-8"):
        again = go(
            agent(
                [work], [call("work", "d", step=5)], middleware=[GateMiddleware(gate, subject=ACME)]
            ),
            way,
        )
    assert told(again) == [[]]


def test_a_halted_run_does_not_go_on_in_an_agent_inside_a_tool(effects, make_gate, tmp_path):
    """A halt of the run around it holds for the agent in the tool, and ends that one too."""
    ledger = f"sqlite:///{tmp_path / 'l.db'}"
    gate = make_gate({"tools": {"work": {}, "delegate": {}}}, ledger)

    @tool
    def work(step: int) -> str:
        """Work."""
        elsewhere(ledger, "halt", '{"run": "ticket-7"}')
        return str(effects.add("step", step))

    turns = [[call("work", f"c{n}", step=n)] for n in (1, 2)]
    inner = agent([work], *turns, middleware=[GateMiddleware(gate)])
    ended: list[Any] = []

    @tool
    async def delegate(task: str) -> str:
        """Let another agent do it."""
        ended.extend((await inner.ainvoke({"messages": [("user", task)]}))["messages"])
        return "done"

    outer = [[call("delegate", "o1", task="x")], [call("delegate", "o2", task="y")]]
    graph = agent([delegate], *outer, middleware=[GateMiddleware(gate)])
    with sluicegate.context(run="ticket-7"):
        messages = go(graph, "ainvoke")
    assert effects.all == ["step 1"]
    assert isinstance(ended[-1], ToolMessage)
    assert told(ended) == [[], ["halted"]]
    assert told(messages) == [[], ["halted"]]
