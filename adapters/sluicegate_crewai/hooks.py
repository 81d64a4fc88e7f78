"""
What CrewAI tells to hooks alone: who calls a tool, and with what.

A hook refuses nothing here: CrewAI runs a tool whose hook has failed. The guarded tools
decide, and a call of which no hook told has no agent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from crewai.hooks import (
    get_after_tool_call_hooks,
    get_before_llm_call_hooks,
    get_before_tool_call_hooks,
    register_after_tool_call_hook,
    register_before_llm_call_hook,
    register_before_tool_call_hook,
    unregister_before_tool_call_hook,
)

from sluicegate import Gate
from sluicegate.adapting import SubjectSource
from sluicegate.clock import random_id

from .caller import forget, note

__all__ = ["attend", "install_hooks"]

_log: Final = logging.getLogger("sluicegate")
_OWN: Final = ("crewai.tools.agent_tools.", "crewai.tools.memory_tools", "crewai.skills.")
"""Where the tools are that CrewAI makes anew for each task: to delegate, to remember, to read a skill."""


def install_hooks(gate: Gate, *, subject: SubjectSource = None) -> Callable[[], None]:
    """
    Say for the whole process who calls the tools that *gate* guards, where their own guard
    does not, and warn of agents whose tools have no guard. Returns a function that takes
    this back. It decides nothing; without `guard_crew` or `guard_tools` nothing is refused.
    """

    def before(call: Any) -> None:
        tool = getattr(call.tool, "_original_tool", None)
        if getattr(tool, "gate", None) is gate:
            note(call, subject)
        elif not _guarded(tool) and not _has_guarded(call.agent):
            _warn(tool)

    attend()
    register_before_tool_call_hook(before)

    def uninstall() -> None:
        unregister_before_tool_call_hook(before)

    return uninstall


def attend() -> None:
    """Listen to who calls; again, where somebody has cleared all hooks."""
    if _before not in get_before_tool_call_hooks():
        register_before_tool_call_hook(_before)
    if forget not in get_after_tool_call_hooks():
        register_after_tool_call_hook(forget)
    if _begin_turn not in get_before_llm_call_hooks():
        register_before_llm_call_hook(_begin_turn)


def _before(call: Any) -> None:
    tool = getattr(call.tool, "_original_tool", None)
    if _guarded(tool):
        note(call)
    elif _has_guarded(call.agent):  # it was given this one afterwards
        _warn(tool)


def _begin_turn(call: Any) -> None:
    """
    A model is asked: the calls that it answers with are one turn.

    An agent that plans asks its model in ways that no hook hears of, and has no turns.
    """
    turn = None if getattr(call.agent, "planning_enabled", False) else random_id()
    for tool in getattr(call.executor, "tools", None) or ():
        if _guarded(getattr(tool, "_original_tool", None)):
            tool._turn = turn


def _guarded(tool: object) -> bool:
    return isinstance(getattr(tool, "gate", None), Gate)


def _has_guarded(agent: Any) -> bool:
    return any(_guarded(tool) for tool in getattr(agent, "tools", None) or ())


def _warn(tool: Any) -> None:
    if tool is not None and not type(tool).__module__.startswith(_OWN):
        _log.warning("%s has no guard: no gate decides about its calls", tool.name)
