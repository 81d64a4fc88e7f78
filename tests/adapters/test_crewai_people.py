"""What people do while a crew works: they say yes or no, they halt it; and the key of a call."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from crewai_scene import (
    IN_PEACE,
    MODES,
    WAYS,
    Desk,
    ToolExecutionFailedError,
    call,
    elsewhere,
    go,
)

from sluicegate import Gate, PermitError, Subject, context, current_permit
from sluicegate.testing.scene import decisions_of
from sluicegate_crewai import guard_crew, guard_tools

pytestmark = IN_PEACE

ACME = Subject(tenant="acme")
ASKING = {"tools": {"refund": {"approve": True}, "wait": {"effect": "read"}}}
PLAIN: dict[str, Any] = {"tools": {"refund": {}, "wait": {}, "ask": {}}}
YES = "[gate.approve(asking.id, by='ada') for asking in gate.pending()]"


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger that another process can open as well."""
    return f"sqlite:///{tmp_path / 'shared.db'}"


def refund_of(effects: Any) -> Any:
    def refund(order: str, eur: float) -> str:
        """Refund an order."""
        return effects.add("refund", order, f"{eur:g}")

    return refund


def meanwhile(policy: Any, ledger: str, deed: str) -> Any:
    """A tool; while it runs, somebody does something in another process."""

    def wait() -> str:
        """Wait a while."""
        elsewhere(policy, ledger, deed)
        return "waited"

    return wait


def gate_on(policy: Any, ledger: str) -> Gate:
    return Gate({"version": 1, **policy}, ledger)


def said(gate: Gate) -> list[str]:
    return [decision["decision"] for decision in decisions_of(gate)]


# --- approvals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["kickoff", "akickoff", "agent"])
def test_a_call_waits_for_a_yes_from_another_process(
    way: str, mode: str, ledger: str, effects: Any
) -> None:
    """The model is told to wait and the crew goes on; approved elsewhere, the same call runs, and runs once."""
    gate = gate_on(ASKING, ledger)
    tools = [refund_of(effects), meanwhile(ASKING, ledger, YES)]
    ask = [call("refund", order="A1", eur=300)]
    desk = Desk(tools, ask, [call("wait")], ask, [call("wait")], ask, mode=mode)
    go(guard_crew(desk.crew(), gate, subject=ACME), way)
    assert "WAITING FOR APPROVAL: refund was not run (request " in desk.replies[0]
    assert "Do not repeat this call before it is approved." in desk.replies[0]
    assert desk.replies[2].startswith("refund A1 300")
    assert "WAITING FOR APPROVAL" in desk.replies[4]
    assert effects.all == ["refund A1 300"]
    assert said(gate) == ["defer", "permit", "permit", "permit", "defer"]
    assert desk.done
    gate.close()


def test_changed_arguments_need_a_yes_of_their_own(ledger: str, effects: Any) -> None:
    """A yes is for exactly one action: with another amount, somebody has to be asked anew."""
    gate = gate_on(ASKING, ledger)
    asks = [[call("refund", order="A1", eur=eur)] for eur in (300, 301)]
    tools = [refund_of(effects), meanwhile(ASKING, ledger, YES)]
    desk = Desk(tools, asks[0], [call("wait")], asks[1])
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert said(gate) == ["defer", "permit", "defer"]
    assert effects.all == []
    assert [asking.args["eur"] for asking in gate.pending() if asking.args] == [301]
    gate.close()


def test_a_rejected_call_is_refused(ledger: str, effects: Any) -> None:
    """A person's no reaches the model as a refusal, with who said it."""
    gate = gate_on(ASKING, ledger)
    no = "gate.reject(gate.pending()[0].id, by='ada', note='call them first')"
    ask = [call("refund", order="A1", eur=300)]
    desk = Desk([refund_of(effects), meanwhile(ASKING, ledger, no)], ask, [call("wait")], ask)
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert "approval_rejected: " in desk.replies[2]
    assert "ada" in desk.replies[2]
    assert effects.all == []
    gate.close()


def test_a_later_kickoff_uses_a_yes_if_both_have_one_name(effects: Any) -> None:
    """A yes is bound to the run: crews that ask today and act tomorrow need `context(run=…)`."""
    gate = gate_on(ASKING, "memory:")
    for run in (None, "ticket-7"):
        for _ in range(2):
            desk = Desk([refund_of(effects)], [call("refund", order="A1", eur=300)])
            with context(run=run):
                guard_crew(desk.crew(), gate, subject=ACME).kickoff()
            for asking in gate.pending():
                gate.approve(asking.id, by="ada")
    assert said(gate) == ["defer", "defer", "defer", "permit"]
    assert effects.all == ["refund A1 300"]


# --- halts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["kickoff", "akickoff", "agent"])
def test_a_halt_from_another_process_ends_a_crew(
    way: str, mode: str, ledger: str, effects: Any
) -> None:
    """The next call is refused for good, and CrewAI ends the kickoff with the reason."""
    gate = gate_on(PLAIN, ledger)
    halt = "gate.halt(run='ticket-7', by='ada', reason='wrong customer')"
    refunds = [[call("refund", order=f"A{n}", eur=1)] for n in range(3)]
    tools = [refund_of(effects), meanwhile(PLAIN, ledger, halt)]
    desk = Desk(tools, refunds[0], [call("wait")], *refunds[1:], mode=mode)
    crew = guard_crew(desk.crew(), gate, subject=ACME)
    with context(run="ticket-7"), pytest.raises(ToolExecutionFailedError) as ended:
        go(crew, way)
    assert "run ticket-7 is halted (by ada: wrong customer)" in str(ended.value)
    assert effects.all == ["refund A0 1"]
    assert said(gate) == ["permit", "permit", "deny"]
    assert not desk.done
    gate.close()


def test_a_halted_tenant_calls_nothing_until_it_is_resumed(ledger: str, effects: Any) -> None:
    """A halt by a part of the subject holds for every kickoff, and for no other tenant."""
    gate = gate_on(PLAIN, ledger)
    elsewhere(PLAIN, ledger, "gate.halt(tenant='acme', by='ada', reason='audit')")

    def kickoff(tenant: str) -> None:
        desk = Desk([refund_of(effects)], [call("refund", order=tenant, eur=1)])
        guard_crew(desk.crew(), gate, subject=Subject(tenant=tenant)).kickoff()

    kickoff("other")
    with pytest.raises(ToolExecutionFailedError, match="tenant acme is halted"):
        kickoff("acme")
    elsewhere(PLAIN, ledger, "gate.resume(tenant='acme', by='ada')")
    kickoff("acme")
    assert effects.all == ["refund other 1", "refund acme 1"]
    gate.close()


def test_a_halted_run_stops_the_coworkers_and_crews_inside_of_it(effects: Any) -> None:
    """A halt of a run holds for delegated work and for crews in tools; the crew around ends at its own next call."""
    gate = gate_on({**PLAIN, "tools": {"*": {}}}, "memory:")

    def wait() -> str:
        """Wait a while."""
        gate.halt(run="ticket-7", by="ada")
        return "waited"

    def ask() -> str:
        """Ask another crew."""
        inner = Desk([wait, refund_of(effects)], [call("wait")], refund, role="inner")
        return str(guard_crew(inner.crew(), gate).kickoff())

    refund = [call("refund", order="A1", eur=1)]
    delegation = call("delegate_work_to_coworker", task="t", context="c", coworker="till")
    for outer in (delegation, call("ask")):
        till = Desk([wait, refund_of(effects)], [call("wait")], refund, role="till")
        boss = Desk([ask], [outer], [call("ask")], role="boss", allow_delegation=True)
        with context(run="ticket-7"), pytest.raises(ToolExecutionFailedError):
            guard_crew(boss.crew(till), gate).kickoff()
        refused = [d["proposal"] for d in decisions_of(gate) if d["decision"] == "deny"][-2:]
        assert [(p["tool"], p["depth"]) for p in refused] == [("refund", 1), ("ask", 0)]
        gate.resume(run="ticket-7", by="ada")
    assert effects.all == []


def test_a_loop_is_ended_by_the_gate(effects: Any) -> None:
    """At twice the number of identical proposals the run is over, and the kickoff ends."""
    gate = gate_on({**PLAIN, "limits": [{"repeat": 2, "per": ["run"]}]}, "memory:")
    same, other = [call("refund", order="A1", eur=1)], [call("refund", order="A2", eur=1)]
    desk = Desk([refund_of(effects)], *[same, other] * 4, same)
    with pytest.raises(ToolExecutionFailedError, match="the run is halted"):
        guard_crew(desk.crew(), gate).kickoff()
    assert effects.all == ["refund A1 1", "refund A2 1"] * 2


@pytest.mark.parametrize("way", ["kickoff", "for_each", "agent"])
def test_a_run_that_was_halted_is_not_around_what_comes_next(way: str) -> None:
    """CrewAI leaves traces of a kickoff that broke off; neither kickoffs nor tools that you call are in it."""
    gate = gate_on(PLAIN, "memory:")

    def wait() -> str:
        """Wait a while."""
        return "waited"

    gate.halt(tenant="acme", by="ada")
    with pytest.raises(ToolExecutionFailedError):
        go(guard_crew(Desk([wait], [call("wait")]).crew(), gate, subject=ACME), way)
    gate.resume(tenant="acme", by="ada")
    gate.halt(run=decisions_of(gate)[0]["proposal"]["run"], by="ada")
    go(guard_crew(Desk([wait], [call("wait")]).crew(), gate, subject=ACME), way)
    [guarded] = guard_tools(Desk([wait]).agent.tools or [], gate)
    assert guarded.run() == "waited"
    halted, after, alone = (decision["proposal"]["run"] for decision in decisions_of(gate))
    assert halted != after
    assert alone is None


# --- the key of a call ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_tool_is_offered_the_key_of_its_call(kind: str, way: str, mode: str) -> None:
    """`current_permit().key` is the idempotency key of the policy, in whatever thread or loop CrewAI runs the tool."""
    policy = {"tools": {"pay": {"once": {"key": "pay:{order}"}}}}
    gate, keys, lock = gate_on(policy, "memory:"), [], threading.Lock()

    def pay(order: str) -> str:
        """Pay."""
        with lock:
            keys.append(current_permit().key)
        return f"paid {order}"

    async def apay(order: str) -> str:
        """Pay."""
        await asyncio.sleep(0)
        return pay(order)

    apay.__name__ = "pay"
    calls = [call("pay", f"c{n}", order=f"A{n}") for n in range(3)]
    turns = [calls] if mode == "native" else [[each] for each in calls]
    desk = Desk([pay if kind == "sync" else apay], *turns, mode=mode)
    go(guard_crew(desk.crew(), gate, subject=ACME), way)
    assert sorted(str(key).rpartition("pay:")[2] for key in keys) == ["A0", "A1", "A2"]
    with pytest.raises(PermitError, match="no permitted call is running here"):
        current_permit()


def test_a_guarded_tool_by_itself_is_offered_its_permit() -> None:
    """A tool that your own code runs has a permit around it as well."""
    gate, ids = gate_on({"tools": {"pay": {}}}, "memory:"), []

    def pay(order: str) -> str:
        """Pay."""
        ids.append(current_permit().id)
        return "paid"

    [guarded] = guard_tools(Desk([pay]).agent.tools or [], gate)
    guarded.run(order="A1")
    assert ids == [decision["permit"] for decision in decisions_of(gate)]
