"""
Sluicegate: execution authorization for AI agents.

The agent proposes an action, a deterministic policy gate decides, and only what it
permits runs, at most once, and everything is on record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .canonical import NotCanonical, thaw
from .clock import Clock, SystemClock
from .context import Context, context, current, current_permit
from .decision import Decision, Defer, Deny, Permit, Reason, Recorded
from .errors import (
    ApprovalRequired,
    Denied,
    LedgerError,
    NotExecuted,
    PermitError,
    PluginError,
    PolicyError,
    SluicegateError,
    Unfinished,
)
from .gate import Gate
from .hookspec import Objection, hookimpl
from .journal import Entry, Journal
from .ledger import Ledger, MemoryLedger
from .outcome import Failed, Outcome, Succeeded, Unknown
from .proposal import Proposal, Subject
from .schema import Schema
from .usage import Usage

if TYPE_CHECKING:
    from .desk import Asking, Halted, UnknownOutcome
    from .policy.model import Policy

__version__ = "0.1.0"

__all__ = [
    "ApprovalRequired",
    "Asking",
    "Clock",
    "Context",
    "Decision",
    "Defer",
    "Denied",
    "Deny",
    "Entry",
    "Failed",
    "Gate",
    "Halted",
    "Journal",
    "Ledger",
    "LedgerError",
    "MemoryLedger",
    "NotCanonical",
    "NotExecuted",
    "Objection",
    "Outcome",
    "Permit",
    "PermitError",
    "PluginError",
    "Policy",
    "PolicyError",
    "Proposal",
    "Reason",
    "Recorded",
    "Schema",
    "SluicegateError",
    "Subject",
    "Succeeded",
    "SystemClock",
    "Unfinished",
    "Unknown",
    "UnknownOutcome",
    "Usage",
    "context",
    "current",
    "current_permit",
    "hookimpl",
    "thaw",
]


def __getattr__(name: str) -> object:
    if name == "Policy":  # its models take longer to load than all the rest
        from .policy.model import Policy

        return Policy
    if name in ("Asking", "Halted", "UnknownOutcome"):
        from . import desk

        return getattr(desk, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
