"""
The books of a SQLite ledger: its state within a transaction, and what is known of it in between.

The journal in the file says what each transaction changed since the last fold (schema.sql
says why). These books keep the same changes in memory, whoever made them. A key that is
not among them has not changed since the fold: what `cells` says about it holds, and may
be kept. So other processes cost us the reading of their changes, not of everything.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final, TypeAlias, cast

from ..claims import Cell
from ..errors import LedgerError
from ..journal import Entry, link
from .base import Answer, Out, Request
from .holdings import Holdings, chained
from .meaning import perform

__all__ = ["SqliteBooks"]

KEPT: Final = 20_000
"""So many cells and permits stay in memory over a fold, at some 300 bytes each."""

PAGE: Final = 256
"""So many rows are read at once: a reader that lingers keeps checkpoints from finishing."""

Permit: TypeAlias = tuple[int, int]
"""When the lease ends (0: settled as unknown), and the decision's entry."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_ABSENT: Final[Any] = object()


class SqliteBooks:
    """
    The state of one ledger file, seen through *connection*. *known* are the number and
    hash of an entry that must be there, and the name of who wrote it, if that is known.

    All methods but `perform` let errors pass as they come. After one the books are
    worthless: throw them away together with the connection.
    """

    def __init__(self, connection: sqlite3.Connection, known: tuple[int, str, str]) -> None:
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self._version = -1  # SQLite's count of the commits of other connections
        self._cells: dict[str, Cell] = {}
        self._permits: dict[str, Permit | None] = {}
        # What this transaction has changed, …
        self._rows: list[tuple[int, str, str, str]] = []
        self._changed_cells: dict[str, Cell] = {}
        self._changed_permits: dict[str, Permit | None] = {}
        self._undo: list[tuple[dict[str, Any], str, Any]] = []
        # … and what others have since the fold.
        self._unfolded_cells: dict[str, Cell] = {}
        self._unfolded_permits: dict[str, Permit | None] = {}
        self.folded: int = -1
        self.bulk = 0  # characters of journal that we wrote since the fold
        self.seq: int
        self.last: str
        self.writer: str
        self.seq, self.last, self.writer = known
        self.floor: int = 0

    # --- for `perform`: see Books in base.py ---

    def cell(self, key: str) -> Cell:
        cell: Cell = self._cells.get(key, _ABSENT)
        if cell is _ABSENT:
            row = self._execute("SELECT cell FROM cells WHERE key = ?", (key,)).fetchone()
            cell = self._cells[key] = None if row is None else tuple(json.loads(row[0]))
        return cell

    def put(self, key: str, cell: Cell) -> None:
        self._undo.append((self._cells, key, self.cell(key)))
        self._cells[key] = self._changed_cells[key] = cell

    def permit(self, permit: str) -> Permit | None:
        known: Permit | None = self._permits.get(permit, _ABSENT)
        if known is _ABSENT:
            query = "SELECT expires, entry FROM permits WHERE id = ?"
            known = self._permits[permit] = self._execute(query, (permit,)).fetchone()
        return known

    def put_permit(self, permit: str, out: Permit | None) -> None:
        self._undo.append((self._permits, permit, self.permit(permit)))
        self._permits[permit] = self._changed_permits[permit] = out

    @property
    def next(self) -> int:
        return self.seq + 1

    def append(self, at: int, rest: str) -> int:
        body = f'{{"at":{at},{rest}'
        seq = self.seq + 1
        hashed = link(self.last, self.writer, seq, body)
        self._rows.append((seq, self.last, hashed, body))
        self.bulk += len(body)
        self.seq, self.last, self.floor = seq, hashed, at
        return seq

    def body(self, entry: int) -> str:
        written = self.seq - len(self._rows)
        if entry > written:
            return self._rows[entry - written - 1][3]
        query = "SELECT body FROM journal WHERE seq IN (?, ?)"  # it may be one that was kept
        row = self._execute(query, (entry, -entry)).fetchone()
        if row is None:
            raise LedgerError(f"the journal has no entry {entry}; see `sluicegate journal verify`")
        return cast("str", row[0])

    # --- one transaction ---

    def refresh(self) -> None:
        """Learn what others have committed. To be called first in every transaction."""
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._read_on()
            self._version = version

    def perform(self, request: Request) -> Answer | Exception:
        """The answer to *request*, or the error it raised; then the books are as before it."""
        before = self.seq, self.last, self.floor, len(self._rows)
        self._undo.clear()
        try:
            return perform(request, self)
        except sqlite3.Error:
            raise  # the trouble of the whole transaction, not of this request
        except Exception as error:  # noqa: BLE001 - handed to whoever made the request
            self._take_back(*before)
            return error

    def write(self) -> None:
        """Write down what the requests of this transaction changed."""
        if not self._rows:
            return  # nothing changes without an entry
        changes = _encode([self.floor, self._changed_cells, self._changed_permits])
        insert = "INSERT INTO journal (seq, prev, hash, body, changes) VALUES (?, ?, ?, ?, ?)"
        last = (*self._rows.pop(), changes)
        if self._rows:
            self._cursor.executemany(insert, [(*row, None) for row in self._rows])
            self._rows.clear()
        self._execute(insert, last)

    def written(self) -> None:
        """The transaction is committed."""
        self._unfolded_cells.update(self._changed_cells)
        self._unfolded_permits.update(self._changed_permits)
        self._changed_cells.clear()
        self._changed_permits.clear()

    # --- folding ---

    def fold(self) -> None:
        """Bring `cells`, `permits` and `head` up to date. Alone in its transaction."""
        many = self._cursor.executemany
        cells, permits = self._unfolded_cells.items(), self._unfolded_permits.items()
        many("DELETE FROM cells WHERE key = ?", [(key,) for key, cell in cells if cell is None])
        many("DELETE FROM permits WHERE id = ?", [(key,) for key, kept in permits if kept is None])
        many(
            "INSERT OR REPLACE INTO cells VALUES (?, ?)",
            [(key, _encode(cell)) for key, cell in cells if cell is not None],
        )
        many(
            "INSERT OR REPLACE INTO permits VALUES (?, ?, ?)",
            [(key, *kept) for key, kept in permits if kept is not None],
        )
        self._execute(
            "UPDATE head SET seq = ?, hash = ?, floor = ?", (self.seq, self.last, self.floor)
        )

    def was_folded(self) -> None:
        """The fold is committed."""
        self.folded, self.bulk = self.seq, 0
        self._unfolded_cells.clear()
        self._unfolded_permits.clear()
        if len(self._cells) + len(self._permits) > KEPT:
            self._forget()

    def restore(self, writer: str, holdings: Holdings) -> None:
        """Have exactly *holdings*, if there is nothing yet. Throw the books away afterwards."""
        if self.seq or self._execute("SELECT 1 FROM cells").fetchone() is not None:
            raise LedgerError("the ledger to copy to is not empty; name a file that is new")
        insert = "INSERT INTO journal (seq, prev, hash, body) VALUES (?, ?, ?, ?)"
        for entry in chained(holdings.entries):
            self._execute(insert, (entry.seq, entry.prev, entry.hash, entry.body))
        for number, entry in holdings.kept:
            self._execute(insert, (-number, entry.prev, entry.hash, entry.body))
        for key, cell in holdings.cells:  # one by one: reading them may fail
            self._execute("INSERT INTO cells VALUES (?, ?)", (key, _encode(cell)))
        for out in holdings.permits:
            self._execute("INSERT INTO permits VALUES (?, ?, ?)", out)
        update = "UPDATE head SET seq = ?, hash = ?, floor = ?, writer = ?"
        self._execute(update, (*holdings.heads[writer], holdings.floor, writer))

    # --- shortening the journal, each in a transaction of its own, after a fold -----------------

    def trim(self, seq: int, keep: Collection[int]) -> None:
        """Remove the entries up to *seq*; the numbers of those that are kept become negative."""
        if seq > self.folded:
            raise LedgerError(f"the changes of entry {seq} are not folded yet, so it cannot go")
        kept = [(number,) for number in keep if 0 < number <= seq]
        self._cursor.executemany(
            "UPDATE journal SET seq = -seq, changes = NULL WHERE seq = ?", kept
        )
        self._execute("DELETE FROM journal WHERE seq BETWEEN 1 AND ?", (seq,))

    def forget(self, numbers: Collection[int]) -> None:
        """Remove these entries, if they were only kept."""
        self._cursor.executemany(
            "DELETE FROM journal WHERE seq = ?", [(-number,) for number in numbers if number > 0]
        )

    # --- reading, each page in a transaction of its own ---

    def head(self) -> tuple[int, str]:
        """Number and hash of the last entry."""
        self.refresh()
        return self.seq, self.last

    def heads(self) -> dict[str, tuple[int, str]]:
        """The same by writer."""
        return {self.writer: self.head()} if self.head()[0] else {}

    def page_of_cells(
        self, prefix: str, after: str
    ) -> tuple[list[tuple[str, Sequence[Any]]], str | None]:
        """Some cells behind the key *after*, and the last key looked at; None at the end."""
        self.refresh()
        query = "SELECT key, cell FROM cells WHERE key >= ? AND key > ? ORDER BY key LIMIT ?"
        rows = self._execute(query, (prefix, after, PAGE)).fetchall()
        stored = {key: tuple(json.loads(cell)) for key, cell in rows if key.startswith(prefix)}
        end = rows[-1][0] if len(stored) == PAGE else None
        recent = {
            key: cell
            for key, cell in self._unfolded_cells.items()
            if key.startswith(prefix) and key > after and (end is None or key <= end)
        }
        page = sorted((stored | recent).items())
        return [(key, cell) for key, cell in page if cell is not None], end

    def one_cell(self, key: str) -> Cell:
        """The cell under *key*."""
        self.refresh()
        return self.cell(key)

    def several(self, keys: Sequence[str]) -> list[Cell]:
        """The cells under *keys*."""
        self.refresh()
        return [self.cell(key) for key in keys]

    def all_out(self) -> list[Out]:
        """All permits that are out."""
        self.refresh()
        found = {row[0]: row[1:] for row in self._execute("SELECT id, expires, entry FROM permits")}
        found |= self._unfolded_permits
        return [Out(permit, *out) for permit, out in found.items() if out is not None]

    def page_of_entries(self, after: int) -> list[Entry]:
        """Some entries behind the number *after*, in order."""
        query = (
            "SELECT seq, (SELECT writer FROM head), prev, hash, body "
            "FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        return [Entry(*row) for row in self._execute(query, (after, PAGE))]

    def page_of_kept(self, after: int) -> list[tuple[int, Entry]]:
        """Some entries that `trim` has kept behind the number *after*."""
        query = (
            "SELECT -seq, (SELECT writer FROM head), prev, hash, body "
            "FROM journal WHERE seq < ? ORDER BY seq DESC LIMIT ?"
        )
        return [(row[0], Entry(*row)) for row in self._execute(query, (-after, PAGE))]

    # --- below ---

    def _take_back(self, seq: int, last: str, floor: int, rows: int) -> None:
        """Undo what the last request did, in the order opposite to how it was done."""
        self.seq, self.last, self.floor = seq, last, floor
        del self._rows[rows:]
        for known, key, value in reversed(self._undo):
            known[key] = value
        # A key may have been changed by an earlier request of this transaction too.
        self._changed_cells = {key: self._cells[key] for key in self._changed_cells}
        self._changed_permits = {key: self._permits[key] for key in self._changed_permits}

    def _read_on(self) -> None:
        self._check_known()
        head = self._execute("SELECT seq, hash, floor, writer FROM head").fetchone()
        folded, last, floor, self.writer = head
        if folded != self.folded:
            # What we have not seen yet may have been folded already: begin anew from there.
            self._forget()
            self.folded = self.seq = folded
            self.last, self.floor = last, floor
        query = "SELECT seq, hash, changes FROM journal WHERE seq > ? AND changes IS NOT NULL"
        rows = self._execute(f"{query} ORDER BY seq", (self.seq,)).fetchall()
        for seq, last, changes in rows:
            floor, cells, permits = json.loads(changes)
            self._learn(cells, permits)
            self.seq, self.last, self.floor = seq, last, floor

    def _check_known(self) -> None:
        """Entries do not vanish. If one does, what it counted is gone, and more would be permitted."""
        query = "SELECT hash FROM journal WHERE seq = ?"
        known = self._execute(query, (self.seq,)).fetchone()
        if self.seq and known != (self.last,) and not (known is None and self._was_trimmed()):
            raise LedgerError(
                f"entry {self.seq} of the journal was removed or replaced by another program; "
                "see `sluicegate journal verify`, and restore the file from a copy"
            )

    def _was_trimmed(self) -> bool:
        """Whether our entry is one of the oldest, which are gone: what it counted was folded before."""
        query = "SELECT (SELECT min(seq) FROM journal WHERE seq > 0), seq, writer FROM head"
        first, folded, writer = self._execute(query).fetchone()
        return first is not None and self.seq < first <= folded + 1 and writer == self.writer

    def _learn(
        self, cells: dict[str, list[Any] | None], permits: dict[str, list[int] | None]
    ) -> None:
        for key, cell in cells.items():
            learnt = None if cell is None else tuple(cell)
            self._cells[key] = self._unfolded_cells[key] = learnt
        for permit, kept in permits.items():
            out = None if kept is None else (kept[0], kept[1])
            self._permits[permit] = self._unfolded_permits[permit] = out

    def _forget(self) -> None:
        self._cells.clear()
        self._permits.clear()
        self._unfolded_cells.clear()
        self._unfolded_permits.clear()
