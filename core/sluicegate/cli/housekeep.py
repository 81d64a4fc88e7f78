"""`sluicegate housekeep`: remove what no later decision can depend on, and archive old entries."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.text import Text

from ..archive import SEGMENT, Archive, segments
from ..archiving import ARCHIVED, Archived, state_of
from ..clock import SystemClock
from ..housekeeping import Keep, family
from ..ledger import Ledger
from ..policy.fault import Fault
from ..policy.units import duration
from ..sweeper import Sweeper
from .sources import DEFAULT, LedgerUrl, PolicyFile, existing_ledger
from .terminal import Json, WrongUse, answering, plain, print_json, screen

__all__ = ["housekeep"]

_MONTH: Final = "30d"
_QUARTER: Final = "90d"
_MOST_FILES: Final = 20


class _Moved(NamedTuple):
    """What went to the archive, or would go."""

    entries: int
    segments: int
    files: tuple[str, ...] = ()


class _Done(NamedTuple):
    """How many cells were looked at, how many of each kind were over, and what was archived."""

    looked: int
    removed: Counter[str]
    moved: _Moved | None


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
    archive: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Move old entries of the journal to files in this folder."
        ),
    ] = None,
    keep_journal: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help=f"Move entries that are older, with --archive.  [default: {_QUARTER}]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be removed and moved.")
    ] = False,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Remove the state that no later decision can depend on. Gates may be at work meanwhile.

    Budgets of windows that have passed, rates that are full again and leases that have ended
    go at once; runs and call ids when nothing was heard of them for long. Keys without
    a `within`, unknown outcomes and halts stay. So does the journal, unless an archive is
    named for its old entries: archive and journal together are the whole one.

    \b
    Examples:
      sluicegate housekeep --dry-run
      sluicegate housekeep --keep-runs 90d --keep-calls 7d
      sluicegate housekeep --archive /srv/archive --keep-journal 90d
      sluicegate housekeep --ledger sqlite:////srv/desk/ledger.db --json | jq .removed
    """
    with answering(as_json):
        keep = Keep(_span("--keep-runs", keep_runs), _span("--keep-calls", keep_calls))
        into = _archive(archive, keep_journal)
        url, books = existing_ledger(ledger, policy)
        with closing(books):
            done = _kept_house(books, keep, into, dry_run=dry_run, quiet=as_json)
        if as_json:
            print_json(_json(url, done, into, dry_run=dry_run))
            return
        _show(done, into, dry_run=dry_run)
        kept = (
            f"Kept: runs for {keep_runs} after their last call; call ids, keys past their `within` "
            f"and expired requests for {keep_calls}"
        )
        if into is not None:
            kept += f"; entries of the journal for {keep_journal or _QUARTER}"
        screen().print(Text(f"{kept}.", style="dim"))


def _archive(folder: Path | None, keep: str | None) -> Archive | None:
    if folder is None and keep is not None:
        raise WrongUse(
            "--keep-journal says when entries leave the journal, and nothing says where to",
            "name a folder for them, with --archive DIR",
        )
    if folder is None:
        return None
    return Archive(folder, _span("--keep-journal", keep or _QUARTER))


def _kept_house(
    books: Ledger, keep: Keep, into: Archive | None, *, dry_run: bool, quiet: bool
) -> _Done:
    looked, removed, err = 0, Counter[str](), screen(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    hidden = quiet or not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=hidden) as bar:
        task = bar.add_task("looking")
        now = max(SystemClock().now(), books.floor)
        sweeper = Sweeper(books, keep, into)
        if into is not None and not dry_run:
            _make(into.folder)
        for page in sweeper.pages(now):
            looked += page.looked
            removed += Counter(map(family, page.over)) if dry_run else sweeper.sweep(now, page)
            bar.update(task, description=f"{looked} cells looked at, {removed.total()} over")
        if into is None or sweeper.archiver is None:
            return _Done(looked, removed, None)
        if dry_run:
            return _Done(looked, removed, _ripe(books, into, now))
        before, gone = state_of(books.cell(ARCHIVED)), 0
        while sweeper.archiver.ready:
            gone += sweeper.archiver.step(now, partial=True)
            bar.update(task, description=f"{gone} entries of the journal moved")
        return _Done(looked, removed, _between(books, into, before))


def _make(folder: Path) -> None:
    """Make the folder of an archive, before anything else is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUse(
            f"the archive {folder} cannot be made: {error.strerror}",
            "name a folder in which you may write; nothing was changed",
        ) from None


def _ripe(books: Ledger, into: Archive, now: int) -> _Moved:
    """What would be moved: as many entries from the beginning as are old enough."""
    moved = state_of(books.cell(ARCHIVED)).upto
    old = takewhile(lambda entry: entry.at + into.keep <= now, books.entries())
    count = sum(entry.seq > moved.get(entry.writer, (0, ""))[0] for entry in old)
    return _Moved(count, -(-count // SEGMENT))


def _between(books: Ledger, into: Archive, before: Archived) -> _Moved:
    """What was archived since the state *before*, also by a gate that did so at the same time."""
    after = state_of(books.cell(ARCHIVED))
    files = tuple(
        file.name
        for file in segments(into.folder)
        if before.segments < int(file.name.split("-")[1]) <= after.segments
    )
    return _Moved(_count(after) - _count(before), after.segments - before.segments, files)


def _count(state: Archived) -> int:
    return sum(seq for seq, _ in state.upto.values())


def _json(url: str, done: _Done, into: Archive | None, *, dry_run: bool) -> dict[str, Any]:
    archived = None
    if done.moved is not None and into is not None:
        archived = {"folder": str(into.folder), **done.moved._asdict()}
    return {
        "ok": True,
        "ledger": url,
        "dry_run": dry_run,
        "looked": done.looked,
        "removed": done.removed.total(),
        "by_kind": dict(sorted(done.removed.items())),
        "archived": archived,
    }


def _show(done: _Done, into: Archive | None, *, dry_run: bool) -> None:
    out = screen()
    would = "would be " if dry_run else ""
    removed = (f"{done.removed.total()} {would}removed", "bold")
    out.print(Text.assemble(removed, f" of {done.looked} cells", style=""))
    for kind, count in sorted(done.removed.items()):
        out.print(f"  {plain(kind)}: {count}")
    if done.moved is None or into is None:
        return
    entries, count, files = done.moved
    word = "segment" if count == 1 else "segments"
    moved = (f"{entries} {would}moved", "bold")
    where = f" to {plain(into.folder)}, in {count} {word}" if count else ""
    out.print(Text.assemble(moved, f" of the entries of the journal{where}", style=""))
    for name in files[:_MOST_FILES]:
        out.print(f"  {name}", soft_wrap=True)
    if len(files) > _MOST_FILES:
        out.print(Text(f"  … and {len(files) - _MOST_FILES} more; --json has all", style="dim"))


def _span(option: str, text: str) -> int:
    try:
        return duration(text)
    except Fault as fault:
        raise WrongUse(f"{option} {fault.problem}", fault.hint) from None
