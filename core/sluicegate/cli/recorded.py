"""Journal entries for commands that decide them again: from a ledger, or from an export."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..archiving import ARCHIVED, state_of
from ..errors import LedgerError
from ..journal import Entry, archived, imported
from ..ledger import Ledger
from ..retrace import Skipped, spoken
from .sources import existing_ledger
from .terminal import WrongUse, plain, screen

__all__ = ["ExportFile", "entries_of", "refuse_shortened", "show_skipped", "where_the_rest_is"]

_LONG: Final = 10_000
"""Entries from which on a progress bar is worth its line."""
_STEP: Final = 100

ExportFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="Read an export (`journal export`) and not a ledger."
    ),
]


@contextmanager
def entries_of(
    ledger: str | None,
    policy: Path,
    file: Path | None,
    archive: Path | None,
    doing: str,
    *,
    quiet: bool,
) -> Generator[tuple[str, Iterator[Entry]], None, None]:
    """Where the entries come from, and the entries, with a bar for *doing* if they are many."""
    if file is not None:
        for option, given in (("--ledger", ledger), ("--archive", archive)):
            if given is not None:
                raise WrongUse(
                    f"--file and {option} were both given",
                    "give the one that you mean; `sluicegate journal export --archive DIR` writes "
                    "the whole journal to a file",
                )
        if not file.is_file():
            raise WrongUse(
                f"there is no export at {file}", f"sluicegate journal export --output {file}"
            )
        yield str(file), _exported(file)
        return
    url, books = existing_ledger(ledger, policy, archive)
    try:
        refuse_shortened(books, archive)
        last, _ = books.head()
        out = screen(stderr=True)
        columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = quiet or last < _LONG or not out.is_terminal
        with Progress(*columns, console=out, transient=True, disable=hidden) as progress:
            yield url, _watched(books.entries(), progress, last)
    finally:
        books.close()


def refuse_shortened(ledger: Ledger, archive: Path | None) -> None:
    """Raise WrongUse if the journal of *ledger*, as it is read, has lost its beginning."""
    moved = state_of(ledger.cell(ARCHIVED)).segments
    lost = _lost(ledger.entries() if moved else islice(ledger.entries(), 1))
    if lost is not None:
        raise WrongUse(f"the journal {lost}", where_the_rest_is(ledger, archive))


def where_the_rest_is(ledger: Ledger, archive: Path | None) -> str:
    """How to get at entries that the journal does not have."""
    if archive is not None:
        return f"a segment is missing in {archive}; put it back from a copy"
    if state_of(ledger.cell(ARCHIVED)).segments:
        return "older entries were moved to an archive: name its folder with --archive DIR"
    return "`sluicegate journal verify` says what is missing; restore it from a copy"


def _lost(entries: Iterable[Entry]) -> str | None:
    """What to say of a journal that does not begin with its first entry."""
    begun: dict[str, int] = {}
    moved: set[str] = set()
    for entry in entries:
        begun.setdefault(entry.writer, entry.seq)
        with suppress(LedgerError):  # replay will name it
            moved.update(archived(entry))
    late = [seq for seq in begun.values() if seq > 1]
    if not late and moved <= begun.keys():
        return None
    where = f"begins with entry {late[0]}" if late else "does not begin with its first entry"
    return f"{where}: what was used and held before is in the entries before it"


def _watched(entries: Iterable[Entry], progress: Progress, last: int) -> Iterator[Entry]:
    task = progress.add_task("", total=last)
    for count, entry in enumerate(entries, 1):
        if count % _STEP == 0:
            progress.update(task, completed=count)
        yield entry


def _exported(file: Path) -> Iterator[Entry]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        lost = _lost(imported(lines, str(file)))
    if lost is not None:
        hint = "export the whole journal; where it was shortened, with --archive DIR"
        raise WrongUse(f"{file} {lost}", hint)
    with file.open(encoding="utf-8", newline="\n") as lines:
        yield from imported(lines, str(file))


def show_skipped(skipped: tuple[Skipped, ...]) -> None:
    """Say which decisions could not be derived, and why."""
    out = screen()
    for why, count, first in skipped:
        out.print(
            f"skipped {count}, the first at entry {spoken(first)}: {plain(why)}", style="yellow"
        )
