"""Who calls a tool: CrewAI tells it to hooks and not to tools."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sluicegate import Subject, current
from sluicegate.adapting import SubjectSource

__all__ = ["Caller", "caller", "forget", "note", "who"]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What CrewAI knows of the one who calls a tool; all of it None where no agent calls."""

    tool: str
    agent: Any = None
    task: Any = None
    crew: Any = None
    structured: Any = field(default=None, repr=False)
    """The tool as this run has it: a copy of its own."""
    sent: Any = field(default=None, repr=False)
    """The arguments as the model sent them, in the very dict that CrewAI goes on with."""
    subject: SubjectSource = field(default=None, repr=False)
    """What `install_hooks` says of the subject."""


_CALLER: Final[ContextVar[Caller | None]] = ContextVar("sluicegate_crewai_caller", default=None)


def note(call: Any, subject: SubjectSource = None) -> None:
    """Keep what a hook was told of a call that is about to be made."""
    noted = Caller(
        tool=call.tool_name,
        agent=call.agent,
        task=call.task,
        crew=call.crew,
        structured=call.tool,
        sent=call.tool_input,
        subject=subject,
    )
    _CALLER.set(noted)


def forget(_: Any) -> None:
    """A hook: the call is over."""
    _CALLER.set(None)


def caller(tool: Any) -> Caller:
    """Who calls *tool* just now; without an agent if no hook told of it."""
    noted = _CALLER.get()
    if noted is None or getattr(noted.structured, "_original_tool", None) is not tool:
        return Caller(tool=tool.name)
    return noted


def who(subject: SubjectSource, calls: Caller) -> Subject:
    """The subject of a call; where it names no agent, the agent's role is it."""
    source = calls.subject if subject is None else subject
    found = source(calls) if callable(source) else source or current().subject
    role = " ".join(str(getattr(calls.agent, "role", "")).split())
    return replace(found, agent=role) if role and found.agent is None else found
