"""CrewAI's hooks fail open, in many ways; the guarded tools do not depend on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from crewai_scene import (
    IN_PEACE,
    MODES,
    Desk,
    call,
    clear_all_tool_call_hooks,
    register_before_tool_call_hook,
    tool,
)

from sluicegate import Gate, Subject, context
from sluicegate.testing.scene import decisions_of
from sluicegate_crewai import Caller, guard_crew, guard_tools, install_hooks

pytestmark = IN_PEACE

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"refund": {"args": {"properties": {"eur": {"maximum": 100}}}}, "look": {}},
}


@pytest.fixture(autouse=True)
def _no_hooks() -> Iterator[None]:
    clear_all_tool_call_hooks()
    yield
    clear_all_tool_call_hooks()


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


def _raises(_: Any) -> None:
    raise RuntimeError("a bug")


def _wrong_arity() -> None: ...


async def _asynchronous(_: Any) -> bool:
    return False


def _clears(_: Any) -> None:
    clear_all_tool_call_hooks()


HOOKS: list[Callable[..., Any]] = [
    _raises,
    _wrong_arity,
    _asynchronous,
    _clears,
    lambda _: 0,
    lambda _: "deny",
    lambda _: True,
    lambda _: None,
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.filterwarnings("ignore:coroutine '_asynchronous' was never awaited:RuntimeWarning")
def test_no_hook_lets_a_refused_call_through(hook: Any, mode: str, gate: Gate) -> None:
    """Whatever other hooks do, raise or return, the refused call does not run and the permitted one does."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=500)], [call("refund", eur=5)], mode=mode)
    crew = guard_crew(desk.crew(), gate)
    register_before_tool_call_hook(hook)
    crew.kickoff()
    assert till.paid == [5]
    assert "args_invalid" in desk.replies[0]


@pytest.mark.parametrize("mode", MODES)
def test_what_a_hook_changes_is_decided_as_it_would_run(mode: str, gate: Gate) -> None:
    """A hook that changes the arguments after all others is part of the call that is decided."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=5)], mode=mode)
    crew = guard_crew(desk.crew(), gate)

    def mutate(asked: Any) -> None:
        asked.tool_input["eur"] = 777

    register_before_tool_call_hook(mutate)
    crew.kickoff()
    assert till.paid == []
    assert "777" in desk.replies[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_hook_that_blocks_leaves_nothing_to_decide(mode: str, gate: Gate) -> None:
    """Where a hook of somebody else blocks a call, the gate is not asked and nothing is spent."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=5)], mode=mode)
    crew = guard_crew(desk.crew(), gate)
    register_before_tool_call_hook(lambda _: False)
    crew.kickoff()
    assert till.paid == []
    assert decisions_of(gate) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_call_of_which_no_hook_told_has_no_agent(mode: str) -> None:
    """
    Where hooks are cleared in the midst of a run, a policy that asks for the agent refuses;
    a new run listens again.
    """

    @tool("look")
    def look(place: int) -> str:
        """Look."""
        clear_all_tool_call_hooks()
        return "seen"

    gate = Gate({**POLICY, "grants": [{"agent": "clerk", "tools": ["*"]}]}, "memory:")
    desk = Desk([look], [call("look", place=1)], [call("look", place=2)], mode=mode)
    crew = guard_crew(desk.crew(), gate)
    crew.kickoff()
    crew.kickoff()
    assert [d["decision"] for d in decisions_of(gate)] == ["permit", "deny"] * 2
    assert "not_granted" in desk.replies[1] or "missing_subject" in desk.replies[1]


@pytest.mark.parametrize("mode", MODES)
def test_install_hooks_says_who_calls(mode: str, gate: Gate) -> None:
    """The subject of `install_hooks` counts for tools whose guard names none, and only for those of its gate."""
    till = Till()
    seen: list[Caller] = []

    def subject(caller: Caller) -> Subject:
        seen.append(caller)
        return Subject(tenant=f"of {caller.agent.role}", user=caller.task.description)

    uninstall = install_hooks(gate, subject=subject)
    other = Gate(POLICY, "memory:")

    def run(by: Gate, **options: Any) -> dict[str, Any]:
        desk = Desk([till.refund], [call("refund", eur=5)], mode=mode)
        guard_crew(desk.crew(), by, **options).kickoff()
        proposal: dict[str, Any] = decisions_of(by)[-1]["proposal"]["subject"]
        return proposal

    ours = run(gate)
    assert (ours["tenant"], ours["user"], ours["agent"]) == ("of clerk", "Do the work.", "clerk")
    assert run(gate, subject=Subject(tenant="own"))["tenant"] == "own"
    assert run(other)["tenant"] is None
    uninstall()
    assert run(gate)["tenant"] is None
    [caller] = seen
    assert caller.tool == "refund"
    assert caller.crew is not None


def test_a_tool_without_a_guard_is_warned_of(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """What an agent was given after it was guarded is warned of, and with `install_hooks` any other tool too."""
    till = Till()
    install_hooks(gate)
    with caplog.at_level(logging.WARNING, "sluicegate"):
        desk = Desk([till.refund], [call("refund", eur=5)])
        desk.crew().kickoff()
        assert ["refund has no guard" in message for message in caplog.messages] == [True]
        caplog.clear()
        guarded = Desk([till.refund], [call("refund", eur=5)])
        crew = guard_crew(guarded.crew(), gate)
        crew.kickoff()
        assert caplog.messages == []

        @tool("look")
        def look() -> str:
            """Look."""
            return "seen"

        guarded.model.turns = ([call("look")],)
        assert guarded.agent.tools is not None
        guarded.agent.tools.append(look)
        crew.tasks[0].tools = guarded.agent.tools
        crew.kickoff()
        assert ["look has no guard" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize("mode", MODES)
def test_the_subject_may_be_a_function_of_the_caller(mode: str, gate: Gate) -> None:
    """A function is given what CrewAI knows; a subject without an agent gets the agent's role, on one line."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=5)], mode=mode, role="Order\n  clerk")
    guard_crew(desk.crew(), gate, subject=lambda c: Subject(user=c.agent.goal)).kickoff()
    subject = decisions_of(gate)[0]["proposal"]["subject"]
    assert (subject["user"], subject["agent"]) == ("g", "Order clerk")


@pytest.mark.parametrize("answer", [None, "ada", LookupError()])
def test_a_subject_that_cannot_be_told_is_a_refusal(answer: Any, gate: Gate) -> None:
    """A function that raises, or gives no Subject, refuses the call, and the reason says so."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=5)])

    def subject(_: Caller) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    guard_crew(desk.crew(), gate, subject=subject).kickoff()
    assert till.paid == []
    assert "missing_subject" in desk.replies[0]


def test_the_context_names_the_agent_before_its_role_does(gate: Gate) -> None:
    """What `sluicegate.context` says of the agent is not replaced by the role."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=5)])
    with context(agent="desk-7"):
        guard_crew(desk.crew(), gate).kickoff()
    assert decisions_of(gate)[0]["proposal"]["subject"]["agent"] == "desk-7"


def test_a_call_after_the_agents_own_is_not_the_agents(gate: Gate) -> None:
    """What a callback of the agent calls, right after a call of the agent, is not attributed to the agent."""
    till = Till()
    desk = Desk([till.refund], [call("refund", eur=5)], mode="text")
    crew = guard_crew(desk.crew(), gate)
    assert desk.agent.tools is not None
    [refund] = desk.agent.tools
    desk.agent.step_callback = lambda _: refund.run(eur=1)
    crew.kickoff()
    agents = [decision["proposal"]["subject"]["agent"] for decision in decisions_of(gate)]
    assert agents == ["clerk", None, None]  # CrewAI calls back after the last word too


def test_a_direct_call_has_the_context_for_a_subject(gate: Gate) -> None:
    """Outside of an agent there is no role: who calls is what `sluicegate.context` says."""
    till = Till()
    [guarded] = guard_tools([till.refund], gate)
    with context(tenant="acme", run="by hand"):
        guarded.run(eur=5)
    proposal = decisions_of(gate)[0]["proposal"]
    assert (proposal["subject"]["tenant"], proposal["subject"]["agent"]) == ("acme", None)
    assert proposal["run"] == "by hand"
