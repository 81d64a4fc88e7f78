"""`sluicegate journal verify`: the first changed, missing or reordered entry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, cast

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import LedgerError
from ..journal import Broken, Entry, Journal, archived
from ..ledger import Ledger
from .journal_file import JournalFile
from .sources import (
    DEFAULT,
    ArchiveFolder,
    LedgerUrl,
    PolicyFile,
    existing_ledger,
    location,
    with_archive,
)
from .terminal import NO, Json, WrongUse, answering, plain, print_json, screen

__all__ = ["verify"]

_LONG: Final = 20_000
"""Entries from which on a progress bar is worth its line."""
_HEAD: Final = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


class _Chain(Protocol):
    def entries(self, after: int = 0) -> Any: ...
    def head(self) -> tuple[int, str]: ...
    def heads(self) -> Mapping[str, tuple[int, str]]: ...
    def close(self) -> None: ...


def verify(
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    archive: ArchiveFolder = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="N:HASH", help="A head you kept: it must still be there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Look for the first changed, missing or reordered entry.

    Prints the head of the chain. Keep it somewhere else: whoever owns the database can
    rebuild the whole chain, but not so that it has the same head at the same place.
    Exit code 1: it is broken.

    \b
    Examples:
      sluicegate journal verify
      sluicegate journal verify --archive /srv/archive
      sluicegate journal verify --json | jq -r '"\\(.head.seq):\\(.head.hash)"' > kept
      sluicegate journal verify --head "$(cat kept)"
    """
    with answering(as_json):
        kept = _parsed(head)
        url, chain = _opened(ledger, policy, archive)
        try:
            last, digest = chain.head()
            read = _Watched(chain, kept)
            broken = _verified(read, last, quiet=as_json) or _missed(chain, kept, read, archive)
        finally:
            chain.close()
        if as_json:
            found = None if broken is None else broken._asdict()
            kept_head = {"seq": last, "hash": digest}
            told = {"ok": not found, "ledger": url, "head": kept_head, "broken": found}
            print_json({**told, "archived": None if found else read.told()})
        elif broken is not None:
            _show_broken(broken)
        else:
            _show_whole(read, archive, last, digest)
        if broken is not None:
            raise typer.Exit(NO)


def _parsed(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    found = _HEAD.fullmatch(head.strip())
    if found is None:
        raise WrongUse(f"{head!r} is no head", "write it as verify prints it: 1204:9f86d0…")
    return int(found[1]), found[2]


def _opened(url: str | None, policy: Path, archive: Path | None) -> tuple[str, _Chain]:
    """The ledger, or its bare journal: one that was tampered with may refuse to be opened."""
    try:
        return existing_ledger(url, policy, archive)
    except LedgerError as error:
        found, file = location(url, policy)
        if file is None:
            raise
        try:
            return found, with_archive(cast("Ledger", JournalFile(file)), archive)
        except LedgerError:
            raise error from None


# --- the chain ------------------------------------------------------------------------------------


class _Watched:
    """
    A chain that takes note of what was read of it: how many entries, the first of each writer,
    what the journal says was archived, and the entry with the hash of the head that was kept.
    """

    def __init__(self, chain: _Chain, kept: tuple[int, str] | None) -> None:
        self._chain = chain
        self._wanted = None if kept is None else kept[1]
        self.head, self.heads = chain.head, chain.heads
        self.tick: Callable[[], object] = bool  # says nothing, until there is a bar
        self._forget()

    def _forget(self) -> None:
        self.count = self.segments = 0
        self.begins: dict[str, int] = {}
        self.upto: dict[str, tuple[int, str]] = {}
        self.kept: Entry | None = None

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The entries of the chain; what was noted before is forgotten."""
        self._forget()
        for entry in self._chain.entries(after):
            self.count += 1
            self.begins.setdefault(entry.writer, entry.seq)
            if entry.hash == self._wanted:
                self.kept = entry
            self.tick()
            yield entry
            moved = archived(entry)  # whoever reads has looked at it by now
            if moved:
                self.upto, self.segments = moved, entry.content.get("segment", 0)

    @property
    def late(self) -> bool:
        """Whether what was archived, or a part of it, was not read."""
        return any(seq > 1 for seq in self.begins.values()) or bool(self.upto.keys() - self.begins)

    @property
    def gone(self) -> int:
        """How many entries were archived."""
        return sum(seq for seq, _ in self.upto.values())

    def told(self) -> dict[str, Any] | None:
        """What was archived, for programs."""
        if not self.upto:
            return None
        return {"segments": self.segments, "entries": self.gone, "begins": self.begins}


def _verified(read: _Watched, last: int, *, quiet: bool) -> Broken | None:
    out = screen(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or last < _LONG or not out.is_terminal
    with Progress(*columns, console=out, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=last)
        read.tick = lambda: progress.advance(task)
        return Journal(cast("Ledger", read)).verify()


# --- a head that was kept -------------------------------------------------------------------------


def _missed(
    chain: _Chain, kept: tuple[int, str] | None, read: _Watched, archive: Path | None
) -> Broken | None:
    """What is wrong with a whole chain that has not got the entry that once was its head."""
    if kept is None:
        return None
    seq, digest = kept
    heads, found = chain.heads(), read.kept
    entry = next(iter(chain.entries(seq - 1)), None)
    left = next(iter(chain.entries(1)), None) if read.upto else None  # behind what was archived
    sole = len(heads) == 1  # then its number may be meant; otherwise it is a place among all
    if found and (found == entry != left or (found.seq == seq if sole else read.upto)):
        return None  # in a copy of what was shortened places may begin anew
    first = min(read.begins.values(), default=1)
    if seq > max((end for end, _ in heads.values()), default=0) if sole else entry is None:
        return Broken(seq, f"entry {seq} is missing: the journal ends before the head you kept")
    if seq >= first if sole else entry != left:
        return Broken(seq, _rebuilt(seq))
    if sole and seq == first - 1:
        oldest = next(iter(chain.entries()))
        return None if oldest.prev == digest else Broken(seq, _rebuilt(seq))
    if archive is None:
        raise WrongUse(
            f"entry {seq} may have been moved to an archive, and cannot be compared without it",
            "name its folder with --archive DIR",
        )
    if read.late:
        raise WrongUse(
            f"entry {seq} cannot be compared: {archive} does not have all that was archived",
            "put the missing segments back from a copy",
        )
    return Broken(seq, _rebuilt(seq))


def _rebuilt(seq: int) -> str:
    return f"entry {seq} is not the one you kept: the chain was rebuilt"


# --- for people -----------------------------------------------------------------------------------


def _show_broken(broken: Broken) -> None:
    out = screen()
    out.print(Text.assemble(("broken", "bold red"), f": {broken.problem}"))
    out.print(f"What comes before entry {broken.seq} is whole; rely on nothing from it on.")


def _show_whole(read: _Watched, archive: Path | None, last: int, digest: str) -> None:
    out = screen()
    count = read.count if read.upto else last
    whole = f": {count} entries, each follows the one before"
    if read.late and read.begins.keys() == read.upto.keys() and len(read.upto) == 1:
        whole += f", from entry {min(read.begins.values())} on"
    out.print(Text.assemble(("whole", "green"), whole))
    if read.upto:
        word = "segment" if read.segments == 1 else "segments"
        moved = f"{read.gone} entries were moved to an archive, in {plain(read.segments)} {word}"
        if read.late and archive is None:
            moved += "; --archive DIR verifies them, too"
        elif read.late:
            moved += f"; {plain(archive)} has not all of them"
        out.print(moved)
    out.print(f"head  {last}:{digest}", soft_wrap=True, style="dim")
