"""Teams: agents in tools, handoffs, and the end of a run."""

from __future__ import annotations

from typing import Any

import pytest
from autogen_agentchat.agents import (
    AssistantAgent,
)
from autogen_agentchat.base import TerminatedException
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.messages import HandoffMessage, TextMessage, ToolCallExecutionEvent
from autogen_agentchat.teams import RoundRobinGroupChat, Swarm
from autogen_core import SingleThreadedAgentRuntime
from autogen_core.models import FunctionExecutionResult
from autogen_core.tools import StaticWorkbench
from autogen_scene import (
    ACME,
    Scripted,
    agent,
    call,
    go,
    helper,
    patiently,
    proposed,
    settled,
    team_of,
    told,
)

from sluicegate import Deny, Objection, Reason, Subject, context, hookimpl
from sluicegate_autogen import (
    GateTermination,
    GateWorkbench,
    check_team,
    guard_tools,
)


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    def refund(order: str) -> str:
        """Refund an order."""
        return effects.add("refund", order)

    return refund


WAYS = {
    "workbench": lambda tool, gate: {"workbench": GateWorkbench([tool], gate, subject=ACME)},
    "tools": lambda tool, gate: {"tools": guard_tools([tool], gate, subject=ACME)},
    "static": lambda tool, gate: {
        "workbench": StaticWorkbench(guard_tools([tool], gate, subject=ACME))
    },
}


# --- agents in tools -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["agent", "team"])
@pytest.mark.parametrize("way", WAYS)
def test_an_agent_in_a_tool_is_a_run_inside_of_the_run(way, kind, refund, effects, make_gate):
    """The call of the tool and the calls in it are both decided; subject, parent, root and depth are right."""
    gate = make_gate({"tools": {"helper": {}, "refund": {}}})
    tool = helper(gate, refund, kind=kind, turns=[[call("refund", "h1", order="A1")]])
    desk = agent([call("helper", task="help")], **WAYS[way](tool, gate))
    assert told(go(team_of(desk)))[-1] == "done"
    assert effects.all == ["refund A1"]
    outer, inner = proposed(gate)
    assert (outer["subject"]["agent"], outer["depth"]) == ("desk", 0)
    assert (inner["subject"]["agent"], inner["depth"]) == ("helper", 1)
    assert inner["parent"] == inner["root"] == outer["root"] == outer["run"] != inner["run"]
    assert settled(gate) == ["succeeded", "succeeded"]


@pytest.mark.parametrize("kind", ["agent", "team"])
@pytest.mark.parametrize("way", WAYS)
def test_a_refused_agent_never_begins(way, kind, refund, effects, make_gate):
    """AutoGen calls such tools by `run_json` or by `run_json_stream`: both ask first."""
    gate = make_gate({"tools": {"refund": {}}})
    tool = helper(gate, refund, kind=kind, turns=[[call("refund", "h1", order="A1")]])
    desk = agent([call("helper", task="help")], **WAYS[way](tool, gate))
    assert told(go(desk)) == ["unknown_tool"]
    assert effects.all == []


@pytest.mark.parametrize("way", ["workbench", "tools"])
def test_what_an_agent_in_a_tool_says_is_streamed(way, refund, make_gate):
    """A guard is not felt: the events of the inner agent are those that come without a gate."""
    gate = make_gate({"tools": {"helper": {}, "refund": {}}})

    async def kinds(**how: Any) -> list[tuple[str, str]]:
        desk = agent([call("helper", task="help")], **how)
        seen = [message async for message in desk.run_stream(task="go on")]
        return [(type(m).__name__, getattr(m, "source", "")) for m in seen]

    turns = [[call("refund", "h1", order="A1")]]
    bare = patiently(kinds(tools=[helper(gate, refund, turns=turns)]))
    guarded = patiently(kinds(**WAYS[way](helper(gate, refund, turns=turns), gate)))
    assert guarded == bare
    assert ("ToolCallExecutionEvent", "helper") in guarded


def test_agents_calling_agents_end_at_the_depth(make_gate):
    """A limit of depth counts agents in tools, however they got there."""
    ran = []
    gate = make_gate(
        {"tools": {"ask": {}}, "limits": [{"budget": "calls", "limit": 3, "per": ["root"]}]}
    )

    async def ask(level: int) -> str:
        ran.append(level)
        desk = agent(
            [call("ask", f"c{level}", level=level + 1)], workbench=GateWorkbench([ask], gate)
        )
        return (await desk.run(task="go")).messages[-1].to_text()

    go(agent([call("ask", level=0)], workbench=GateWorkbench([ask], gate)))
    assert ran == [0, 1, 2]
    assert [p["depth"] for p in proposed(gate)] == [0, 1, 2, 3]
    assert len({p["root"] for p in proposed(gate)}) == 1


def test_the_agents_of_a_team_share_its_run(refund, effects, make_gate):
    """Each has a workbench of its own, and a limit per run holds for all of them together."""
    limits = [{"budget": "calls", "limit": 1, "per": ["run"]}]
    gate = make_gate({"tools": {"refund": {}}, "limits": limits})
    asks = [call("refund", "c1", order="A1")], [call("refund", "c2", order="A2")]
    clerk, desk = (
        agent(turn, name=name, workbench=GateWorkbench([refund], gate), max_tool_iterations=1)
        for name, turn in zip(("clerk", "desk"), asks, strict=True)
    )
    assert told(go(team_of(clerk, desk))) == ["refund A1", "budget"]
    assert len({p["run"] for p in proposed(gate)}) == 1


def test_a_runtime_of_your_own_has_the_context_that_it_was_started_in(refund, effects, make_gate):
    """The run of a team is known there too; what a context around `run` says is not."""
    limits = [{"budget": "calls", "limit": 1, "per": ["run"]}]
    gate = make_gate({"tools": {"refund": {}}, "limits": limits})
    turn = [call("refund", f"c{n}", order=f"A{n}") for n in range(2)]

    async def main() -> list[Any]:
        runtime = SingleThreadedAgentRuntime()
        with context(user="runtime"):
            runtime.start()
        team = team_of(agent(turn, workbench=GateWorkbench([refund], gate)), runtime=runtime)
        with context(user="caller"):
            result = await team.run(task="go")
        await runtime.stop()
        return list(result.messages)

    assert told(patiently(main())) == ["refund A0", "budget"]
    assert [p["subject"]["user"] for p in proposed(gate)] == ["runtime", "runtime"]


@pytest.mark.parametrize("in_a_team", [True, False])
def test_a_team_says_which_agent_calls(in_a_team, refund, make_gate):
    """A function for the subject is given the agent's id, or None where there is no runtime."""
    seen: list[Any] = []

    def who(agent_id: Any) -> Subject:
        seen.append(agent_id)
        return ACME

    gate = make_gate({"tools": {"refund": {}}})
    desk = agent([call("refund", order="A1")], workbench=GateWorkbench([refund], gate, subject=who))
    go(team_of(desk) if in_a_team else desk)
    [agent_id] = seen
    if in_a_team:
        assert agent_id.type == f"desk_{agent_id.key}"
    else:
        assert agent_id is None


# --- handoffs --------------------------------------------------------------------------------------


def swarm(gate: Any, refund: Any) -> Swarm:
    tools = GateWorkbench([refund], gate)
    turn = [call("transfer_to_boss", "h1")]
    desk = agent(turn, workbench=tools, handoffs=["boss"], max_tool_iterations=1)
    boss = agent([call("refund", order="A1")], name="boss", workbench=tools)
    return Swarm([desk, boss], termination_condition=TextMessageTermination(source="boss"))


def test_a_handoff_is_no_tool_call(refund, effects, make_gate):
    """It passes by every gate; the agent that takes over is gated as any other."""
    gate = make_gate({"tools": {"refund": {}}})
    messages = go(swarm(gate, refund))
    assert any(isinstance(message, HandoffMessage) for message in messages)
    assert effects.all == ["refund A1"]
    assert [p["tool"] for p in proposed(gate)] == ["refund"]


@pytest.mark.parametrize("entry", ["transfer_to_boss", "transfer_*"])
def test_a_policy_for_handoffs_is_refused_when_the_team_is_built(entry, refund, make_gate):
    """Such an entry would promise what cannot be kept, so it is an error before anything runs."""
    gate = make_gate({"tools": {"refund": {}, entry: {}}})
    with pytest.raises(
        ValueError, match=rf"entry '{entry.replace('*', '.')}.* desk.transfer_to_boss"
    ):
        check_team(swarm(gate, refund), gate)


def test_an_entry_for_everything_names_no_handoff(refund, make_gate):
    """`*` is about tools; a team with handoffs is fine with it."""
    gate = make_gate({"tools": {"*": {}}})
    check_team(swarm(gate, refund), gate)


# --- the end of a run ------------------------------------------------------------------------------


class StopNow:
    """A plugin that ends the run at the first refund."""

    @hookimpl
    def sluicegate_object(self, proposal: Any) -> Objection | None:
        final = proposal.tool == "refund"
        return Objection(message="stop now", final=True) if final else None


def test_a_final_refusal_ends_a_team(refund, effects, make_gate):
    """`GateTermination` ends it before the next agent speaks, and says why."""
    gate = make_gate({"tools": {"refund": {}}}, plugins={"stop": StopNow()})
    desk = agent(
        [call("refund", order="A1")], workbench=GateWorkbench([refund], gate), max_tool_iterations=1
    )
    other = Scripted()
    team = RoundRobinGroupChat(
        [desk, AssistantAgent("other", other)], termination_condition=GateTermination(), max_turns=9
    )

    async def main() -> None:
        result = await team.run(task="go")
        assert "stop now" in str(result.stop_reason)
        assert (other.asked, effects.all) == (0, [])
        again = await team.run(task="go on")  # another run
        assert again.messages[-1].to_text() == "done"

    patiently(main())


def test_after_a_final_refusal_nothing_of_the_run_is_permitted(effects, make_gate):
    """AutoGen cannot stop an agent in the midst of its iterations, so the rest is refused."""

    def ping() -> str:
        return effects.add("ping")

    def refund(order: str) -> str:
        return effects.add("refund")

    gate = make_gate({"tools": {"refund": {}, "ping": {}}}, plugins={"stop": StopNow()})
    workbench = GateWorkbench([refund, ping], gate)
    turns = [call("ping")], [call("refund", "c2", order="A1")], [call("ping", "c3")]
    assert told(go(agent(*turns, workbench=workbench))) == ["ping", "objection", "halted"]
    assert told(go(agent([call("ping")], workbench=workbench))) == ["ping"]  # a run of its own
    assert effects.all == ["ping", "ping"]


@pytest.mark.parametrize("brief", [True, False])
def test_only_a_final_refusal_terminates(brief):
    """Not another refusal, and not a tool whose result reads like one."""
    reasons = (Reason("halted", "r", "m"),)
    final = Deny(tool="t", reasons=reasons, final=True, brief=brief).render()
    other = Deny(tool="t", reasons=reasons, brief=brief).render()

    def event(text: str, is_error: bool) -> list[Any]:
        result = FunctionExecutionResult(content=text, call_id="1", name="t", is_error=is_error)
        return [
            TextMessage(content=final, source="a"),
            ToolCallExecutionEvent(content=[result], source="a"),
        ]

    async def main() -> None:
        condition = GateTermination()
        assert await condition(event(other, True)) is None
        assert await condition(event(final, False)) is None
        assert not condition.terminated
        stop = await condition(event(final, True))
        assert stop is not None
        assert stop.content == final
        with pytest.raises(TerminatedException):
            await condition([])
        await condition.reset()
        assert await condition([]) is None

    patiently(main())
    loaded = GateTermination.load_component(GateTermination().dump_component())
    assert isinstance(loaded, GateTermination)
