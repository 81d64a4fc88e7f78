"""
Real crews with a scripted model, in native tool calling and in CrewAI's text mode.

CrewAI reads its environment when it is imported, and writes into the home directory.
So this is the module that imports it, and the tests take CrewAI's names from here.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

_home = tempfile.mkdtemp(prefix="sluicegate-crewai-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ.update(
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_TRACING_ENABLED="false",
    CREWAI_TESTING="true",
    CREWAI_DISABLE_VERSION_CHECK="true",
    OTEL_SDK_DISABLED="true",
    CREWAI_STORAGE_DIR=_home,
    XDG_DATA_HOME=_home,
    HOME=_home,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # CrewAI warns of itself while it is imported
    from crewai import Agent, Crew, Process, Task
    from crewai.flow.flow import Flow, start
    from crewai.hooks import clear_all_tool_call_hooks, register_before_tool_call_hook
    from crewai.llms.base_llm import BaseLLM
    from crewai.mcp import MCPServerStdio
    from crewai.tools import BaseTool, tool
    from crewai.tools.tool_failure import ToolExecutionFailedError, ToolFailure
    from crewai.utilities.agent_utils import (
        convert_tools_to_openai_schema,
        render_text_description_and_args,
    )

    try:  # gone since 1.15.29
        from crewai.agents.crew_agent_executor import CrewAgentExecutor
    except ImportError:
        CrewAgentExecutor = None  # type: ignore[assignment,misc]
    EXECUTORS = [Agent.model_fields["executor_class"].default]
    if CrewAgentExecutor is not None:
        EXECUTORS.append(CrewAgentExecutor)

__all__ = [
    "EXECUTORS",
    "IN_PEACE",
    "MODES",
    "WAYS",
    "Agent",
    "BaseTool",
    "Crew",
    "Desk",
    "Flow",
    "MCPServerStdio",
    "Process",
    "Scripted",
    "Task",
    "ToolExecutionFailedError",
    "ToolFailure",
    "call",
    "clear_all_tool_call_hooks",
    "convert_tools_to_openai_schema",
    "elsewhere",
    "go",
    "register_before_tool_call_hook",
    "render_text_description_and_args",
    "start",
    "tool",
]

IN_PEACE = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""CrewAI warns of its own use of what it has deprecated."""

MODES = ("native", "text")
WAYS = ("kickoff", "kickoff_async", "akickoff", "for_each", "agent", "agent_async", "flow")


class Scripted(BaseLLM):
    """A model that makes the calls of one turn after the other, and then says "done"."""

    turns: Any
    native: bool = True
    replies: Any
    ended: Any

    def supports_function_calling(self) -> bool:
        return self.native

    def get_context_window_size(self) -> int:
        return 10_000_000

    def get_input_tokens_count(self, *_: Any, **__: Any) -> int:
        return 1  # newer versions warn where a model cannot count

    def call(self, messages: Any, *_: Any, **__: Any) -> Any:
        turn = sum(message["role"] == "assistant" for message in messages)
        self.replies.extend(self._heard(messages))
        calls = self.turns[turn] if turn < len(self.turns) else ()
        if not calls:
            self.ended.append(turn)
            return "done" if self.native else "Thought: I know it all\nFinal Answer: done"
        if self.native:
            return [
                {"id": id, "type": "function", "function": {"name": name, "arguments": _text(args)}}
                for name, args, id in calls
            ]
        [(name, args, _)] = calls
        return f"Thought: I go on\nAction: {name}\nAction Input: {_text(args)}"

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def _heard(self, messages: Any) -> list[str]:
        """The answers to the calls of the last turn."""
        for place in reversed(range(len(messages))):
            if messages[place]["role"] != "assistant":
                continue
            if not self.native:
                return messages[place]["content"].split("\nObservation: ")[1:2]
            return [str(m["content"]) for m in messages[place:] if m["role"] == "tool"]
        return []


def _text(args: Any) -> str:
    return args if isinstance(args, str) else json.dumps(args)


def call(name: str, id: str | None = "c1", /, **args: Any) -> tuple[str, Any, str | None]:
    """A tool call as a model makes it."""
    return name, args, id


class Desk:
    """An agent with a scripted model, and what the model was told."""

    def __init__(
        self,
        tools: Iterable[Any],
        *turns: Sequence[Any],
        mode: str = "native",
        role: str = "clerk",
        **options: Any,
    ) -> None:
        self.replies: list[str] = []
        self.ended: list[int] = []
        self.model = Scripted(
            model="scripted",
            turns=turns,
            native=mode == "native",
            replies=self.replies,
            ended=self.ended,
        )
        self.agent = Agent(
            role=role,
            goal="g",
            backstory="b",
            llm=self.model,
            tools=[t if isinstance(t, BaseTool) else tool(t) for t in tools],
            **{"max_iter": 300, **options},
        )

    @property
    def done(self) -> bool:
        """Whether the model came to its last word."""
        return bool(self.ended)

    def crew(self, *others: Desk, **options: Any) -> Crew:
        """A crew whose one task is this agent's."""
        task = Task(description="Do the work.", expected_output="done", agent=self.agent)
        return Crew(agents=[self.agent, *(desk.agent for desk in others)], tasks=[task], **options)


def go(crew: Crew, way: str = "kickoff") -> Any:
    """Set *crew* (or its agent) to work in one of the WAYS that CrewAI has."""
    agent: Any = crew.agents[0]
    if way == "kickoff":
        return crew.kickoff()
    if way == "for_each":
        return crew.kickoff_for_each(inputs=[{}])
    if way == "agent":
        return agent.kickoff("go on")
    if way == "flow":
        return _Office(agent).kickoff()
    if way == "agent_async":
        return asyncio.run(agent.kickoff_async("go on"))
    return asyncio.run(getattr(crew, way)())


class _Office(Flow[Any]):
    """A flow with an agent in it."""

    def __init__(self, agent: Any) -> None:
        super().__init__()
        self._agent = agent

    @start()
    def work(self) -> Any:
        return self._agent.kickoff("go on")


def elsewhere(policy: Any, ledger: str, deed: str) -> None:
    """Do something with a `gate` of another process, with this policy and on this ledger."""
    code = "import json, sys; from sluicegate import Gate, Subject\n"
    code += "with Gate(json.loads(sys.argv[1]), sys.argv[2]) as gate: " + deed
    command = [sys.executable, "-c", code, json.dumps({"version": 1, **policy}), ledger]
    subprocess.run(command, check=True, timeout=60)
