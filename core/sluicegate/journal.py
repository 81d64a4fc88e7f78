"""
The journal: one entry per decision and per outcome, each chained to the one before.

An entry's hash covers its body, its number, its writer and the hash of the entry
before it, so a changed, missing or reordered entry breaks the chain at its place.
Old entries may be moved to an archive; then an entry behind them says so, with the hash at
which the chain goes on (archiving.py). Honest limit: whoever owns the database can rebuild
an unsigned chain from the change on. Export the head from time to time, and keep it somewhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from .errors import LedgerError

if TYPE_CHECKING:
    from .ledger.base import Ledger

__all__ = [
    "GENESIS", "Broken", "Entry", "Journal", "archived", "exported", "imported", "link", "verify"
]  # fmt: skip

GENESIS: Final = "0" * 64
"""What stands before the first entry."""

_AT: Final = re.compile(r'\{"at":(-?[0-9]{1,19}),')
_LINE: Final = re.compile(
    r'\{"entry":(\{.*\}),"hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","seq":([0-9]{1,18}),'
    r'"writer":("(?:[^"\\]|\\.)*")\}'
)


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
    def at(self) -> int:
        """When it was written, in µs since 1970 UTC. Raises LedgerError for what no ledger wrote."""
        time = _AT.match(self.body)
        if time is None:
            raise LedgerError(f"entry {self.seq} does not begin with its time: no ledger wrote it")
        return int(time[1])

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

    A chain may begin later than with its first entry where an entry of the kind "archived", before
    or behind it, says that those before were moved to an archive.
    """
    chains, rest = _Chains(heads), iter(entries)
    for entry in rest:
        broken = chains.follow(entry)
        if broken is not None:
            return chains.unvouched(rest) or broken
    return chains.end()


_ARCHIVED: Final = '"kind":"archived"'


def archived(entry: Entry) -> dict[str, tuple[int, str]]:
    """
    By writer: number and hash of the last entry that was moved to an archive, as *entry* says.

    Raises LedgerError if it says so in no readable way.
    """
    if _ARCHIVED not in entry.body:
        return {}
    try:
        content = entry.content
        if content.get("kind") != "archived":
            return {}
        upto = {writer: (seq, last) for writer, (seq, last) in content["upto"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        upto = {"": (0, GENESIS)}
    if all(type(s) is int and s > 0 and type(last) is str for s, last in upto.values()):
        return upto
    raise LedgerError(f"entry {entry.seq} says in no readable way what was archived")


class _Chains:
    """The chain of each writer, as far as it was followed."""

    def __init__(self, heads: Mapping[str, tuple[int, str]] | tuple[int, str] | None) -> None:
        self._only = heads if isinstance(heads, tuple) else None
        self._heads = dict(heads) if heads is not None and not isinstance(heads, tuple) else {}
        self._known: dict[str, tuple[int, str]] = {}
        self._begun: dict[str, int] = {}
        self._late: dict[str, tuple[int, str, Broken]] = {}
        """Chains that begin late: after which entry, and what is wrong if nothing vouches for that."""
        self._archived: dict[str, tuple[int, str]] = {}

    def follow(self, entry: Entry) -> Broken | None:
        """What is wrong with *entry*, which comes next."""
        writer = entry.writer
        if not self._known and self._only is not None:
            self._heads[writer] = self._only
        if writer not in self._known:
            broken = self._begin(entry)
            if broken is not None:
                return broken
        seq, last = self._known[writer]
        broken = _compare(entry, seq + 1, last, self._name)
        if broken is not None:
            return broken
        self._known[writer] = (entry.seq, entry.hash)
        return self._is_on_record(writer, entry.seq, entry.hash) or self._heed(entry)

    def _begin(self, entry: Entry) -> Broken | None:
        """A writer comes up for the first time."""
        writer, before = entry.writer, entry.seq - 1
        if self._known and self._unheard_of(writer):
            return self._from_nowhere(entry)
        if before > 0 and self._archived.get(writer) != (before, entry.prev):
            late = self._from_nowhere(entry) if self._known else Broken(
                1, f"{self._name(writer, 1)} is missing: after 0 comes {entry.seq}"
            )  # fmt: skip
            self._late[writer] = before, entry.prev, late
        self._known[writer] = (before, entry.prev) if before > 0 else (0, GENESIS)
        self._begun[writer] = max(before, 0)
        return self._is_on_record(writer, before, entry.prev)

    def _from_nowhere(self, entry: Entry) -> Broken:
        before = f"does not follow {entry.seq - 1}: nothing before it is by {entry.writer!r:.80}"
        return Broken(entry.seq, f"entry {entry.seq} {before}")

    def _is_on_record(self, writer: str, seq: int, last: str) -> Broken | None:
        head = self._heads.get(writer)
        if head is None or seq != head[0] or last == head[1]:
            return None
        name = self._name(writer, seq)
        return Broken(seq, f"{name} is not the one on record, whose hash is {head[1][:16]}…")

    def _heed(self, entry: Entry) -> Broken | None:
        """Note which entries *entry* says were archived."""
        try:
            said = archived(entry)
        except LedgerError as error:
            return Broken(entry.seq, str(error))
        for writer, place in said.items():
            if self._late.get(writer, ())[:2] == place:
                del self._late[writer]
            self._archived[writer] = max(place, self._archived.get(writer, place))
        return None

    def _unheard_of(self, writer: str) -> bool:
        """Whether it is known who wrote, and *writer* is none of them."""
        return bool(self._heads) and writer not in self._heads

    def unvouched(self, rest: Iterable[Entry]) -> Broken | None:
        """What is missing at the beginning, if nothing in the *rest* even claims to vouch for it."""
        if self._late:
            for entry in rest:
                self._heed(entry)
        return next((late for _, _, late in self._late.values()), None)

    def end(self) -> Broken | None:
        """What is missing at the beginning, or at the end."""
        late = self.unvouched(())
        if late is not None:
            return late
        heads = self._heads or ({"": self._only} if self._only is not None else {})
        for writer, (number, _) in sorted(heads.items()):
            moved = self._archived.get(writer, (0, GENESIS))
            seq = self._known.get(writer, moved)[0]
            if number > seq:
                name = self._name(writer, seq + 1)
                missing = f"{name} is missing, and so is all up to {number}, the last one on record"
                return Broken(seq + 1, missing)
            if number < self._begun.get(writer, moved[0]):
                name = self._name(writer, number)
                return Broken(
                    number, f"{name}, which is on record, was archived: verify the archive with it"
                )
            broken = None if writer in self._known else self._is_on_record(writer, *moved)
            if broken is not None:
                return broken
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


class _Seen:
    """The first entry that was read, and the number of the last of each writer."""

    def __init__(self) -> None:
        self.first: Entry | None = None
        self.last: dict[str, int] = {}

    def all(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self.first = self.first or entry
            self.last[entry.writer] = entry.seq
            yield entry


def imported(lines: Iterable[str], source: str) -> Iterator[Entry]:
    """The entries of lines that `exported` has made. Raises LedgerError, which names *source*."""
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line.rstrip("\r\n"))
        writer = None if found is None else _unquoted(found[5])
        if found is None or writer is None:
            raise LedgerError(
                f"{source}: line {number} is no journal entry as it was exported; "
                "give the file that `sluicegate journal export` wrote, unchanged"
            )
        yield Entry(int(found[4]), writer, found[3], found[2], found[1])


def _unquoted(name: str) -> str | None:
    """A writer's name, if it is one: half of a surrogate pair cannot be hashed."""
    try:
        read: str = json.loads(name)
        read.encode()
    except ValueError:
        return None
    return read


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
        heads, seen = self._ledger.heads(), _Seen()
        broken = verify(seen.all(self._ledger.entries()), heads)
        known = self._ledger.heads()  # once more: others may have written meanwhile
        if broken is not None:
            # Unless a writer came up, or the oldest entries were archived while we were reading.
            first = next(iter(self._ledger.entries()), None)
            calm = known.keys() == heads.keys() and (first is None or first == seen.first)
            return broken if calm else self.verify()
        for writer, last in seen.last.items():
            end = known.get(writer, (0, ""))[0]
            if last > end:
                beyond = f"entry {end + 1} is beyond the last one on record, {end}"
                return Broken(end + 1, beyond)
        return None

    def export(self) -> Iterator[str]:
        """The entries as JSON lines, without line ends."""
        return exported(self)
