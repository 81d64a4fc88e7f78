"""`sluicegate run-report`: what a run has done, and what it still owes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..amount import shown
from ..archiving import ARCHIVED, state_of
from ..clock import SystemClock
from ..ledger import Ledger
from ..policy.compile import CompiledPolicy
from ..policy.model import Policy
from ..report import Report, Tally, report_of
from ..report.value import COUNTS
from .recorded import where_the_rest_is
from .sources import DEFAULT, ArchiveFolder, LedgerUrl, PolicyFile, existing_ledger, policy_file
from .terminal import NO, Json, WrongUse, answering, moment, plain, print_json, screen

__all__ = ["run_report"]

_MOST_ROWS: Final = 50
_LONGEST_NAME: Final = 120


def run_report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The name of the run.")],
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    archive: ArchiveFolder = None,
    as_json: Json = False,
) -> None:
    """
    Say what a run has done, what it spent, and what it still owes under `contracts`.

    The contracts are those of the policy file as it is now. Sub-agents count as the run
    that called them. Exit code 1: something is owed; 2: the journal has nothing of the run.

    \b
    Examples:
      sluicegate run-report monday
      sluicegate run-report monday --policy policies/desk.yaml
      sluicegate run-report monday --archive /srv/archive
      sluicegate run-report monday --json | jq '.owed[].way_out'
    """
    with answering(as_json):
        compiled = CompiledPolicy(Policy.load(policy_file(policy)))
        url, books = existing_ledger(ledger, policy, archive)
        with closing(books):
            now = max(SystemClock().now(), books.floor)
            found = _report(compiled, books, archive, run, now)
        if as_json:
            print_json(_told(found, str(policy), url))
        else:
            _show(screen(), found)
    if not found.fulfilled:
        raise typer.Exit(NO)


def _report(
    policy: CompiledPolicy, ledger: Ledger, archive: Path | None, run: str, now: int
) -> Report:
    """The report; raises WrongUse for a run of which there is nothing: it must not pass for a good one."""
    try:
        found = report_of(ledger, policy, run, now)
    except ValueError as error:
        raise WrongUse(str(error), "name a run as the agent's program does") from None
    if found.began is None:
        raise WrongUse(
            f"the journal has nothing of a run {plain(run)!r}",
            "`sluicegate journal tail` shows the runs of the last entries"
            if archive is not None or not state_of(ledger.cell(ARCHIVED)).segments
            else where_the_rest_is(ledger, archive),
        )
    return found


def _told(found: Report, policy: str, url: str) -> dict[str, Any]:
    told = asdict(found)
    told.pop("brief")
    return {
        "ok": found.fulfilled,
        "fulfilled": found.fulfilled,
        "clean": found.clean,
        "policy": policy,
        "ledger": url,
        **told,
    }


def _show(out: Console, found: Report) -> None:
    began, ended = (moment(at or 0) for at in (found.began, found.ended))
    style, word = ("green", "fulfilled") if found.fulfilled else ("bold red", "unfinished")
    left = "" if found.clean or not found.fulfilled else ", with something left over"
    out.print(
        Text.assemble(
            (word, style), left, "  ", ("run " + plain(found.run), "bold"),
            (f"  {began:%Y-%m-%d %H:%M:%S} to {ended:%Y-%m-%d %H:%M:%S} UTC", "dim"),
        )
    )  # fmt: skip
    _section(out, "owed", [str(one) for one in found.owed], "red")
    _section(
        out, "failed, not mended", [f"{call}: {call.error}" for call in found.failed], "yellow"
    )
    _section(
        out, "outcome unknown", [f"{call}: {call.error}" for call in found.unknown], "bold yellow"
    )
    _section(out, "under way", [str(call) for call in found.open], "")
    waiting = [f"{one.call}: request {one.request}, {one.state}" for one in found.waiting]
    _section(out, "waiting for a person", waiting, "cyan")
    out.print(_table(found.calls))
    if found.refused:
        told = ", ".join(f"{code} {number}" for code, number in found.refused.items())
        out.print(Text(f"refused for: {told}"))
    for one in found.spent:
        held = f", {shown(one.held)} held" if one.held else ""
        out.print(Text(f"spent: {plain(one.name)} {shown(one.settled)}{held}"))


def _section(out: Console, title: str, lines: Sequence[str], style: str) -> None:
    if not lines:
        return
    out.print(Text(f"{title}: {len(lines)}", style=style))
    for line in lines[:_MOST_ROWS]:
        out.print(Padding(Text(plain(line)), (0, 0, 0, 2), expand=False))
    if len(lines) > _MOST_ROWS:
        out.print(Text(f"  … and {len(lines) - _MOST_ROWS} more; --json has all", style="dim"))


def _table(tallies: Sequence[Tally]) -> Table:
    """One row for each tool, and only the columns in which there is something."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", border_style="dim")
    table.add_column("tool", overflow="fold")
    names = [name for name in COUNTS if any(getattr(tally, name) for tally in tallies)]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    # What ran comes first: a model can make up any number of names.
    for tally in sorted(tallies, key=lambda tally: not tally.permitted)[:_MOST_ROWS]:
        numbers = [str(getattr(tally, name) or "-") for name in names]
        table.add_row(plain(tally.tool[:_LONGEST_NAME]), *numbers)
    if len(tallies) > _MOST_ROWS:
        table.add_row(f"… {len(tallies) - _MOST_ROWS} more tools; --json has all")
    return table
