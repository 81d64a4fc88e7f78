"""`sluicegate journal …`: read, verify and export what was decided."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..journal import Broken, Entry, Journal, exported
from ..ledger import Ledger
from .lines import Lines, show
from .sources import DEFAULT, LedgerUrl, PolicyFile, existing_ledger
from .terminal import NO, Json, WrongUse, answering, print_json, screen

__all__ = ["app"]

_POLL_SECONDS: Final = 0.25
_LOOK_BACK: Final = 500
"""Entries read before the first one shown, to know which tool an outcome belongs to."""
_LONG: Final = 20_000
"""Entries from which on a progress bar is worth its line."""
_HEAD: Final = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")

app = typer.Typer(
    help="Read, verify and export what was decided.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
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
    out, lines, seen = screen(), Lines(), 0
    last, _ = journal.head()
    first = max(0, last - count)
    for entry in journal.after(max(0, first - _LOOK_BACK)):
        seen = entry.seq
        line = None if as_json else lines.read(entry)
        if seen > first:
            _emit(out, entry) if line is None else show(out, line)
    seen = max(seen, first)
    while follow:
        time.sleep(_POLL_SECONDS)
        for entry in journal.after(seen):
            seen = entry.seq
            _emit(out, entry) if as_json else show(out, lines.read(entry))


def _emit(out: Console, entry: Entry) -> None:
    out.file.write(next(exported([entry])) + "\n")
    out.file.flush()


@app.command()
def verify(
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="N:HASH", help="A head that you kept; it must still be there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Look for the first changed, missing or reordered entry.

    Prints the head of the chain. Keep it somewhere else: whoever owns the database
    can rebuild the whole chain, but not with the same head. Exit code 1: it is broken.

    \b
    Examples:
      sluicegate journal verify
      sluicegate journal verify --head 1204:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    with answering(as_json):
        kept = _parsed(head)
        url, books = existing_ledger(ledger, policy)
        try:
            last, digest = books.head()
            broken = _verified(books, kept, last, quiet=as_json)
        finally:
            books.close()
        told: dict[str, Any] = {"ok": broken is None, "ledger": url, "entries": last}
        if as_json:
            found = None if broken is None else {"seq": broken.seq, "problem": broken.problem}
            print_json({**told, "head": {"seq": last, "hash": digest}, "broken": found})
        else:
            _show(broken, last, digest)
        if broken is not None:
            raise typer.Exit(NO)


def _parsed(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    found = _HEAD.fullmatch(head)
    if found is None:
        raise WrongUse(f"{head!r} is no head", "write it as `journal verify` prints it: 1204:9f86d0…")
    return int(found[1]), found[2]


def _verified(books: Ledger, kept: tuple[int, str] | None, last: int, *, quiet: bool) -> Broken | None:
    out = screen(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or last < _LONG or not out.is_terminal
    with Progress(*columns, console=out, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=last)
        broken = Journal(_Watched(books, lambda: progress.advance(task))).verify()
    if broken is None and kept is not None:
        broken = _missed(books, kept)
    return broken


def _missed(books: Ledger, kept: tuple[int, str]) -> Broken | None:
    """What is wrong with a whole chain that does not have the entry that was once its head."""
    seq, digest = kept
    entry = next(iter(books.entries(seq - 1)), None)
    if entry is None:
        return Broken(seq, f"entry {seq} is missing: the journal ends before the head that you kept")
    if entry.hash != digest:
        return Broken(seq, f"entry {seq} is another one than you kept: the chain was rebuilt")
    return None


class _Watched:
    """A ledger whose journal tells how far it was read."""

    def __init__(self, books: Ledger, tick: Any) -> None:
        self._books = books
        self._tick = tick

    def entries(self, after: int = 0) -> Iterator[Entry]:
        for entry in self._books.entries(after):
            self._tick()
            yield entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)


def _show(broken: Broken | None, last: int, digest: str) -> None:
    out = screen()
    if broken is None:
        out.print(Text.assemble(("whole", "green"), f": {last} entries, each follows the one before"))
        out.print(f"head  {last}:{digest}", soft_wrap=True, style="dim")
    else:
        out.print(Text.assemble(("broken", "bold red"), f": {broken.problem}"))
        out.print(f"Entries before {broken.seq} are whole; do not rely on it or anything after it.")


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there. [default: stdout]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Write the journal as JSON lines: entry, hash, prev, seq and writer.

    \b
    Examples:
      sluicegate journal export --output journal.jsonl
      sluicegate journal export | jq 'select(.entry.decision == "deny") | .entry.reasons'
    """
    with answering(as_json):
        _, books = existing_ledger(ledger, policy)
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
