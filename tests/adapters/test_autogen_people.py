"""What people do while an AutoGen agent runs: they say yes or no, they halt it; and the key of a call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.tools import FunctionTool, StaticWorkbench
from autogen_scene import (
    ACME,
    Scripted,
    agent,
    call,
    decided,
    elsewhere,
    entries,
    go,
    helper,
    patiently,
    proposed,
    results,
    team_of,
    told,
)

from sluicegate import PermitError, context, current_permit
from sluicegate_autogen import GateTermination, GateWorkbench, guard_tools

ASKING = {"tools": {"refund": {"approve": True}, "wait": {"effect": "read"}}}
WAYS = {
    "workbench": lambda tools, gate: {"workbench": GateWorkbench(tools, gate, subject=ACME)},
    "tools": lambda tools, gate: {"tools": guard_tools(tools, gate, subject=ACME)},
}


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger that another process can open as well."""
    return f"sqlite:///{tmp_path / 'shared.db'}"


def refund_of(effects: Any) -> Any:
    def refund(order: str, eur: float) -> str:
        """Refund an order."""
        return effects.add("refund", order, f"{eur:g}")

    return refund


def meanwhile(policy: Any, ledger: str, *deeds: str) -> Any:
    """A tool; while it runs, somebody does the next of *deeds* in another process."""
    todo = iter(deeds)

    def wait() -> str:
        """Wait a while."""
        elsewhere(policy, ledger, next(todo))
        return "waited"

    return wait


# --- approvals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_team", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_call_waits_for_a_yes_from_another_process(way, in_a_team, ledger, effects, make_gate):
    """The model is told to wait and goes on; approved elsewhere, the same call runs, and runs once."""
    gate = make_gate(ASKING, ledger)
    yes = "[gate.approve(asking.id, by='ada') for asking in gate.pending()]"
    tools = [refund_of(effects), meanwhile(ASKING, ledger, yes)]
    asks = [[call("refund", f"r{n}", order="A1", eur=300)] for n in range(3)]
    desk = agent(asks[0], [call("wait", "w1")], asks[1], asks[2], **WAYS[way](tools, gate))
    seen = [r.content for r in results(go(team_of(desk) if in_a_team else desk))]
    assert seen[0].startswith("WAITING FOR APPROVAL: refund was not run (request ")
    assert seen[0].endswith("Do not repeat this call before it is approved.")
    assert seen[1:3] == ["waited", "refund A1 300"]
    assert seen[3].startswith("WAITING FOR APPROVAL: ")
    assert effects.all == ["refund A1 300"]
    assert decided(gate) == ["defer", "permit", "permit", "defer"]


def test_changed_arguments_need_a_yes_of_their_own(ledger, effects, make_gate):
    """A yes is for exactly one action: with another amount, somebody has to be asked anew."""
    gate = make_gate(ASKING, ledger)
    yes = "[gate.approve(asking.id, by='ada') for asking in gate.pending()]"
    tools = GateWorkbench([refund_of(effects), meanwhile(ASKING, ledger, yes)], gate)
    amounts = [[call("refund", f"r{n}", order="A1", eur=eur)] for n, eur in enumerate((300, 301))]
    desk = agent(amounts[0], [call("wait", "w1")], amounts[1], workbench=tools)
    assert [r.content[:20] for r in results(go(desk))] == [
        "WAITING FOR APPROVAL",
        "waited",
        "WAITING FOR APPROVAL",
    ]
    assert effects.all == []
    assert [asking.args["eur"] for asking in gate.pending() if asking.args] == [301]


def test_a_rejected_call_is_refused(ledger, effects, make_gate):
    """A person's no reaches the model as a refusal, with who said it."""
    gate = make_gate(ASKING, ledger)
    no = "gate.reject(gate.pending()[0].id, by='ada', note='call them first')"
    tools = GateWorkbench([refund_of(effects), meanwhile(ASKING, ledger, no)], gate)
    asks = [[call("refund", f"r{n}", order="A1", eur=300)] for n in range(2)]
    messages = go(agent(asks[0], [call("wait", "w1")], asks[1], workbench=tools))
    refusal = results(messages)[2].content
    assert refusal.startswith("REFUSED: refund was not run.")
    assert "approval_rejected: " in refusal
    assert "ada" in refusal
    assert effects.all == []


def test_a_later_run_uses_a_yes_if_both_have_one_name(ledger, effects, make_gate):
    """A yes is bound to the run: agents that ask today and act tomorrow need `context(run=…)`."""
    gate = make_gate(ASKING, ledger)

    def turn(number: int) -> Any:
        tools = GateWorkbench([refund_of(effects)], gate, subject=ACME)
        return agent([call("refund", f"r{number}", order="A1", eur=300)], workbench=tools)

    for named in (False, True):
        for number in range(2):
            with context(run="ticket-7" if named else None):
                go(turn(number))
            for asking in gate.pending():
                gate.approve(asking.id, by="ada")
    assert decided(gate) == ["defer", "defer", "defer", "permit"]
    assert effects.all == ["refund A1 300"]


# --- halts ---------------------------------------------------------------------------------------------

PLAIN = {"tools": {"refund": {}, "wait": {}, "helper": {}}}


@pytest.mark.parametrize(
    ("way", "scope"), [("workbench", "run='ticket-7', "), ("tools", "tenant='acme', ")]
)
def test_a_halt_from_another_process_stops_an_agent(way, scope, ledger, effects, make_gate):
    """From then on every call is refused; the agent is told to stop, and resumed it may go on."""
    gate = make_gate(PLAIN, ledger)
    halt = f"gate.halt({scope}by='ada', reason='wrong customer')"
    tools = [refund_of(effects), meanwhile(PLAIN, ledger, halt)]
    asks = [[call("refund", f"r{n}", order=f"A{n}", eur=1)] for n in range(3)]
    with context(run="ticket-7"):
        desk = agent(asks[0], [call("wait", "w1")], *asks[1:], **WAYS[way](tools, gate))
        messages = go(desk)
    assert told(messages) == ["refund A0 1", "waited", "halted", "halted"]
    assert "wrong customer" in results(messages)[2].content
    assert effects.all == ["refund A0 1"]
    elsewhere(PLAIN, ledger, f"gate.resume({scope}by='ada')")
    with context(run="ticket-7"):
        again = agent([call("refund", "r9", order="A9", eur=1)], **WAYS[way](tools, gate))
        assert told(go(again)) == ["refund A9 1"]


def test_a_halt_ends_a_team(ledger, effects, make_gate):
    """`GateTermination` ends it with the refusal, before the next agent speaks."""
    gate = make_gate(PLAIN, ledger)
    halt = "gate.halt(agent='desk', by='ada', reason='wrong customer')"
    wait = meanwhile(PLAIN, ledger, halt)
    tools = GateWorkbench([refund_of(effects), wait], gate, subject=ACME)
    turns = [call("wait")], [call("refund", "r1", order="A1", eur=1)]
    desk = agent(*turns, workbench=tools, max_tool_iterations=1)
    other = Scripted()
    team = RoundRobinGroupChat(
        [desk, AssistantAgent("other", other)], termination_condition=GateTermination(), max_turns=9
    )
    result = patiently(team.run(task="go on"))
    assert "agent desk is halted (by ada: wrong customer)" in str(result.stop_reason)
    assert (effects.all, other.asked) == ([], 1)


def test_a_halted_run_stops_the_agents_inside_of_it(ledger, effects, make_gate):
    """A halt of a run holds for the agents in its tools, whose runs are their own."""
    gate = make_gate(PLAIN, ledger)
    halt = "gate.halt(run='ticket-7', by='ada')"
    wait = meanwhile(PLAIN, ledger, halt)
    turns = [[call("wait", "h1")], [call("refund", "h2", order="A1", eur=1)]]
    inner = helper(gate, refund_of(effects), wait, turns=turns)
    with context(run="ticket-7"):
        go(agent([call("helper", task="help")], workbench=GateWorkbench([inner], gate)))
    assert effects.all == []
    assert [(p["tool"], p["depth"]) for p in proposed(gate)][-1] == ("refund", 1)
    assert [reason["code"] for reason in entries(gate, "decision")[-1]["reasons"]] == ["halted"]


def test_a_loop_is_halted_by_the_gate(effects, make_gate):
    """At twice the number of identical proposals the run is over, for other calls as well."""
    gate = make_gate({**PLAIN, "limits": [{"repeat": 2, "per": ["run"]}]})
    same = [[call("refund", f"r{n}", order="A1", eur=1)] for n in range(4)]
    other = [call("refund", "o1", order="A2", eur=1)]
    desk = agent(*same, other, workbench=GateWorkbench([refund_of(effects)], gate))
    assert told(go(desk)) == ["refund A1 1"] * 2 + ["repeat", "repeat", "halted"]


# --- the key of a call ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async", "thread", "function_tool"])
@pytest.mark.parametrize("way", WAYS)
def test_a_tool_is_offered_the_key_of_its_call(way, kind, make_gate):
    """`current_permit().key` is the idempotency key of the policy, wherever AutoGen runs the tool."""
    gate = make_gate({"tools": {"pay": {"once": {"key": "pay:{order}"}}}})

    def pay(order: str) -> str:
        """Pay."""
        return str(current_permit().key)

    async def apay(order: str) -> str:
        """Pay."""
        await asyncio.sleep(0)
        return pay(order) if kind == "async" else await asyncio.to_thread(pay, order)

    function = pay if kind in ("sync", "function_tool") else apay
    made = FunctionTool(function, description="Pay.", name="pay")
    calls = [[call("pay", f"c{n}", order=f"A{n}") for n in range(3)]]
    desk = agent(*calls, **WAYS[way]([made], gate))
    keys = [result.content for result in results(go(desk))]
    assert all(key.endswith(f"pay:A{n}") for n, key in enumerate(keys)), keys
    with pytest.raises(PermitError, match="no permitted call is running here"):
        current_permit()


def test_a_plain_function_in_a_workbench_of_its_own_is_offered_nothing(make_gate):
    """A StaticWorkbench runs it in a bare thread; given to the gate itself, it would have the key."""
    gate = make_gate({"tools": {"pay": {"on_error": "failed"}}})

    def pay(order: str) -> str:
        """Pay."""
        return current_permit().id

    bench = StaticWorkbench([FunctionTool(pay, description="Pay.")])
    desk = agent([call("pay", order="A1")], workbench=GateWorkbench(bench, gate))
    assert "no permitted call is running here" in results(go(desk))[0].content
