"""Whether a team is one that a gate can hold: looked at once, when it is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from autogen_agentchat.agents import (
    AssistantAgent,
    BaseChatAgent,
    MessageFilterAgent,
    SocietyOfMindAgent,
    UserProxyAgent,
)
from autogen_agentchat.teams import BaseGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import CancellationToken
from autogen_core.tool_agent import ToolAgent
from autogen_core.tools import BaseTool, StaticStreamWorkbench, StaticWorkbench, Workbench

from sluicegate import Gate, Unfinished
from sluicegate.glob import literal_count, resolve

from .call import RUNS
from .tools import GuardedTool
from .workbench import GateWorkbench

__all__ = ["check_finished", "check_team", "unguarded"]

_ATTRIBUTES: Final[Sequence[tuple[type, str]]] = (
    (AssistantAgent, "_workbench"),
    (MessageFilterAgent, "_wrapped_agent"),
    (SocietyOfMindAgent, "_team"),
    (BaseGroupChat, "_participants"),
    (AgentTool, "_task_runner"),
    (TeamTool, "_task_runner"),
    (StaticWorkbench, "_tools"),
    (ToolAgent, "tools"),
)
_KNOWN: Final = (*(kind for kind, _ in _ATTRIBUTES), UserProxyAgent, list, tuple)
_TRANSPARENT: Final = (StaticWorkbench, StaticStreamWorkbench)
"""Workbenches that are nothing but their tools; a subclass may run anything."""


def unguarded(agent: Any) -> list[str]:
    """
    What *agent*, a team or a list of both can do past every gate, by name; empty is good.

    Looks into teams in teams, agents in tools and wrapped agents. Of a kind of agent that
    it does not know, it says so: that one may have tools as well.
    """
    return [*dict.fromkeys(_unguarded(agent))]


def check_team(agent: Any, gate: Gate) -> None:
    """
    Raise ValueError if *agent* (or a team, or a list of both) is one that *gate* cannot hold.

    That is one with unguarded tools, and one with handoffs that the policy has an entry for:
    AutoGen hands over before anybody is asked, so such an entry would promise too much.
    """
    problems = [f"{what} is not guarded" for what in unguarded(agent)]
    for one in _agents(agent):
        for handoff in getattr(one, "_handoffs", ()):
            entry = resolve(gate.policy.tools, handoff)
            if entry is not None and literal_count(entry):
                problems.append(
                    f"the policy has an entry {entry!r} for the handoff {one.name}.{handoff}; "
                    "a handoff is not a tool call and cannot be refused"
                )
    if problems:
        raise ValueError("this team cannot be held by the gate: " + "; ".join(problems))


def check_finished(gate: Gate, run: str | CancellationToken) -> None:
    """
    Raise Unfinished if *run* owes something under the policy's contracts.

    It is the name that `sluicegate.context` gave, or the token that the agent or team was
    run with. Agents in tools belong to the run that they are in.
    """
    name = run if isinstance(run, str) else RUNS.get(run)
    if name is not None:  # or else nothing was called in it
        report = gate.finish(name)
        if not report.fulfilled:
            raise Unfinished(report)


def _unguarded(thing: Any, owner: str = "", *, gated: bool = False) -> Iterator[str]:
    """What is not guarded in *thing*, which belongs to *owner* and may be inside of a gate."""
    name = getattr(thing, "name", type(thing).__name__)
    where = f"{owner}.{name}" if owner else name
    if isinstance(thing, BaseTool):
        if not gated and not isinstance(thing, GuardedTool):
            yield where
    elif isinstance(thing, Workbench):
        gated = gated or isinstance(thing, GateWorkbench)
        if not gated and type(thing) not in _TRANSPARENT:
            yield where
    elif not isinstance(thing, _KNOWN):
        yield f"{where} ({type(thing).__name__}: nobody can tell what it runs)"
    inside = name if isinstance(thing, (BaseChatAgent, ToolAgent)) else owner
    for part in _parts(thing):
        yield from _unguarded(part, inside, gated=gated and isinstance(thing, Workbench))


def _agents(thing: Any) -> Iterator[AssistantAgent]:
    if isinstance(thing, AssistantAgent):
        yield thing
    for part in _parts(thing):
        yield from _agents(part)


def _parts(thing: Any) -> Sequence[Any]:
    """What is directly in *thing*. AutoGen has no public way to ask."""
    if isinstance(thing, GateWorkbench):
        return thing.parts
    if isinstance(thing, GuardedTool):
        return _parts(thing.tool)
    found: Any = thing
    for kind, attribute in _ATTRIBUTES:
        if isinstance(thing, kind):
            found = getattr(thing, attribute)
    if isinstance(found, (list, tuple)):
        return cast("Sequence[Any]", found)
    return () if found is thing else (found,)
