"""Many calls at once, cancelled ones, calls changed on the way, and agents inside of tools."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain_core.tools import tool
from langchain_scene import (
    ACME,
    HELLO,
    agent,
    call,
    decided,
    go,
    proposed,
    settled,
    told,
)

from sluicegate import Subject, hookimpl
from sluicegate_langchain import GateMiddleware

BOTH = pytest.mark.parametrize("way", ["invoke", "ainvoke"])
THREAD = {"configurable": {"thread_id": "t1"}}


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    @tool
    def refund(order: str, amount: int = 1) -> str:
        """Refund an order."""
        return effects.add("refund", order, amount)

    return refund


# --- many at once --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
def test_of_twenty_parallel_calls_exactly_the_permitted_run(
    way, ledger, refund, effects, make_gate
):
    """A budget is exact for calls that are made at once."""
    limits = [{"budget": "calls", "limit": 7, "per": ["run"]}]
    gate = make_gate({"tools": {"refund": {}}, "limits": limits}, ledger)
    turn = [call("refund", f"c{n}", order=f"A{n}") for n in range(20)]
    messages = go(agent([refund], turn, middleware=[GateMiddleware(gate)]), way)
    assert len(effects.all) == 7
    assert sorted(told(messages)) == [[]] * 7 + [["budget"]] * 13
    assert decided(gate).count("permit") == settled(gate).count("succeeded") == 7


@BOTH
def test_no_more_bodies_at_once_than_slots(way, make_gate):
    """Calls wait for a slot as the policy says, and never more than two bodies run at once."""
    at_once, most, lock = 0, 0, threading.Lock()

    @tool
    def slow(n: int) -> str:
        """Be slow."""
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.02)
        with lock:
            at_once -= 1
        return "ok"

    gate = make_gate({"tools": {"slow": {}}, "limits": [{"concurrency": 2, "wait": "30s"}]})
    turn = [call("slow", f"c{n}", n=n) for n in range(6)]
    messages = go(agent([slow], turn, middleware=[GateMiddleware(gate)]), way)
    assert told(messages) == [[]] * 6
    assert most == 2


@BOTH
def test_each_call_keeps_its_own_subject(way, refund, make_gate):
    """Runs side by side do not mix their subjects or runs."""
    gate = make_gate({"tools": {"refund": {}}})

    def subject(request: Any) -> Subject:
        return Subject(tenant=request.runtime.config["configurable"]["tenant"])

    graph = agent(
        [refund],
        [call("refund", f"c{n}", order=f"A{n}") for n in range(3)],
        middleware=[GateMiddleware(gate, subject=subject)],
    )
    tenants = [f"tenant-{n}" for n in range(5)]
    configs: Any = [{"configurable": {"tenant": tenant}} for tenant in tenants]
    if way == "invoke":
        graph.batch([HELLO] * 5, configs)
    else:
        asyncio.run(graph.abatch([HELLO] * 5, configs))
    pairs = {(proposal["subject"]["tenant"], proposal["run"]) for proposal in proposed(gate)}
    assert sorted(tenant for tenant, _ in pairs) == tenants
    assert len(proposed(gate)) == 15


def test_a_cancelled_call_is_unknown_and_keeps_its_slot(effects, make_gate):
    """Cancelling `ainvoke` while a plain tool runs in its thread leaves the tool running, and the slot taken."""
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    @tool
    def slow(n: int) -> str:
        """Be slow."""
        started.set()
        go_on.wait(30)
        effects.add("slow", n)
        ended.set()
        return "ok"

    gate = make_gate({"tools": {"slow": {"concurrency": 1}}})
    graph = agent([slow], [call("slow", n=1)], middleware=[GateMiddleware(gate)])

    async def cancel() -> None:
        task = asyncio.ensure_future(graph.ainvoke(HELLO))
        await asyncio.to_thread(started.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await asyncio.to_thread(ended.wait, 30)

    asyncio.run(cancel())
    assert effects.all == ["slow 1"]
    assert settled(gate) == ["unknown"]
    started.clear()
    messages = go(agent([slow], [call("slow", n=2)], middleware=[GateMiddleware(gate)]))
    assert told(messages) == [["concurrency"]]
    assert not started.is_set()


@BOTH
def test_what_was_decided_is_what_runs(way, effects, make_gate):
    """Whoever changes the arguments after the decision changes nothing that runs, however deep."""

    @tool
    def order(items: list[dict[str, int]]) -> str:
        """Order."""
        return effects.add("order", items)

    class Meddler(AgentMiddleware):
        """It keeps the call on its way to the gate, and changes it once the gate has decided."""

        def wrap_tool_call(self, request, handler):
            self.sent = request.tool_call["args"]
            return handler(request)

        async def awrap_tool_call(self, request, handler):
            self.sent = request.tool_call["args"]
            return await handler(request)

        @hookimpl
        def sluicegate_record(self, entry):
            if entry.get("decision") == "permit":
                self.sent["items"][0]["quantity"] = 9000
                self.sent["items"].append({"quantity": 1})

    meddler = Meddler()
    gate = make_gate({"tools": {"order": {}}}, plugins={"meddler": meddler})
    turn = [call("order", items=[{"quantity": 1}])]
    go(agent([order], turn, middleware=[meddler, GateMiddleware(gate)]), way)
    assert meddler.sent == {"items": [{"quantity": 9000}, {"quantity": 1}]}
    assert effects.all == ["order [{'quantity': 1}]"]


# --- agents in agents -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("shared", [True, False])
def test_an_agent_inside_a_tool_is_a_run_inside_the_run(way, shared, refund, effects, make_gate):
    """The inner agent's calls are decided too, with the same root, one level deeper, for the same subject."""
    gate = make_gate({"tools": {"*": {}}})
    inner_gate = gate if shared else make_gate({"tools": {"*": {}}})
    inner = agent(
        [refund], [call("refund", "c1", order="A1")], middleware=[GateMiddleware(inner_gate)]
    )

    @tool
    def delegate(task: str) -> str:
        """Delegate."""
        return inner.invoke(HELLO)["messages"][-1].content

    @tool
    async def adelegate(task: str) -> str:
        """Delegate."""
        return (await inner.ainvoke(HELLO))["messages"][-1].content

    name = "delegate" if way == "invoke" else "adelegate"
    outer = agent(
        [delegate, adelegate],
        [call(name, "c1", task="x")],
        middleware=[GateMiddleware(gate, subject=ACME)],
    )
    assert told(go(outer, way)) == [[]]
    assert effects.all == ["refund A1 1"]
    first = proposed(gate)[0]
    second = proposed(inner_gate)[-1]
    assert (second["tool"], second["depth"], second["root"], second["parent"]) == (
        "refund",
        1,
        first["run"],
        first["run"],
    )
    assert second["run"] not in (None, first["run"])
    assert second["subject"]["tenant"] == "acme"


@BOTH
def test_a_guarded_function_inside_a_tool_belongs_to_the_run(way, effects, make_gate):
    """What a tool calls through `gate.guard` is decided for the same subject and run."""
    gate = make_gate({"tools": {"send": {}, "mail": {}}})

    @gate.guard
    def mail(to: str) -> str:
        return effects.add("mail", to)

    @tool
    def send(to: str) -> str:
        """Send."""
        return mail(to=to)

    go(agent([send], [call("send", to="x")], middleware=[GateMiddleware(gate, subject=ACME)]), way)
    first, second = proposed(gate)
    assert second["run"] == first["run"]
    assert second["subject"] == first["subject"]
    assert effects.all == ["mail x"]
