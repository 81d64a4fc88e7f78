"""What the user of a crew has said: its tasks and its inputs, and nothing that a model wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["prompt_of"]

_NOT_THE_USERS: Final = ("crewai_trigger_payload", "crew_chat_messages")
"""Inputs by which CrewAI hands on what came from outside, and what a model has answered."""


def prompt_of(crew: Any) -> str | None:
    """
    The descriptions of the tasks of *crew* with the inputs of its kickoff in them, and all inputs.

    CrewAI writes plans and dates into the descriptions while it works, so they are taken
    as the program wrote them; where a planner has written and nobody kept the original, they
    are left out.
    """
    if crew is None:
        return None
    given: Mapping[str, Any] = crew._inputs or {}
    inputs = {name: str(given[name]) for name in given if name not in _NOT_THE_USERS}
    texts: list[str] = []
    for task in crew.tasks:
        planned = crew.planning or getattr(task.agent, "planning_enabled", False)
        text = task._original_description or ("" if planned else task.description)
        for name, value in inputs.items():
            text = text.replace(f"{{{name}}}", value)
        texts.append(text)
    return "\n".join([*texts, *inputs.values()]) or None
