"""Real LangChain agents with a scripted model, run in each way that LangChain has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver

from sluicegate import Gate, Subject
from sluicegate_langchain import GateMiddleware, guard_tools

ACME = Subject(tenant="acme", user="ada", agent="desk")
HELLO = {"messages": [HumanMessage("go on")]}
WAYS = ("invoke", "ainvoke", "stream", "astream", "batch", "abatch")


SYNC = WAYS[::2]


def each(*ways: str) -> pytest.MarkDecorator:
    """Each kind of tool in each of the *ways* that can run it: LangChain runs no async tool from sync code."""
    pairs = [(kind, way) for kind in ("sync", "async", "both") for way in ways]
    pairs = [(kind, way) for kind, way in pairs if kind != "async" or way not in SYNC]
    return pytest.mark.parametrize(("kind", "way"), pairs)


class Scripted(BaseChatModel):
    """A model that makes the tool calls of one turn after the other, and then says "done"."""

    turns: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Scripted:
        return self

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        calls = self.turns[turn] if turn < len(self.turns) else []
        said = AIMessage("" if calls else "done", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


def call(tool: str, id: str | None = "c1", /, **args: Any) -> dict[str, Any]:
    """A tool call as a model makes it."""
    return {"name": tool, "args": args, "id": id, "type": "tool_call"}


def sender(effects: Any, kind: str = "sync") -> StructuredTool:
    """A tool with an effect, whose body is sync, async or there in both forms."""

    def send(to: str, copies: int = 1) -> str:
        """Send."""
        return effects.add("send", to, copies)

    async def asend(to: str, copies: int = 1) -> str:
        return effects.add("send", to, copies)

    return StructuredTool.from_function(
        None if kind == "async" else send,
        None if kind == "sync" else asend,
        name="send",
        description="Send.",
    )


def agent(tools: Sequence[Any], *turns: list[Any], **options: Any) -> Any:
    """A real agent whose model makes the calls of *turns*."""
    return create_agent(Scripted(turns=list(turns)), list(tools), **options)


GUARDS = pytest.mark.parametrize("guard", ["middleware", "tools"])


def guarded(guard: str, gate: Any, made: BaseTool, *turns: Any) -> Any:
    """An agent with one tool that is guarded in one of the two ways."""
    if guard == "tools":
        return agent(guard_tools([made], gate), *turns)
    return agent([made], *turns, middleware=[GateMiddleware(gate)])


def go(graph: Any, way: str = "invoke", given: Any = HELLO, config: Any = None) -> list[Any]:
    """Run *graph* in one of the WAYS; the messages at the end."""
    if way == "invoke":
        return graph.invoke(given, config)["messages"]
    if way == "stream":
        return list(graph.stream(given, config, stream_mode="values"))[-1]["messages"]
    if way == "batch":
        return graph.batch([given], config)[0]["messages"]
    return asyncio.run(_ago(graph, way, given, config))


async def _ago(graph: Any, way: str, given: Any, config: Any) -> list[Any]:
    if way == "ainvoke":
        return (await graph.ainvoke(given, config))["messages"]
    if way == "abatch":
        return (await graph.abatch([given], config))[0]["messages"]
    states = [state async for state in graph.astream(given, config, stream_mode="values")]
    return states[-1]["messages"]


def answers(messages: Sequence[Any]) -> list[Any]:
    """The answers to tool calls, in order."""
    return [message for message in messages if isinstance(message, ToolMessage)]


def told(messages: Sequence[Any]) -> list[list[str]]:
    """The reason codes of each answer; an empty list for a call that ran."""
    notes = [message.additional_kwargs.get("sluicegate", {}) for message in answers(messages)]
    return [list(dict.fromkeys(note.get("codes", []))) for note in notes]


def entries(gate: Gate, kind: str) -> list[dict[str, Any]]:
    """The entries of the journal that are of one kind."""
    return [entry.content for entry in gate.journal if entry.content["kind"] == kind]


def decided(gate: Gate) -> list[str]:
    """The decisions in the journal, by their word."""
    return [entry["decision"] for entry in entries(gate, "decision")]


def proposed(gate: Gate) -> list[dict[str, Any]]:
    """The proposals in the journal."""
    return [entry["proposal"] for entry in entries(gate, "decision")]


def settled(gate: Gate) -> list[str]:
    """The outcomes in the journal, by their word."""
    return [entry["outcome"] for entry in entries(gate, "outcome")]


# --- graphs that wait for a person --------------------------------------------------------------------

THREAD: dict[str, Any] = {"configurable": {"thread_id": "t1"}}


def step(graph: Any, way: str, given: Any = HELLO) -> dict[str, Any]:
    """Run *graph* until it ends or interrupts."""
    if way == "ainvoke":
        return asyncio.run(graph.ainvoke(given, THREAD))
    return graph.invoke(given, THREAD)


def asked(state: dict[str, Any]) -> list[Any]:
    """What the interrupts of *state* ask, in order of the arguments."""
    values = [pending.value for pending in state.get("__interrupt__", ())]
    return sorted(values, key=lambda value: str(value["args"]))


def yes(question: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The answer of somebody who agrees."""
    return {"request": question["request"], "approve": True, "by": "ada", **more}


def waiting_agent(made: Any, gate: Any, *turns: Any, saver: Any = None) -> Any:
    """An agent whose requests interrupt it."""
    middleware = [GateMiddleware(gate, subject=ACME, ask="interrupt")]
    checkpointer = saver or InMemorySaver()
    return agent([made], *turns, middleware=middleware, checkpointer=checkpointer)
