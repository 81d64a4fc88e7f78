"""`sluicegate journal …`: read, verify and export what was decided."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.console import Console

from ..journal import Entry, Journal, exported
from .lines import Lines, show
from .sources import DEFAULT, ArchiveFolder, LedgerUrl, PolicyFile, existing_ledger
from .terminal import Json, WrongUse, answering, print_json, screen
from .verify import verify

__all__ = ["app"]

_POLL_SECONDS: Final = 0.25
_LOOK_BACK: Final = 500
"""Entries read before the first one shown, to know which tool an outcome belongs to."""


def tail(
    count: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many entries, counted from the end.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new entries.")] = False,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Show the last entries: time (UTC), decision or outcome, tool, who, and why.

    With --json each entry is a line of its own, as `export` writes it.

    \b
    Examples:
      sluicegate journal tail
      sluicegate journal tail -n 100 | grep deny
      sluicegate journal tail --follow --json
    """
    with answering(as_json):
        _, books = existing_ledger(ledger, policy)
        try:
            _tail(Journal(books), count, follow=follow, as_json=as_json)
        except KeyboardInterrupt:
            return  # that is how --follow ends
        finally:
            books.close()


def _tail(journal: Journal, count: int, *, follow: bool, as_json: bool) -> None:
    out, lines = screen(), Lines()
    shown: dict[str, int] = {}  # by writer: a place in the journal is not a number in a chain

    def tell(entry: Entry, *, quiet: bool = False) -> None:
        if entry.seq <= shown.get(entry.writer, 0):
            return
        shown[entry.writer] = entry.seq
        line = None if as_json else lines.read(entry)
        if not quiet:
            _emit(out, entry) if line is None else show(out, line)

    seen, _ = journal.head()
    found = list(journal.after(max(0, seen - count - _LOOK_BACK)))
    for place, entry in enumerate(found):
        tell(entry, quiet=place < len(found) - count)
    while follow:
        time.sleep(_POLL_SECONDS)
        end, _ = journal.head()
        for entry in journal.after(seen):
            tell(entry)
        seen = end


def _emit(out: Console, entry: Entry) -> None:
    out.file.write(next(exported([entry])) + "\n")
    out.file.flush()


def export(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there. [default: stdout]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    archive: ArchiveFolder = None,
    as_json: Json = False,
) -> None:
    """
    Write the journal as JSON lines: entry, hash, prev, seq and writer.

    \b
    Examples:
      sluicegate journal export --output journal.jsonl
      sluicegate journal export --archive /srv/archive --output whole.jsonl
      sluicegate journal export | jq 'select(.entry.decision == "deny") | .entry.reasons'
    """
    with answering(as_json):
        _, books = existing_ledger(ledger, policy, archive)
        journal = Journal(books)
        try:
            if output is None:
                for line in journal.export():
                    typer.echo(line)
                return
            with _opened(output, force=force) as file:
                count = _write(file, journal.export())
        finally:
            books.close()
        if as_json:
            print_json({"ok": True, "file": str(output), "entries": count})
        else:
            screen().print(f"{output} has {count} entries")


def _opened(path: Path, *, force: bool) -> TextIO:
    try:
        return path.open("w" if force else "x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise WrongUse(f"{path} exists", "--force overwrites it") from None


def _write(file: TextIO, lines: Iterable[str]) -> int:
    count = 0
    for line in lines:
        file.write(line + "\n")
        count += 1
    return count


app = typer.Typer(
    help="Read, verify and export what was decided.", no_args_is_help=True, rich_markup_mode=None
)
for command in (tail, verify, export):
    app.command()(command)
