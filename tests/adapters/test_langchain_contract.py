"""The promises that every adapter keeps, kept by `create_agent` with each of the three ways to guard it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from langchain_core.tools import StructuredTool
from langchain_scene import HELLO, Scripted, agent, answers
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import MessagesState

from sluicegate import Gate, Objection
from sluicegate.testing import AdapterContract, Script, Told
from sluicegate.testing.scene import Bodies, Plugin, decisions_of, gate_over, pay, turns
from sluicegate_langchain import GateMiddleware, guard_tools, tool_node


def tool_of(function: Callable[..., Any]) -> StructuredTool:
    part = "coroutine" if inspect.iscoroutinefunction(function) else "func"
    return StructuredTool.from_function(**{part: function})


def said(messages: Sequence[Any]) -> Told:
    texts = [str(message.content) for message in answers(messages)]
    return Told(texts, messages[-1].content == "done")


class LangChainContract(AdapterContract):
    """Runs a graph; subclasses say how it is made."""

    def graph(self, gate: Gate, tools: Sequence[Any], turns: list[Any], subject: Any) -> Any:
        raise NotImplementedError

    def made(self, gate: Gate, tools: Any, script: Script, subject: Any) -> Any:
        turns = [
            [{"name": c.tool, "args": c.args, "id": c.id, "type": "tool_call"} for c in turn]
            for turn in script
        ]
        return self.graph(gate, [tool_of(function) for function in tools], turns, subject)

    def run(self, gate: Gate, tools: Any, script: Script, subject: Any = None) -> Told:
        return said(
            self.made(gate, tools, script, subject).invoke(HELLO, self.config())["messages"]
        )

    async def arun(self, gate: Gate, tools: Any, script: Script, subject: Any = None) -> Told:
        state = await self.made(gate, tools, script, subject).ainvoke(HELLO, self.config())
        return said(state["messages"])

    runs: ClassVar[int] = 0

    def config(self) -> dict[str, Any]:
        """A thread of its own for each run: graphs without the middleware have no other name for one."""
        LangChainContract.runs += 1
        return {"recursion_limit": 100, "configurable": {"thread_id": f"thread-{self.runs}"}}


class TestMiddleware(LangChainContract):
    """`create_agent` with `GateMiddleware`."""

    def graph(self, gate: Gate, tools: Sequence[Any], turns: list[Any], subject: Any) -> Any:
        return agent(tools, *turns, middleware=[GateMiddleware(gate, subject=subject)])


class CannotStop(LangChainContract):
    """What has no say in the loop: the named exception in docs/langchain.md."""

    def test_a_final_refusal_ends_the_run(self) -> None:
        """The loop is not ours to end: the model is told to stop, and each further call is refused."""
        bodies, stop = Bodies(), Plugin(lambda: Objection(message="stop now", final=True))
        gate = gate_over(plugins={"stop": stop})
        told = self._run(gate, [bodies.pay()], turns(pay(1), pay(2), pay(3)))
        assert bodies.ran == []
        assert all("Stop here" in reply for reply in told.replies)
        assert len(decisions_of(gate)) == 3


class TestGuardedTools(CannotStop):
    """`create_agent` with tools from `guard_tools`, and no middleware."""

    def graph(self, gate: Gate, tools: Sequence[Any], turns: list[Any], subject: Any) -> Any:
        return agent(guard_tools(tools, gate, subject=subject), *turns)


class TestToolNode(CannotStop):
    """A graph built by hand around `tool_node`."""

    def graph(self, gate: Gate, tools: Sequence[Any], turns: list[Any], subject: Any) -> Any:
        model = Scripted(turns=turns)

        def ask(state: Any) -> Any:
            return {"messages": [model.invoke(state["messages"])]}

        def more(state: Any) -> str:
            return "tools" if state["messages"][-1].tool_calls else END

        graph = StateGraph(MessagesState)
        graph.add_node("model", ask)
        graph.add_node("tools", tool_node(tools, gate, subject=subject))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", more)
        graph.add_edge("tools", "model")
        return graph.compile()
