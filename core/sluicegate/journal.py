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
from collections.abc import Iterable, Iterator
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


def verify(entries: Iterable[Entry], head: tuple[int, str] | None = None) -> Broken | None:
    """
    The first changed, missing or reordered entry; None if there is none.

    *head* is the number and hash of an entry as known from elsewhere, such as an
    earlier export; the journal may have gone on since. Without it, missing last
    entries do not show.
    """
    seq, last = 0, GENESIS
    for entry in entries:
        broken = _compare(entry, seq + 1, last)
        if broken is not None:
            return broken
        seq, last = entry.seq, entry.hash
        if head is not None and seq == head[0] and last != head[1]:
            return Broken(
                seq, f"entry {seq} is not the one on record, whose hash is {head[1][:16]}…"
            )
    if head is not None and head[0] > seq:
        return Broken(
            seq + 1,
            f"entry {seq + 1} is missing, and so is all up to {head[0]}, the last one on record",
        )
    return None


def _compare(entry: Entry, expected: int, last: str) -> Broken | None:
    if entry.seq > expected:
        return Broken(
            expected, f"entry {expected} is missing: after {expected - 1} comes {entry.seq}"
        )
    if entry.seq < expected:
        return Broken(
            entry.seq, f"entry {entry.seq} is out of order: it comes after {expected - 1}"
        )
    if entry.hash != link(entry.prev, entry.writer, entry.seq, entry.body):
        return Broken(
            entry.seq, f"entry {entry.seq} was changed: its content does not give its hash"
        )
    if entry.prev != last:
        return Broken(
            entry.seq,
            f"entry {entry.seq} does not follow {expected - 1}: one of the two was replaced",
        )
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
        return list(self._ledger.entries(max(0, self.head()[0] - count)))

    def head(self) -> tuple[int, str]:
        """Number and hash of the last entry: export it, and keep it somewhere else."""
        return self._ledger.head()

    def verify(self) -> Broken | None:
        """The first changed, missing or reordered entry; None if the chain is whole."""
        last = 0

        def read() -> Iterator[Entry]:
            nonlocal last
            for entry in self._ledger.entries():
                last = entry.seq
                yield entry

        broken = verify(read(), self.head())
        known = self.head()[0]
        if broken is None and last > known:
            return Broken(known + 1, f"entry {known + 1} is beyond the last one on record, {known}")
        return broken

    def export(self) -> Iterator[str]:
        """The entries as JSON lines, without line ends."""
        return exported(self)
