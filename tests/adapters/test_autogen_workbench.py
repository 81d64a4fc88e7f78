"""GateWorkbench: both ways in are gated, and all else is as it was."""

from __future__ import annotations

from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import TextMessage, ToolCallSummaryMessage
from autogen_core import CancellationToken, tools
from autogen_core.tools import (
    FunctionTool,
    StaticStreamWorkbench,
    StaticWorkbench,
    Workbench,
)
from autogen_ext.models.replay import ReplayChatCompletionClient
from autogen_scene import (
    ACME,
    agent,
    call,
    decided,
    go,
    patiently,
    results,
    settled,
    told,
)

from sluicegate_autogen import GateWorkbench

REPLAY = ReplayChatCompletionClient(["done"])
LIMITED = {"refund": {"args": {"properties": {"amount": {"maximum": 5}}}}}


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    def refund(order: str, amount: int = 1) -> str:
        """Refund an order."""
        return effects.add("refund", order, amount)

    return refund


async def both_ways(workbench: Workbench, name: str, args: Any, id: str | None = None) -> list[Any]:
    """The answers of `call_tool` and of `call_tool_stream`."""
    stream = workbench.call_tool_stream(name, args, CancellationToken(), id and id + "-stream")
    return [
        await workbench.call_tool(name, args, CancellationToken(), id),
        [x async for x in stream][-1],
    ]


# --- yes and no ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
def test_a_refused_call_does_not_run_and_the_agent_goes_on(refund, effects, make_gate, ledger):
    """The model reads why, the loop goes on, and only what is permitted reaches the shop."""
    gate = make_gate({"tools": LIMITED}, ledger)
    turns = [call("refund", order="A1", amount=9)], [call("refund", "c2", order="A2", amount=2)]
    messages = go(agent(*turns, workbench=GateWorkbench([refund], gate, subject=ACME)))
    refusal, result = results(messages)
    assert effects.all == ["refund A2 2"]
    assert (refusal.is_error, refusal.call_id, refusal.name) == (True, "c1", "refund")
    assert "args_invalid" in refusal.content
    assert (result.is_error, result.content) == (False, "refund A2 2")
    assert messages[-1].to_text() == "done"
    assert settled(gate) == ["succeeded"]


@pytest.mark.parametrize("reflect", [False, True])
def test_one_iteration_ends_with_the_refusal(refund, effects, make_gate, reflect):
    """An agent of one iteration, with or without a last word of the model, ends as it always does."""
    gate = make_gate({"tools": LIMITED})
    options = {"max_tool_iterations": 1, "reflect_on_tool_use": reflect}
    desk = agent(
        [call("refund", order="A1", amount=9)], workbench=GateWorkbench([refund], gate), **options
    )
    messages = go(desk)
    assert effects.all == []
    assert told(messages) == ["args_invalid"]
    assert isinstance(messages[-1], TextMessage if reflect else ToolCallSummaryMessage)


def test_the_stream_of_an_agent_is_gated_too(refund, effects, make_gate):
    """`run_stream` and a model that streams are the same agent: refused is refused."""
    gate = make_gate({"tools": LIMITED})
    turns = [call("refund", order="A1", amount=9)], [call("refund", "c2", order="A2")]
    desk = agent(*turns, workbench=GateWorkbench([refund], gate), model_client_stream=True)

    async def main() -> list[Any]:
        return [message async for message in desk.run_stream(task="go on")]

    messages = patiently(main())
    assert told(messages) == ["args_invalid", "refund A2 1"]
    assert effects.all == ["refund A2 1"]


@pytest.mark.parametrize("inner", [list, StaticWorkbench, StaticStreamWorkbench])
def test_both_ways_in_are_gated(refund, effects, make_gate, inner):
    """AutoGen takes `call_tool` of some workbenches and `call_tool_stream` of others."""
    gate = make_gate({"tools": LIMITED})
    tool = FunctionTool(refund, "Refund an order.")
    workbench = GateWorkbench(inner([tool]), gate)
    refused = patiently(both_ways(workbench, "refund", {"order": "A1", "amount": 9}))
    assert [r.is_error for r in refused] == [True, True]
    assert effects.all == []
    ran = patiently(both_ways(workbench, "refund", {"order": "A2", "amount": 2}, "c1"))
    assert [(r.is_error, r.to_text()) for r in ran] == [(False, "refund A2 2")] * 2
    assert effects.all == ["refund A2 2"] * 2
    assert settled(gate) == ["succeeded"] * 2


def test_every_workbench_of_a_list_is_gated(effects, make_gate):
    """Functions, tools and workbenches in one list: each is gated, and of equal names the first counts."""

    def ping(text: str) -> str:
        return effects.add("first", text)

    def second(text: str) -> str:
        return effects.add("second", text)

    later = StaticWorkbench([FunctionTool(second, "", name="ping"), FunctionTool(second, "")])
    gate = make_gate({"tools": {"ping": {"rate": "1/h"}}})
    workbench = GateWorkbench([later, ping], gate)
    names = [tool["name"] for tool in patiently(workbench.list_tools())]
    assert names == ["ping", "second"]
    turns = (
        [call("ping", text="x")],
        [call("ping", "c2", text="x")],
        [call("second", "c3", text="x")],
    )
    assert told(go(agent(*turns, workbench=workbench))) == ["first x", "rate", "unknown_tool"]
    assert effects.all == ["first x"]


def test_a_tool_that_no_workbench_has_is_refused(refund, make_gate):
    """A policy entry alone makes no tool: the refusal says so, and nothing is spent."""
    limits = [{"budget": "calls", "limit": 5, "per": ["tenant"]}]
    gate = make_gate({"tools": {"*": {}}, "limits": limits})
    result = patiently(
        GateWorkbench([refund], gate, subject=ACME).call_tool("refnd", {"order": "A1"})
    )
    assert result.is_error
    assert "unknown_tool: no workbench has a tool 'refnd'" in result.to_text()
    assert gate.usage() == [] or gate.usage()[0].used == 0


def test_what_the_agent_answers_itself_never_reaches_the_gate(refund, effects, make_gate):
    """AutoGen refuses text that is no JSON and tools that are not listed, before any workbench."""
    gate = make_gate({"tools": LIMITED})
    turns = [call("refund", args="{order")], [call("nothing", "c2")]
    answers = results(go(agent(*turns, workbench=GateWorkbench([refund], gate))))
    assert [r.is_error for r in answers] == [True, True]
    assert (effects.all, decided(gate)) == ([], [])


@pytest.mark.skipif(not hasattr(tools, "ToolOverride"), reason="tools have no other names there")
def test_a_tool_is_known_by_the_name_that_it_is_listed_under(refund, effects, make_gate):
    """The policy is about the name that the model sees; AutoGen itself loses such tools in a stream."""
    override = {"refund": tools.ToolOverride(name="pay")}
    renamed = StaticStreamWorkbench([FunctionTool(refund, "")], tool_overrides=override)
    gate = make_gate({"tools": {"pay": {"args": {"properties": {"amount": {"maximum": 5}}}}}})
    workbench = GateWorkbench(renamed, gate)
    for name, args in (("pay", {"order": "A1", "amount": 9}), ("refund", {"order": "A1"})):
        refused = patiently(both_ways(workbench, name, args))
        assert [r.is_error for r in refused] == [True, True]
    ran, lost = patiently(both_ways(workbench, "pay", {"order": "A1"}))
    assert (ran.is_error, lost.is_error) == (False, True)
    assert effects.all == ["refund A1 1"]


# --- the rest of a workbench -----------------------------------------------------------------------


class Counter(StaticStreamWorkbench):
    """A workbench with a life and a state."""

    def __init__(self) -> None:
        super().__init__([])
        self.log: list[str] = []

    async def start(self) -> None:
        self.log.append("start")

    async def stop(self) -> None:
        self.log.append("stop")

    async def reset(self) -> None:
        self.log.append("reset")

    async def save_state(self) -> Any:
        return {"log": list(self.log)}

    async def load_state(self, state: Any) -> None:
        self.log = state["log"]


def test_life_and_state_are_those_of_the_parts(make_gate):
    """Start, stop, reset and both states reach every workbench inside."""
    parts = [Counter(), Counter()]
    workbench = GateWorkbench(parts, make_gate({"tools": {"a": {}}}))

    async def main() -> None:
        async with workbench:
            await workbench.reset()
            state = await workbench.save_state()
        assert [part.log for part in parts] == [["start", "reset", "stop"]] * 2
        await workbench.load_state(state)

    patiently(main())
    assert [part.log for part in parts] == [["start", "reset"]] * 2


def test_a_workbench_is_never_serialised_without_its_gate(refund, make_gate):
    """A configuration has no place for a gate: what was loaded from it would run everything."""
    gate = make_gate({"tools": {"refund": {}}})
    workbench = GateWorkbench([refund], gate)
    with pytest.raises(NotImplementedError, match="without a gate"):
        workbench.dump_component()
    with pytest.raises(NotImplementedError):
        AssistantAgent("desk", REPLAY, workbench=workbench).dump_component()
    with pytest.raises(NotImplementedError, match="no gate in a configuration"):
        Workbench.load_component(
            {"provider": "sluicegate_autogen.GateWorkbench", "config": {"tools": []}}
        )


def test_equal_names_among_its_own_tools_are_an_error(refund, make_gate):
    """As in an AssistantAgent."""
    with pytest.raises(ValueError, match="tool names must be unique: refund, refund"):
        GateWorkbench([refund, FunctionTool(refund, "")], make_gate({"tools": {"refund": {}}}))


def test_the_tools_look_as_they_did(refund, make_gate):
    """The model is shown exactly the schemas that it is shown without a gate."""
    gate = make_gate({"tools": {"refund": {}}})
    bare = StaticStreamWorkbench([FunctionTool(refund, "Refund an order.")])
    assert patiently(GateWorkbench([refund], gate).list_tools()) == patiently(bare.list_tools())
    assert isinstance(GateWorkbench([refund], gate), StaticStreamWorkbench)  # or streaming is lost


def test_an_agent_can_be_asked_message_by_message(refund, effects, make_gate):
    """`on_messages` is gated as `run` is."""
    gate = make_gate({"tools": LIMITED})
    desk = agent([call("refund", order="A1", amount=9)], workbench=GateWorkbench([refund], gate))
    said = [TextMessage(content="go", source="user")]
    response: Response = patiently(desk.on_messages(said, CancellationToken()))
    assert effects.all == []
    assert "args_invalid" in str(response.inner_messages)
