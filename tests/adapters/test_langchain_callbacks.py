"""GateCallbackHandler: it can only say no, and its no is heard on every path that LangChain has."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.tools import ToolException, tool
from langchain_scene import (
    ACME,
    HELLO,
    WAYS,
    agent,
    call,
    decided,
    each,
    entries,
    go,
    proposed,
    sender,
    settled,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

import sluicegate
from sluicegate import ApprovalRequired, Defer, Denied, Objection, hookimpl
from sluicegate_langchain import GateCallbackHandler, GateMiddleware, guard_tools

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])


def with_handler(graph: Any, *handlers: Any) -> Any:
    return graph.with_config(callbacks=list(handlers))


@each(*WAYS)
def test_a_refused_call_does_not_run(way, kind, effects, make_gate):
    """Whether the tool or the agent is async or not: the run ends with Denied before the body."""
    gate = make_gate({"tools": {"other": {}}})
    graph = with_handler(
        agent([sender(effects, kind)], [call("send", to="x")]), GateCallbackHandler(gate)
    )
    with pytest.raises(Denied, match="unknown_tool"):
        go(graph, way)
    assert effects.all == []
    assert decided(gate) == ["deny"]


@each("invoke", "ainvoke")
def test_a_permitted_call_runs_and_is_settled(way, kind, effects, make_gate):
    """What the tool gave is on record, for the subject and the run that were given."""
    gate = make_gate({"tools": {"send": {}}})
    graph = with_handler(
        agent([sender(effects, kind)], [call("send", "c7", to="x")]),
        GateCallbackHandler(gate, subject=ACME),
    )
    with sluicegate.context(run="r1"):
        go(graph, way)
    assert effects.all == ["send x 1"]
    assert [entry["result"] for entry in entries(gate, "outcome")] == ["send x 1"]
    (proposal,) = proposed(gate)
    assert (proposal["run"], proposal["call_id"], proposal["args"]) == ("r1", "c7", {"to": "x"})
    assert proposal["subject"]["tenant"] == "acme"


@BOTH
def test_the_thread_is_the_run_where_nothing_else_is(way, effects, make_gate):
    """A callback is told of the thread only; the subject may be made of the same metadata."""
    gate = make_gate({"tools": {"send": {}}})
    handler = GateCallbackHandler(
        gate, subject=lambda metadata: sluicegate.Subject(user=metadata["caller"])
    )
    graph = with_handler(
        agent([sender(effects)], [call("send", to="x")], checkpointer=InMemorySaver()), handler
    )
    go(graph, way, config={"configurable": {"thread_id": "t1"}, "metadata": {"caller": "ada"}})
    (proposal,) = proposed(gate)
    assert (proposal["run"], proposal["subject"]["user"]) == ("t1", "ada")


@BOTH
@pytest.mark.parametrize(
    ("error", "handled"),
    [(ValueError("lost"), False), (ToolException("no"), False), (ToolException("no"), True)],
)
def test_what_a_tool_raises_is_settled(way, error, handled, make_gate):
    """An error is an outcome, as the policy says."""

    @tool
    def send(to: str) -> str:
        """Send."""
        raise error

    gate = make_gate({"tools": {"send": {}}})
    send.handle_tool_error = handled
    graph = with_handler(agent([send], [call("send", to="x")]), GateCallbackHandler(gate))
    if handled:
        assert go(graph, way)[-2].status == "error"
    else:
        with pytest.raises(type(error)):
            go(graph, way)
    assert settled(gate) == ["unknown"]


@BOTH
def test_an_interrupt_is_not_an_outcome(way, effects, make_gate):
    """A tool that asks a person may run when it is answered."""

    @tool
    def send(to: str) -> str:
        """Send."""
        return effects.add("send", to, interrupt("sure?"))

    gate = make_gate({"tools": {"send": {}}})
    config = {"configurable": {"thread_id": "t1"}}
    graph = agent([send], [call("send", to="x")], checkpointer=InMemorySaver())
    graph = with_handler(graph, GateCallbackHandler(gate))
    go(graph, way, config=config)
    go(graph, way, given=Command(resume="yes"), config=config)
    assert effects.all == ["send x yes"]
    assert settled(gate) == ["failed", "succeeded"]


@BOTH
def test_a_call_that_was_made_before_is_refused(way, effects, make_gate):
    """A callback cannot answer with the recorded result, so it says no."""
    gate = make_gate({"tools": {"send": {"once": {"key": "{to}", "within": "1h"}}}})
    graph = with_handler(
        agent([sender(effects)], [call("send", "a", to="x")], [call("send", "b", to="x")]),
        GateCallbackHandler(gate),
    )
    with pytest.raises(Denied, match="duplicate_call: this call was made before and succeeded"):
        go(graph, way)
    assert effects.all == ["send x 1"]


class Waiting:
    """A gate whose every call waits for a person."""

    def decide(self, proposal):
        return Defer(tool=proposal.tool, request_id="q1", reasons=(), expires_at=0)

    async def adecide(self, proposal):
        return self.decide(proposal)


def test_a_call_that_waits_for_a_person_is_said_to(effects):
    """A Defer ends the run too, with ApprovalRequired."""
    with pytest.raises(ApprovalRequired, match="request q1"):
        sender(effects).invoke({"to": "x"}, {"callbacks": [GateCallbackHandler(Waiting())]})
    assert effects.all == []


# --- ways in which LangChain does not hear a handler ----------------------------------------------------


@pytest.mark.parametrize("name", ["raise_error", "run_inline", "ignore_agent"])
def test_it_cannot_be_switched_off(name, make_gate):
    """What LangChain asks a handler before it listens to it has one answer, which nobody can set."""
    handler = GateCallbackHandler(make_gate({"tools": {"send": {}}}))
    expected = name != "ignore_agent"
    with pytest.raises(AttributeError):
        setattr(handler, name, not expected)
    assert getattr(handler, name) is expected


@pytest.mark.parametrize("name", ["on_tool_start", "on_tool_end", "on_tool_error"])
def test_it_is_no_async_handler(name):
    """LangChain swallows what an async handler raises before a sync tool, and then runs the tool."""
    assert not asyncio.iscoroutinefunction(getattr(GateCallbackHandler, name))


class Failing:
    """A plugin that raises what LangChain swallows in callbacks."""

    @hookimpl
    def sluicegate_object(self):
        raise NotImplementedError


def unsure(_: Any) -> Any:
    raise NotImplementedError


@each("invoke", "ainvoke")
@pytest.mark.parametrize("where", ["plugin", "subject"])
def test_no_failure_inside_looks_like_a_missing_method(where, way, kind, effects, make_gate):
    """NotImplementedError would let the call through; it never leaves the gate."""
    gate = make_gate(
        {"tools": {"send": {}}}, plugins={"broken": Failing()} if where == "plugin" else {}
    )
    handler = GateCallbackHandler(gate, subject=unsure if where == "subject" else None)
    with pytest.raises(Denied, match="plugin_error|missing_subject"):
        go(with_handler(agent([sender(effects, kind)], [call("send", to="x")]), handler), way)
    assert effects.all == []


@BOTH
@pytest.mark.parametrize("handling", [None, False, True, "sorry", ValueError])
def test_a_tool_node_never_runs_what_was_refused(way, handling, effects, make_gate):
    """Whatever a ToolNode makes of errors, it comes after the refusal."""
    options = {} if handling is None else {"handle_tool_errors": handling}
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([sender(effects)], **options))
    graph.set_entry_point("tools")
    gate = make_gate({"tools": {"other": {}}})
    given = {
        "messages": [
            ("user", "go"),
            {"role": "assistant", "content": "", "tool_calls": [call("send", to="x")]},
        ]
    }
    compiled = with_handler(graph.compile(), GateCallbackHandler(gate))
    if handling in (True, "sorry"):
        assert go(compiled, way, given=given)[-1].status == "error"
    else:
        with pytest.raises(Denied):
            go(compiled, way, given=given)
    assert effects.all == []


@BOTH
def test_callbacks_of_the_caller_do_not_replace_it(way, effects, make_gate):
    """Installed with `with_config` it stays, also if a caller brings callbacks of his own."""
    gate = make_gate({"tools": {"other": {}}})
    graph = with_handler(
        agent([sender(effects)], [call("send", to="x")]), GateCallbackHandler(gate)
    )
    with pytest.raises(Denied):
        go(graph, way, config={"callbacks": []})
    assert effects.all == []


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "run", "batch", "nested"])
def test_tools_called_without_an_agent(how, effects, make_gate):
    """A plain call of a tool is a call too, with no id; so is one tool that calls another."""
    gate = make_gate({"tools": {"outer": {}}})
    send, handler = sender(effects), GateCallbackHandler(gate)
    config = {"callbacks": [handler]}

    @tool
    def outer(to: str) -> str:
        """Call the other one."""
        return send.invoke({"to": to})

    calls = {
        "invoke": lambda: send.invoke({"to": "x"}, config),
        "ainvoke": lambda: asyncio.run(send.ainvoke({"to": "x"}, config)),
        "run": lambda: send.run({"to": "x"}, callbacks=[handler]),
        "batch": lambda: send.batch([{"to": "x"}], config),
        "nested": lambda: outer.invoke({"to": "x"}, config),
    }
    with pytest.raises(Denied):
        calls[how]()
    assert effects.all == []
    assert proposed(gate)[-1]["tool"] == "send"
    assert proposed(gate)[-1]["call_id"] is None


@BOTH
def test_an_agent_inside_a_tool_is_heard_as_well(way, effects, make_gate):
    """Callbacks are handed down where middleware is not."""
    gate = make_gate({"tools": {"delegate": {}}})
    inner = agent([sender(effects)], [call("send", to="x")])

    @tool
    def delegate(task: str) -> str:
        """Delegate."""
        return inner.invoke(HELLO)["messages"][-1].content

    with pytest.raises(Denied, match="send was not run"):
        go(
            with_handler(
                agent([delegate], [call("delegate", task="x")]), GateCallbackHandler(gate)
            ),
            way,
        )
    assert effects.all == []


# --- arguments ------------------------------------------------------------------------------------------


@BOTH
def test_with_the_tools_it_knows_what_they_declare(way, effects, make_gate):
    """A callback is not told the schema; given the tools, unknown arguments and defaults are seen."""
    gate = make_gate({"tools": {"send": {}}})
    send = sender(effects)
    graph = with_handler(
        agent([send], [call("send", to="x", copys=500)]), GateCallbackHandler(gate, tools=[send])
    )
    with pytest.raises(Denied, match="'copys'.*did you mean 'copies'"):
        go(graph, way)
    assert effects.all == []
    assert proposed(gate)[0]["args"] == {"to": "x", "copies": 1, "copys": 500}


@pytest.mark.parametrize("known", [True, False])
def test_a_bare_text_is_an_argument(known, effects, make_gate):
    """A tool may be given a text instead of named arguments."""

    @tool
    def search(query: str) -> str:
        """Search."""
        return effects.add("search", query)

    gate = make_gate({"tools": {"search": {}}})
    handler = GateCallbackHandler(gate, tools=[search] if known else [])
    search.invoke("boots", {"callbacks": [handler]})
    assert effects.all == ["search boots"]
    assert proposed(gate)[0]["args"] == ({"query": "boots"} if known else {"input": "boots"})


# --- together with the others -----------------------------------------------------------------------------


@each("invoke", "ainvoke")
@pytest.mark.parametrize("others", ["middleware", "tools", "both"])
def test_with_other_guards_a_call_is_decided_once_and_settled_once(
    others, way, kind, effects, make_gate
):
    """Each guard that a call passes knows that it was permitted further out."""
    limits = [{"budget": "calls", "limit": 1, "per": ["tenant"], "window": "day"}]
    gate = make_gate({"tools": {"send": {}}, "limits": limits})
    send = sender(effects, kind)
    tools = guard_tools([send], gate, subject=ACME) if others != "middleware" else [send]
    middleware = [GateMiddleware(gate, subject=ACME)] if others != "tools" else []
    graph = agent(tools, [call("send", to="x")], middleware=middleware)
    messages = go(with_handler(graph, GateCallbackHandler(gate, subject=ACME, tools=[send])), way)
    assert messages[-2].content == "send x 1"
    assert effects.all == ["send x 1"]
    assert decided(gate) == ["permit"]
    assert settled(gate) == ["succeeded"]


@BOTH
def test_another_gate_decides_for_itself(way, effects, make_gate):
    """What one gate permitted, another one may still refuse."""
    wide, narrow = make_gate({"tools": {"send": {}}}), make_gate({"tools": {"other": {}}})
    graph = agent([sender(effects)], [call("send", to="x")], middleware=[GateMiddleware(wide)])
    with pytest.raises(Denied):
        go(with_handler(graph, GateCallbackHandler(narrow)), way)
    assert effects.all == []
    assert settled(wide) == ["unknown"]


def test_calls_from_many_threads_keep_their_permits(effects, make_gate):
    """One handler serves any number of calls at once, each settled by its own end."""
    limits = [{"budget": "calls", "limit": 10, "per": ["run"]}]
    gate = make_gate({"tools": {"send": {}}, "limits": limits})
    handler, send, refused = GateCallbackHandler(gate), sender(effects), []

    def work(n: int) -> None:
        with sluicegate.context(run="r1"):
            try:
                send.invoke({"to": f"x{n}"}, {"callbacks": [handler]})
            except Denied as error:
                refused.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(effects.all) == settled(gate).count("succeeded") == 10
    assert len(refused) == 14
    results = {entry["permit"]: entry["result"] for entry in entries(gate, "outcome")}
    permits = {
        entry["permit"]: entry["proposal"]
        for entry in entries(gate, "decision")
        if "permit" in entry
    }
    assert all(
        results[permit] == f"send {proposal['args']['to']} 1"
        for permit, proposal in permits.items()
    )


class Evil:
    """A plugin that refuses for good."""

    @hookimpl
    def sluicegate_object(self):
        return Objection(message="fraud", final=True)


@BOTH
def test_a_final_refusal_ends_the_run_like_any_other(way, effects, make_gate):
    """Each refusal by a callback ends the run."""
    gate = make_gate({"tools": {"send": {}}}, plugins={"evil": Evil()})
    with pytest.raises(Denied) as raised:
        go(
            with_handler(
                agent([sender(effects)], [call("send", to="x")]), GateCallbackHandler(gate)
            ),
            way,
        )
    assert raised.value.decision.final
    assert effects.all == []
