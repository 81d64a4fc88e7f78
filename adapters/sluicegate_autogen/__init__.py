"""
Sluicegate for AutoGen: what the policy does not permit does not run.

`GateWorkbench` for agents, `guard_tools` for tools that go anywhere, and
`GateInterventionHandler` for core runtimes with a `ToolAgent`. `GateTermination` ends a
team after a final refusal; `check_team` refuses a team that the gate cannot hold.
"""

from __future__ import annotations

try:
    import autogen_agentchat as _agentchat  # noqa: F401
except ImportError as error:
    raise ImportError(
        'sluicegate_autogen needs AutoGen: pip install "sluicegate[autogen]"'
    ) from error

from .check import check_team, unguarded
from .intervention import GateInterventionHandler
from .termination import GateTermination
from .tools import guard_tools
from .workbench import GateWorkbench

__all__ = [
    "GateInterventionHandler",
    "GateTermination",
    "GateWorkbench",
    "check_team",
    "guard_tools",
    "unguarded",
]
