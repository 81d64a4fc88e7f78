"""
Sluicegate for AutoGen: what the policy does not permit does not run.

`GateWorkbench` for agents, `guard_tools` for tools that go anywhere, and
`GateInterventionHandler` for core runtimes with a `ToolAgent`. `GateTermination` ends a
team after a final refusal; `check_team` refuses a team that the gate cannot hold, and
`check_finished` a run that has not done what it owes.
"""

from __future__ import annotations

try:
    from .check import check_finished, check_team, unguarded
    from .intervention import GateInterventionHandler
    from .termination import GateTermination
    from .tools import guard_tools
    from .workbench import GateWorkbench
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("autogen_agentchat", "autogen_core"):
        raise
    raise ImportError(
        'sluicegate_autogen needs AutoGen: pip install "sluicegate[autogen]"'
    ) from error

__all__ = [
    "GateInterventionHandler",
    "GateTermination",
    "GateWorkbench",
    "check_finished",
    "check_team",
    "guard_tools",
    "unguarded",
]
