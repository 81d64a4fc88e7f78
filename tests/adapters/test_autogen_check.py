"""check_team and unguarded: every way past the gate is named before anything runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from autogen_agentchat.agents import (
    AssistantAgent,
    BaseChatAgent,
    MessageFilterAgent,
    MessageFilterConfig,
    SocietyOfMindAgent,
    UserProxyAgent,
)
from autogen_agentchat.conditions import HandoffTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.tools import AgentTool
from autogen_core import AgentId, SingleThreadedAgentRuntime
from autogen_core.tool_agent import ToolAgent
from autogen_core.tools import FunctionTool, StaticStreamWorkbench, StaticWorkbench
from autogen_ext.models.replay import ReplayChatCompletionClient
from autogen_scene import (
    Scripted,
    agent,
    call,
    decided,
    go,
    helper,
    patiently,
    results,
    team_of,
)

from sluicegate_autogen import (
    GateTermination,
    GateWorkbench,
    check_team,
    guard_tools,
    unguarded,
)


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    def refund(order: str) -> str:
        """Refund an order."""
        return effects.add("refund", order)

    return refund


# --- what no gate can hold -------------------------------------------------------------------------


def test_a_guarded_team_passes(refund, make_gate):
    """Tools in a gated workbench, guarded tools, and agents in tools that are gated themselves."""
    gate = make_gate({"tools": {"refund": {}}})
    inner = helper(gate, refund, turns=[])
    desk = agent(workbench=GateWorkbench([refund, inner], gate))
    other = agent(
        name="other", tools=guard_tools([refund, helper(gate, kind="team", turns=[])], gate)
    )
    talker = AssistantAgent("talker", Scripted())
    everyone = team_of(desk, other, talker, UserProxyAgent("user"))
    assert unguarded([everyone, *guard_tools([refund], gate)]) == []
    check_team(everyone, gate)


def test_every_way_past_the_gate_is_named(refund, make_gate):
    """Bare tools, foreign workbenches, agents in guarded tools, nested teams, wrapped agents, unknown kinds."""
    gate = make_gate({"tools": {"refund": {}}})

    class Foreign(StaticStreamWorkbench):
        pass

    class Odd(BaseChatAgent):
        produced_message_types = (TextMessage,)

        async def on_messages(self, *_: Any) -> Any: ...
        async def on_reset(self, *_: Any) -> None: ...

    bare = [FunctionTool(refund, "")]
    one, two, three, four = (
        AgentTool(agent(name=name, tools=[refund])) for name in ("one", "two", "three", "four")
    )
    agents = [
        agent(name="bare", tools=[refund]),
        agent(name="first", workbench=[StaticWorkbench(bare), GateWorkbench([refund], gate)]),
        agent(name="foreign", workbench=Foreign(bare)),
        agent(name="outer", workbench=GateWorkbench([one], gate)),
        agent(name="outer2", workbench=GateWorkbench(StaticWorkbench([two]), gate)),
        agent(name="outer3", tools=guard_tools([three], gate)),
        agent(name="outer4", tools=[four]),
        SocietyOfMindAgent("mind", team_of(agent(name="thought", tools=[refund])), Scripted()),
        MessageFilterAgent(
            "filter", agent(name="filtered", tools=[refund]), MessageFilterConfig(per_source=[])
        ),
        Odd("odd", "an agent of some other kind"),
    ]
    assert unguarded(team_of(*agents)) == [
        "bare.refund",
        "first.refund",
        "foreign.Foreign",
        "foreign.refund",
        "one.refund",
        "two.refund",
        "three.refund",
        "outer4.four",
        "four.refund",
        "thought.refund",
        "filtered.refund",
        "odd (Odd: nobody can tell what it runs)",
    ]
    with pytest.raises(
        ValueError, match=r"bare\.refund is not guarded; first\.refund is not guarded"
    ):
        check_team(team_of(*agents), gate)


def test_a_tool_agent_is_looked_into(refund, make_gate):
    """The agent of core runtimes: guarded tools pass, others are named."""
    gate = make_gate({"tools": {"refund": {}}})

    async def found(tools: list[Any]) -> list[str]:
        runtime = SingleThreadedAgentRuntime()
        await ToolAgent.register(runtime, "tools", lambda: ToolAgent("tools", tools))
        where = AgentId("tools", "default")
        return unguarded(await runtime.try_get_underlying_agent_instance(where, ToolAgent))

    assert patiently(found([FunctionTool(refund, "")])) == ["ToolAgent.refund"]
    assert patiently(found(guard_tools([refund], gate))) == []


def test_agents_with_handoffs_end_where_they_did(refund, make_gate):
    """`HandoffTermination` and the gate's own condition go together."""
    gate = make_gate({"tools": {"refund": {}}})
    desk = agent(
        [call("transfer_to_user", "h1")], handoffs=["user"], workbench=GateWorkbench([refund], gate)
    )
    team = team_of(desk, termination_condition=HandoffTermination("user") | GateTermination())
    assert "user" in str(patiently(team.run(task="go")).stop_reason).lower()
    assert decided(gate) == []


def test_a_team_is_never_serialised_without_its_gate(refund, make_gate):
    """A team's configuration would come back with bare tools, so there is none."""
    gate = make_gate({"tools": {"refund": {}}})
    model = ReplayChatCompletionClient(["done"])
    desk = AssistantAgent("desk", model, workbench=GateWorkbench([refund], gate))
    with pytest.raises(NotImplementedError, match="without a gate"):
        team_of(desk).dump_component()
    state = patiently(team_of(desk).save_state())
    assert json.dumps(state)


def test_results_of_a_refusal_keep_their_names(refund, make_gate):
    """A result names the tool and the call that it answers, in a team as elsewhere."""
    gate = make_gate({"tools": {"another": {}}})
    desk = agent([call("refund", "c7", order="A1")], workbench=GateWorkbench([refund], gate))
    [result] = results(go(team_of(desk)))
    assert (result.name, result.call_id, result.is_error) == ("refund", "c7", True)
