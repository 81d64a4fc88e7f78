"""`sluicegate halt`, `resume`, `halts`: the kill switch."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ..people import Scope
from .requests import By, answered, opened, you
from .sources import DEFAULT, LedgerUrl, PolicyFile
from .terminal import Json, WrongUse, answering, moment, plain, print_json, screen

__all__ = ["halt", "halts", "resume"]

Tenant = Annotated[str | None, typer.Option(help="Calls for this tenant.")]
User = Annotated[str | None, typer.Option(help="Calls for this user.")]
Agent = Annotated[str | None, typer.Option(help="Calls by this agent.")]
Run = Annotated[str | None, typer.Option(help="Calls of this run, and of those inside of it.")]
All = Annotated[bool, typer.Option("--all", help="Every call.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; the model is told.")]


def halt(
    tenant: Tenant = None,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    everything: All = False,
    reason: Reason = "",
    by: By = None,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Stop calls now: every process refuses them from its next decision on.

    A call is halted if it has all the parts that are given. A call that runs already
    is not interrupted.

    \b
    Examples:
      sluicegate halt --all --reason "wrong prices"
      sluicegate halt --tenant acme --agent "support-1"
      sluicegate halt --run 3f2a91c0
    """
    with answering(as_json):
        scope = _scope(Scope(tenant, user, agent, run), everything)
        with opened(policy, ledger) as gate:
            who = you(by)
            answered(
                as_json,
                lambda: gate.halt(by=who, reason=reason, **scope.given),
                f"{scope} is halted; `sluicegate resume` with the same options takes it back",
            )


def resume(
    tenant: Tenant = None,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    everything: All = False,
    reason: Reason = "",
    by: By = None,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Take back a halt with exactly these parts; also that of a run which repeated itself.

    \b
    Examples:
      sluicegate resume --all
      sluicegate resume --run 3f2a91c0 --reason "the prompt is mended"
    """
    with answering(as_json):
        scope = _scope(Scope(tenant, user, agent, run), everything)
        with opened(policy, ledger) as gate:
            who = you(by)
            answered(
                as_json,
                lambda: gate.resume(by=who, reason=reason, **scope.given),
                f"{scope} may go on",
            )


def halts(policy: PolicyFile = DEFAULT, ledger: LedgerUrl = None, as_json: Json = False) -> None:
    """
    List what is halted, by whom and why.

    \b
    Examples:
      sluicegate halts
      sluicegate halts --json
    """
    with answering(as_json):
        with opened(policy, ledger) as gate:
            found = gate.halts()
        if as_json:
            told = [
                {"scope": dict(h.scope), "by": h.by, "reason": h.reason, "at": h.at} for h in found
            ]
            print_json({"ok": True, "halts": told})
            return
        for one in found:
            screen().print(
                Text.assemble((f"{moment(one.at):%Y-%m-%d %H:%M} UTC  ", "dim"), plain(one))
            )
        if not found:
            screen().print("Nothing is halted.")


def _scope(scope: Scope, everything: bool) -> Scope:
    if everything and scope.given:
        raise WrongUse(f"--all is more than {scope}", "give either --all or the parts")
    if not everything and not scope.given:
        raise WrongUse(
            "say what", "give --tenant, --user, --agent or --run, or --all for every call"
        )
    return scope
