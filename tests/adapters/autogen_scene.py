"""Real AutoGen agents with a scripted model; a run that hangs is a failure and not a hanging test."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.messages import ToolCallExecutionEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, ModelInfo, RequestUsage

from sluicegate import Gate, Subject
from sluicegate_autogen import GateWorkbench

HELPER = Subject(tenant="acme", agent="helper")
ACME = Subject(tenant="acme", user="ada", agent="desk")
PATIENCE = 20.0
T = TypeVar("T")


class Scripted(ChatCompletionClient):
    """A model that makes the tool calls of one turn after the other, and then says "done"."""

    def __init__(self, *turns: Sequence[FunctionCall]) -> None:
        self.turns = list(turns)
        self.asked = 0

    async def create(
        self, messages: Any, *, cancellation_token: Any = None, **_: Any
    ) -> CreateResult:
        if cancellation_token is not None:  # as a client that waits for the network
            waiting = asyncio.ensure_future(asyncio.sleep(0))
            await cancellation_token.link_future(waiting)
        self.asked += 1
        calls = self.turns[self.asked - 1] if self.asked <= len(self.turns) else ()
        return CreateResult(
            finish_reason="function_calls" if calls else "stop",
            content=list(calls) or "done",
            usage=RequestUsage(1, 1),
            cached=False,
        )

    async def create_stream(self, messages: Any, **options: Any) -> AsyncGenerator[Any, None]:
        yield await self.create(messages, **options)

    async def close(self) -> None: ...

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(0, 0)

    total_usage = actual_usage

    def count_tokens(self, messages: Any, **_: Any) -> int:
        return 0

    remaining_tokens = count_tokens

    @property
    def model_info(self) -> ModelInfo:
        return ModelInfo(
            vision=False,
            function_calling=True,
            json_output=False,
            family="unknown",
            structured_output=False,
        )

    capabilities = model_info


def call(tool: str, id: str = "c1", /, args: Any = None, **named: Any) -> FunctionCall:
    """A tool call as a model makes it: *args* is the text of the arguments, or any JSON value."""
    text = args if isinstance(args, str) else json.dumps(named if args is None else args)
    return FunctionCall(id=id, name=tool, arguments=text)


def agent(*turns: Sequence[FunctionCall], name: str = "desk", **options: Any) -> AssistantAgent:
    """A real agent whose model makes the calls of *turns*."""
    options.setdefault("max_tool_iterations", len(turns) + 1)
    return AssistantAgent(name, Scripted(*turns), **options)


def team_of(*agents: Any, **options: Any) -> RoundRobinGroupChat:
    """A team that ends when the agent named "desk" has the last word."""
    options.setdefault("termination_condition", TextMessageTermination(source="desk"))
    return RoundRobinGroupChat(list(agents), **options)


def helper(gate: Any, *tools: Any, kind: str = "agent", turns: Sequence[Any]) -> Any:
    """An agent, or a team of one, as a tool."""
    one = agent(*turns, name="helper", workbench=GateWorkbench(list(tools), gate, subject=HELPER))
    if kind == "agent":
        return AgentTool(one, return_value_as_last_message=True)
    end = TextMessageTermination(source="helper")
    team = RoundRobinGroupChat([one], termination_condition=end)
    return TeamTool(team, name="helper", description="help", return_value_as_last_message=True)


def patiently(work: Coroutine[Any, Any, T], seconds: float = PATIENCE) -> T:
    """What *work* gives on an event loop of its own; TimeoutError if it hangs."""

    async def main() -> T:
        return await asyncio.wait_for(work, seconds)

    return asyncio.run(main())


def go(runner: Any, **options: Any) -> list[Any]:
    """Run an agent or a team; the messages at the end."""
    return patiently(runner.run(task="go on", **options)).messages


def results(messages: Sequence[Any]) -> list[Any]:
    """The results of tool calls, in order, as the model is shown them."""
    return [r for m in messages if isinstance(m, ToolCallExecutionEvent) for r in m.content]


def told(messages: Sequence[Any]) -> list[str]:
    """The first reason code of each refused call, and the text of each that was not."""
    return [
        r.content.split("- ")[1].split(":")[0] if r.content.startswith("REFUSED") else r.content
        for r in results(messages)
    ]


def entries(gate: Gate, kind: str) -> list[dict[str, Any]]:
    """The entries of the journal that are of one kind."""
    return [entry.content for entry in gate.journal if entry.content["kind"] == kind]


def decided(gate: Gate) -> list[str]:
    """The decisions in the journal, by their word."""
    return [entry["decision"] for entry in entries(gate, "decision")]


def proposed(gate: Gate) -> list[dict[str, Any]]:
    """The proposals in the journal."""
    return [entry["proposal"] for entry in entries(gate, "decision")]


def settled(gate: Gate) -> list[str]:
    """The outcomes in the journal, by their word."""
    return [entry["outcome"] for entry in entries(gate, "outcome")]


def elsewhere(policy: Any, ledger: str, deed: str) -> None:
    """Do something with a `gate` of another process, with this policy and on this ledger."""
    code = "import json, sys; from sluicegate import Gate, Subject\n"
    code += "with Gate(json.loads(sys.argv[1]), sys.argv[2]) as gate: " + deed
    command = [sys.executable, "-c", code, json.dumps({"version": 1, **policy}), ledger]
    subprocess.run(command, check=True, timeout=60)
