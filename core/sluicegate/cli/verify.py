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
from ..journal import Broken, Entry, Journal
from ..ledger import Ledger
from .journal_file import JournalFile
from .sources import DEFAULT, LedgerUrl, PolicyFile, existing_ledger, location
from .terminal import NO, Json, WrongUse, answering, print_json, screen

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
      sluicegate journal verify --json | jq -r '"\\(.head.seq):\\(.head.hash)"' > kept
      sluicegate journal verify --head "$(cat kept)"
    """
    with answering(as_json):
        kept = _parsed(head)
        url, chain = _opened(ledger, policy)
        try:
            last, digest = chain.head()
            broken = _verified(chain, last, quiet=as_json) or _missed(chain, kept)
        finally:
            chain.close()
        if as_json:
            found = None if broken is None else broken._asdict()
            kept_head = {"seq": last, "hash": digest}
            print_json({"ok": not found, "ledger": url, "head": kept_head, "broken": found})
        else:
            _show(broken, last, digest)
        if broken is not None:
            raise typer.Exit(NO)


def _parsed(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    found = _HEAD.fullmatch(head.strip())
    if found is None:
        raise WrongUse(f"{head!r} is no head", "write it as verify prints it: 1204:9f86d0…")
    return int(found[1]), found[2]


def _opened(url: str | None, policy: Path) -> tuple[str, _Chain]:
    """The ledger, or its bare journal: one that was tampered with may refuse to be opened."""
    try:
        return existing_ledger(url, policy)
    except LedgerError as error:
        found, file = location(url, policy)
        if file is None:
            raise
        try:
            return found, JournalFile(file)
        except LedgerError:
            raise error from None


def _verified(chain: _Chain, last: int, *, quiet: bool) -> Broken | None:
    out = screen(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or last < _LONG or not out.is_terminal
    with Progress(*columns, console=out, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=last)
        watched = _Watched(chain, lambda: progress.advance(task))
        return Journal(cast("Ledger", watched)).verify()


class _Watched:
    """A chain that tells how far it was read."""

    def __init__(self, chain: _Chain, tick: Callable[[], None]) -> None:
        self._chain = chain
        self._tick = tick
        self.head, self.heads = chain.head, chain.heads

    def entries(self, after: int = 0) -> Iterator[Entry]:
        for entry in self._chain.entries(after):
            self._tick()
            yield entry


def _missed(chain: _Chain, kept: tuple[int, str] | None) -> Broken | None:
    """What is wrong with a whole chain that has not got the entry that once was its head."""
    if kept is None:
        return None
    seq, digest = kept
    entry = next(iter(chain.entries(seq - 1)), None)
    if entry is None:
        return Broken(seq, f"entry {seq} is missing: the journal ends before the head you kept")
    if entry.hash != digest:
        return Broken(seq, f"entry {seq} is not the one you kept: the chain was rebuilt")
    return None


def _show(broken: Broken | None, last: int, digest: str) -> None:
    out = screen()
    if broken is None:
        whole = f": {last} entries, each follows the one before"
        out.print(Text.assemble(("whole", "green"), whole))
        out.print(f"head  {last}:{digest}", soft_wrap=True, style="dim")
    else:
        out.print(Text.assemble(("broken", "bold red"), f": {broken.problem}"))
        out.print(f"What comes before entry {broken.seq} is whole; rely on nothing from it on.")
