"""Finding the tools of a graph that no gate guards."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain_core.tools import tool
from langchain_scene import agent
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import MessagesState
from langgraph.prebuilt import ToolNode

from sluicegate import Gate
from sluicegate.testing import assert_every_tool_guarded
from sluicegate_langchain import GateMiddleware, guard_tools, tool_node, unguarded

GATE = Gate({"version": 1, "tools": {"pay": {}, "look": {}}}, "memory:")


@tool
def pay(amount: int) -> str:
    """Pay."""
    return "paid"


@tool
def look(key: str) -> str:
    """Look."""
    return "seen"


class Passing(AgentMiddleware):
    """Middleware that has nothing to say."""

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return await handler(request)


class Passing2(Passing):
    """LangChain takes one instance of a class."""


def graph(node: Any) -> Any:
    made = StateGraph(MessagesState)
    made.add_node("inner", node)
    made.add_edge(START, "inner")
    made.add_edge("inner", END)
    return made.compile()


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda: agent([pay, look]), ["look", "pay"]),
        (lambda: agent([pay, look], middleware=[Passing()]), ["look", "pay"]),
        (lambda: agent([pay, look], middleware=[GateMiddleware(GATE)]), []),
        (lambda: agent([pay], middleware=[Passing(), GateMiddleware(GATE), Passing2()]), []),
        (lambda: agent([*guard_tools([pay], GATE), look]), ["look"]),
        (lambda: graph(tool_node([pay], GATE)), []),
        (lambda: graph(ToolNode([pay])), ["pay"]),
        (
            lambda: graph(ToolNode([pay], wrap_tool_call=GateMiddleware(GATE).wrap_tool_call)),
            ["pay"],
        ),
        (lambda: graph(agent([pay])), ["pay"]),
        (lambda: graph(agent([pay], middleware=[GateMiddleware(GATE)])), []),
        (lambda: agent([]), []),
    ],
)
def test_unguarded(made: Any, names: list[str]) -> None:
    """Tools are found wherever they are in a graph; both ways to run them have to be guarded."""
    found = made()
    assert unguarded(found) == names
    if names:
        with pytest.raises(AssertionError, match=", ".join(names)):
            assert_every_tool_guarded(found)
    else:
        assert_every_tool_guarded(found)


def test_something_else_is_no_graph() -> None:
    """A tool or a graph that is not compiled cannot be checked, and is not called guarded."""
    for other in (pay, StateGraph(MessagesState)):
        with pytest.raises(TypeError, match="no compiled graph"):
            unguarded(other)
