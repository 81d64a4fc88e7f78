"""`sluicegate housekeep`: remove what no later decision can depend on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.text import Text

from ..clock import SystemClock
from ..housekeeping import Keep, family
from ..policy.fault import Fault
from ..policy.units import duration
from ..sweeper import Sweeper
from .sources import DEFAULT, LedgerUrl, PolicyFile, existing_ledger
from .terminal import Json, WrongUse, answering, plain, print_json, screen

__all__ = ["housekeep"]

_MONTH = "30d"


def housekeep(
    keep_runs: Annotated[
        str, typer.Option(metavar="TIME", help="Forget a run that was silent for so long.")
    ] = _MONTH,
    keep_calls: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Forget call ids, keys past their `within`, and expired requests after so long.",
        ),
    ] = _MONTH,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be removed.")
    ] = False,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Remove the state that no later decision can depend on. Gates may be at work meanwhile.

    Budgets of windows that have passed, rates that are full again and leases that have ended
    go at once; runs and call ids when nothing was heard of them for long. Keys without
    a `within`, unknown outcomes, halts and the journal stay.

    \b
    Examples:
      sluicegate housekeep --dry-run
      sluicegate housekeep --keep-runs 90d --keep-calls 7d
      sluicegate housekeep --ledger sqlite:////srv/desk/ledger.db --json | jq .removed
    """
    with answering(as_json):
        keep = Keep(_span("--keep-runs", keep_runs), _span("--keep-calls", keep_calls))
        url, looked, removed = _swept(ledger, policy, keep, dry_run=dry_run, quiet=as_json)
        kinds = dict(sorted(removed.items()))
        if as_json:
            told = {"looked": looked, "removed": removed.total(), "by_kind": kinds}
            print_json({"ok": True, "ledger": url, "dry_run": dry_run, **told})
            return
        out = screen()
        word = "would be removed" if dry_run else "removed"
        out.print(
            Text.assemble((f"{removed.total()} {word}", "bold"), f" of {looked} cells", style="")
        )
        for kind, count in kinds.items():
            out.print(f"  {plain(kind)}: {count}")
        out.print(
            Text(
                f"Kept: runs for {keep_runs} after their last call; call ids, keys past their "
                f"`within` and expired requests for {keep_calls}.",
                style="dim",
            )
        )


def _swept(
    ledger: str | None, policy: Path, keep: Keep, *, dry_run: bool, quiet: bool
) -> tuple[str, int, Counter[str]]:
    """The ledger's URL, how many cells were looked at, and how many of each kind removed."""
    url, books = existing_ledger(ledger, policy)
    looked, removed = 0, Counter[str]()
    err = screen(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    try:
        with Progress(
            *columns, console=err, transient=True, disable=quiet or not err.is_terminal
        ) as bar:
            task = bar.add_task("looking")
            now = max(SystemClock().now(), books.floor)
            sweeper = Sweeper(books, keep)
            for page in sweeper.pages(now):
                looked += page.looked
                removed += Counter(map(family, page.over)) if dry_run else sweeper.sweep(now, page)
                bar.update(task, description=f"{looked} cells looked at, {removed.total()} over")
    finally:
        books.close()
    return url, looked, removed


def _span(option: str, text: str) -> int:
    try:
        return duration(text)
    except Fault as fault:
        raise WrongUse(f"{option} {fault.problem}", fault.hint) from None
