"""guard_tools: the tool asks the gate itself, looks the same, and is decided once on every path."""

from __future__ import annotations

import asyncio
import copy
import threading
from typing import Annotated, Any

import pytest
from langchain.tools import InjectedState, InjectedStore, ToolRuntime
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, Tool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_scene import (
    ACME,
    WAYS,
    agent,
    answers,
    call,
    decided,
    each,
    entries,
    go,
    proposed,
    sender,
    settled,
    told,
)
from langgraph.store.memory import InMemoryStore

import sluicegate
from sluicegate import Denied, Objection, Subject, hookimpl
from sluicegate_langchain import GateMiddleware, guard_tools

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])


class Pay(BaseTool):
    """A tool of the old kind: a class with `_run` and `_arun`."""

    name: str = "pay"
    description: str = "Pay."
    effects: Any = None

    def _run(self, amount: int, currency: str = "EUR", run_manager: Any = None) -> str:
        return self.effects.add("pay", amount, currency, run_manager is not None)

    async def _arun(self, amount: int, currency: str = "EUR", run_manager: Any = None) -> str:
        return self._run(amount, currency, run_manager)


# --- it looks the same --------------------------------------------------------------------------------


@tool(response_format="content_and_artifact")
def report(
    title: str,
    state: Annotated[dict[str, Any], InjectedState],
    store: Annotated[Any, InjectedStore()],
    runtime: ToolRuntime,
    call_id: Annotated[str, InjectedToolCallId],
    config: RunnableConfig,
    pages: int = 3,
) -> tuple[str, list[Any]]:
    """Report on something."""
    seen = [
        len(state["messages"]),
        store.get(("a",), "b").value["c"],
        runtime.tool_call_id,
        call_id,
    ]
    return f"{title} {pages}", [*seen, config["configurable"]["extra"]]


MADE = {
    "injected": report,
    "plain": Tool(name="plain", description="Plain.", func=lambda text: text),
    "class": Pay(),
    "json": StructuredTool.from_function(
        lambda **given: str(given),
        name="json",
        description="JSON.",
        args_schema={"properties": {"a": {"type": "integer"}}},
    ),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_a_guarded_tool_looks_the_same_to_the_model(made, make_gate):
    """Name, description, schema and class are those of the tool; the tool itself is left alone."""
    before = type(made)
    (guarded,) = guard_tools([made], make_gate({"tools": {"x": {}}}))
    assert convert_to_openai_tool(guarded) == convert_to_openai_tool(made)
    assert (guarded.name, guarded.description, guarded.response_format) == (
        made.name,
        made.description,
        made.response_format,
    )
    assert isinstance(guarded, type(made))
    assert type(guarded).__name__ == type(made).__name__
    assert guarded is not made
    assert type(made) is before


@BOTH
def test_what_langchain_injects_arrives_and_the_artifact_comes_back(way, make_gate):
    """State, store, runtime, call id and config reach a guarded tool, and the policy sees none of them."""
    store = InMemoryStore()
    store.put(("a",), "b", {"c": 7})
    gate = make_gate({"tools": {"report": {}}})
    graph = agent(guard_tools([report], gate), [call("report", "c9", title="x")], store=store)
    (answer,) = answers(go(graph, way, config={"configurable": {"extra": "here"}}))
    assert (answer.content, answer.artifact) == ("x 3", [2, 7, "c9", "c9", "here"])
    assert proposed(gate)[0]["args"] == {"title": "x", "pages": 3}
    assert [entry["result"] for entry in entries(gate, "outcome")] == ["x 3"]


@BOTH
def test_a_tool_class_keeps_its_run_manager(way, effects, make_gate):
    """LangChain looks at the signature of `_run` for what to hand it, and still finds it."""
    gate = make_gate({"tools": {"pay": {}}})
    graph = agent(guard_tools([Pay(effects=effects)], gate), [call("pay", amount=5)])
    assert told(go(graph, way)) == [[]]
    assert effects.all == ["pay 5 EUR True"]
    assert settled(gate) == ["succeeded"]


# --- it asks the gate -----------------------------------------------------------------------------------


@each(*WAYS)
def test_a_refused_call_does_not_run_and_the_agent_goes_on(way, kind, effects, make_gate):
    """Without any middleware, each way to run an agent ends at the tool."""
    gate = make_gate({"tools": {"send": {"args": {"properties": {"copies": {"maximum": 5}}}}}})
    turns = [[call("send", "a", to="x", copies=9)], [call("send", "b", to="x", copies=2)]]
    messages = go(agent(guard_tools([sender(effects, kind)], gate, subject=ACME), *turns), way)
    assert effects.all == ["send x 2"]
    no, yes = answers(messages)
    assert (no.status, no.tool_call_id, no.name) == ("error", "a", "send")
    assert "args_invalid: copies: 9 is greater than the maximum of 5" in no.content
    assert yes.content == "send x 2"
    assert messages[-1].content == "done"
    assert decided(gate) == ["deny", "permit"]
    assert settled(gate) == ["succeeded"]
    assert gate.journal.verify() is None


HOW = {
    "invoke": lambda made, args: made.invoke(args),
    "run": lambda made, args: made.run(args),
    "batch": lambda made, args: made.batch([args])[0],
    "stream": lambda made, args: next(iter(made.stream(args))),
    "func": lambda made, args: made.func(**args),
    "ainvoke": lambda made, args: asyncio.run(made.ainvoke(args)),
    "arun": lambda made, args: asyncio.run(made.arun(args)),
    "abatch": lambda made, args: asyncio.run(made.abatch([args]))[0],
    "coroutine": lambda made, args: asyncio.run(made.coroutine(**args)),
}


@pytest.mark.parametrize("how", HOW)
def test_called_without_an_agent_it_raises_denied(how, effects, make_gate):
    """Whoever calls the tool from Python, or takes its function, is refused by an exception."""
    gate = make_gate({"tools": {"send": {"args": {"properties": {"copies": {"maximum": 5}}}}}})
    (made,) = guard_tools([sender(effects, "both")], gate, subject=ACME)
    with pytest.raises(Denied, match="copies: 9 is greater"):
        HOW[how](made, {"to": "x", "copies": 9})
    with pytest.raises(Denied, match="copys"):
        HOW[how](made, {"to": "x", "copys": 9}) if how not in (
            "func",
            "coroutine",
        ) else made.invoke({"to": "x", "copys": 9})
    assert effects.all == []
    assert HOW[how](made, {"to": "x", "copies": 2}) == "send x 2"
    assert effects.all == ["send x 2"]
    assert decided(gate) == ["deny", "deny", "permit"]
    assert settled(gate) == ["succeeded"]
    assert {proposal["subject"]["tenant"] for proposal in proposed(gate)} == {"acme"}
    assert {proposal["call_id"] for proposal in proposed(gate)} == {None}


@pytest.mark.parametrize("how", ["invoke", "func"])
def test_an_identical_earlier_call_from_python_gives_the_recorded_result(how, effects, make_gate):
    """What was done once is not done again, and its result is returned as it was."""
    gate = make_gate({"tools": {"send": {"once": {"key": "{to}", "within": "1h"}}}})
    (made,) = guard_tools([sender(effects)], gate)
    assert HOW[how](made, {"to": "x"}) == HOW[how](made, {"to": "x"}) == "send x 1"
    assert effects.all == ["send x 1"]


@pytest.mark.parametrize("how", ["_run", "_arun"])
def test_the_inner_methods_of_a_tool_class_are_no_way_around(how, effects, make_gate):
    """Some frameworks call `_run` itself; on a tool that has no function it is refused."""
    (made,) = guard_tools([Pay(effects=effects)], make_gate({"tools": {"pay": {}}}))
    with pytest.raises(Denied):
        made._run(amount=5) if how == "_run" else asyncio.run(made._arun(amount=5))
    assert effects.all == []


def test_the_inner_methods_of_a_function_tool_end_at_its_guarded_function(effects, make_gate):
    """`_run` of a StructuredTool calls the function, which is guarded."""
    (made,) = guard_tools([sender(effects)], make_gate({"tools": {"other": {}}}))
    with pytest.raises(Denied):
        made._run(to="x", config={})
    assert effects.all == []


def test_in_a_raw_thread_it_is_guarded_too(effects, make_gate):
    """Callbacks get lost in a raw thread; what the tool itself does, does not."""
    (made,) = guard_tools([sender(effects)], make_gate({"tools": {"other": {}}}))
    raised: list[Exception] = []

    def work() -> None:
        try:
            made.invoke({"to": "x"})
        except Denied as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert effects.all == []


@BOTH
@pytest.mark.parametrize("missing", [None, ""])
def test_a_call_without_an_id_does_not_run(way, missing, effects, make_gate):
    """A tool call without an id is not taken for a plain call from Python."""
    gate = make_gate({"tools": {"send": {}}})
    messages = go(agent(guard_tools([sender(effects)], gate), [call("send", missing, to="x")]), way)
    assert told(messages) == [["duplicate_call"]]
    assert effects.all == []


@BOTH
def test_who_and_which_run(way, effects, make_gate):
    """The subject may be a function of the config; the run is the program's, or the thread."""
    gate = make_gate({"tools": {"send": {}}})
    tools = guard_tools(
        [sender(effects)], gate, subject=lambda config: Subject(user=config["configurable"]["user"])
    )
    graph = agent(tools, [call("send", to="x")])
    config = {"configurable": {"user": "ada", "thread_id": 7}}
    go(graph, way, config=config)
    with sluicegate.context(run="r1"):
        go(graph, way, config=config)
    assert [(p["subject"]["user"], p["run"]) for p in proposed(gate)] == [
        ("ada", "7"),
        ("ada", "r1"),
    ]


class Evil:
    """A plugin that refuses for good."""

    @hookimpl
    def sluicegate_object(self):
        return Objection(message="fraud", final=True)


def test_a_final_refusal_says_so_in_its_message(effects, make_gate):
    """A tool alone cannot end an agent's loop; whoever can finds the word in the message."""
    gate = make_gate({"tools": {"send": {}}}, plugins={"evil": Evil()})
    (answer,) = answers(go(agent(guard_tools([sender(effects)], gate), [call("send", to="x")])))
    assert answer.additional_kwargs["sluicegate"]["final"] is True
    assert effects.all == []


@each("invoke", "ainvoke")
def test_with_the_middleware_a_call_is_decided_once(way, kind, effects, make_gate):
    """A call that the middleware permitted is not asked about again by its tool."""
    limits = [{"budget": "calls", "limit": 2, "per": ["tenant"], "window": "day"}]
    gate = make_gate({"tools": {"send": {}}, "limits": limits})
    turn = [call("send", "a", to="x"), call("send", "b", to="y"), call("send", "c", to="z")]
    graph = agent(
        guard_tools([sender(effects, kind)], gate),
        turn,
        middleware=[GateMiddleware(gate, subject=ACME)],
    )
    assert sorted(told(go(graph, way))) == [[], [], ["budget"]]
    assert len(effects.all) == 2
    assert sorted(decided(gate)) == ["deny", "permit", "permit"]
    assert settled(gate) == ["succeeded", "succeeded"]


# --- what cannot be guarded -------------------------------------------------------------------------------


def test_guarding_twice(effects, make_gate):
    """A tool that this gate guards stays as it is; another gate's is refused when it is made."""
    gate = make_gate({"tools": {"send": {}}})
    (made,) = guard_tools([sender(effects)], gate)
    assert guard_tools([made], gate) == [made]
    with pytest.raises(TypeError, match="send is guarded by another gate"):
        guard_tools([made], make_gate({"tools": {"send": {}}}))


def test_a_generator_cannot_be_guarded(make_gate):
    """The body of a generator runs after the call; that is told when the tool is guarded."""

    def stream(to: str) -> Any:
        """Stream."""
        yield to

    with pytest.raises(TypeError, match="stream is a generator"):
        guard_tools([tool(stream)], make_gate({"tools": {"stream": {}}}))


def test_a_guarded_tool_can_be_copied(effects, make_gate):
    """Frameworks copy tools; a copy asks the same gate."""
    gate = make_gate({"tools": {"other": {}}})
    (made,) = guard_tools([sender(effects)], gate)
    for twin in (made.model_copy(), copy.copy(made)):
        with pytest.raises(Denied):
            twin.invoke({"to": "x"})
    assert effects.all == []
    assert len(decided(gate)) == 2
