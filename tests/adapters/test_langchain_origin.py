"""Where values come from, with real agents: the user's words, results of earlier turns, and nothing else."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Annotated, Any

import pytest
from langchain.agents.middleware import AgentMiddleware, SummarizationMiddleware
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_scene import agent, answers, call, go, proposed, told
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from typing_extensions import TypedDict

import sluicegate
from sluicegate_langchain import GateMiddleware, guard_tools, tool_node

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
INVENTED = "GB29 NWBK 6016 1331 9268 19"
KNOWN = "DE89 3704 0044 0532 0130 00"
POLICY: dict[str, Any] = {
    "tools": {
        "get_order": {"effect": "read"},
        "pay": {"origin": {"iban": ["prompt", "get_order"]}},
        "delegate": {},
    }
}


@pytest.fixture
def shop(effects):
    """A tool to look orders up, and one that pays."""

    @tool
    def get_order(order: str) -> dict[str, str]:
        """Look an order up."""
        return {"order": order, "iban": KNOWN}

    @tool
    def pay(iban: str) -> str:
        """Pay."""
        return effects.add("paid", iban)

    return [get_order, pay]


def user(text: Any) -> dict[str, Any]:
    """A run that begins with these words of the user."""
    return {"messages": [HumanMessage(text)]}


def pays(shop: Any, gate: Any, *turns: Any) -> Any:
    """An agent for the shop."""
    return agent(shop, *turns, middleware=[GateMiddleware(gate)])


@BOTH
@pytest.mark.parametrize(
    "words",
    [
        f"Pay 12 EUR to {KNOWN}, please",
        "pay to de89370400440532013000",
        [{"type": "text", "text": f"Pay to {KNOWN}"}, {"type": "text", "text": "quickly"}],
    ],
)
def test_a_value_from_the_users_words_passes(way, words, shop, effects, make_gate):
    """However the user wrote it, and in whatever content blocks."""
    messages = go(pays(shop, make_gate(POLICY), [call("pay", iban=KNOWN)]), way, user(words))
    assert told(messages) == [[]]
    assert effects.all == [f"paid {KNOWN}"]


@BOTH
def test_a_value_that_the_model_invented_is_refused(way, shop, effects, make_gate):
    """The refusal has the argument, the value and where one may come from."""
    graph = pays(shop, make_gate(POLICY), [call("pay", iban=INVENTED)])
    messages = go(graph, way, user(f"Pay to {KNOWN}"))
    assert told(messages) == [["origin"]]
    content = answers(messages)[0].content
    assert (
        f"iban '{INVENTED}' did not come from the user's words or an earlier result of get_order"
        in content
    )
    assert "ask the user for it" in content
    assert effects.all == []


@BOTH
def test_a_value_from_a_result_of_an_earlier_turn_passes(way, shop, effects, make_gate):
    """The model has read it when it proposes the call."""
    turns = [[call("get_order", "1", order="A1")], [call("pay", "2", iban=KNOWN)]]
    messages = go(pays(shop, make_gate(POLICY), *turns), way, user("Pay order A1"))
    assert told(messages) == [[], []]
    assert effects.all == [f"paid {KNOWN}"]


class ReadFirst(AgentMiddleware):
    """Lets `pay` wait until `get_order` has ended, so that the order of the two is certain."""

    def __init__(self) -> None:
        super().__init__()
        self.read = threading.Event()

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        if request.tool_call["name"] == "pay":
            assert self.read.wait(20)
            return handler(request)
        result = handler(request)
        self.read.set()
        return result

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        if request.tool_call["name"] == "pay":
            assert await asyncio.to_thread(self.read.wait, 20)
            return await handler(request)
        result = await handler(request)
        self.read.set()
        return result


@BOTH
def test_a_value_from_a_result_of_the_same_turn_is_refused(way, shop, effects, make_gate):
    """The model cannot have read it when it proposed the call: it guessed. A turn later it may use it."""
    gate = make_gate(POLICY)
    turns = [
        [call("get_order", "1", order="A1"), call("pay", "2", iban=KNOWN)],
        [call("pay", "3", iban=KNOWN)],
    ]
    graph = agent(shop, *turns, middleware=[ReadFirst(), GateMiddleware(gate)])
    messages = go(graph, way, user("Pay A1"))
    assert [proposal["tool"] for proposal in proposed(gate)] == ["get_order", "pay", "pay"]
    assert told(messages) == [[], ["origin"], []]
    assert effects.all == [f"paid {KNOWN}"]
    assert len({proposal["turn"] for proposal in proposed(gate)}) == 2


@BOTH
def test_a_value_from_elsewhere_can_be_asked_about(way, shop, effects, make_gate):
    """With `otherwise: approve` a person is asked about exactly this value, and their yes counts."""
    policy = {
        "tools": {
            "get_order": {"effect": "read"},
            "pay": {"origin": {"iban": {"from": ["prompt"], "otherwise": "approve"}}},
        }
    }
    gate = make_gate(policy)
    with sluicegate.context(run="ticket-7"):
        graph = pays(shop, gate, [call("pay", iban=INVENTED)])
        (waiting,) = answers(go(graph, way, user("Pay")))
        assert "WAITING FOR APPROVAL: pay was not run" in waiting.content
        assert INVENTED in waiting.content
        assert effects.all == []
        (request,) = gate.pending()
        gate.approve(request.id, by="ada")
        graph = pays(shop, gate, [call("pay", iban=INVENTED)])
        assert told(go(graph, way, user("Pay"))) == [[]]
    assert effects.all == [f"paid {INVENTED}"]


# --- who counts as the user -------------------------------------------------------------------------


@BOTH
def test_what_the_user_says_later_in_the_thread_counts_too(way, shop, effects, make_gate):
    """Each call is decided by the messages that are there by then."""
    saver = InMemorySaver()
    thread = {"configurable": {"thread_id": "t"}}
    turns = [[call("pay", "1", iban=KNOWN)], [], [call("pay", "2", iban=KNOWN)]]
    middleware = [GateMiddleware(make_gate(POLICY))]
    graph = agent(shop, *turns, middleware=middleware, checkpointer=saver)
    assert told(go(graph, way, user("Pay somebody"), thread)) == [["origin"]]
    assert told(go(graph, way, user(f"I mean {KNOWN}"), thread)) == [["origin"], []]
    assert effects.all == [f"paid {KNOWN}"]


@BOTH
def test_what_the_program_says_of_the_prompt_goes_first(way, shop, make_gate):
    """A program that knows better what the user said is believed, and the messages are not."""
    graph = pays(shop, make_gate(POLICY), [call("pay", iban=KNOWN)])
    with sluicegate.context(prompt="Pay nobody"):
        assert told(go(graph, way, user(f"Pay {KNOWN}"))) == [["origin"]]
    with sluicegate.context(prompt=f"Pay {KNOWN}"):
        assert told(go(graph, way, user("Pay nobody"))) == [[]]


@pytest.mark.parametrize("run", [None, "ticket-7"])
@pytest.mark.parametrize("guard", ["middleware", "tools"])
@BOTH
def test_what_one_agent_tells_another_is_not_the_users_word(
    way, guard, run, shop, effects, make_gate
):
    """The messages of an agent in a tool are a model's, also where the outer call has no run at all."""
    gate = make_gate(POLICY)
    inner = pays(shop, gate, [call("pay", iban=INVENTED)])

    @tool
    def delegate(task: str) -> str:
        """Let another agent do it."""
        return str(told(inner.invoke(user(f"Pay {INVENTED}"))["messages"]))

    @tool("delegate")
    async def adelegate(task: str) -> str:
        """Let another agent do it."""
        return str(told((await inner.ainvoke(user(f"Pay {INVENTED}")))["messages"]))

    made = adelegate if way == "ainvoke" else delegate
    turn = [call("delegate", task="pay")]
    if guard == "tools":
        graph = agent(guard_tools([made], gate), turn)
    else:
        graph = pays([made], gate, turn)
    with sluicegate.context(run=run):
        messages = go(graph, way, user(f"Pay {KNOWN}"))
    assert answers(messages)[0].content == "[['origin']]"
    assert effects.all == []


@BOTH
def test_an_agent_in_a_tool_may_use_what_the_program_says_the_user_said(
    way, shop, effects, make_gate
):
    """`context(prompt=…)` holds for all that happens inside."""
    gate = make_gate(POLICY)
    inner = pays(shop, gate, [call("pay", iban=KNOWN)])

    @tool
    async def delegate(task: str) -> str:
        """Let another agent do it."""
        return str(told((await inner.ainvoke(user("Pay")))["messages"]))

    graph = pays([delegate], gate, [call("delegate", task="pay")])
    with sluicegate.context(prompt=f"Pay {KNOWN}"):
        messages = go(graph, "ainvoke", user("whatever"))
    assert answers(messages)[0].content == "[[]]"
    assert effects.all == [f"paid {KNOWN}"]


def test_a_summary_by_a_model_is_not_the_users_word(shop, effects, make_gate):
    """LangChain's own summaries come as messages of the user; what a tool's result said would pass by them."""
    gate = make_gate(POLICY)
    summary = GenericFakeChatModel(messages=iter([f"They want to pay {INVENTED}"] * 9))
    old = {"max_tokens_before_summary": 1, "messages_to_keep": 1}
    new = {"trigger": ("messages", 2), "keep": ("messages", 1)}
    names = inspect.signature(SummarizationMiddleware.__init__).parameters
    summarize = SummarizationMiddleware(summary, **(new if "trigger" in names else old))
    given = {"messages": [HumanMessage("Pay"), HumanMessage("Pay them"), HumanMessage("Now")]}
    graph = agent(shop, [call("pay", iban=INVENTED)], middleware=[summarize, GateMiddleware(gate)])
    messages = go(graph, "invoke", given)
    assert any(INVENTED in str(m.text) for m in messages if isinstance(m, HumanMessage))
    assert told(messages) == [["origin"]]
    assert effects.all == []


# --- a tool node ----------------------------------------------------------------------------------------


class Typed(BaseModel):
    """A state that is no dict."""

    messages: list[Any]


class Otherwise(TypedDict):
    """A state with its messages under another name."""

    chat: Annotated[list[Any], add_messages]


@BOTH
@pytest.mark.parametrize("kind", ["dict", "model", "other key"])
@pytest.mark.parametrize(("words", "codes"), [(KNOWN, []), ("nobody", ["origin"])])
def test_a_tool_node_hears_the_user_too(way, kind, words, codes, shop, make_gate):
    """Wherever the state of a hand-built graph has its messages."""
    gate = make_gate(POLICY)
    key = "chat" if kind == "other key" else "messages"
    states: dict[str, Any] = {"dict": MessagesState, "model": Typed, "other key": Otherwise}
    graph: Any = StateGraph(states[kind])
    graph.add_node("tools", tool_node(shop, gate, messages_key=key))
    graph.add_edge(START, "tools")
    made = AIMessage("", tool_calls=[call("pay", iban=KNOWN)], id="turn-1")
    given = {key: [HumanMessage(f"Pay {words}"), made]}
    with sluicegate.context(run="r1"):
        compiled = graph.compile()
        state = asyncio.run(compiled.ainvoke(given)) if way == "ainvoke" else compiled.invoke(given)
    assert told(state[key]) == [codes]
    assert [proposal["turn"] for proposal in proposed(gate)] == ["turn-1"]


def test_a_turn_without_an_id_has_no_name(shop, make_gate):
    """A list of messages that no graph has numbered is taken as it is."""
    gate = make_gate(POLICY)
    made = AIMessage("", tool_calls=[call("pay", iban=KNOWN)])
    graph: Any = StateGraph(Typed)
    graph.add_node("tools", tool_node(shop, gate))
    graph.add_edge(START, "tools")
    with sluicegate.context(run="r1"):
        state = graph.compile().invoke({"messages": [HumanMessage(f"Pay {KNOWN}"), made]})
    assert told(state["messages"]) == [[]]
    assert "turn" not in proposed(gate)[0]


# --- without messages -------------------------------------------------------------------------------------


def test_guarded_tools_hear_the_user_from_the_context_only(shop, effects, make_gate):
    """A tool is not told what was said; without the context its values have no origin."""
    gate = make_gate(POLICY)
    graph = agent(guard_tools(shop, gate), [call("pay", iban=KNOWN)])
    with sluicegate.context(run="r1"):
        assert told(go(graph, "invoke", user(f"Pay {KNOWN}"))) == [["origin"]]
    with sluicegate.context(run="r2", prompt=f"Pay {KNOWN}"):
        assert told(go(graph, "invoke", user("go"))) == [[]]
    assert effects.all == [f"paid {KNOWN}"]
