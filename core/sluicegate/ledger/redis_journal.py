"""
The journal of one namespace on a server: reading it, and shortening it.

Entries are in a stream, by their place in the order of the commits. Those that were taken
out of it and are still referred to are in a hash, by number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from ..errors import LedgerError
from ..journal import GENESIS, Entry
from .redis_books import WRITER

__all__ = ["PAGE", "Keys", "RedisJournal", "named"]

PAGE: Final = 256
"""So many entries are read at once: the server does nothing else meanwhile."""

_NAMES: Final = ("meta", "cells", "permits", "journal", "index", "kept")

_REFUSED: Final = {
    "split": "the entries to remove are not the oldest of the journal",
    "all": "the entries to remove are all that the journal has",
    "gone": "it does not have this ledger any more",
    "lost": "it has lost decisions that it had acknowledged: docs/redis.md, After a loss",
}


class Keys(NamedTuple):
    """Where a namespace has what. The first five are those of commit.lua."""

    meta: str
    cells: str
    permits: str
    journal: str
    places: str
    kept: str

    @classmethod
    def of(cls, namespace: str) -> Keys:
        """All under one hash tag: a commit is one step on one node."""
        return cls(*(f"{{sluicegate:{namespace}}}:{name}" for name in _NAMES))

    def kinds(self) -> dict[str, str]:
        """The type of each."""
        kinds = ("hash", "hash", "hash", "stream", "hash", "hash")
        return dict(zip(self, kinds, strict=True))


class RedisJournal:
    """*read* sends a command and *trim* runs trim.lua; both raise LedgerError."""

    def __init__(
        self,
        label: str,
        keys: Keys,
        read: Callable[..., Any],
        trim: Callable[[Sequence[str], Sequence[str]], bytes],
    ) -> None:
        self._label = label
        self._keys = keys
        self._read = read
        self._trim = trim

    def entries(self, after: int) -> Iterator[Entry]:
        """
        The entries in the order of their commits, behind the first *after*.

        Raises LedgerError if entries that come next are removed meanwhile.
        """
        names = _Names(self._meta())
        begin = place = max(0, after - names.shift)
        while page := self._page(place + 1):
            if place > begin and _place(page[0]) > place + 1 and self._removed(place + 1):
                raise LedgerError(
                    f"{self._label}: entries of the journal were removed while they were read; "
                    "read it again"
                )
            for _, fields in page:
                yield names.entry(int(fields[1]), *fields[3::2])
            place = _place(page[-1])

    def body(self, number: int) -> str:
        """The body of the entry with this number, also of one that was kept."""
        place = self._read("HGET", self._keys.places, str(number))
        found = place and self._read("XRANGE", self._keys.journal, place, place)
        if found:
            text: bytes = found[0][1][7]
            return text.decode()
        kept = self._read("HGET", self._keys.kept, str(number))  # perhaps only just
        if kept is None:
            raise LedgerError(f"{self._label} has no entry {number} in its journal (any more)")
        return _parts(kept)[2].decode()

    def head(self) -> tuple[int, str]:
        """How many entries there were so far, and the hash of the last."""
        count, last, shift = self._read("HMGET", self._keys.meta, "count", "head", "shift")
        if count is None:
            return 0, GENESIS
        return int(count) + int(shift or 0), last.decode().partition(" ")[2]

    def heads(self) -> dict[str, tuple[int, str]]:
        """Number within its chain and hash of each writer's last entry, by the writer's name."""
        names = _Names(self._meta())
        return {names.of(writer): head for writer, head in names.heads.items()}

    def writers(self) -> dict[str, int]:
        """The number of each writer, by name."""
        names = _Names(self._meta())
        return {names.of(writer): writer for writer in names.heads}

    # --- shortening ---

    def trim(self, upto: Mapping[str, int], keep: Collection[int], floor: int) -> None:
        """
        Take each writer's entries up to that number out of the journal, and keep *keep* of them.

        *floor* is the latest time known here: a server that does not know it has lost something.
        """
        meta = self._meta()
        names = _Names(meta)
        writers = {names.of(writer): writer for writer in names.heads}
        numbers: list[int] = []
        for name, seq in upto.items():
            writer = writers.get(name)
            if writer is None:
                raise LedgerError(f"{self._label} has no writer {name!r:.80} in its journal")
            if seq > names.heads[writer][0]:
                raise LedgerError(
                    f"{self._label}: entry {seq} of writer {name} to remove up to is not there; "
                    f"its last is {names.heads[writer][0]}"
                )
            numbers += self._up_to((writer << WRITER) + seq, writer << WRITER)
        if numbers:
            kept = set(keep).intersection(numbers)
            self._remove(meta, floor, kept, set(numbers) - kept, ())

    def kept(self) -> Iterator[tuple[int, Entry]]:
        """The entries that were kept, with their numbers, in the order of these."""
        found: set[int] = set()
        cursor = b"0"
        while True:  # the server has no order for them, and its page may be any size
            cursor, page = self._read("HSCAN", self._keys.kept, cursor, "COUNT", PAGE)
            found.update(map(int, page[::2]))
            if cursor == b"0":
                break
        names = _Names(self._meta())
        rest = iter(sorted(found))
        while some := list(islice(rest, PAGE)):
            for number, raw in zip(
                some, self._read("HMGET", self._keys.kept, *map(str, some)), strict=True
            ):
                if raw is not None:  # else it was forgotten meanwhile
                    yield number, names.entry(number, *_parts(raw))

    def forget(self, numbers: Collection[int], floor: int) -> None:
        """Remove these kept entries for good."""
        if numbers:
            self._remove(self._meta(), floor, (), (), numbers)

    # --- below ---

    def _up_to(self, last: int, before: int) -> list[int]:
        """The numbers of one writer's entries that are in the journal, from *last* down."""
        found: list[int] = []
        while last > before:
            some = range(last, max(last - PAGE, before), -1)
            places = self._read("HMGET", self._keys.places, *map(str, some))
            found += [number for number, place in zip(some, places, strict=True) if place]
            if None in places:
                break
            last -= PAGE
        return found

    def _remove(self, meta: dict[str, str], floor: int, *numbers: Collection[int]) -> None:
        arguments = [meta.get("id", ""), str(floor), *(str(len(some)) for some in numbers)]
        arguments += (str(number) for some in numbers for number in some)
        keys = self._keys
        said = self._trim((keys.meta, keys.journal, keys.places, keys.kept), arguments).decode()
        if said != "ok":
            raise LedgerError(f"{self._label}: {_REFUSED[said]}; nothing was removed")

    def _page(self, place: int) -> list[Any]:
        page: list[Any] = self._read("XRANGE", self._keys.journal, str(place), "+", "COUNT", PAGE)
        return page

    def _removed(self, place: int) -> bool:
        """Whether all up to this place has gone: where only some has, `verify` says which."""
        oldest = self._read("XRANGE", self._keys.journal, "-", "+", "COUNT", 1)
        return not oldest or _place(oldest[0]) > place

    def _meta(self) -> dict[str, str]:
        raw = self._read("HGETALL", self._keys.meta)
        return {a.decode(): b.decode() for a, b in zip(raw[::2], raw[1::2], strict=True)}


class _Names:
    """What writers are called, and where their chains end; one from another ledger keeps its name."""

    def __init__(self, meta: Mapping[str, str]) -> None:
        self._meta = meta
        self._ledger = meta.get("id", "")
        self.shift = int(meta.get("shift", 0))
        self.heads: dict[int, tuple[int, str]] = {}
        for field, record in meta.items():
            if field[0] == "w" and field[1:].isdecimal():
                _, seq, last = record.split(" ")
                self.heads[int(field[1:])] = int(seq), last

    def of(self, writer: int) -> str:
        return self._meta.get(f"n{writer}") or named(self._ledger, writer)

    def entry(self, number: int, prev: bytes, last: bytes, body: bytes) -> Entry:
        seq = number & ((1 << WRITER) - 1)
        return Entry(seq, self.of(number >> WRITER), prev.decode(), last.decode(), body.decode())


def named(ledger: str, writer: int) -> str:
    """What a writer of this ledger is called."""
    return f"{ledger}.{writer}"


def _place(row: Sequence[bytes]) -> int:
    return int(row[0].partition(b"-")[0])


def _parts(kept: bytes) -> list[bytes]:
    """Hash before, own hash and body."""
    parts = kept.split(b" ", 2)
    if len(parts) != 3:
        raise LedgerError(f"a ledger on Redis kept an entry that no ledger wrote: {kept[:60]!r}")
    return parts
