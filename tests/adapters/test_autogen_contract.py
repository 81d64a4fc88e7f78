"""The promises that every adapter keeps, kept by agents, teams, guarded tools and core runtimes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import AgentId, CancellationToken, SingleThreadedAgentRuntime
from autogen_core.models import FunctionExecutionResultMessage, UserMessage
from autogen_core.tool_agent import ToolAgent, tool_agent_caller_loop
from autogen_scene import Scripted, agent, call, results

from sluicegate import Gate, Objection, current
from sluicegate.testing import AdapterContract, Script, Told
from sluicegate.testing.scene import Bodies, Plugin, decisions_of, gate_over, pay, turns
from sluicegate_autogen import (
    GateInterventionHandler,
    GateTermination,
    GateWorkbench,
    guard_tools,
)

NUMBERS = itertools.count(1)


class AutoGenContract(AdapterContract):
    """Runs an agent or a team; subclasses say how it is made."""

    def made(self, gate: Gate, tools: Any, script: list[Any], subject: Any) -> Any:
        raise NotImplementedError

    def run(self, gate: Gate, tools: Any, script: Script, subject: Any = None) -> Told:
        return asyncio.run(self.arun(gate, tools, script, subject))

    async def arun(self, gate: Gate, tools: Any, script: Script, subject: Any = None) -> Told:
        calls = [[call(c.tool, c.id or "", dict(c.args)) for c in turn] for turn in script]
        runner, token = self.made(gate, list(tools), calls, subject), CancellationToken()
        running = asyncio.ensure_future(runner.run(task="go on", cancellation_token=token))
        try:
            messages = (await asyncio.shield(running)).messages
        except asyncio.CancelledError:
            token.cancel()  # the way to cancel in AutoGen
            with contextlib.suppress(asyncio.CancelledError):
                await running
            raise
        return Told([r.content for r in results(messages)], messages[-1].to_text() == "done")

    def ends_without_being_stopped(self) -> None:
        """What happens where AutoGen has no way to stop: the gate has halted the run and refuses the rest."""
        bodies = Bodies()
        once = iter([Objection(message="stop now", final=True)])
        gate = gate_over(plugins={"stop": Plugin(lambda: next(once, None))})
        told = self._run(gate, [bodies.pay()], turns(pay(1), pay(2), pay(3)))
        assert bodies.ran == []
        assert ["halted" in reply for reply in told.replies] == [False, True, True]
        assert all("Stop here" in reply for reply in told.replies)
        assert [d["final"] for d in decisions_of(gate)] == [True] * 3


class TestTeam(AutoGenContract):
    """A team of one agent, as AutoGen recommends for a loop, ended by `GateTermination`."""

    def made(self, gate: Gate, tools: Any, script: list[Any], subject: Any) -> Any:
        workbench = GateWorkbench(tools, gate, subject=subject)
        desk = agent(*script, workbench=workbench, max_tool_iterations=1)
        ended = GateTermination() | TextMessageTermination(source="desk")
        return RoundRobinGroupChat([desk], termination_condition=ended)


class TestAgent(AutoGenContract):
    """A single `AssistantAgent` that loops by itself."""

    def made(self, gate: Gate, tools: Any, script: list[Any], subject: Any) -> Any:
        return agent(*script, workbench=GateWorkbench(tools, gate, subject=subject))

    def test_a_final_refusal_ends_the_run(self) -> None:
        """AutoGen cannot stop an agent between its iterations: all further calls are refused."""
        self.ends_without_being_stopped()


class TestGuardedTools(AutoGenContract):
    """An `AssistantAgent` that is given guarded tools instead of a workbench."""

    def made(self, gate: Gate, tools: Any, script: list[Any], subject: Any) -> Any:
        return agent(*script, tools=guard_tools(tools, gate, subject=subject))

    def test_a_final_refusal_ends_the_run(self) -> None:
        """As for any agent: all further calls are refused."""
        self.ends_without_being_stopped()


class TestRuntime(AutoGenContract):
    """A core runtime: `GateInterventionHandler` decides, the guarded tools of a `ToolAgent` settle."""

    async def arun(self, gate: Gate, tools: Any, script: Script, subject: Any = None) -> Told:
        calls = [[call(c.tool, c.id or "", dict(c.args)) for c in turn] for turn in script]
        guarded = guard_tools(tools, gate, subject=subject)
        run = None if current().run is not None else f"run-{next(NUMBERS)}"
        handler = GateInterventionHandler(gate, subject=subject, run=run, tools=guarded)
        runtime = SingleThreadedAgentRuntime(intervention_handlers=[handler])
        await ToolAgent.register(runtime, "tools", lambda: ToolAgent("tools", list(guarded)))
        runtime.start()
        token = CancellationToken()
        try:
            said = await tool_agent_caller_loop(
                runtime,
                AgentId("tools", "default"),
                Scripted(*calls),
                [UserMessage(content="go on", source="user")],
                list(guarded),
                token,
            )
        finally:
            token.cancel()
            await runtime.stop()
        return Told(_replies(said), said[-1].content == "done")

    def test_a_final_refusal_ends_the_run(self) -> None:
        """The caller loop has no end but the model's: all further calls are refused."""
        self.ends_without_being_stopped()


def _replies(said: Sequence[Any]) -> list[str]:
    return [
        result.content
        for message in said
        if isinstance(message, FunctionExecutionResultMessage)
        for result in message.content
    ]
