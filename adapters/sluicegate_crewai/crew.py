"""Whole crews: every tool of every agent and task, or none."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final, Literal, TypeVar

from crewai import Crew, Process
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.tools import BaseTool
from crewai.tools.agent_tools.base_agent_tools import BaseAgentTool

from sluicegate import Gate
from sluicegate.adapting import SubjectSource

from .finish import ENDINGS
from .tools import GuardedTool, guard_tools

__all__ = ["guard_crew", "unguarded"]

_DELEGATION: Final = ("delegate_work_to_coworker", "ask_question_to_coworker")

C = TypeVar("C", bound="Crew | BaseAgent")
Ending = Literal["raise", "tell"]


def guard_crew(
    crew: C, gate: Gate, *, subject: SubjectSource = None, unfinished: Ending = "raise"
) -> C:
    """
    Guard every tool of *crew*: of its agents, its tasks, the coworkers that may be delegated
    to, and their MCP servers, which must be up. Returns *crew*, which may be a single agent.

    *subject* may be a function of the `Caller`; where it names no agent, the agent's role is
    it. A run is one kickoff, unless `sluicegate.context` names one. A refused call is answered
    with the reason, and the crew goes on; a final refusal ends it with ToolExecutionFailedError.
    A kickoff of a crew that owes something under the policy's contracts when it ends raises
    Unfinished, or with *unfinished* "tell" has the report at the end of its answer.

    Raises TypeError for a tool that cannot be guarded, and ValueError for a server without
    tools and for a policy that names CrewAI's own delegation; then nothing is changed.
    """
    if unfinished not in ENDINGS:
        raise ValueError(f"unfinished is {unfinished!r}; it must be one of {', '.join(ENDINGS)}")
    _no_delegation_by_policy(crew, gate)
    owners = _owners(crew)
    found = {id(each): [*(each.tools or ()), *_resolved(each)] for each in owners}
    known: dict[int, BaseTool] = {}  # a tool in two places stays one tool
    for tool in chain.from_iterable(found.values()):
        if id(tool) not in known:
            known[id(tool)] = (
                tool if _delegates(tool) else guard_tools([tool], gate, subject=subject)[0]
            )
    for owner in owners:
        owner.tools = [known[id(tool)] for tool in found[id(owner)]]
        if isinstance(owner, BaseAgent):
            owner.mcps = owner.apps = None
    if isinstance(crew, Crew) and gate.policy.contracts:
        others = [each for each in crew.after_kickoff_callbacks if each not in ENDINGS.values()]
        crew.after_kickoff_callbacks = [*others, ENDINGS[unfinished]]
    return crew


def unguarded(crew: Crew | BaseAgent) -> list[str]:
    """The names of the tools, MCP servers and apps of *crew* that no gate decides about."""
    names: list[object] = []
    for owner in _owners(crew):
        bare = (
            t for t in owner.tools or () if not isinstance(t, GuardedTool) and not _delegates(t)
        )
        names += [getattr(tool, "name", tool) for tool in bare]
        names += [*(getattr(owner, "mcps", None) or ()), *(getattr(owner, "apps", None) or ())]
    return sorted(set(map(str, names)))


def _owners(crew: object) -> list[Any]:
    """Whoever has tools: the agents of *crew*, each once, and its tasks."""
    if isinstance(crew, BaseAgent):
        return [crew]
    if not isinstance(crew, Crew):
        kind = type(crew).__qualname__
        raise TypeError(f"a {kind} is no crew; give a Crew, or each Agent of a flow by itself")
    agents = [*crew.agents, *(task.agent for task in crew.tasks), crew.manager_agent]
    return [*{id(agent): agent for agent in agents if agent is not None}.values(), *crew.tasks]


def _delegates(tool: object) -> bool:
    """Whether *tool* hands work to a coworker, whose own tools are guarded."""
    return isinstance(tool, BaseAgentTool)


def _no_delegation_by_policy(crew: Crew | BaseAgent, gate: Gate) -> None:
    named = ", ".join(name for name in _DELEGATION if name in gate.policy.tools)
    agents = [owner for owner in _owners(crew) if isinstance(owner, BaseAgent)]
    boss = isinstance(crew, Crew) and crew.process is Process.hierarchical
    if named and (boss or any(agent.allow_delegation for agent in agents)):
        raise ValueError(
            f"the policy names {named}, which CrewAI makes anew for each task, out of reach of any guard; "
            "leave it out (what a coworker does is decided), or set allow_delegation=False"
        )


def _resolved(owner: Any) -> Iterable[BaseTool]:
    """The tools of an agent's MCP servers and apps. CrewAI would find them anew at each kickoff."""
    if not isinstance(owner, BaseAgent):
        return
    sources: list[tuple[Any, Any]] = [
        (owner.get_mcp_tools, owner.mcps),
        (owner.get_platform_tools, owner.apps),
    ]
    for find, wanted in sources:
        for one in wanted or ():
            tools = find([one])
            if not tools:
                raise ValueError(f"{one!r:.200} of {owner.role!r} has no tools; is it up?")
            yield from tools
