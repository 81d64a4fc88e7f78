"""Many calls at once, the same call again, and in whose name and in which run calls are made."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from autogen_core import CancellationToken
from autogen_core.tools import (
    FunctionTool,
    StaticStreamWorkbench,
    StaticWorkbench,
)
from autogen_scene import (
    ACME,
    agent,
    call,
    decided,
    go,
    patiently,
    proposed,
    results,
    settled,
    told,
)

from sluicegate import Denied, Subject, context
from sluicegate_autogen import GateWorkbench, guard_tools


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    def refund(order: str, amount: int = 1) -> str:
        """Refund an order."""
        return effects.add("refund", order, amount)

    return refund


# --- many calls, and the same call again -----------------------------------------------------------


@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
def test_of_parallel_calls_exactly_as_many_run_as_may(refund, effects, make_gate, ledger):
    """Twelve calls in one turn under a limit of five: five run, seven are told why not."""
    limits = [{"budget": "calls", "limit": 5, "per": ["run"]}]
    gate = make_gate({"tools": {"refund": {}}, "limits": limits}, ledger)
    turn = [call("refund", f"c{n}", order=f"A{n}") for n in range(12)]
    answers = told(go(agent(turn, workbench=GateWorkbench([refund], gate))))
    assert len(effects.all) == 5
    assert answers.count("budget") == 7


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_two_hundred_calls_at_once_never_take_more_than_eight_slots(kind, make_gate):
    """All of them run in the end, and never more than eight at the same time."""
    busy, peak, ran, lock = 0, 0, 0, threading.Lock()

    def enter(change: int) -> None:
        nonlocal busy, peak, ran
        with lock:
            busy += change
            peak = max(peak, busy)
            ran += change > 0

    def work(number: int) -> str:
        enter(1)
        time.sleep(0.002)
        enter(-1)
        return str(number)

    async def awork(number: int) -> str:
        enter(1)
        await asyncio.sleep(0.002)
        enter(-1)
        return str(number)

    gate = make_gate({"tools": {"work": {}}, "limits": [{"concurrency": 8, "wait": "60s"}]})
    tool = FunctionTool(work if kind == "sync" else awork, "", name="work")
    turn = [call("work", f"c{n}", number=n) for n in range(200)]
    desk = agent(turn, workbench=GateWorkbench([tool], gate))
    answers = [r.content for r in results(patiently(desk.run(task="go"), 60).messages)]
    assert answers == [str(n) for n in range(200)]
    assert (ran, busy) == (200, 0)
    assert 1 < peak <= 8


def test_equal_and_empty_ids_run_once_or_never(refund, effects, make_gate):
    """AutoGen executes both of two equal ids, and calls without one; the gate does not."""
    gate = make_gate({"tools": {"refund": {}}})
    turn = [call("refund", order="A1"), call("refund", order="A1"), call("refund", "", order="A2")]
    answers = told(go(agent(turn, workbench=GateWorkbench([refund], gate))))
    assert effects.all == ["refund A1 1"]
    assert "duplicate_call" in answers[2]
    assert len([a for a in answers if a == "refund A1 1"]) == 1


def test_a_caller_without_ids_is_served(refund, effects, make_gate):
    """A program that calls the workbench itself has no ids to give, and repeats as it likes."""
    gate = make_gate({"tools": {"refund": {"effect": "idempotent"}}})
    workbench = GateWorkbench([refund], gate)
    for _ in range(2):
        assert not patiently(workbench.call_tool("refund", {"order": "A1"})).is_error
    assert effects.all == ["refund A1 1"] * 2
    assert [p["call_id"] for p in proposed(gate)] == [None, None]


def test_a_repeated_effect_is_answered_from_the_record(refund, effects, make_gate):
    """The second call with the same key gets the first one's text, as a success."""
    gate = make_gate({"tools": {"refund": {"once": {"key": "{order}"}}}})
    turns = [call("refund", order="A1")], [call("refund", "c2", order="A1")]
    messages = go(agent(*turns, workbench=GateWorkbench([refund], gate)))
    assert [(r.content, r.is_error) for r in results(messages)] == [("refund A1 1", False)] * 2
    assert effects.all == ["refund A1 1"]
    assert decided(gate) == ["permit", "recorded"]


@pytest.mark.parametrize("nest", ["tools", "workbench", "both"])
def test_a_call_that_passes_two_guards_is_decided_once(nest, refund, effects, make_gate, caplog):
    """A guarded tool inside of a guarded workbench takes over the permit, and settles it."""
    gate = make_gate({"tools": {"refund": {}}})
    inside: Any = [refund]
    if nest in ("tools", "both"):
        inside = StaticStreamWorkbench(guard_tools([refund], gate))
    if nest in ("workbench", "both"):
        inside = GateWorkbench(inside, gate)
    go(agent([call("refund", order="A1")], workbench=GateWorkbench(inside, gate)))
    assert effects.all == ["refund A1 1"]
    assert (decided(gate), settled(gate)) == (["permit"], ["succeeded"])
    assert caplog.text == ""  # nobody tried to settle it twice


def test_another_call_of_the_same_tool_inside_of_it_is_decided(effects, make_gate):
    """Equal in all but the id is not the same call."""

    async def refund(order: str) -> str:
        try:
            await inner.run_json({"order": order}, CancellationToken(), "c2")
        except Denied as denied:
            return str(denied.decision.reasons[0].code)
        return "ran"

    def pay(order: str) -> str:
        return effects.add(order)

    gate = make_gate({"tools": {"refund": {"rate": "1/h"}}})
    [inner] = guard_tools([FunctionTool(pay, "", name="refund")], gate)
    foreign = StaticWorkbench([FunctionTool(refund, "")])
    messages = go(agent([call("refund", order="A1")], workbench=GateWorkbench(foreign, gate)))
    assert told(messages) == ["rate"]
    assert effects.all == []


# --- who and where ---------------------------------------------------------------------------------


def test_each_run_of_an_agent_is_a_run(refund, effects, make_gate):
    """AutoGen has no name for one, but a cancellation token of its own for each."""
    gate = make_gate(
        {"tools": {"refund": {}}, "limits": [{"budget": "calls", "limit": 1, "per": ["run"]}]}
    )
    workbench = GateWorkbench([refund], gate)
    for number in range(2):
        turn = [call("refund", f"{number}-{n}", order=f"A{n}") for n in range(2)]
        assert told(go(agent(turn, workbench=workbench)))[1] == "budget"
    assert len(effects.all) == 2
    assert len({p["run"] for p in proposed(gate)}) == 2


def test_a_direct_call_has_no_run(refund, effects, make_gate):
    """Nobody said which run it is in, so a limit per run refuses."""
    gate = make_gate(
        {"tools": {"refund": {}}, "limits": [{"budget": "calls", "limit": 1, "per": ["run"]}]}
    )
    result = patiently(GateWorkbench([refund], gate).call_tool("refund", {"order": "A1"}))
    assert result.is_error
    assert effects.all == []


def test_the_context_names_the_run_and_the_subject(refund, make_gate):
    """What the program says in `sluicegate.context` counts, where the workbench has no subject."""
    gate = make_gate({"tools": {"refund": {}}})
    with context(tenant="acme", user="ada", run="order-7"):
        go(agent([call("refund", order="A1")], workbench=GateWorkbench([refund], gate)))
    [proposal] = proposed(gate)
    assert (proposal["run"], proposal["root"], proposal["depth"]) == ("order-7", "order-7", 0)
    assert (proposal["subject"]["tenant"], proposal["subject"]["user"]) == ("acme", "ada")


@pytest.mark.parametrize("subject", [lambda agent: None, lambda agent: 1 / 0, lambda: Subject()])
def test_a_subject_that_cannot_be_told_refuses(subject, refund, effects, make_gate):
    """A function that gives no subject, raises, or takes no argument: nobody is calling."""
    gate = make_gate({"tools": {"refund": {}}})
    messages = go(
        agent(
            [call("refund", order="A1")], workbench=GateWorkbench([refund], gate, subject=subject)
        )
    )
    assert told(messages) == ["missing_subject"]
    assert effects.all == []


def test_a_plain_function_sees_who_calls(make_gate):
    """AutoGen runs it in a thread without the context; here it is there."""
    seen = []

    def refund() -> str:
        from sluicegate import current

        seen.append((current().subject, current().run, threading.current_thread().name))
        return "ok"

    gate = make_gate({"tools": {"refund": {}}})
    with context(run="order-7"):
        go(agent([call("refund")], workbench=GateWorkbench([refund], gate, subject=ACME)))
    [(subject, run, thread)] = seen
    assert (subject, run) == (ACME, "order-7")
    assert thread != "MainThread"


def test_a_gate_that_only_watches_refuses_nothing(refund, effects, make_gate):
    """Everything runs as it would without a gate, and is on record."""
    gate = make_gate({"tools": {"another": {}}}, observe=True)
    turns = [call("refund", order="A1", amount="7", extra=1)], [call("refund", "c1", order="A2")]
    go(agent(*turns, workbench=GateWorkbench([refund], gate)))
    assert effects.all == ["refund A1 7", "refund A2 1"]
    assert len(decided(gate)) == 2
