"""The scene of `sluicegate demo`, played by a real CrewAI crew with a scripted model."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from crewai import Agent, Crew, Task
from crewai.events import crewai_event_bus
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool
from pydantic import Field

from sluicegate import Gate, Subject
from sluicegate.cli.scene import TASK, Script
from sluicegate.cli.shop import Shop

from . import guard_crew

__all__ = ["ABOUT", "WIRING", "ScriptedModel", "numbered", "play"]

ABOUT: Final = "a CrewAI crew with real tools on a SQLite shop; the model is scripted"
WIRING: Final = (
    "guard_crew(crew, gate, subject=…)",
    "one call before the kickoff; nothing else changes",
)
SUBJECT: Final = Subject(tenant="acme", agent="order-desk")

_QUIET: Final = ("CREWAI_DISABLE_TELEMETRY", "CREWAI_TESTING", "CREWAI_DISABLE_VERSION_CHECK")
"""No network, no questions: CrewAI asks for these again and again, not only when it is imported."""


class ScriptedModel(BaseLLM):
    """A model that says what a script says, and reads the tools' answers as a model does."""

    script: Any = Field(exclude=True)  # whoever writes it down would play it on

    def supports_function_calling(self) -> bool:
        """It calls tools natively, several at once."""
        return True

    def get_context_window_size(self) -> int:
        """It forgets nothing."""
        return 1_000_000

    def get_input_tokens_count(self, *_: Any, **__: Any) -> int:
        """It costs nothing either."""
        return 1

    def call(self, messages: Any, *_: Any, **__: Any) -> Any:
        """The calls of the next turn, or the last word."""
        turn = sum(message["role"] == "assistant" for message in messages)
        answers: list[str] = []
        for message in reversed(messages):
            if message["role"] == "assistant":
                break
            if message["role"] == "tool":
                answers.insert(0, re.sub(r" \(error \d+\)", "", str(message["content"])))
        calls = [
            {
                "id": f"call-{turn}-{number}",
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(dict(call.args))},
            }
            for number, call in enumerate(self.script.next(answers))
        ]
        return calls or self.script.closing

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """The same for asyncio."""
        return self.call(*args, **kwargs)


def numbered(function: Callable[..., Any], numbers: Iterator[int]) -> Callable[..., Any]:
    """*function*, with a number in each error: newer versions end a run after five answers that are equal."""

    @functools.wraps(function)
    def with_number(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise type(error)(f"{error} (error {next(numbers)})") from error

    return with_number


def play(shop: Shop, script: Script, gate: Gate | None) -> None:
    """Run the scene in *shop*; the only difference that *gate* makes is one call of `guard_crew`."""
    os.environ.update(dict.fromkeys(_QUIET, "true"), CREWAI_TRACING_ENABLED="false")
    os.environ.setdefault("CREWAI_STORAGE_DIR", str(shop.path.parent))
    make: Callable[..., Any] = tool
    errors = count(1)
    desk = Agent(
        role="order-desk",
        goal="Do what the customers ask for.",
        backstory="You work at the order desk of a shop.",
        llm=ScriptedModel(model="scripted", script=script),
        tools=[make(numbered(function, errors)) for function in shop.tools],
        max_iter=200,
    )
    task = Task(description=TASK, expected_output="What was done, and what was not.", agent=desk)
    crew: Any = Crew(agents=[desk], tasks=[task], tracing=False)
    if gate is not None:
        guard_crew(crew, gate, subject=SUBJECT)
    with contextlib.redirect_stdout(sys.stderr):  # where CrewAI says what it thinks of tracing
        crew.kickoff()
        crewai_event_bus.flush()
