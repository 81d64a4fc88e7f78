"""Ways around a gate that LangChain leaves open: the body runs as decided or not at all."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain.agents.middleware import (
    AgentMiddleware,
)
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import InjectedToolArg, tool
from langchain_scene import (
    ACME,
    HELLO,
    WAYS,
    agent,
    answers,
    call,
    each,
    go,
    proposed,
    sender,
    told,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph

from sluicegate import Gate
from sluicegate_langchain import GateCallbackHandler, GateMiddleware, guard_tools, tool_node

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
THREAD = {"configurable": {"thread_id": "t1"}}


def graph_of(node: Any, **options: Any) -> Any:
    """A graph built by hand that is nothing but its tools."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", node)
    graph.set_entry_point("tools")
    return graph.compile(**options)


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    """A history that ends in a model's calls."""
    return {"messages": [HumanMessage("go on"), AIMessage("", tool_calls=list(calls))]}


class Around(AgentMiddleware):
    """A middleware made of one function, sync or async as it comes."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(self.change(request))

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return await handler(self.change(request))


# --- hooks that are not called ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hook", ["wrap_tool_call", "awrap_tool_call", "before_agent", "before_model"]
)
def test_hooks_are_on_the_class(hook):
    """LangChain looks for hooks on the class and ignores those of an instance."""
    assert getattr(GateMiddleware, hook) is not getattr(AgentMiddleware, hook)


@each(*WAYS)
def test_a_subclass_guards_as_well(way, kind, effects, make_gate):
    """A middleware derived from the gate's is still the gate's."""

    class Ours(GateMiddleware):
        pass

    gate = make_gate({"tools": {"other": {}}})
    messages = go(
        agent([sender(effects, kind)], [call("send", to="x")], middleware=[Ours(gate)]), way
    )
    assert told(messages) == [["unknown_tool"]]
    assert effects.all == []


@each(*WAYS)
@pytest.mark.parametrize("handling", [None, True, False])
def test_a_tool_node_is_guarded_from_sync_and_async_code(handling, way, kind, effects, make_gate):
    """A ToolNode with one wrapper only runs unguarded in the other world; tool_node has both."""
    gate = make_gate({"tools": {"send": {"args": {"properties": {"to": {"const": "me"}}}}}})
    options = {} if handling is None else {"handle_tool_errors": handling}
    graph = graph_of(tool_node([sender(effects, kind)], gate, subject=ACME, **options))
    given = asks(call("send", "a", to="x"), call("send", "b", to="me"), call("nope", "c"))
    messages = go(graph, way, given=given)
    assert told(messages) == [["args_invalid"], [], ["unknown_tool"]]
    assert effects.all == ["send me 1"]


def test_a_wrapper_of_ones_own_does_not_replace_the_gate(effects, make_gate):
    """tool_node takes every option of ToolNode but those that are the gate's."""
    with pytest.raises(TypeError, match="wrap_tool_call"):
        tool_node(
            [sender(effects)],
            make_gate({"tools": {"send": {}}}),
            wrap_tool_call=lambda request, run: run(request),
        )


class Crashing(Gate):
    """A gate that fails in a way that nobody thought of."""

    def decide(self, proposal):
        raise RuntimeError("unheard of")

    async def adecide(self, proposal):
        raise RuntimeError("unheard of")


@each("invoke", "ainvoke")
@pytest.mark.parametrize("guard", ["middleware", "node", "lenient node", "tools", "callbacks"])
def test_a_gate_that_crashes_runs_nothing(guard, way, kind, effects):
    """Also where the gate itself breaks, the call does not go through."""
    gate = Crashing({"version": 1, "tools": {"send": {}}}, "memory:")
    send, turn = sender(effects, kind), [call("send", to="x")]
    graphs = {
        "middleware": lambda: agent([send], turn, middleware=[GateMiddleware(gate)]),
        "node": lambda: graph_of(tool_node([send], gate)),
        "lenient node": lambda: graph_of(tool_node([send], gate, handle_tool_errors=True)),
        "tools": lambda: agent(guard_tools([send], gate), turn),
        "callbacks": lambda: agent([send], turn).with_config(callbacks=[GateCallbackHandler(gate)]),
    }
    if guard == "lenient node":
        assert go(graphs[guard](), way, given=asks(*turn))[-1].status == "error"
    else:
        with pytest.raises(RuntimeError, match="unheard of"):
            go(graphs[guard](), way, given=asks(*turn) if guard == "node" else HELLO)
    assert effects.all == []


@BOTH
def test_a_callback_manager_that_hands_nothing_down(way, effects, make_gate):
    """Handlers that LangChain does not hand down to tools are not asked; guarded tools are."""
    gate = make_gate({"tools": {"other": {}}})
    config = {"callbacks": CallbackManager(handlers=[GateCallbackHandler(gate)])}
    messages = go(
        agent(guard_tools([sender(effects)], gate), [call("send", to="x")]), way, config=config
    )
    assert told(messages) == [["unknown_tool"]]
    assert effects.all == []


# --- what is not the model's ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("unknown", ["deny", "drop", "allow"])
def test_an_injected_argument_cannot_be_forged(unknown, way, effects, make_gate):
    """Older versions hand on what a model sends for an argument that only the program may fill in."""

    @tool
    def pay(amount: int, user: Annotated[str, InjectedToolArg] = "nobody") -> str:
        """Pay."""
        return effects.add("pay", amount, user)

    gate = make_gate({"tools": {"pay": {"unknown_args": unknown}}})
    messages = go(
        agent([pay], [call("pay", amount=5, user="root")], middleware=[GateMiddleware(gate)]), way
    )
    assert told(messages) == ([["args_unknown"]] if unknown == "deny" else [[]])
    assert effects.all == ([] if unknown == "deny" else ["pay 5 nobody"])


@BOTH
def test_an_agent_inside_a_tool_needs_a_gate_of_its_own_or_guarded_tools(way, effects, make_gate):
    """Middleware is not handed down to an inner agent; guarded tools need nobody to hand them down."""
    gate = make_gate({"tools": {"delegate": {}}})
    inner = agent(guard_tools([sender(effects)], gate), [call("send", to="x")])

    @tool
    def delegate(task: str) -> str:
        """Delegate."""
        return inner.invoke(HELLO)["messages"][-2].content

    messages = go(
        agent(
            [delegate],
            [call("delegate", task="x")],
            middleware=[GateMiddleware(gate, subject=ACME)],
        ),
        way,
    )
    assert "REFUSED: send was not run" in answers(messages)[0].content
    assert effects.all == []
    outer, refused = proposed(gate)
    assert refused["run"] == outer["run"]
    assert refused["subject"] == outer["subject"]


@BOTH
@pytest.mark.parametrize("thread", [None, "t1", "t2"])
def test_a_thread_of_its_own_makes_a_run_of_its_own(thread, way, effects, make_gate):
    """LangGraph hands the thread down to what a tool calls: only another thread is another run."""
    gate = make_gate({"tools": {"*": {}}})
    (send,) = guard_tools([sender(effects)], gate)

    @tool
    def relay(to: str) -> str:
        """Relay."""
        return send.invoke({"to": to}, thread and {"configurable": {"thread_id": thread}})

    graph = agent(
        [relay],
        [call("relay", to="x")],
        middleware=[GateMiddleware(gate)],
        checkpointer=InMemorySaver(),
    )
    go(graph, way, config=THREAD)
    assert effects.all == ["send x 1"]
    outer, inner = proposed(gate)
    if thread == "t2":
        assert (inner["run"], inner["parent"], inner["depth"]) == ("t2", outer["run"], 1)
    else:
        assert (inner["run"], inner["parent"], inner["depth"]) == (outer["run"], None, 0)
