"""What a run of a crew remembers: where values came from, and to which tools it was narrowed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from crewai_scene import (
    IN_PEACE,
    MODES,
    WAYS,
    Crew,
    Desk,
    Process,
    Scripted,
    Task,
    call,
    go,
)

from sluicegate import Gate, Subject, context
from sluicegate.testing.scene import decisions_of
from sluicegate_crewai import guard_crew, guard_tools

pytestmark = IN_PEACE

ACME = Subject(tenant="acme")
TRACED: dict[str, Any] = {
    "version": 1,
    "tools": {
        "look": {"effect": "read"},
        "refund": {"origin": {"order": ["prompt", "look"]}},
        "ask": {},
    },
}


def look(customer: str) -> str:
    """Look for the orders of a customer."""
    return f"{customer} has ordered A-2002"


def refund_of(effects: Any) -> Any:
    def refund(order: str) -> str:
        """Refund an order."""
        return effects.add("refund", order)

    return refund


def refunds(*orders: str) -> list[Any]:
    """A turn for each of *orders*."""
    return [[call("refund", order=order)] for order in orders]


def asked(desk: Desk, description: str, **options: Any) -> Crew:
    """A crew with one task."""
    task = Task(description=description, expected_output="done", agent=desk.agent)
    return Crew(agents=[desk.agent], tasks=[task], **options)


def codes(gate: Gate) -> list[str]:
    """The first reason of each decision, or the word for it."""
    return [
        decision["reasons"][0]["code"] if decision.get("reasons") else decision["decision"]
        for decision in decisions_of(gate)
    ]


def gate_with(policy: Any = TRACED) -> Gate:
    return Gate(policy, "memory:")


# --- what the user said -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["kickoff", "kickoff_async", "akickoff"])
def test_descriptions_and_inputs_are_what_the_user_said(way: str, mode: str, effects: Any) -> None:
    """Values from a task's description and from the inputs of a kickoff may be used, and no others."""
    gate = gate_with()
    desk = Desk([refund_of(effects)], *refunds("A-1001", "B-7", "C-9", "X-77"), mode=mode)
    crew = guard_crew(asked(desk, "Refund A-1001 and B-{number}."), gate, subject=ACME)
    started = getattr(crew, way)(inputs={"number": 7, "also": ["C-9"]})
    if asyncio.iscoroutine(started):
        asyncio.run(started)
    assert codes(gate) == ["permit", "permit", "permit", "origin"]
    assert effects.all == ["refund A-1001", "refund B-7", "refund C-9"]


def test_each_copy_of_a_crew_has_its_own_inputs(effects: Any) -> None:
    """With `kickoff_for_each`, what one kickoff was given is nothing to the next one."""
    gate = gate_with()
    desk = Desk([refund_of(effects)], *refunds("A-1", "A-2"))
    crew = guard_crew(asked(desk, "Refund {order}."), gate, subject=ACME)
    crew.kickoff_for_each(inputs=[{"order": "A-1"}, {"order": "A-2"}])
    assert codes(gate) == ["permit", "origin", "origin", "permit"]


def test_what_came_from_outside_is_not_what_the_user_said(effects: Any) -> None:
    """The payload of a trigger, and a chat with a model in it, are inputs that no user gave."""
    gate = gate_with()
    desk = Desk([refund_of(effects)], *refunds("A-1", "A-2"))
    crew = guard_crew(asked(desk, "Work."), gate, subject=ACME)
    chat = '[{"role": "assistant", "content": "A-2"}]'
    crew.kickoff(inputs={"crewai_trigger_payload": "A-1", "crew_chat_messages": chat})
    assert codes(gate) == ["origin", "origin"]


class Planner(Scripted):
    """A model that plans one step."""

    def call(self, *_: Any, **__: Any) -> Any:
        plans = [{"task_number": 1, "task": "refund", "plan": "Step 1: refund A-2."}]
        return json.dumps({"list_of_plans_per_task": plans})


@pytest.mark.parametrize("template", ["Refund {order}.", "Refund A-1."])
def test_what_a_planner_wrote_is_not_what_the_user_said(template: str, effects: Any) -> None:
    """CrewAI writes a model's plan into the description; if it kept no original, the description is left out."""
    gate = gate_with()
    desk = Desk([refund_of(effects)], *refunds("A-1", "A-2"))
    planner = Planner(model="scripted", turns=(), replies=[], ended=[])
    crew = guard_crew(asked(desk, template, planning=True, planning_llm=planner), gate)
    kept = "{" in template
    crew.kickoff(inputs={"order": "A-1"} if kept else None)
    assert "refund A-2" in crew.tasks[0].description
    assert codes(gate) == ["permit" if kept else "origin", "origin"]


def test_the_program_can_say_what_the_user_said(effects: Any) -> None:
    """`context(prompt=…)` goes before what CrewAI knows: then no description counts."""
    gate = gate_with()
    desk = Desk([refund_of(effects)], *refunds("A-1", "A-2"))
    crew = guard_crew(asked(desk, "Refund A-1."), gate, subject=ACME)
    with context(prompt="I want my money for A-2 back"):
        crew.kickoff()
    assert codes(gate) == ["origin", "permit"]


@pytest.mark.parametrize("way", ["agent", "agent_async", "flow"])
def test_an_agent_without_a_crew_needs_to_be_told(way: str, effects: Any) -> None:
    """What `Agent.kickoff` was called with is shown to no tool; `context(prompt=…)` says it."""
    for prompt, code in ((None, "origin"), ("refund A-1, and go on", "permit")):
        gate = gate_with()
        desk = Desk([refund_of(effects)], *refunds("A-1"))
        with context(prompt=prompt):
            go(guard_crew(desk.crew(), gate, subject=ACME), way)
        assert codes(gate) == [code]


@pytest.mark.parametrize("hierarchical", [True, False])
def test_a_coworker_knows_what_the_user_said(hierarchical: bool, effects: Any) -> None:
    """It is told what to do by a model, whose words are no source; those of the user are."""
    gate = gate_with()
    told = {"task": "refund A-9", "context": "A-9", "coworker": "till"}
    boss = Desk([], [call("delegate_work_to_coworker", **told)], role="boss", allow_delegation=True)
    till = Desk([refund_of(effects)], *refunds("A-9", "A-1"), role="till")
    task = Task(description="Refund A-1.", expected_output="done", agent=boss.agent)
    if hierarchical:
        task.agent = None
        crew = Crew(
            agents=[till.agent],
            tasks=[task],
            process=Process.hierarchical,
            manager_agent=boss.agent,
        )
    else:
        crew = Crew(agents=[boss.agent, till.agent], tasks=[task])
    guard_crew(crew, gate, subject=ACME).kickoff()
    assert codes(gate) == ["origin", "permit"]
    assert {decision["proposal"]["depth"] for decision in decisions_of(gate)} == {1}


@pytest.mark.parametrize("named", [None, "ticket-7"])
def test_a_crew_in_a_tool_is_not_told_by_a_user(named: str | None, effects: Any) -> None:
    """Its description was made of what a model said; what the outer crew was asked counts there too."""
    gate = gate_with()

    def ask(what: str) -> str:
        """Ask another crew."""
        desk = Desk([refund_of(effects)], *refunds("A-9", "A-1"), role="inner")
        with context(run=named and "inner"):
            return str(guard_crew(asked(desk, what), gate, subject=ACME).kickoff())

    turns = [*refunds("A-1"), [call("ask", what="Refund A-9.")]]
    desk = Desk([ask, refund_of(effects)], *turns)
    with context(run=named):
        guard_crew(asked(desk, "Refund A-1."), gate, subject=ACME).kickoff()
    assert codes(gate) == ["permit", "permit", "origin", "permit"]


def test_a_crew_in_a_tool_that_is_in_no_run_is_not_told_by_a_user_either(effects: Any) -> None:
    """Who called the tool is not known, so its crew may as well have been told by a model."""
    gate = gate_with()

    def ask(what: str) -> str:
        """Ask a crew."""
        desk = Desk([refund_of(effects)], *refunds("A-9"), role="inner")
        return str(guard_crew(asked(desk, what), gate, subject=ACME).kickoff())

    [guarded] = guard_tools(Desk([ask]).agent.tools or [], gate)
    guarded.run(what="Refund A-9.")
    assert codes(gate) == ["permit", "origin"]


# --- turns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_result_of_the_same_turn_is_no_source(way: str, effects: Any) -> None:
    """What a call gave cannot have been known to the model when it made the calls of that message."""
    gate = gate_with()
    both = [call("look", "l1", customer="Bo"), call("refund", "r1", order="A-2002")]
    desk = Desk([look, refund_of(effects)], both, [call("refund", "r2", order="A-2002")])
    go(guard_crew(desk.crew(), gate, subject=ACME), way)
    assert sorted(codes(gate)[:2]) == ["origin", "permit"]
    assert codes(gate)[2] == "permit"
    assert effects.all == ["refund A-2002"]
    turns = [decision["proposal"]["turn"] for decision in decisions_of(gate)]
    assert turns[0] == turns[1] != turns[2]


def test_results_of_an_earlier_turn_are_sources_in_text_mode(effects: Any) -> None:
    """There a turn is one call."""
    gate = gate_with()
    turns = [call("look", customer="Bo")], [call("refund", order="A-2002")]
    desk = Desk([look, refund_of(effects)], *turns, mode="text")
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert codes(gate) == ["permit", "permit"]


def test_tasks_share_what_came_up(effects: Any) -> None:
    """What one agent of a crew was shown is known to the next one; it is one run."""
    gate = gate_with()
    first = Desk([look], [call("look", customer="Bo")], role="first")
    second = Desk([refund_of(effects)], *refunds("A-2002"), role="second")
    tasks = [Task(description="d", expected_output="e", agent=d.agent) for d in (first, second)]
    crew = Crew(agents=[first.agent, second.agent], tasks=tasks)
    guard_crew(crew, gate, subject=ACME).kickoff()
    assert codes(gate) == ["permit", "permit"]


# --- a run that was narrowed --------------------------------------------------------------------------

OPEN = {"version": 1, "tools": {"*": {}}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_narrowed_calls_nothing_else(way: str, mode: str, effects: Any) -> None:
    """`context(tools=[…])` is a grant for one task, in every thread that CrewAI starts for it."""
    gate = gate_with(OPEN)
    calls = [call("look", "l1", customer="Bo"), *(c for [c] in refunds("A-1", "A-2"))]
    turns = [calls] if mode == "native" else [[each] for each in calls]
    desk = Desk([look, refund_of(effects)], *turns, mode=mode)
    with context(tools=["look", "get_*"]):
        go(guard_crew(desk.crew(), gate, subject=ACME), way)
    assert sorted(codes(gate)) == ["not_granted", "not_granted", "permit"]
    assert effects.all == []


@pytest.mark.parametrize("kind", ["async_execution", "stream", "coworker"])
def test_nothing_that_a_crew_starts_is_wider(kind: str, effects: Any) -> None:
    """Tasks in threads of their own, kickoffs that stream and coworkers are narrowed as well."""
    gate = gate_with(OPEN)
    turns = [*refunds("A-1"), [call("look", customer="Bo")]]
    till = Desk([look, refund_of(effects)], *turns, role="till")
    if kind == "coworker":
        told = {"task": "t", "context": "c", "coworker": "till"}
        delegation = [call("delegate_work_to_coworker", **told)]
        crew = Desk([], delegation, role="boss", allow_delegation=True).crew(till)
    else:
        task = Task(
            description="d",
            expected_output="e",
            agent=till.agent,
            async_execution=kind == "async_execution",
        )
        crew = Crew(agents=[till.agent], tasks=[task], stream=kind == "stream")
    with context(tools=["look"]):
        answer = guard_crew(crew, gate, subject=ACME).kickoff()
        if kind == "stream":
            list(answer)  # type: ignore[arg-type]
    assert codes(gate) == ["not_granted", "permit"]
    assert effects.all == []


def test_a_crew_in_a_tool_can_only_narrow_further(effects: Any) -> None:
    """A wider list around an inner crew gives it nothing back."""
    gate = gate_with(OPEN)

    def ask() -> str:
        """Ask a crew that was given more."""
        turns = [*refunds("A-1"), [call("look", customer="Bo")]]
        inner = Desk([look, refund_of(effects)], *turns, role="inner")
        with context(tools=["*"]):
            return str(guard_crew(inner.crew(), gate, subject=ACME).kickoff())

    with context(tools=["ask", "look"]):
        guard_crew(Desk([ask], [call("ask")]).crew(), gate, subject=ACME).kickoff()
    assert codes(gate) == ["permit", "not_granted", "permit"]
    assert effects.all == []


@pytest.mark.filterwarnings("ignore")
def test_an_agent_that_plans_has_no_turns(effects: Any) -> None:
    """CrewAI asks its model in ways that no hook hears of: a name for a turn would outlive the turn."""
    gate = gate_with()
    turns = [call("look", customer="Bo")], [call("refund", order="A-2002")]
    desk = Desk([look, refund_of(effects)], *turns, planning=True)
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert [decision["proposal"].get("turn") for decision in decisions_of(gate)] == [None, None]
    assert effects.all == ["refund A-2002"]
