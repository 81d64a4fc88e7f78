"""What a run of AutoGen agents remembers: where values came from, and to which tools it was narrowed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from autogen_core import AgentId, SingleThreadedAgentRuntime
from autogen_core.models import UserMessage
from autogen_core.tool_agent import ToolAgent, tool_agent_caller_loop
from autogen_scene import (
    Scripted,
    agent,
    call,
    entries,
    go,
    helper,
    patiently,
    proposed,
    team_of,
    told,
)

from sluicegate import context
from sluicegate_autogen import GateInterventionHandler, GateWorkbench, guard_tools

TRACED = {
    "tools": {
        "look": {"effect": "read"},
        "refund": {"origin": {"order": ["prompt", "look"]}},
        "helper": {},
    }
}


def look(customer: str) -> str:
    """Look for the orders of a customer."""
    return f"{customer} has ordered A-2002"


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    def refund(order: str) -> str:
        """Refund an order."""
        return effects.add("refund", order)

    return refund


# --- where values came from --------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_team", [True, False])
def test_the_program_says_what_the_user_said(in_a_team, refund, effects, make_gate):
    """AutoGen shows no task to a workbench, so `context(prompt=…)` does; other values are made up."""
    gate = make_gate(TRACED)
    turns = [[call("refund", f"r{n}", order=f"A-{n}")] for n in (1001, 1002)]
    desk = agent(*turns, workbench=GateWorkbench([refund, look], gate))
    with context(prompt="Please refund A-1001."):
        messages = go(team_of(desk) if in_a_team else desk)
    assert told(messages) == ["refund A-1001", "origin"]
    assert effects.all == ["refund A-1001"]


def test_without_a_prompt_no_value_comes_from_the_user(refund, effects, make_gate):
    """What an agent was run with is not taken for the user's words: nobody can see it."""
    gate = make_gate(TRACED)
    desk = agent([call("refund", order="A-1001")], workbench=GateWorkbench([refund, look], gate))
    assert told(patiently(desk.run(task="Please refund A-1001.")).messages) == ["origin"]
    assert effects.all == []


def test_results_of_earlier_turns_are_sources(refund, effects, make_gate):
    """A value that a tool has shown to the model may be used, by all agents of the run."""
    gate = make_gate(TRACED)
    workbench = GateWorkbench([refund, look], gate)
    turns = [[call("refund", "r1", order="A-2002")], [call("look", "l1", customer="Bo")]]
    clerk = agent(*turns, name="clerk", workbench=workbench, max_tool_iterations=3)
    desk = agent([call("refund", "r2", order="A-2002")], workbench=workbench)
    seen = told(go(team_of(clerk, desk)))
    assert seen == ["origin", "Bo has ordered A-2002", "refund A-2002"]
    assert effects.all == ["refund A-2002"]


@pytest.mark.parametrize("kind", ["agent", "team"])
def test_what_a_model_tells_an_inner_agent_is_not_the_users_word(kind, refund, effects, make_gate):
    """An agent in a tool shares what the user said to the run, and hears nothing else from a user."""
    gate = make_gate(TRACED)
    turns = [[call("refund", "h1", order="A-9")], [call("refund", "h2", order="A-1001")]]
    inner = helper(gate, refund, look, kind=kind, turns=turns)
    desk = agent([call("helper", task="refund A-9")], workbench=GateWorkbench([inner], gate))
    with context(prompt="Please refund A-1001."):
        go(desk)
    assert effects.all == ["refund A-1001"]
    said = [entry.get("reasons", ()) for entry in entries(gate, "decision")]
    assert [[reason["code"] for reason in reasons] for reasons in said] == [[], ["origin"], []]


@pytest.mark.parametrize("kind", ["agent", "team", "two workbenches"])
def test_a_result_of_the_same_turn_is_no_source(kind, refund, effects, make_gate):
    """What a call gave cannot have been known to the model when it made the calls of that message."""
    gate = make_gate(TRACED)
    workbench: Any = GateWorkbench([refund, look], gate)
    if kind == "two workbenches":
        workbench = [GateWorkbench([look], gate), GateWorkbench([refund], gate)]
    both = [call("look", "l1", customer="Bo"), call("refund", "r1", order="A-2002")]
    turns = both, [call("refund", "r2", order="A-2002")], [call("look", "l3", customer="Al")]
    desk = agent(*turns, workbench=workbench)
    go(team_of(desk) if kind == "team" else desk)
    [seen, guess, known, other] = entries(gate, "decision")
    assert [e["decision"] for e in (seen, guess, known, other)] == [
        "permit",
        "deny",
        "permit",
        "permit",
    ]
    assert effects.all == ["refund A-2002"]
    names = [entry["proposal"].get("turn") for entry in (seen, guess, known, other)]
    assert names[0] == names[1]
    assert None not in names
    assert len({*names}) == 3


def test_an_agent_in_a_tool_has_turns_of_its_own(refund, make_gate):
    """Also with the workbench of the agent around it: no turn is taken for another one."""
    gate = make_gate({"tools": {"*": {}}})
    workbench = GateWorkbench([refund, look], gate)

    async def ask() -> str:
        """Ask another agent, which asks its model twice."""
        turns = [[call("look", f"i{n}", customer="Bo")] for n in range(2)]
        inner = agent(*turns, name="inner", workbench=workbench)
        return (await inner.run(task="go")).messages[-1].to_text()

    workbench.parts += GateWorkbench([ask], gate).parts
    turns = [[call("ask", f"o{n}")] for n in range(2)]
    go(agent(*turns, workbench=workbench))
    names = [proposal.get("turn") for proposal in proposed(gate)]
    assert len({*names}) == len(names) == 6
    assert None not in names


@pytest.mark.parametrize("way", ["direct", "listed", "tools"])
def test_where_nobody_can_tell_the_turn_none_is_named(way, refund, make_gate):
    """A program's own calls, and guarded tools without a GateWorkbench, have no turn."""
    gate = make_gate({"tools": {"*": {}}})

    async def main() -> None:
        workbench = GateWorkbench([refund, look], gate)
        if way == "listed":
            await workbench.list_tools()
        calls = [workbench.call_tool("look", {"customer": str(n)}) for n in range(2)]
        await asyncio.gather(*calls)

    if way == "tools":
        calls = [call("look", f"l{n}", customer="Bo") for n in range(2)]
        go(agent(calls, tools=guard_tools([look], gate)))
    else:
        patiently(main())
    assert [proposal.get("turn") for proposal in proposed(gate)] == [None, None]


# --- a run that was narrowed -----------------------------------------------------------------------------

OPEN = {"tools": {"*": {}}}
WAYS = {
    "workbench": lambda tools, gate: {"workbench": GateWorkbench(tools, gate)},
    "tools": lambda tools, gate: {"tools": guard_tools(tools, gate)},
}


@pytest.mark.parametrize("in_a_team", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_narrowed_calls_nothing_else(way, in_a_team, refund, effects, make_gate):
    """`context(tools=[…])` is a grant for one task, also where the policy would permit more."""
    gate = make_gate(OPEN)
    turns = [call("look", "l1", customer="Bo")], [call("refund", "r1", order="A1")]
    desk = agent(*turns, **WAYS[way]([refund, look], gate))
    with context(tools=["look", "get_*"]):
        messages = go(team_of(desk) if in_a_team else desk)
    assert told(messages) == ["Bo has ordered A-2002", "not_granted"]
    assert effects.all == []


@pytest.mark.parametrize("kind", ["agent", "team"])
@pytest.mark.parametrize("way", WAYS)
def test_agents_in_tools_can_only_narrow_further(way, kind, refund, effects, make_gate):
    """An inner agent has what the outer one has, and a wider list around it gives nothing back."""
    gate = make_gate(OPEN)
    turns = [[call("refund", "h1", order="A1")], [call("look", "h2", customer="Bo")]]

    async def ask(what: str) -> str:
        """Ask an agent that was given more."""
        with context(tools=["*"]):
            inner = agent(*turns, name="asked", **WAYS[way]([refund, look], gate))
            return (await inner.run(task=what)).messages[-1].to_text()

    inner = helper(gate, refund, look, kind=kind, turns=turns)
    outer = [call("helper", "o1", task="help")], [call("ask", "o2", what="help")]
    desk = agent(*outer, **WAYS[way]([inner, ask], gate))
    with context(tools=["helper", "ask", "look"]):
        go(desk)
    assert effects.all == []
    said = [(e["proposal"]["tool"], e["decision"]) for e in entries(gate, "decision")]
    below = [("refund", "deny"), ("look", "permit")]
    assert said == [("helper", "permit"), *below, ("ask", "permit"), *below]


def test_a_run_stays_narrow_where_the_context_is_not_known(refund, effects, make_gate):
    """The gate keeps the list with the run: code that names the run later cannot have more."""
    gate = make_gate(OPEN)
    tools = GateWorkbench([refund, look], gate)
    with context(run="ticket-7", tools=["look"]):
        go(agent([call("look", customer="Bo")], workbench=tools))
    with context(run="ticket-7"):
        seen = told(go(agent([call("refund", order="A1")], workbench=tools)))
    assert (seen, effects.all) == (["not_granted"], [])


def test_a_core_runtime_is_narrowed_where_it_is_started(refund, effects, make_gate):
    """Handlers and tools have the context in which the runtime was started, and the gate the rest."""
    gate = make_gate(OPEN)

    async def main() -> Any:
        guarded = guard_tools([refund, look], gate)
        handler = GateInterventionHandler(gate, run="ticket-7", tools=guarded)
        runtime = SingleThreadedAgentRuntime(intervention_handlers=[handler])
        await ToolAgent.register(runtime, "tools", lambda: ToolAgent("tools", list(guarded)))
        with context(tools=["look"]):
            runtime.start()
        model = Scripted([call("look", "l1", customer="Bo")], [call("refund", "r1", order="A1")])
        said = [UserMessage(content="go on", source="user")]
        tools = AgentId("tools", "default")
        await tool_agent_caller_loop(runtime, tools, model, said, list(guarded))
        await runtime.stop()

    patiently(main())
    assert effects.all == []
    assert [p["tool"] for p in proposed(gate)] == ["look", "refund"]
    assert [e["decision"] for e in entries(gate, "decision")] == ["permit", "deny"]
