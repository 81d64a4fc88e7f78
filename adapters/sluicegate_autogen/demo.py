"""The scene of `sluicegate demo`, played by a real AutoGen team with a scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    ModelInfo,
    RequestUsage,
)

from sluicegate import Gate, Subject
from sluicegate.cli.scene import TASK, Script
from sluicegate.cli.shop import Shop

from . import GateTermination, GateWorkbench

__all__ = ["ABOUT", "WIRING", "ScriptedModel", "play"]

ABOUT: Final = "an AutoGen team with real tools on a SQLite shop; the model is scripted"
WIRING: Final = (
    "GateWorkbench(tools, gate, subject=…)",
    "the workbench of an AssistantAgent; nothing else changes",
)
SUBJECT: Final = Subject(tenant="acme", agent="order-desk")


class ScriptedModel(ChatCompletionClient):
    """A model that says what a script says, and reads the tools' answers as a model does."""

    component_type = "model"

    def __init__(self, script: Script) -> None:
        self.script = script
        self._turn = 0

    async def create(self, messages: Sequence[Any], **_: Any) -> CreateResult:
        """The calls of the next turn, or the last word."""
        last = messages[-1]
        results = last.content if isinstance(last, FunctionExecutionResultMessage) else []
        self._turn += 1
        calls = [
            FunctionCall(f"call-{self._turn}-{number}", json.dumps(dict(call.args)), call.tool)
            for number, call in enumerate(self.script.next([_read(result) for result in results]))
        ]
        return CreateResult(
            finish_reason="function_calls" if calls else "stop",
            content=calls or self.script.closing,
            usage=self.total_usage(),
            cached=False,
        )

    async def create_stream(
        self, messages: Sequence[Any], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The same in one piece."""
        yield await self.create(messages, **options)

    async def close(self) -> None:
        """There is nothing to close."""

    def actual_usage(self) -> RequestUsage:
        """It costs nothing."""
        return RequestUsage(0, 0)

    def total_usage(self) -> RequestUsage:
        """It costs nothing."""
        return RequestUsage(0, 0)

    def count_tokens(self, messages: Sequence[Any], **_: Any) -> int:
        """It costs nothing either."""
        return 0

    def remaining_tokens(self, messages: Sequence[Any], **_: Any) -> int:
        """It forgets nothing."""
        return 1_000_000

    @property
    def model_info(self) -> ModelInfo:
        """It calls tools, several at once."""
        return ModelInfo(
            vision=False,
            function_calling=True,
            json_output=False,
            family="unknown",
            structured_output=False,
        )

    @property
    def capabilities(self) -> ModelInfo:
        """The older name."""
        return self.model_info


def _read(result: FunctionExecutionResult) -> str:
    refused = result.content.startswith("REFUSED")
    return f"Error: {result.content}" if result.is_error and not refused else result.content


def play(shop: Shop, script: Script, gate: Gate | None) -> None:
    """Run the scene in *shop*; the only difference that *gate* makes is one workbench."""
    how: dict[str, Any] = (
        {"tools": list(shop.tools)}
        if gate is None
        else {"workbench": GateWorkbench(shop.tools, gate, subject=SUBJECT)}
    )
    desk = AssistantAgent("order_desk", ScriptedModel(script), **how)
    end = GateTermination() | TextMessageTermination(source="order_desk")
    team = RoundRobinGroupChat([desk], termination_condition=end)
    asyncio.run(team.run(task=TASK))
