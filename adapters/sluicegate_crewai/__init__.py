"""
Sluicegate for CrewAI: what the policy does not permit does not run.

`guard_crew` for a crew or an agent, `guard_tools` for tools that go anywhere,
`install_hooks` to say who calls in the whole process, `unguarded` to find what was left out.
"""

from __future__ import annotations

try:
    from .caller import Caller
    from .crew import guard_crew, unguarded
    from .hooks import install_hooks
    from .tools import guard_tools
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("crewai", "crewai_core"):
        raise
    raise ImportError('sluicegate_crewai needs CrewAI: pip install "sluicegate[crewai]"') from error

__all__ = ["Caller", "guard_crew", "guard_tools", "install_hooks", "unguarded"]
