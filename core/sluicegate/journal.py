"""
The journal: one entry per decision and per outcome, each chained to the one before.

An entry's hash covers its body, its number, its writer and the hash of the entry
before it, so a changed, missing or reordered entry breaks the chain at its place.
Honest limit: whoever owns the database can rebuild an unsigned chain from the
change on. Export the head from time to time, and keep it somewhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from .ledger.base import Ledger

__all__ = ["GENESIS", "Broken", "Entry", "Journal", "exported", "link", "verify"]

GENESIS: Final = "0" * 64
"""What stands before the first entry."""


class Entry(NamedTuple):
    """
    One line of the journal.

    *seq* counts from 1 for each *writer*; *prev* and *hash* are SHA-256 in
    hexadecimal; *body* is canonical JSON text.
    """

    seq: int
    writer: str
    prev: str
    hash: str
    body: str

    @property
    def content(self) -> dict[str, Any]:
        """The body, read. `kind` is policy, decision or outcome; times are in µs since 1970 UTC."""
        return cast("dict[str, Any]", json.loads(self.body))


class Broken(NamedTuple):
    """Where the chain breaks first, and how."""

    seq: int
    problem: str


def link(prev: str, writer: str, seq: int, body: str) -> str:
    """The hash of an entry."""
    return hashlib.sha256(f"{prev}\n{writer}\n{seq}\n{body}".encode()).hexdigest()


def verify(
    entries: Iterable[Entry], heads: Mapping[str, tuple[int, str]] | tuple[int, str] | None = None
) -> Broken | None:
    """
    The first changed, missing or reordered entry; None if there is none.

    *heads* are number and hash of an entry of each writer, as known from elsewhere, such as
    an earlier export; the journal may have gone on since. One pair is that of the only
    writer. Without them, missing last entries do not show.
    """
    chains = _Chains(heads)
    for entry in entries:
        broken = chains.follow(entry)
        if broken is not None:
            return broken
    return chains.end()


class _Chains:
    """The chain of each writer, as far as it was followed."""

    def __init__(self, heads: Mapping[str, tuple[int, str]] | tuple[int, str] | None) -> None:
        self._only = heads if isinstance(heads, tuple) else None
        self._heads = dict(heads) if heads is not None and not isinstance(heads, tuple) else {}
        self._known: dict[str, tuple[int, str]] = {}

    def follow(self, entry: Entry) -> Broken | None:
        """What is wrong with *entry*, which comes next."""
        writer = entry.writer
        seq, last = self._known.get(writer, (0, GENESIS))
        if not self._known and self._only is not None:
            self._heads[writer] = self._only
        if not seq and self._known and (entry.seq > 1 or self._unheard_of(writer)):
            before = f"does not follow {entry.seq - 1}: nothing before it is by {writer!r:.80}"
            return Broken(entry.seq, f"entry {entry.seq} {before}")
        broken = _compare(entry, seq + 1, last, self._name)
        if broken is not None:
            return broken
        self._known[writer] = (entry.seq, entry.hash)
        head = self._heads.get(writer)
        if head is not None and entry.seq == head[0] and entry.hash != head[1]:
            name = self._name(writer, entry.seq)
            return Broken(
                entry.seq, f"{name} is not the one on record, whose hash is {head[1][:16]}…"
            )
        return None

    def _unheard_of(self, writer: str) -> bool:
        """Whether it is known who wrote, and *writer* is none of them."""
        return bool(self._heads) and writer not in self._heads

    def end(self) -> Broken | None:
        """What is missing at the end."""
        heads = self._heads or ({"": self._only} if self._only is not None else {})
        for writer, (number, _) in sorted(heads.items()):
            seq = self._known.get(writer, (0, ""))[0]
            if number > seq:
                name = self._name(writer, seq + 1)
                missing = f"{name} is missing, and so is all up to {number}, the last one on record"
                return Broken(seq + 1, missing)
        return None

    def _name(self, writer: str, seq: int) -> str:
        several = len(self._heads) > 1 or len(self._known.keys() | {writer}) > 1
        return f"entry {seq} of writer {writer}" if several else f"entry {seq}"


def _compare(
    entry: Entry, expected: int, last: str, name: Callable[[str, int], str]
) -> Broken | None:
    writer, before = entry.writer, expected - 1
    if entry.seq > expected:
        missing = f"{name(writer, expected)} is missing: after {before} comes {entry.seq}"
        return Broken(expected, missing)
    this = name(writer, entry.seq)
    if entry.seq < expected:
        return Broken(entry.seq, f"{this} is out of order: it comes after {before}")
    if entry.hash != link(entry.prev, writer, entry.seq, entry.body):
        return Broken(entry.seq, f"{this} was changed: its content does not give its hash")
    if entry.prev != last:
        return Broken(entry.seq, f"{this} does not follow {before}: one of the two was replaced")
    return None


def exported(entries: Iterable[Entry]) -> Iterator[str]:
    """The entries as JSON lines, without line ends."""
    for entry in entries:
        yield (
            f'{{"entry":{entry.body},"hash":"{entry.hash}","prev":"{entry.prev}",'
            f'"seq":{entry.seq},"writer":{json.dumps(entry.writer)}}}'
        )


class Journal:
    """The journal of a ledger: iterate over it, verify it, export it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._ledger.entries())

    def after(self, seq: int) -> Iterator[Entry]:
        """The entries behind the one with the number *seq*."""
        return iter(self._ledger.entries(seq))

    def tail(self, count: int = 20) -> list[Entry]:
        """The last *count* entries, oldest first."""
        end, back = self.head()[0], count
        while True:  # places may have gaps, where a ledger has several writers
            found = list(self._ledger.entries(max(0, end - back)))
            if len(found) >= count or back >= end:
                return found[-count:] if count > 0 else []
            back *= 4

    def head(self) -> tuple[int, str]:
        """Number and hash of the last entry: export it, and keep it somewhere else."""
        return self._ledger.head()

    def verify(self) -> Broken | None:
        """The first changed, missing or reordered entry; None if every writer's chain is whole."""
        seen: dict[str, int] = {}

        def read() -> Iterator[Entry]:
            for entry in self._ledger.entries():
                seen[entry.writer] = entry.seq
                yield entry

        heads = self._ledger.heads()
        broken = verify(read(), heads)
        known = self._ledger.heads()  # once more: others may have written meanwhile
        if broken is not None:
            return broken if known.keys() == heads.keys() else self.verify()  # a writer came up
        for writer, last in seen.items():
            end = known.get(writer, (0, ""))[0]
            if last > end:
                beyond = f"entry {end + 1} is beyond the last one on record, {end}"
                return Broken(end + 1, beyond)
        return None

    def export(self) -> Iterator[str]:
        """The entries as JSON lines, without line ends."""
        return exported(self)
