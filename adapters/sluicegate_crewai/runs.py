"""
In which run a tool is called.

A run is one kickoff of a crew or of an agent. One inside a tool, and the work of a
coworker that was delegated to, is a child of the run around it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Final

from crewai.context import capture_execution_context

from sluicegate import context, current
from sluicegate.adapting import in_a_call, own_run

__all__ = ["in_run", "in_tool"]

_KICKOFFS: Final = ("crew_kickoff_started", "lite_agent_execution_started")
_AROUND: Final[ContextVar[int]] = ContextVar("sluicegate_crewai_around", default=0)
"""How many kickoffs are around the guarded tool that is running."""


@contextmanager
def in_run(prompt: str | None) -> Generator[None, None, None]:
    """
    The block that describes a call, in the run that the program or CrewAI gave it.

    The *prompt* of a crew counts for its coworkers too, who are told by a model what to do,
    and not for a crew inside of a tool, which is told by a model as a whole.
    """
    runs = _runs()[_AROUND.get() :]
    with ExitStack() as blocks:
        if own_run() is None and runs:  # or else the program has named the first of these itself
            blocks.enter_context(context(run=runs[0]))
        here = current()
        if here.depth == 0 and here.prompt is None and not in_a_call():
            blocks.enter_context(context(prompt=prompt))
        for run in runs[1:]:
            blocks.enter_context(context(run=run))
        yield


@contextmanager
def in_tool() -> Generator[None, None, None]:
    """The block that is a tool: kickoffs in it are below the run that called the tool."""
    token = _AROUND.set(len(_runs()))
    try:
        yield
    finally:
        _AROUND.reset(token)


def _runs() -> list[str]:
    """
    The ids of the kickoffs that surround us, outermost first.

    CrewAI's stack of events still has kickoffs that broke off. They are not taken for
    ours, since what is inside a run is inside a tool of it, as is each call that a run makes.
    """
    runs: list[str] = []
    tool = False
    for event, kind in capture_execution_context().event_id_stack:
        if kind in _KICKOFFS or (tool and kind == "agent_execution_started"):
            runs = [*runs, event] if tool else [event]
            tool = False
        elif kind == "tool_usage_started":
            tool = True
    return runs if tool else []
