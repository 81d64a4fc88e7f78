"""What every incident is told with: tools with real effects, a script, and a gate or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sluicegate import ApprovalRequired, Denied, Gate, NotExecuted, Proposal, Subject, current

POLICIES = Path(__file__).resolve().parents[2] / "examples" / "incidents"


class World:
    """
    Tools by name, called by an agent either bare or through a gate.

    A refusal is an answer to the agent and not an error, as in every adapter: what the
    agent was told is in `told`.
    """

    def __init__(self, tools: dict[str, Callable[..., Any]], gate: Gate | None) -> None:
        self.tools, self.gate = tools, gate
        self.told: list[str] = []

    def call(self, tool: str, subject: Subject | None = None, **args: Any) -> Any:
        """What the agent gets for a call."""
        if self.gate is None:
            return self.bare(tool, args)
        here = current()
        proposal = Proposal(
            tool,
            args,
            subject=subject or here.subject,
            run=here.run or "run",
            parent=here.parent,
            root=here.root,
            depth=here.depth,
            prompt=here.prompt,
        )
        try:
            return self.gate.call(proposal, self.tools.get(tool, missing))
        except (Denied, ApprovalRequired) as no:
            self.told += [reason.code for reason in no.decision.reasons]
            return no.decision.render()
        except NotExecuted as error:
            return f"error: {error}"

    def bare(self, tool: str, args: dict[str, Any]) -> Any:
        """Without a gate nothing stands between the model and the function."""
        try:
            return self.tools[tool](**args)
        except NotExecuted as error:
            return f"error: {error}"


def missing(**args: Any) -> Any:
    """A tool that is not there; the gate never gets so far."""
    raise AssertionError(args)


def gate_for(name: str, ledger: str = "memory:", **more: Any) -> Gate:
    """The gate with the policy of an incident."""
    return Gate(POLICIES / f"{name}.yaml", ledger, **more)
