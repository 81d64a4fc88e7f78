"""`guard_crew` finds every tool of a crew, or leaves the crew as it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from crewai_scene import (
    IN_PEACE,
    MODES,
    Agent,
    BaseTool,
    Crew,
    Desk,
    MCPServerStdio,
    Process,
    Task,
    ToolFailure,
    call,
    convert_tools_to_openai_schema,
    render_text_description_and_args,
    tool,
)
from pydantic import BaseModel, Field

from sluicegate import Gate, Subject, context, current
from sluicegate.testing.scene import decisions_of
from sluicegate_crewai import Caller, guard_crew, guard_tools, unguarded

pytestmark = IN_PEACE

ACME = Subject(tenant="acme")
POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"refund": {"args": {"properties": {"eur": {"maximum": 100}}}}, "look": {}},
}


@pytest.fixture
def gate() -> Gate:
    return Gate(POLICY, "memory:")


class Till:
    """A tool, and what it paid."""

    def __init__(self) -> None:
        self.paid: list[float] = []

        @tool("refund")
        def refund(eur: float) -> str:
            """Pay money back."""
            self.paid.append(eur)
            return f"refunded {eur:g}"

        self.refund = refund


def delegate(**more: Any) -> Any:
    return call("delegate_work_to_coworker", task="refund", context="c", coworker="till", **more)


# --- delegation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "tool_of_crewai", ["delegate_work_to_coworker", "ask_question_to_coworker"]
)
def test_a_coworker_is_gated_as_itself(tool_of_crewai: str, mode: str, gate: Gate) -> None:
    """What a coworker does that work was delegated to is decided: under its own role, in a run below the crew's."""
    till = Till()
    asked = {"coworker": "till", "context": "c", "task": "refund", "question": "refund?"}
    asked.pop("question" if "delegate" in tool_of_crewai else "task")
    boss = Desk(
        [till.refund],
        [call("refund", eur=1)],
        [call(tool_of_crewai, **asked)],
        [call("refund", eur=2)],
        mode=mode,
        role="boss",
        allow_delegation=True,
    )
    coworker = Desk(
        [till.refund], [call("refund", eur=500)], [call("refund", eur=5)], mode=mode, role="till"
    )
    guard_crew(boss.crew(coworker), gate, subject=ACME).kickoff()
    assert till.paid == [1, 5, 2]
    assert "args_invalid" in coworker.replies[0]
    said = [decision["proposal"] for decision in decisions_of(gate)]
    assert [proposal["subject"]["agent"] for proposal in said] == ["boss", "till", "till", "boss"]
    top, below = said[0], said[1]
    assert (below["parent"], below["root"], below["depth"]) == (top["run"], top["run"], 1)
    assert said[3]["run"] == top["run"] != below["run"] == said[2]["run"]


def test_a_manager_delegates_to_guarded_coworkers(gate: Gate) -> None:
    """In the hierarchical process too, whoever does the work is gated."""
    till = Till()
    boss = Desk([], [delegate()], role="boss", allow_delegation=True)
    coworker = Desk([till.refund], [call("refund", eur=500)], [call("refund", eur=5)], role="till")
    task = Task(description="d", expected_output="e", agent=coworker.agent)
    crew = Crew(
        agents=[coworker.agent],
        tasks=[task],
        process=Process.hierarchical,
        manager_agent=boss.agent,
    )
    guard_crew(crew, gate, subject=ACME).kickoff()
    assert till.paid == [5]
    assert "args_invalid" in coworker.replies[0]
    assert unguarded(crew) == []


def test_a_manager_that_crewai_makes_keeps_its_delegation(gate: Gate) -> None:
    """What CrewAI's own manager delegates with is left as it is: newer versions kick off again with it."""
    till = Till()
    boss = Desk([], [delegate()], role="boss")
    coworker = Desk([till.refund], [call("refund", eur=5)], role="till")
    task = Task(description="d", expected_output="e", agent=coworker.agent)
    crew = Crew(
        agents=[coworker.agent], tasks=[task], process=Process.hierarchical, manager_llm=boss.model
    )
    guard_crew(crew, gate, subject=ACME).kickoff()
    assert till.paid == [5]
    assert crew.manager_agent is not None
    before = list(crew.manager_agent.tools or ())
    guard_crew(crew, gate, subject=ACME)
    assert crew.manager_agent.tools == before != []
    assert unguarded(crew) == []


def test_a_manager_with_a_server_is_found(gate: Gate, server: MCPServerStdio) -> None:
    """The manager is one of the agents of a crew."""
    boss, coworker = Desk([], role="boss", mcps=[server]), Desk([], role="till")
    crew = Crew(
        agents=[coworker.agent],
        tasks=[Task(description="d", expected_output="e")],
        process=Process.hierarchical,
        manager_agent=boss.agent,
    )
    assert len(unguarded(crew)) == 1


def test_a_policy_that_names_delegation_is_told_that_nothing_would_come_of_it(gate: Gate) -> None:
    """CrewAI makes its delegation tools anew for each task, so a crew is not guarded by such a policy."""
    named = Gate({**POLICY, "tools": {"delegate_work_to_coworker": {}}}, "memory:")
    boss = Desk([Till().refund], allow_delegation=True)
    before = list(boss.agent.tools or ())
    with pytest.raises(ValueError, match="the policy names delegate_work_to_coworker"):
        guard_crew(boss.crew(), named)
    assert boss.agent.tools == before
    crew = guard_crew(Desk([]).crew(), named)
    crew.process = Process.hierarchical
    with pytest.raises(ValueError, match="delegate_work_to_coworker"):
        guard_crew(crew, named)


# --- where tools are --------------------------------------------------------------------------------


def test_tools_of_tasks_and_of_agents_outside_of_the_crew_are_guarded(gate: Gate) -> None:
    """A task may have tools of its own, and an agent that the crew does not list."""
    till = Till()
    desk = Desk([], [call("refund", eur=500)])
    outsider = Desk([till.refund], [call("refund", eur=500)], role="outsider")
    first = Task(description="d", expected_output="e", agent=desk.agent, tools=[till.refund])
    second = Task(description="d", expected_output="e", agent=outsider.agent)
    crew = Crew(agents=[desk.agent], tasks=[first, second])
    assert unguarded(crew) == ["refund"]
    guard_crew(crew, gate, subject=ACME).kickoff()
    assert unguarded(crew) == unguarded(outsider.agent) == []
    assert till.paid == []
    assert "args_invalid" in desk.replies[0]
    assert "args_invalid" in outsider.replies[0]


def test_a_tool_in_two_places_stays_one_tool(gate: Gate) -> None:
    """A tool that two agents share, with its limit of uses, is still shared by them."""
    till = Till()
    one, two = Desk([till.refund]), Desk([till.refund], role="other")
    crew = guard_crew(one.crew(two), gate)
    assert crew.agents[0].tools is not None
    assert crew.agents[1].tools is not None
    assert crew.tasks[0].tools is not None
    assert crew.agents[0].tools[0] is crew.agents[1].tools[0] is crew.tasks[0].tools[0]


def test_copies_of_a_crew_are_guarded(gate: Gate) -> None:
    """`kickoff_for_each` works on copies of the crew, each in a run of its own."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=500)], [call("refund", eur=5)])
    crew = guard_crew(desk.crew(), gate, subject=ACME)
    assert unguarded(crew.copy()) == []
    crew.kickoff_for_each(inputs=[{"n": 1}, {"n": 2}])
    assert till.paid == [5, 5]
    assert len({decision["proposal"]["run"] for decision in decisions_of(gate)}) == 2


def test_a_copy_of_a_guarded_tool_is_guarded(gate: Gate) -> None:
    """A pydantic copy asks the same gate."""
    till = Till()
    [guarded] = guard_tools([till.refund], gate)
    assert isinstance(guarded.model_copy().run(eur=500), ToolFailure)
    assert till.paid == []


def test_a_guarded_tool_cannot_be_restored_without_its_gate(gate: Gate) -> None:
    """What CrewAI writes into a checkpoint has no gate, and does not come back as a tool."""
    [guarded] = guard_tools([Till().refund], gate)
    saved = guarded.model_dump(mode="json")
    with pytest.raises(ValueError, match="inner"):
        Agent(role="r", goal="g", backstory="b", llm=Desk([]).model, tools=[type(guarded)(**saved)])


def test_guarding_twice_decides_once(gate: Gate) -> None:
    """The same gate again changes nothing; another gate is refused, and leaves the crew as it was."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=5)])
    crew = guard_crew(guard_crew(desk.crew(), gate, subject=ACME), gate)
    crew.kickoff()
    assert till.paid == [5]
    assert len(decisions_of(gate)) == 1
    before = list(desk.agent.tools or ())
    with pytest.raises(TypeError, match="refund is guarded by another gate already"):
        guard_crew(crew, Gate(POLICY, "memory:"))
    assert desk.agent.tools == before


class NotATool:
    name = "stray"


def test_a_crew_with_something_that_is_no_tool_is_refused(gate: Gate) -> None:
    """What cannot be guarded is named, and nothing is changed."""
    till = Till()
    desk = Desk([till.refund])
    crew = desk.crew()
    assert desk.agent.tools is not None
    desk.agent.tools.append(NotATool())  # type: ignore[arg-type]
    assert unguarded(crew) == ["refund", "stray"]
    with pytest.raises(TypeError, match="NotATool and no CrewAI tool"):
        guard_crew(crew, gate)
    assert desk.agent.tools[0] is till.refund


class Opaque(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    handle: NotATool


class Unreadable(BaseModel):
    handle: str = Field(json_schema_extra={"pattern": "("})


@pytest.mark.parametrize("schema", [Opaque, Unreadable])
def test_a_tool_whose_arguments_have_no_schema_is_refused(
    schema: type[BaseModel], gate: Gate
) -> None:
    """Where nobody can tell what the model may send, nobody can tell what it may not."""

    class Strange(BaseTool):
        name: str = "strange"
        description: str = "Strange."
        args_schema: type[BaseModel] = schema

        def _run(self, handle: Any) -> str:
            return "ran"

    with pytest.raises(TypeError, match="strange cannot be guarded"):
        guard_tools([Strange()], gate)


@pytest.mark.parametrize("thing", [None, [], "crew", Till()])
def test_only_crews_and_agents_are_guarded(thing: Any, gate: Gate) -> None:
    """A flow, for one, is refused: its agents are to be guarded one by one."""
    with pytest.raises(TypeError, match="is no crew"):
        guard_crew(thing, gate)
    with pytest.raises(TypeError, match="is no crew"):
        unguarded(thing)


def test_the_model_is_shown_the_same_tools(gate: Gate) -> None:
    """To the model a guarded tool looks like the tool that it guards, in both modes."""

    @tool("mail", result_as_answer=True, max_usage_count=3)
    def mail(to: str, lines: list[str] | None = None, urgent: bool = False) -> str:
        """Send a mail."""
        return "sent"

    [guarded] = guard_tools([mail], gate)
    assert convert_tools_to_openai_schema([guarded])[0] == convert_tools_to_openai_schema([mail])[0]
    shown = [render_text_description_and_args([t.to_structured_tool()]) for t in (guarded, mail)]
    assert shown[0] == shown[1]
    assert (guarded.result_as_answer, guarded.max_usage_count) == (True, 3)


# --- runs -------------------------------------------------------------------------------------------


def test_a_run_that_is_named_outside_is_the_run_of_the_kickoff(gate: Gate) -> None:
    """`sluicegate.context(run=…)` names the kickoff inside of it; what is delegated is still a run below."""
    till = Till()
    boss = Desk(
        [till.refund], [call("refund", eur=1)], [delegate()], role="boss", allow_delegation=True
    )
    coworker = Desk([till.refund], [call("refund", eur=2)], role="till")
    crew = guard_crew(boss.crew(coworker), gate)
    with context(run="ticket-7"):
        crew.kickoff()
    first, second = (decision["proposal"] for decision in decisions_of(gate))
    assert (first["run"], first["parent"], first["depth"]) == ("ticket-7", None, 0)
    assert (second["parent"], second["root"], second["depth"]) == ("ticket-7", "ticket-7", 1)


def test_a_run_that_is_named_inside_of_a_tool_is_the_run_of_the_inner_crew(gate: Gate) -> None:
    """A tool may name the run of the crew that it starts; it is a child of the run around the tool."""
    till = Till()

    @tool("look")
    def look() -> str:
        """Look."""
        inner = Desk([till.refund], [call("refund", eur=5)], role="inner")
        with context(run="inner"):
            guard_crew(inner.crew(), gate, subject=ACME).kickoff()
        return "seen"

    guard_crew(Desk([look], [call("look")]).crew(), gate, subject=ACME).kickoff()
    outer, inner = (decision["proposal"] for decision in decisions_of(gate))
    assert (inner["run"], inner["parent"], inner["depth"]) == ("inner", outer["run"], 1)


def test_a_guarded_tool_inside_of_a_tool_is_in_the_same_run(gate: Gate) -> None:
    """A tool that calls another one directly stays in its run, and with its subject; no agent calls it."""
    till = Till()
    callers: list[Caller] = []

    def same(caller: Caller) -> Subject:
        callers.append(caller)
        return current().subject

    [refund] = guard_tools([till.refund], gate, subject=same)

    @tool("look")
    def look() -> str:
        """Look."""
        return str(refund.run(eur=5))

    guard_crew(Desk([look], [call("look")]).crew(), gate, subject=ACME).kickoff()
    outer, inner = (decision["proposal"] for decision in decisions_of(gate))
    assert till.paid == [5]
    assert (inner["run"], inner["subject"]) == (outer["run"], outer["subject"])
    assert callers == [Caller(tool="refund")]


def test_a_crew_that_failed_is_not_around_the_next_one(gate: Gate) -> None:
    """CrewAI leaves traces of a crew that broke off; the next crew is a run of its own all the same."""
    till = Till()

    @tool("look")
    def look() -> str:
        """Look."""
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            guard_crew(Desk([look], [call("look")]).crew(), gate).kickoff()
    guard_crew(Desk([till.refund], [call("refund", eur=5)]).crew(), gate).kickoff()
    said = [decision["proposal"] for decision in decisions_of(gate)]
    assert [(proposal["parent"], proposal["depth"]) for proposal in said] == [(None, 0)] * 3
    assert len({proposal["root"] for proposal in said}) == 3


# --- MCP ----------------------------------------------------------------------------------------------

SERVER = """
import sys
from mcp.server.fastmcp import FastMCP

server = FastMCP("till", log_level="ERROR")

@server.tool()
def refund(order: str, eur: float, currency: str = "EUR") -> str:
    "Pay money back."
    with open(sys.argv[1], "a") as paid:
        print(order, eur, currency, file=paid)
    return f"refunded {eur:g} {currency}"

server.run("stdio")
"""


@pytest.fixture
def server(tmp_path: Path) -> MCPServerStdio:
    script = tmp_path / "till.py"
    script.write_text(SERVER, encoding="utf-8")
    return MCPServerStdio(command=sys.executable, args=[str(script), str(tmp_path / "paid")])


@pytest.mark.parametrize("mode", MODES)
def test_tools_of_mcp_servers_ask_the_gate(
    mode: str, server: MCPServerStdio, tmp_path: Path
) -> None:
    """The tools of a real server on stdio: what is refused never reaches it."""
    gate = Gate({"version": 1, "tools": {"*": POLICY["tools"]["refund"]}}, "memory:")
    desk = Desk([], mode=mode, mcps=[server])
    assert unguarded(desk.agent) != []
    crew = guard_crew(desk.crew(), gate, subject=ACME)
    assert unguarded(crew) == []
    assert desk.agent.tools is not None
    [refund] = desk.agent.tools
    desk.model.turns = (
        [call(refund.name, order="A", eur=500)],
        [call(refund.name, order="B", eur="5")],
        [call(refund.name, order="C", eur=5, currrency="USD")],
        [call(refund.name, order="D", eur=5)],
    )
    crew.kickoff()
    assert (tmp_path / "paid").read_text("utf-8") == "D 5.0 EUR\n"
    codes = ["args_invalid", "args_invalid", "args_unknown", "refunded 5 EUR"]
    assert [code in reply for code, reply in zip(codes, desk.replies, strict=True)] == [True] * 4


def test_a_server_that_is_down_is_an_error(gate: Gate, tmp_path: Path) -> None:
    """A crew whose server does not answer is not guarded in part; nothing is changed."""
    gone = MCPServerStdio(command=sys.executable, args=["-c", "raise SystemExit"])
    desk = Desk([Till().refund], mcps=[gone])
    before = list(desk.agent.tools or ())
    with pytest.raises(Exception, match=r"has no tools|MCP"):
        guard_crew(desk.crew(), gate)
    assert desk.agent.tools == before
    assert desk.agent.mcps == [gone]


@pytest.mark.filterwarnings("ignore:Agent 'clerk' declares apps:UserWarning")
def test_an_app_without_tools_is_an_error(gate: Gate) -> None:
    """CrewAI goes on without the tools of an app that it does not find; a crew is not guarded like that."""
    desk = Desk([], apps=["gmail"])
    assert unguarded(desk.agent) == ["gmail"]
    with pytest.raises(ValueError, match="'gmail' of 'clerk' has no tools"):
        guard_crew(desk.crew(), gate)
