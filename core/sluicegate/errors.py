"""
The errors of Sluicegate. Each says whose fault it is.

A refusal is not an error: `Gate.decide` answers with a `Deny`. `Denied` exists
for code that has no way to look at a decision (`Gate.call`, `@gate.guard`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .decision import Defer, Deny
    from .outcome import Outcome
    from .report import Report

__all__ = [
    "ApprovalRequired",
    "Denied",
    "LedgerError",
    "NotExecuted",
    "PermitError",
    "PluginError",
    "PolicyError",
    "SluicegateError",
    "Unfinished",
]


class SluicegateError(Exception):
    """The root of all errors that Sluicegate raises on purpose."""


class PolicyError(SluicegateError):
    """
    The policy file is wrong: the fault of whoever wrote it.

    *line* and *column* count from 1; 0 where the position is unknown.
    *text* is the offending piece of the file and *hint* what to write instead.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str = "<policy>",
        line: int = 0,
        column: int = 0,
        text: str = "",
        hint: str = "",
    ) -> None:
        self.problem = problem
        self.file = file
        self.line = line
        self.column = column
        self.text = text
        self.hint = hint
        where = f"{file}:{line}:{column}" if line else file
        shown = f"\n    {text}" if text else ""
        way_out = f"\n  {hint}" if hint else ""
        super().__init__(f"{where}: {problem}{shown}{way_out}")


class LedgerError(SluicegateError):
    """
    The ledger cannot be used: down, corrupt, foreign, too new, or on a network disk.

    *outcome* is set where a tool did run and its outcome could not be recorded.
    """

    outcome: Outcome | None = None


class PluginError(SluicegateError):
    """A plugin is not fit to be loaded."""


class PermitError(SluicegateError):
    """
    The permit is spent, expired, of another ledger, or used for something else.

    *outcome* is what the caller wanted to record, so that the result of a tool
    that did run is not lost together with its permit.
    """

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        self.outcome = outcome
        super().__init__(message)


class Unfinished(SluicegateError):
    """A run ended without an effect that it owed under the policy's `contracts`. `report` says which."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__(report.render())


class Denied(SluicegateError):
    """The call was refused and did not run. `decision` says why."""

    def __init__(self, decision: Deny) -> None:
        self.decision = decision
        super().__init__(decision.render())


class ApprovalRequired(SluicegateError):
    """The call waits for a person and did not run. `decision` has the request id."""

    def __init__(self, decision: Defer) -> None:
        self.decision = decision
        super().__init__(decision.render())


class NotExecuted(SluicegateError):
    """
    Raised *by a tool* to say that its effect certainly did not happen.

    The call is settled as failed, whatever the policy's `on_error` says: what
    was held is given back and the call may be made again.
    """
