"""
What a plugin may do. Each hook only ever narrows: none of them can permit a call.

A plugin is a module or an object with some of these functions, marked with
`@sluicegate.hookimpl`, each taking any subset of the arguments named here:

    from sluicegate import hookimpl

    @hookimpl
    def sluicegate_object(proposal):
        return "no calls on a bank holiday" if is_holiday() else None

It is loaded by name only, never because it is installed:
`Gate(policy, plugins=["crm"])` looks for the entry point `crm` in the group
`sluicegate`, and `Gate(policy, plugins={"holidays": module})` takes it as it is.
Plugins are asked in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pluggy

from .claims import Claim
from .decision import Permit, Retry
from .outcome import Outcome
from .proposal import Proposal

__all__ = ["Objection", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("sluicegate")
hookimpl = pluggy.HookimplMarker("sluicegate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """
    A plugin's no, where a sentence alone does not say enough.

    *retry* is when it is worth asking again. *final* means that the whole run should stop.
    """

    message: str
    retry: Retry = "never"
    final: bool = False


@hookspec
def sluicegate_facts(proposal: Proposal) -> Mapping[str, Any] | None:
    """
    Find out facts about *proposal* that policies may refer to as `facts.<plugin>`.

    Called first, once per decision, and the only hook that may do I/O: on the
    asyncio path it runs in a thread. The facts are journalled and must be JSON.
    None means no facts. Failing means a refusal, `plugin_error`.
    """


@hookspec
def sluicegate_object(proposal: Proposal, facts: Mapping[str, Any]) -> str | Objection | None:
    """
    Return why *proposal* must not run.

    Called after the facts, for every proposal, also for those that the policy
    refuses, so that all reasons are told. None means no objection. Failing, or
    returning anything else, means a refusal, `plugin_error`.
    """


@hookspec
def sluicegate_claims(proposal: Proposal, facts: Mapping[str, Any]) -> Iterable[Claim] | None:
    """
    Return further claims that the call must be granted, such as a quota of your own.

    Called for proposals that the policy allows; the claims join the same atomic
    batch. Their keys must begin with `plugin|<name>|`. None or nothing means no claims.
    Failing means a refusal, `plugin_error`.
    """


@hookspec
def sluicegate_reconcile(permit: Permit) -> Outcome | None:
    """
    Ask the provider what became of a call whose outcome is unknown.

    Called when unknown outcomes are reconciled. None means that it is still not
    known, and so does failing.
    """


@hookspec
def sluicegate_record(entry: Mapping[str, Any]) -> None:
    """
    Take note of a journal *entry*, for logs, metrics and alerts.

    Called after the entry is durable, so it cannot change anything any more:
    failing is logged, and the decision stands.
    """
