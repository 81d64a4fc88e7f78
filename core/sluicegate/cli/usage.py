"""`sluicegate usage`: what each limit has left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..amount import MICRO, shown
from ..gate import Gate
from ..usage import Usage
from .sources import DEFAULT, LedgerUrl, PolicyFile, existing_ledger, policy_file
from .terminal import Json, answering, moment, plain, print_json, screen

__all__ = ["usage"]

_NUMBERS: Final = ("used", "held", "left", "limit")
_WIDE: Final = 110
"""Columns from which on there is room for the rule's name."""


def usage(
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only what is counted for this tenant.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only what is counted for this user.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only what is counted for this agent.")] = None,
    run: Annotated[str | None, typer.Option(help="Only what is counted for this run.")] = None,
    as_json: Json = False,
) -> None:
    """
    Show what each limit has left.

    Held is what calls under way hold; a settled call turns it into used, or gives
    it back. In JSON amounts are in millionths, and times in µs since 1970 UTC.

    \b
    Examples:
      sluicegate usage
      sluicegate usage --policy policies/desk.yaml --tenant acme
      sluicegate usage --json | jq '.usage[] | select(.left == 0)'
    """
    with answering(as_json):
        policy_file(policy)
        url, books = existing_ledger(ledger, policy)
        with Gate(policy, books) as gate:
            rows = gate.usage(tenant=tenant, user=user, agent=agent, run=run)
            idle = _idle(gate, rows)
        if as_json:
            told = [{**asdict(row), "scope": dict(row.scope)} for row in rows]
            print_json(
                {"ok": True, "policy": str(policy), "ledger": url, "usage": told, "idle": idle}
            )
            return
        _show(rows, idle)


def _idle(gate: Gate, rows: Iterable[Usage]) -> list[str]:
    """The limits of the policy that have not counted anything that was asked for."""
    counted = {row.rule for row in rows}
    rules = [f"limits[{i}]" for i in range(len(gate.policy.limits))]
    for name, tool in gate.policy.tools.items():
        rules += [f"tools.{name}.{kind}" for kind in ("concurrency", "rate") if getattr(tool, kind)]
    return [rule for rule in rules if rule not in counted]


def _show(rows: Sequence[Usage], idle: Sequence[str]) -> None:
    out = screen()
    if rows:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", border_style="dim")
        wide = out.width >= _WIDE
        if wide:
            table.add_column("rule", style="dim", overflow="fold")
        table.add_column("for", overflow="fold")
        table.add_column("of", no_wrap=True)
        for name in _NUMBERS:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("resets (UTC)", no_wrap=True)
        for row in rows:
            table.add_row(*([row.rule] if wide else []), *_cells(row))
        out.print(table)
    if idle:
        out.print(Text(f"Nothing counted yet: {plain(', '.join(idle))}", style="dim"))
    elif not rows:
        out.print("The policy has no limits.")


def _cells(row: Usage) -> list[str | Text]:
    used, left = row.used, row.left
    if row.kind == "rate":  # it fills up continuously; a part of a call is no call
        left -= left % MICRO
        used = row.limit - left
    style = "red" if left == 0 else "yellow" if left * 5 <= row.limit else "green"
    resets = "" if row.resets_at is None else f"{moment(row.resets_at):%Y-%m-%d %H:%M}"
    return [
        plain(_whose(row)), row.name, shown(used), shown(row.held),
        Text(shown(left), style=style), shown(row.limit), resets,
    ]  # fmt: skip


def _whose(row: Usage) -> str:
    """For whom this is counted; a limit of a tool's own is everybody's for that tool."""
    if row.scope:
        return ", ".join(f"{name} {value}" for name, value in row.scope.items())
    tool = re.fullmatch(r"tools\.(.+)\.\w+", row.rule)
    return f"tool {tool[1]}" if tool else "everybody"
