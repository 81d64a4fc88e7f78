"""Journal entries for commands that decide them again: from a ledger, or from an export."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..journal import Entry
from ..retrace import Skipped, spoken
from .sources import existing_ledger
from .terminal import WrongUse, plain, screen

__all__ = ["ExportFile", "entries_of", "show_skipped"]

_LONG: Final = 10_000
"""Entries from which on a progress bar is worth its line."""
_STEP: Final = 100
_LINE: Final = re.compile(
    r'\{"entry":(\{.*\}),"hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","seq":([0-9]{1,18}),'
    r'"writer":("(?:[^"\\]|\\.)*")\}'
)

ExportFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="Read an export (`journal export`) and not a ledger."
    ),
]


@contextmanager
def entries_of(
    ledger: str | None, policy: Path, file: Path | None, doing: str, *, quiet: bool
) -> Generator[tuple[str, Iterator[Entry]], None, None]:
    """Where the entries come from, and the entries, with a bar for *doing* if they are many."""
    if file is not None:
        if ledger is not None:
            raise WrongUse("--file and --ledger were both given", "give the one that you mean")
        if not file.is_file():
            raise WrongUse(
                f"there is no export at {file}", f"sluicegate journal export --output {file}"
            )
        yield str(file), _exported(file)
        return
    url, books = existing_ledger(ledger, policy)
    last, _ = books.head()
    out = screen(stderr=True)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or last < _LONG or not out.is_terminal
    try:
        with Progress(*columns, console=out, transient=True, disable=hidden) as progress:
            yield url, _watched(books.entries(), progress, last)
    finally:
        books.close()


def _watched(entries: Iterable[Entry], progress: Progress, last: int) -> Iterator[Entry]:
    task = progress.add_task("", total=last)
    for count, entry in enumerate(entries, 1):
        if count % _STEP == 0:
            progress.update(task, completed=count)
        yield entry


def _exported(file: Path) -> Iterator[Entry]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            found = _LINE.fullmatch(line.rstrip("\r\n"))
            if found is None:
                raise WrongUse(
                    f"{file}: line {number} is no journal entry as it was exported",
                    "give the file that `sluicegate journal export` wrote, unchanged",
                )
            body, digest, prev, seq, writer = found.groups()
            yield Entry(int(seq), json.loads(writer), prev, digest, body)


def show_skipped(skipped: tuple[Skipped, ...]) -> None:
    """Say which decisions could not be derived, and why."""
    out = screen()
    for why, count, first in skipped:
        out.print(
            f"skipped {count}, the first at entry {spoken(first)}: {plain(why)}", style="yellow"
        )
