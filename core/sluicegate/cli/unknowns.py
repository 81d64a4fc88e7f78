"""`sluicegate unknowns`, `reconcile`: calls of which nobody knows whether they took effect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..canonical import is_object
from ..desk import UnknownOutcome
from ..outcome import Failed, Outcome, Succeeded
from .requests import By, answered, arguments, opened, whose, you
from .sources import DEFAULT, LedgerUrl, PolicyFile
from .terminal import Json, WrongUse, answering, moment, plain, print_json, screen

__all__ = ["reconcile", "unknowns"]


def unknowns(policy: PolicyFile = DEFAULT, ledger: LedgerUrl = None, as_json: Json = False) -> None:
    """
    List the calls whose outcome is unknown, oldest first.

    Ask the provider what became of each, then record it with `sluicegate reconcile`.
    Until then what they hold stays held. In JSON times are in µs since 1970 UTC.

    \b
    Examples:
      sluicegate unknowns
      sluicegate unknowns --json | jq -r '.unknowns[].permit_id'
    """
    with answering(as_json):
        with opened(policy, ledger) as gate:
            found = gate.unknowns()
        if as_json:
            print_json({"ok": True, "unknowns": [_told(unknown) for unknown in found]})
            return
        _show(found)


def reconcile(
    permit: Annotated[
        str, typer.Argument(metavar="PERMIT", help="The permit, as `unknowns` lists it.")
    ],
    succeeded: Annotated[bool, typer.Option("--succeeded", help="It took effect.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="It certainly had no effect.")] = False,
    result: Annotated[
        str | None, typer.Option(help="What it gave, as JSON: a repeated call gets it.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="What it really used, as JSON: '{\"eur\": 12.5}'.")
    ] = None,
    by: By = None,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Record what became of a call whose outcome is unknown.

    A failure gives back what was held, and the call may be made again. A success keeps
    it, and a repeated call gets the result.

    \b
    Examples:
      sluicegate reconcile 7222b5b1a28a8d94 --failed
      sluicegate reconcile 7222b5b1a28a8d94 --succeeded --result '{"refund": "re_1"}' --by ada
    """
    with answering(as_json):
        outcome = _outcome(succeeded, failed, result, cost)
        with opened(policy, ledger) as gate:
            who = you(by)
            word = "succeeded" if succeeded else "failed"
            answered(
                as_json,
                lambda: gate.reconcile(permit, outcome, by=who),
                f"{who} says that {permit} {word}; it is on record",
            )


def _outcome(succeeded: bool, failed: bool, result: str | None, cost: str | None) -> Outcome:
    if succeeded == failed:
        raise WrongUse("say what became of the call", "give either --succeeded or --failed")
    if failed:
        if result is not None or cost is not None:
            raise WrongUse(
                "a call that failed gave nothing and used nothing", "leave out --result and --cost"
            )
        return Failed("found out later")
    used: Any = _json(cost, "--cost") if cost is not None else {}
    if not is_object(used):
        raise WrongUse(f"--cost is {cost}, no object", "write --cost '{\"eur\": 12.5}'")
    return Succeeded(None if result is None else _json(result, "--result"), cost=used)


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise WrongUse(
            f"{option} is no JSON: {error}", f"write {option} '\"text\"' for a text"
        ) from error


def _told(unknown: UnknownOutcome) -> Mapping[str, Any]:
    who = unknown.subject
    return {
        "permit_id": unknown.permit_id,
        "tool": unknown.tool,
        "args": None if unknown.args is None else dict(unknown.args),
        "subject": {
            "tenant": who.tenant,
            "user": who.user,
            "agent": who.agent,
            "roles": [*who.roles],
        },
        "run": unknown.run,
        "at": unknown.at,
        "expired": unknown.expired,
    }


def _show(found: Sequence[UnknownOutcome]) -> None:
    out = screen()
    if not found:
        out.print("No outcome is unknown.")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", border_style="dim")
    table.add_column("permit", no_wrap=True)  # it is what the next command needs
    for name in ("when (UTC)", "tool", "with", "for", "why"):
        table.add_column(name, overflow="fold")
    for unknown in found:
        table.add_row(
            unknown.permit_id,
            f"{moment(unknown.at):%Y-%m-%d %H:%M:%S}",
            plain(unknown.tool),
            arguments(unknown.args),
            whose(unknown.subject, unknown.run),
            "never settled" if unknown.expired else "settled as unknown",
        )
    out.print(table)
    out.print(Text("Settle with: sluicegate reconcile PERMIT --succeeded or --failed", style="dim"))
