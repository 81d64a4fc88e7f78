"""The promises that every adapter keeps, kept by crews and agents of CrewAI."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from crewai_scene import IN_PEACE, Desk, ToolExecutionFailedError

from sluicegate import Gate, context
from sluicegate.testing import AdapterContract, Call, Script, Told
from sluicegate.testing.runner import ADA
from sluicegate.testing.scene import (
    Bodies,
    decisions_of,
    gate_over,
    outcomes_of,
    pay,
    said_of,
    turns,
)
from sluicegate.testing.twelve import EXPECTED, POLICY, SCRIPT, SUBJECT, tools
from sluicegate_crewai import guard_crew

pytestmark = IN_PEACE

Tools = Sequence[Callable[..., Any]]


class TestCrew(AdapterContract):
    """A crew of one agent, whose model calls tools natively."""

    mode: ClassVar[str] = "native"

    def run(self, gate: Gate, functions: Tools, script: Script, subject: Any = None) -> Told:
        desk, crew = self.crew(gate, functions, script, subject)
        with contextlib.suppress(ToolExecutionFailedError):
            crew.kickoff()
        return Told(desk.replies, desk.done)

    async def arun(self, gate: Gate, functions: Tools, script: Script, subject: Any = None) -> Told:
        desk, crew = self.crew(gate, functions, script, subject)
        with contextlib.suppress(ToolExecutionFailedError):
            await crew.akickoff()
        return Told(desk.replies, desk.done)

    def crew(self, gate: Gate, functions: Tools, script: Script, subject: Any) -> tuple[Desk, Any]:
        desk = self.desk(functions, script)
        return desk, guard_crew(desk.crew(), gate, subject=subject)

    def desk(self, functions: Tools, script: Script) -> Desk:
        calls = [[(call.tool, call.args, call.id) for call in turn] for turn in script]
        if self.mode == "text":  # it knows no two calls in a turn
            calls = [[call] for turn in calls for call in turn]
        return Desk(functions, *calls, mode=self.mode)

    # --- what CrewAI cannot offer: see "Named exceptions" in docs/crewai.md ------------------------

    def test_a_call_id_is_dispatched_once(self) -> None:
        """CrewAI tells no ids to tools, so two calls with one id are two calls; `once` is what holds them."""
        for once, ran in ((False, 2), (True, 1)):
            bodies = Bodies()
            gate = gate_over(once=once)
            self._run(gate, [bodies.pay()], turns(pay(1), pay(2), pay(1)))
            assert [row[0] for row in bodies.ran].count("A1") == ran
            assert {decision["proposal"]["call_id"] for decision in decisions_of(gate)} == {None}

    def test_a_call_without_an_id_does_not_run(self) -> None:
        """CrewAI makes up the id that a call lacks, and so it is decided like any other."""
        bodies = Bodies()
        gate = gate_over(once=True)
        self._run(gate, [bodies.pay()], turns(Call("pay", pay(1).args, "")))
        assert len(bodies.ran) == len(decisions_of(gate)) == 1

    def test_cancelling_leaves_an_unknown_outcome(self) -> None:
        """CrewAI runs tools in threads, which nobody can cancel: a tool comes to its end, and that is recorded."""
        started, ended = threading.Event(), threading.Event()

        async def fetch(key: str) -> str:
            """Fetch what is stored under a key."""
            started.set()
            await asyncio.sleep(0.3)
            ended.set()
            return "late"

        gate = gate_over(fetch={}, limits=[{"budget": "calls", "limit": 9, "per": ["tenant"]}])

        async def main() -> None:
            run = self.arun(gate, [fetch], turns(Call("fetch", {"key": "k"}, "c1")), ADA)
            task = asyncio.ensure_future(run)
            while not started.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task], timeout=self.PATIENCE)
            assert task.done(), "the agent hangs after it was cancelled"

        with context(run="cancelled"):
            self._patiently(lambda: asyncio.run(main()))
        assert ended.wait(self.PATIENCE)
        assert outcomes_of(gate) == ["succeeded"]
        assert [row.used for row in gate.usage()] == [1_000_000]


class TestCrewInTextMode(TestCrew):
    """The same with a model that calls tools in its text (ReAct)."""

    mode = "text"

    def test_an_identical_call_is_answered_from_the_record(self) -> None:
        """
        A call that repeats the last one is answered by CrewAI itself, which does not ask the tool;
        one with something in between gets the recorded result and does not run again.
        """
        bodies = Bodies()
        gate = gate_over(once=True)
        told = self._run(gate, [bodies.pay()], turns(pay(1), pay(1), pay(2), pay(1)))
        assert [row[0] for row in bodies.ran] == ["A1", "A2"]
        assert [d["decision"] for d in decisions_of(gate)] == ["permit", "permit", "recorded"]
        assert "paid A1, receipt 1" in told.replies[3]

    def test_the_same_script_gives_the_same_decisions(self) -> None:
        """Of the twelve calls, the one that repeats the call before it is answered by CrewAI itself."""
        gate = Gate(POLICY, "memory:")
        with context(run="twelve"):
            self._patiently(lambda: self.run(gate, tools(), SCRIPT, SUBJECT))
        [repeated] = [n for n in range(1, 12) if SCRIPT[n][0].args == SCRIPT[n - 1][0].args]
        expected = [*EXPECTED[:repeated], *EXPECTED[repeated + 1 :]]
        assert [said_of(decision) for decision in decisions_of(gate)] == expected


class TestAgent(TestCrew):
    """An agent without a crew."""

    def run(self, gate: Gate, functions: Tools, script: Script, subject: Any = None) -> Told:
        desk = self.desk(functions, script)
        with contextlib.suppress(ToolExecutionFailedError):
            guard_crew(desk.agent, gate, subject=subject).kickoff("go on")
        return Told(desk.replies, desk.done)

    async def arun(self, gate: Gate, functions: Tools, script: Script, subject: Any = None) -> Told:
        desk = self.desk(functions, script)
        with contextlib.suppress(ToolExecutionFailedError):
            await guard_crew(desk.agent, gate, subject=subject).kickoff_async("go on")
        return Told(desk.replies, desk.done)
