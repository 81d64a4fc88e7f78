"""A ledger in memory: for tests, and for agents whose limits may die with the process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Final, TypeAlias

from ..claims import Cell
from ..errors import LedgerError
from ..journal import GENESIS, Entry, link
from .base import Answer, Out, Request
from .holdings import Holdings, chained, seq_of_sole, sole_writer
from .meaning import perform

__all__ = ["MemoryLedger"]

PAGE: Final = 256
"""So many entries are read under the lock at once."""

_Row: TypeAlias = tuple[int, str, str, str, str]
"""An `Entry` as an exact tuple."""


class MemoryLedger:
    """
    Cells, permits and journal of one process, under one lock.

    Nothing in it blocks for long, so it runs inline on an event loop too.
    """

    def __init__(self, *, writer: str = "memory") -> None:
        self._books = _MemoryBooks(writer)
        self._lock = Lock()

    @property
    def floor(self) -> int:
        return self._books.floor

    def perform(self, request: Request) -> Answer:
        with self._lock:
            return perform(request, self._books)

    async def aperform(self, request: Request) -> Answer:
        return self.perform(request)

    def cell(self, key: str) -> Cell:
        with self._lock:
            return self._books.cell(key)

    def look(self, keys: Sequence[str]) -> list[Cell]:
        """Several cells, in the order of their keys."""
        with self._lock:
            return [self._books.cell(key) for key in keys]

    def out(self) -> list[Out]:
        with self._lock:
            return [Out(permit, *kept) for permit, kept in self._books.permits.items()]

    def cells(self, prefix: str) -> list[tuple[str, Sequence[Any]]]:
        with self._lock:
            found = [
                (key, cell) for key, cell in self._books.cells.items() if key.startswith(prefix)
            ]
        return sorted(found)

    def walk(self) -> list[tuple[str, Sequence[Any]]]:
        """All cells in no particular order."""
        with self._lock:
            return list(self._books.cells.items())

    def entries(self, after: int = 0) -> Iterator[Entry]:
        while True:
            with self._lock:
                page = self._books.page(after)
            if not page:
                return
            for row in page:
                yield Entry(*row)
            after = page[-1][0]

    def body(self, entry: int) -> str:
        with self._lock:
            return self._books.body(entry)

    def head(self) -> tuple[int, str]:
        with self._lock:
            return self._books.seq, self._books.last

    def heads(self) -> dict[str, tuple[int, str]]:
        return {self._books.writer: self.head()}

    def writers(self) -> dict[str, int]:
        return {self._books.writer: 0}

    def restore(self, holdings: Holdings) -> None:
        """Have exactly *holdings*. Raises LedgerError if this ledger is not empty."""
        books = _MemoryBooks(sole_writer(holdings, "a ledger in memory"))
        books.journal += map(_row, chained(holdings.entries))
        books.kept.update((number, _row(entry)) for number, entry in holdings.kept)
        books.seq, books.last = holdings.heads[books.writer]
        books.cells.update(holdings.cells)
        books.permits.update({out.permit: (out.expires, out.entry) for out in holdings.permits})
        books.floor = holdings.floor
        with self._lock:
            if self._books.seq:
                raise LedgerError("the ledger to copy to is not empty; name one that is new")
            self._books = books

    def trim(self, upto: Mapping[str, int], keep: Collection[int]) -> None:
        """Remove the oldest entries; those in *keep* can still be found by `body`."""
        with self._lock:
            self._books.trim(seq_of_sole(upto, self._books.writer, self._books.seq), keep)

    def kept(self) -> Iterator[tuple[int, Entry]]:
        with self._lock:
            kept = sorted(self._books.kept.items())
        return ((number, Entry(*row)) for number, row in kept)

    def forget(self, numbers: Collection[int]) -> None:
        with self._lock:
            for number in numbers:
                self._books.kept.pop(number, None)

    def close(self) -> None:
        """Nothing to release; the ledger stays usable."""


def _row(entry: Entry) -> _Row:
    return (entry.seq, entry.writer, entry.prev, entry.hash, entry.body)


class _MemoryBooks:
    """
    Changes go in as they are made: `perform` makes none before it can make all.

    Cells and entries are exact tuples, which the garbage collector stops looking
    at: a decision does not cost more because many were made before.
    """

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.floor = 0
        self.cells: dict[str, Sequence[Any]] = {}
        self.permits: dict[str, tuple[int, int]] = {}
        self.journal: list[_Row] = []  # ends with the entry seq
        self.kept: dict[int, _Row] = {}
        self.seq = 0
        self.last = GENESIS
        self.cell: Callable[[str], Cell] = self.cells.get
        self.permit: Callable[[str], tuple[int, int] | None] = self.permits.get

    def put(self, key: str, cell: Cell) -> None:
        if cell is None:
            self.cells.pop(key, None)
        else:
            self.cells[key] = cell

    def put_permit(self, permit: str, out: tuple[int, int] | None) -> None:
        if out is None:
            self.permits.pop(permit, None)
        else:
            self.permits[permit] = out

    @property
    def next(self) -> int:
        return self.seq + 1

    def append(self, at: int, rest: str) -> int:
        self.floor = at
        body = f'{{"at":{at},{rest}'
        seq = self.seq + 1
        hashed = link(self.last, self.writer, seq, body)
        self.journal.append((seq, self.writer, self.last, hashed, body))
        self.seq, self.last = seq, hashed
        return seq

    def body(self, entry: int) -> str:
        row = self.kept.get(entry)
        if row is None:
            place = entry - 1 - self._gone
            if not 0 <= place < len(self.journal):
                raise LedgerError(f"the journal has no entry {entry} (any more)")
            row = self.journal[place]
        return row[4]

    def page(self, after: int) -> list[_Row]:
        """Some entries behind the number *after*."""
        first = max(0, after - self._gone)
        return self.journal[first : first + PAGE]

    def trim(self, upto: int, keep: Collection[int]) -> None:
        count = max(0, upto - self._gone)
        self.kept.update((row[0], row) for row in self.journal[:count] if row[0] in keep)
        del self.journal[:count]

    @property
    def _gone(self) -> int:
        """So many entries were trimmed."""
        return self.seq - len(self.journal)
