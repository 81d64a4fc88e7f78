"""Is every tool of an agent guarded? Ask before it runs, in a test, rather than after."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__ = ["assert_every_tool_guarded"]

_ADAPTERS: Final = {
    "langchain": "sluicegate_langchain",
    "langgraph": "sluicegate_langchain",
    "autogen_agentchat": "sluicegate_autogen",
    "autogen_core": "sluicegate_autogen",
    "crewai": "sluicegate_crewai",
}
"""Which adapter knows the objects of which framework, by the package that their class is from."""


def assert_every_tool_guarded(*agents: Any) -> None:
    """
    Raise AssertionError, naming them, if an agent, team or crew has tools that no gate guards.

    Raises TypeError for an object of a framework that no adapter knows. What agents
    are built inside the tools' own code cannot be seen: check those where they are built.
    """
    for agent in agents:
        names = _adapter_of(agent).unguarded(agent)
        assert not names, (
            f"{type(agent).__name__} has tools that no gate guards: {', '.join(names)}; "
            "guard them with the adapter of the framework, or remove them"
        )


def _adapter_of(agent: object) -> Any:
    for kind in type(agent).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in _ADAPTERS:
            return import_module(_ADAPTERS[package])
    raise TypeError(f"{type(agent).__module__} is of no framework that an adapter knows")
