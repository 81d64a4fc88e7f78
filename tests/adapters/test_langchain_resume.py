"""Requests that outlive what asked them: tool nodes, agents in tools, other objects and other processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_scene import (
    ACME,
    agent,
    answers,
    asked,
    call,
    proposed,
    sender,
    step,
    told,
    waiting_agent,
    yes,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from sluicegate_langchain import GateMiddleware, guard_tools, tool_node

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
POLICY = {"tools": {"send": {"approve": True}, "delegate": {}}}


def by_hand(made: Any, gate: Any, saver: Any) -> Any:
    """A graph of nothing but a tool node."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", tool_node([made], gate, subject=ACME, ask="interrupt"))
    graph.add_edge(START, "tools")
    return graph.compile(checkpointer=saver)


@BOTH
def test_in_a_tool_node_all_calls_of_a_turn_are_answered_one_after_the_other(
    way, effects, make_gate
):
    """There the calls of a turn are one task: it asks for one at a time, and runs each once all the same."""
    gate = make_gate(POLICY)
    graph = by_hand(sender(effects, "both"), gate, InMemorySaver())
    calls = [call("send", name, to=name) for name in "abc"]
    state = step(graph, way, {"messages": [HumanMessage("go"), AIMessage("", tool_calls=calls)]})
    for _ in calls:
        (question,) = asked(state)
        state = step(graph, way, Command(resume=yes(question)))
    assert sorted(effects.all) == ["send a 1", "send b 1", "send c 1"]
    assert told(state["messages"]) == [[], [], []]
    assert [str(a.content) for a in answers(state["messages"])] == [
        "send a 1",
        "send b 1",
        "send c 1",
    ]


@BOTH
def test_a_question_lets_the_other_calls_of_its_task_end(way, make_gate):
    """One call asks while another is at work: that one ends, and its outcome is known."""
    gate = make_gate({"tools": {"send": {"approve": True}, "slow": {}}})

    @tool
    def slow() -> str:
        """Take a while."""
        time.sleep(0.05)
        return "done"

    async def aslow() -> str:
        """Take a while."""
        await asyncio.sleep(0.05)
        return "done"

    @tool
    def send(to: str) -> str:
        """Send."""
        return to

    made = tool("slow")(aslow) if way == "ainvoke" else slow
    graph = StateGraph(MessagesState)
    graph.add_node("tools", tool_node([made, send], gate, subject=ACME, ask="interrupt"))
    graph.add_edge(START, "tools")
    calls = [call("slow", "s"), call("send", "a", to="bo")]
    graph = graph.compile(checkpointer=InMemorySaver())
    state = step(graph, way, {"messages": [HumanMessage("go"), AIMessage("", tool_calls=calls)]})
    (question,) = asked(state)
    assert [e.content["outcome"] for e in gate.journal if "outcome" in e.content] == ["succeeded"]
    state = step(graph, way, Command(resume=yes(question)))
    assert [str(answer.content) for answer in answers(state["messages"])] == ["done", "bo"]


def test_a_question_inside_of_a_call_does_not_wait_for_that_call(make_gate):
    """A tool that hands its own task on to a tool node: the question gets out, and the call goes on."""
    gate = make_gate({"tools": {"send": {"approve": True}, "delegate": {}}})

    @tool
    def send(to: str) -> str:
        """Send."""
        return to

    inner = tool_node([send], gate, subject=ACME, ask="interrupt")

    @tool
    async def delegate(config: RunnableConfig) -> str:
        """Have somebody else send it."""
        asks = AIMessage("", tool_calls=[call("send", "b", to="bo")])
        (answer,) = (await inner.ainvoke({"messages": [asks]}, config))["messages"]
        return str(answer.content)

    graph = by_hand(delegate, gate, InMemorySaver())
    outer = AIMessage("", tool_calls=[call("delegate", "a")])
    config: Any = {"configurable": {"thread_id": "t"}}

    async def go(given: Any) -> Any:
        return await asyncio.wait_for(graph.ainvoke(given, config), 5)

    state = asyncio.run(go({"messages": [HumanMessage("go"), outer]}))
    (question,) = asked(state)
    state = asyncio.run(go(Command(resume=yes(question))))
    assert [str(answer.content) for answer in answers(state["messages"])] == ["bo"]


@BOTH
def test_an_agent_in_a_tool_can_wait_for_a_person_too(way, effects, make_gate):
    """Its interrupt surfaces in the outer graph; resumed, the inner call runs once, in the same run."""
    gate = make_gate(POLICY)
    inner = agent(
        [sender(effects, "both")],
        [call("send", to="bo")],
        middleware=[GateMiddleware(gate, ask="interrupt")],
    )

    def delegate(task: str) -> str:
        """Let another agent do it."""
        return inner.invoke({"messages": [HumanMessage(task)]})["messages"][-1].content

    async def adelegate(task: str) -> str:
        """Let another agent do it."""
        return (await inner.ainvoke({"messages": [HumanMessage(task)]}))["messages"][-1].content

    made = tool("delegate")(adelegate if way == "ainvoke" else delegate)
    graph = waiting_agent(made, gate, [call("delegate", task="send it")])
    (question,) = asked(step(graph, way))
    state = step(graph, way, Command(resume=yes(question)))
    assert told(state["messages"]) == [[]]
    assert effects.all == ["send bo 1"]
    sends = [proposal for proposal in proposed(gate) if proposal["tool"] == "send"]
    assert {(proposal["depth"], proposal["run"]) for proposal in sends} == {(1, sends[0]["run"])}


PROGRAM = """
import sys
from langchain_scene import agent, call, sender, HELLO
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from conftest import Effects
from sluicegate import Gate
from sluicegate_langchain import GateMiddleware
folder, resume = sys.argv[1:]
effects = object.__new__(Effects)
effects._path = folder + "/effects.db"
policy = {"version": 1, "tools": {"send": {"approve": True}}}
thread = {"configurable": {"thread_id": "t1"}}
with Gate(policy, f"sqlite:///{folder}/l.db") as gate, SqliteSaver.from_conn_string(folder + "/c.db") as saver:
    middleware = [GateMiddleware(gate, ask="interrupt")]
    graph = agent([sender(effects)], [call("send", to="bo")], middleware=middleware, checkpointer=saver)
    (waiting,) = gate.pending() or [None]
    given = Command(resume={"request": waiting.id, "approve": True, "by": "ada"}) if resume == "yes" else HELLO
    state = graph.invoke(given, thread)
    print(len(state.get("__interrupt__", ())), state["messages"][-1].content)
"""


def test_a_request_outlives_the_process_that_made_it(effects, tmp_path):
    """With ledger and checkpoints on disk one process asks, another one resumes, and the tool runs once."""
    pytest.importorskip("langgraph.checkpoint.sqlite")
    here = Path(__file__).parent
    program = f"import sys; sys.path.insert(0, {str(here)!r})\n{PROGRAM}"
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)]
    first = subprocess.run([*command, "no"], capture_output=True, text=True, check=True)
    assert first.stdout.split() == ["1"]
    assert effects.all == []
    second = subprocess.run([*command, "yes"], capture_output=True, text=True, check=True)
    assert second.stdout.split() == ["0", "done"]
    assert effects.all == ["send bo 1"]


def test_a_new_agent_object_resumes_what_another_one_asked(effects, make_gate, tmp_path):
    """Nothing about a request is kept in the middleware: another agent and gate on the same stores go on."""
    saver, ledger = InMemorySaver(), f"sqlite:///{tmp_path / 'l.db'}"
    turn = [call("send", to="bo")]
    first = waiting_agent(sender(effects), make_gate(POLICY, ledger), turn, saver=saver)
    (question,) = asked(step(first, "invoke"))
    second = waiting_agent(sender(effects), make_gate(POLICY, ledger), turn, saver=saver)
    state = step(second, "invoke", Command(resume=yes(question)))
    assert told(state["messages"]) == [[]]
    assert effects.all == ["send bo 1"]


@BOTH
def test_a_guarded_tool_behind_the_middleware_is_not_asked_about_twice(way, effects, make_gate):
    """The middleware asks and consumes the yes; the tool's own guard lets the same call pass."""
    gate = make_gate(POLICY)
    (made,) = guard_tools([sender(effects, "both")], gate, subject=ACME)
    graph = waiting_agent(made, gate, [call("send", to="bo")])
    (question,) = asked(step(graph, way))
    state = step(graph, way, Command(resume=yes(question)))
    assert told(state["messages"]) == [[]]
    assert effects.all == ["send bo 1"]
