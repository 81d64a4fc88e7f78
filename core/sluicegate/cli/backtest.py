"""`sluicegate backtest`: what would another policy have said to the recorded calls?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..backtest import Backtest, Change, Tally
from ..backtest import backtest as decide_again
from ..policy.model import Policy
from ..retrace import spoken
from .recorded import ExportFile, entries_of, show_skipped
from .sources import ArchiveFolder, LedgerUrl, policy_file
from .terminal import NO, Json, answering, plain, print_json, screen

__all__ = ["backtest"]

_STYLES: Final = {"refused": "red", "permitted": "green", "changed": "yellow"}
_TOOLS_SHOWN: Final = 20


def backtest(
    policy: Annotated[
        Path, typer.Option("--policy", "-p", metavar="FILE", help="The policy to try.")
    ],
    ledger: LedgerUrl = None,
    file: ExportFile = None,
    archive: ArchiveFolder = None,
    as_json: Json = False,
) -> None:
    """
    Decide the recorded proposals by another policy, and show what would change.

    Each call is decided in its order, at its time and with its facts, on top of what the
    new policy would have permitted before. It cannot know what an agent would have done
    next after a different answer. Exit code 1: something would change.

    \b
    Examples:
      sluicegate backtest --policy new.yaml
      sluicegate backtest --policy new.yaml --file journal.jsonl
      sluicegate backtest --policy new.yaml --json | jq '.examples[] | select(.kind == "refused")'
    """
    with answering(as_json):
        tried = Policy.load(policy_file(policy))
        read = entries_of(ledger, policy, file, archive, "deciding", quiet=as_json)
        with read as (source, entries):
            found = decide_again(entries, tried)
        if as_json:
            print_json(_json(source, policy, found))
        else:
            _show(found)
        if found.total.changes:
            raise typer.Exit(NO)


def _json(source: str, policy: Path, found: Backtest) -> dict[str, object]:
    return {
        "ok": not found.total.changes,
        "policy": str(policy),
        "source": source,
        "decisions": found.decisions,
        "total": found.total._asdict(),
        "by_rule": {name: tally._asdict() for name, tally in found.by_rule.items()},
        "by_tool": {name: tally._asdict() for name, tally in found.by_tool.items()},
        "examples": [change._asdict() for change in found.examples],
        "assumed": found.assumed,
        "unheard": found.unheard,
        "skipped": [skipped._asdict() for skipped in found.skipped],
    }


def _show(found: Backtest) -> None:
    out, total = screen(), found.total
    if total.changes:
        told = (
            f"{total.changes} of {found.decisions} decisions would change: {total.refused} newly "
            f"refused, {total.permitted} newly permitted, {total.changed} changed otherwise"
        )
        out.print(Text(told, style="bold"))
        _table("rule", found.by_rule)
        _table("tool", found.by_tool)
        for change in found.examples:
            _example(change)
    else:
        out.print(Text.assemble(("no change", "green"), f" in {found.decisions} decisions"))
    if found.assumed:
        out.print(
            f"newly permitted, and so without an outcome on record: {found.assumed}; that they "
            "worked, ended at once and cost what was expected is assumed",
            style="yellow",
        )
    if found.unheard:
        out.print(
            f"refused for values that may be in the user's words, which are not on record: {found.unheard}; "
            "they may come out better when the policy is in force",
            style="yellow",
        )
    show_skipped(found.skipped)


def _table(of: str, tallies: Mapping[str, Tally]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", border_style="dim")
    table.add_column(of, overflow="fold")
    for name in ("refused", "permitted", "otherwise", "same"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [(name, tally) for name, tally in tallies.items() if tally.changes]
    for name, tally in rows[:_TOOLS_SHOWN]:
        numbers = (tally.refused, tally.permitted, tally.changed)
        cells = [
            Text(str(number), style=style if number else "dim")
            for number, style in zip(numbers, _STYLES.values(), strict=True)
        ]
        table.add_row(plain(name), *cells, str(tally.same) if of == "tool" else "")
    out = screen()
    out.print(table)
    if len(rows) > _TOOLS_SHOWN:
        out.print(f"… and {len(rows) - _TOOLS_SHOWN} more; --json has all of them", style="dim")


def _example(change: Change) -> None:
    told = f" → {change.after}  entry {spoken(change.entry)}  {plain(change.tool)}"
    out = screen()
    out.print(Text.assemble((change.before, "dim"), (told, _STYLES[change.kind])))
    out.print(Text(f"  {plain(change.rule)}: {plain(change.reason)}"), soft_wrap=True)
