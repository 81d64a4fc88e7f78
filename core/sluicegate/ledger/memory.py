"""A ledger in memory: for tests, and for agents whose limits may die with the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any

from ..claims import Cell
from ..errors import LedgerError
from ..journal import GENESIS, Entry, link
from .base import Answer, Out, Request
from .holdings import Holdings, chained, sole_writer
from .meaning import perform

__all__ = ["MemoryLedger"]


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
        journal = self._books.journal
        while after < len(journal):
            yield Entry(*journal[after])
            after += 1

    def body(self, entry: int) -> str:
        return self._books.body(entry)

    def head(self) -> tuple[int, str]:
        with self._lock:
            return len(self._books.journal), self._books.last

    def heads(self) -> dict[str, tuple[int, str]]:
        return {self._books.writer: self.head()}

    def writers(self) -> dict[str, int]:
        return {self._books.writer: 0}

    def restore(self, holdings: Holdings) -> None:
        """Have exactly *holdings*. Raises LedgerError if this ledger is not empty."""
        books = _MemoryBooks(sole_writer(holdings, "a ledger in memory"))
        for entry in chained(holdings.entries):
            books.journal.append((entry.seq, entry.writer, entry.prev, entry.hash, entry.body))
            books.last = entry.hash
        books.cells.update(holdings.cells)
        books.permits.update({out.permit: (out.expires, out.entry) for out in holdings.permits})
        books.floor = holdings.floor
        with self._lock:
            if self._books.journal:
                raise LedgerError("the ledger to copy to is not empty; name one that is new")
            self._books = books

    def close(self) -> None:
        """Nothing to release; the ledger stays usable."""


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
        self.journal: list[tuple[int, str, str, str, str]] = []
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
        return len(self.journal) + 1

    def append(self, at: int, rest: str) -> int:
        self.floor = at
        body = f'{{"at":{at},{rest}'
        seq = len(self.journal) + 1
        hashed = link(self.last, self.writer, seq, body)
        self.journal.append((seq, self.writer, self.last, hashed, body))
        self.last = hashed
        return seq

    def body(self, entry: int) -> str:
        return self.journal[entry - 1][4]
