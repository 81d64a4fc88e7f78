"""Looking at a ledger: its cells, permits and journal, each page in a transaction of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any, Final

import psycopg

from ...claims import Cell
from ...errors import LedgerError
from ...journal import GENESIS, Entry
from ..base import Out
from .address import Address
from .line import Late, Line, connected, trouble
from .locks import kept, restored
from .statement import Statement, identifier

__all__ = ["Reading"]

PAGE: Final = 500
"""So many rows are read at once."""

PAGES: Final = 20
"""What is kept has no order of its own, so finding what comes next is for so many pages."""

_CELL: Final = "SELECT cell FROM {ns}.cells WHERE key = %s"
_LOOK: Final = "SELECT key, cell FROM {ns}.cells WHERE key = ANY (%s::text[])"
_CELLS: Final = """
SELECT key, cell FROM {ns}.cells WHERE key >= %s AND key > %s AND starts_with(key, %s)
ORDER BY key LIMIT %s
"""
_OUT: Final = "SELECT id, expires, entry FROM {ns}.permits ORDER BY id"
_BODY: Final = "SELECT body FROM {ns}.journal WHERE number = %s"
_KEPT_NUMBERS: Final = """
SELECT number FROM {ns}.journal WHERE position < 0 AND number > %s ORDER BY number LIMIT %s
"""
_KEPT: Final = """
SELECT j.number, j.number & 4294967295, w.name, j.prev, j.hash, j.body
FROM {ns}.journal j JOIN {ns}.writers w ON w.number = j.number >> 32
WHERE j.position < 0 AND j.number = ANY (%s::bigint[]) ORDER BY j.number
"""
_SETTLED: Final = "SELECT {ns}.settled()"
_ENTRIES: Final = """
SELECT j.position, j.number & 4294967295, w.name, j.prev, j.hash, j.body
FROM {ns}.journal j JOIN {ns}.writers w ON w.number = j.number >> 32
WHERE j.position > %s AND j.position <= %s ORDER BY j.position LIMIT %s
"""
_HEAD: Final = """
SELECT position, hash FROM {ns}.journal
WHERE position > 0 AND position <= %s ORDER BY position DESC LIMIT 1
"""
# What a writer says of itself, or if there are entries that readers cannot see yet, what was before.
_HEADS: Final = """
SELECT w.name, coalesce((j.number & 4294967295) - 1, w.seq), coalesce(j.prev, w.hash)
FROM {ns}.writers w
LEFT JOIN (
    SELECT number >> 32 AS writer, min(number) AS number
    FROM {ns}.journal WHERE position > %s GROUP BY number >> 32
) unseen ON unseen.writer = w.number
LEFT JOIN {ns}.journal j ON j.number = unseen.number
WHERE coalesce((j.number & 4294967295) - 1, w.seq) > 0 ORDER BY w.number
"""
_WRITERS: Final = "SELECT name, number FROM {ns}.writers WHERE seq > 0 ORDER BY number"
_FLOOR: Final = "SELECT coalesce(max(floor), 0) FROM {ns}.writers"


class Reading:
    """One connection for whoever reads; all methods raise LedgerError."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._guard = Lock()
        self._line: Line | None = None
        self._closed = False
        self._end = 0
        self._say: dict[str, Statement] = {}

    def cell(self, key: str) -> Cell:
        """One cell, as it is now."""
        found = self.rows(_CELL, kept(key))
        return tuple(json.loads(found[0][0])) if found else None

    def look(self, keys: Sequence[str]) -> list[Cell]:
        """Several cells, as they are at one time."""
        names = [kept(key) for key in keys]
        found = {name: tuple(json.loads(cell)) for name, cell in self.rows(_LOOK, names)}
        return [found.get(name) for name in names]

    def cells(self, prefix: str) -> Iterator[tuple[str, Sequence[Any]]]:
        """The cells whose key begins with *prefix*; each page of them as it is when it is read."""
        first, after = kept(prefix), ""
        while found := self.rows(_CELLS, first, after, first, PAGE):
            yield from ((restored(key), tuple(json.loads(cell))) for key, cell in found)
            after = found[-1][0]

    def out(self) -> list[Out]:
        """All permits that are out."""
        return [Out(restored(row[0]), row[1], row[2]) for row in self.rows(_OUT)]

    def body(self, number: int) -> str:
        """The body of one journal entry."""
        found = self.rows(_BODY, number)
        if not found:
            raise LedgerError(f"the journal has no entry {number}; see `sluicegate journal verify`")
        body: str = found[0][0]
        return body

    def entries(self, after: int) -> Iterator[Entry]:
        """The journal behind the position *after*, as far as it is complete."""
        after = max(0, after)
        while True:
            end = self._complete()
            while found := self.rows(_ENTRIES, after, end, PAGE):
                yield from (Entry(*row[1:]) for row in found)
                after = found[-1][0]
            if self._complete() == end:
                return

    def kept(self) -> Iterator[tuple[int, Entry]]:
        """The entries that were taken out of the journal and kept, with their numbers, by these."""
        after = -1
        while found := self.rows(_KEPT_NUMBERS, after, PAGES * PAGE):
            numbers = [number for (number,) in found]
            for first in range(0, len(numbers), PAGE):
                for row in self.rows(_KEPT, numbers[first : first + PAGE]):
                    yield row[0], Entry(*row[1:])
            after = numbers[-1]

    def head(self) -> tuple[int, str]:
        """Position and hash of the last entry."""
        found = self.rows(_HEAD, self._complete())
        return (found[0][0], found[0][1]) if found else (0, GENESIS)

    def heads(self) -> dict[str, tuple[int, str]]:
        """By writer: number and hash of its last entry, as far as the journal is complete."""
        found = self.rows(_HEADS, self._complete())
        return {name: (seq, last) for name, seq, last in found}

    def writers(self) -> dict[str, int]:
        """The number of each writer that has made an entry, by name."""
        return dict(self.rows(_WRITERS))

    def floor(self) -> int:
        """The latest time that any writer has seen."""
        ((floor,),) = self.rows(_FLOOR)
        found: int = floor
        return found

    def rows(self, text: str, *given: Any) -> list[tuple[Any, ...]]:
        """
        What the server finds for *text*, which means the same if it is asked twice; `{ns}` in it
        is the namespace.
        """
        if not self._guard.acquire(timeout=self._address.timeout):
            raise LedgerError(
                f"the ledger {self._address} cannot be read: others have been reading for "
                f"{self._address.timeout:g} s"
            )
        try:
            while True:
                old = self._line is not None
                try:
                    return self._asked(text, given)
                except psycopg.Error as error:
                    lost = self._line is None or self._line.broken
                    self._drop()  # it may be in a transaction that failed
                    if not (old and lost) or isinstance(error, Late):
                        raise trouble(self._address, error) from error
                except BaseException:
                    self._drop()
                    raise
        finally:
            self._guard.release()

    def close(self) -> None:
        """Let go of the connection."""
        with self._guard:
            self._closed = True
            self._drop()

    def in_child(self) -> Line | None:
        """Begin anew in the child of a fork; the connection is its parent's."""
        line, self._line, self._guard = self._line, None, Lock()
        return line

    # --- below ---

    def _complete(self) -> int:
        """The position up to which the journal is complete: once it is, it stays so."""
        ((end,),) = self.rows(_SETTLED)
        self._end = max(self._end, end)
        return self._end

    def _asked(self, text: str, given: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._closed:
            raise LedgerError(f"the ledger {self._address} is closed; open it again")
        if self._line is None:
            self._line = connected(self._address)
        self._line.until = time.monotonic() + self._address.timeout
        statement = self._say.get(text)
        if statement is None:
            name = identifier(self._address.namespace)
            statement = self._say[text] = Statement(text, ns=name)
        return self._line.rows(statement, *given)

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.drop()
