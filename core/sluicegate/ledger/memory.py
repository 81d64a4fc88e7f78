"""A ledger in memory: for tests, and for agents whose limits may die with the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

from ..claims import Cell
from ..journal import GENESIS, Entry, link
from .base import Answer, Request, perform

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

    def cells(self, prefix: str) -> list[tuple[str, Sequence[Any]]]:
        with self._lock:
            found = [(key, cell) for key, cell in self._books.cells.items() if key.startswith(prefix)]
        return sorted(found)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        entries = self._books.entries
        while after < len(entries):
            yield entries[after]
            after += 1

    def head(self) -> tuple[int, str]:
        with self._lock:
            return len(self._books.entries), self._books.last

    def close(self) -> None:
        """Nothing to release; the ledger stays usable."""


class _MemoryBooks:
    """Changes go in as they are made: `perform` makes none before it can make all."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.floor = 0
        self.cells: dict[str, Sequence[Any]] = {}
        self.permits: dict[str, int] = {}
        self.entries: list[Entry] = []
        self.last = GENESIS

    def cell(self, key: str) -> Cell:
        return self.cells.get(key)

    def put(self, key: str, cell: Cell) -> None:
        if cell is None:
            self.cells.pop(key, None)
        else:
            self.cells[key] = cell

    def permit(self, permit: str) -> int | None:
        return self.permits.get(permit)

    def put_permit(self, permit: str, expires: int | None, entry: int) -> None:
        if expires is None:
            self.permits.pop(permit, None)
        else:
            self.permits[permit] = expires

    def append(self, at: int, rest: str) -> int:
        self.floor = at
        body = f'{{"at":{at},{rest}'
        seq = len(self.entries) + 1
        hashed = link(self.last, self.writer, seq, body)
        self.entries.append(Entry(seq, self.writer, self.last, hashed, body))
        self.last = hashed
        return seq

    def body(self, entry: int) -> str:
        return self.entries[entry - 1].body
