"""
The books of a SQLite ledger: its state within a transaction, and what is known of it in between.

`recent` in the file has what each transaction changed since the last fold (schema.sql
says why). These books keep the same changes in memory, in the order in which they were
made, whoever made them. A key that is not among them has not changed since the fold, so
what `cells` says about it holds, and may be kept: other processes cost us the reading of
their changes, not of everything.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

from ..claims import Cell
from ..errors import LedgerError
from ..journal import Entry, link
from .base import Answer, Request, perform

__all__ = ["SqliteBooks"]

KEPT: Final = 20_000
"""So many cells and permits stay in memory over a fold; at 300 bytes or so each."""

PAGE: Final = 256
"""So many rows are read at once: a reader that lingers would keep checkpoints from finishing."""

Permit: TypeAlias = tuple[int, int]
"""When the lease ends (0: settled as unknown), and the decision's entry."""

_Keys: TypeAlias = tuple[dict[str, None], dict[str, None]]
"""Keys of cells and ids of permits, in the order of their change: the same history, the same file."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_ABSENT: Final[Any] = object()


class SqliteBooks:
    """
    The state of one ledger file, seen through *connection*.

    All methods but `perform` raise sqlite3.Error as it comes. After any error the books
    are worthless: throw them away together with the connection.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._version = -1  # SQLite's count of other connections' commits
        self._cells: dict[str, Cell] = {}
        self._permits: dict[str, Permit | None] = {}
        # Keys changed in this transaction, and in earlier ones since the fold.
        self._changed: _Keys = ({}, {})
        self._unfolded: _Keys = ({}, {})
        self._rows: list[tuple[int, str, str, str]] = []
        self._undo: list[tuple[dict[str, Any], str, Any]] = []
        self.writer = ""
        self.folded = -1
        self.seq = 0
        self.last = ""
        self.floor = 0
        self.bulk = 0  # bytes of journal written since the fold, by us

    # --- for `perform`: see Books in base.py ---

    def cell(self, key: str) -> Cell:
        cell: Cell = self._cells.get(key, _ABSENT)
        if cell is _ABSENT:
            cell = self._cells[key] = self._stored_cell(key)
        return cell

    def put(self, key: str, cell: Cell) -> None:
        self._undo.append((self._cells, key, self.cell(key)))
        self._cells[key] = cell
        self._changed[0][key] = None

    def permit(self, permit: str) -> int | None:
        known = self._permit(permit)
        return None if known is None else known[0]

    def put_permit(self, permit: str, expires: int | None, entry: int) -> None:
        self._undo.append((self._permits, permit, self._permit(permit)))
        self._permits[permit] = None if expires is None else (expires, entry)
        self._changed[1][permit] = None

    def append(self, at: int, rest: str) -> int:
        body = f'{{"at":{at},{rest}'
        seq = self.seq + 1
        hashed = link(self.last, self.writer, seq, body)
        self._rows.append((seq, self.last, hashed, body))
        self.seq, self.last, self.floor = seq, hashed, at
        return seq

    def body(self, entry: int) -> str:
        written = self.seq - len(self._rows)
        if entry > written:
            return self._rows[entry - written - 1][3]
        row = self._one("SELECT body FROM journal WHERE seq = ?", entry)
        if row is None:
            raise LedgerError(f"entry {entry} is missing from the journal; see `sluicegate journal verify`")
        return cast("str", row[0])

    # --- one transaction ---

    def refresh(self) -> None:
        """Learn what others have committed. To be called first in every transaction."""
        version = self._one("PRAGMA data_version")[0]
        if version == self._version:
            return
        folded, last, floor, writer = self._one("SELECT seq, hash, floor, writer FROM head")
        if folded != self.folded:
            # Changes that we have not seen may have been folded already: begin anew.
            self._forget()
            self.folded = self.seq = folded
            self.last, self.floor, self.writer = last, floor, writer
        query = "SELECT seq, hash, floor, changes FROM recent WHERE seq > ? ORDER BY seq"
        for seq, last, floor, changes in self._cursor.execute(query, (self.seq,)).fetchall():
            self._learn(*json.loads(changes))
            self.seq, self.last, self.floor = seq, last, floor
        self._version = version

    def perform(self, request: Request) -> Answer | Exception:
        """The answer to *request*, or the error it raised, and then the books are as before it."""
        before = self.seq, self.last, self.floor
        rows = len(self._rows)
        self._undo.clear()
        try:
            return perform(request, self)
        except sqlite3.Error:
            raise  # the trouble of the whole transaction, not of this request
        except Exception as error:  # noqa: BLE001 - handed to whoever made the request
            for known, key, value in reversed(self._undo):
                known[key] = value
            del self._rows[rows:]
            self.seq, self.last, self.floor = before
            return error

    def write(self) -> None:
        """Write down what the requests of this transaction changed."""
        if not self._rows:
            return  # nothing changes without an entry
        self._cursor.executemany("INSERT INTO journal VALUES (?, ?, ?, ?)", self._rows)
        cells, permits = self._changed
        changes = [{key: self._cells[key] for key in cells}, {key: self._permits[key] for key in permits}]
        self._cursor.execute(
            "INSERT INTO recent VALUES (?, ?, ?, ?)", (self.seq, self.last, self.floor, _encode(changes))
        )

    def written(self) -> None:
        """The transaction is committed."""
        self.bulk += sum(len(row[3]) for row in self._rows)
        self._rows.clear()
        for changed, unfolded in zip(self._changed, self._unfolded, strict=True):
            unfolded.update(changed)
            changed.clear()

    # --- folding ---

    def fold(self) -> None:
        """Bring `cells` and `permits` up to date. Alone in its transaction."""
        cells = [(key, self._cells[key]) for key in sorted(self._unfolded[0])]
        permits = [(key, self._permits[key]) for key in sorted(self._unfolded[1])]
        many = self._cursor.executemany
        many(
            "INSERT OR REPLACE INTO cells VALUES (?, ?)",
            [(key, _encode(cell)) for key, cell in cells if cell is not None],
        )
        many("DELETE FROM cells WHERE key = ?", [(key,) for key, cell in cells if cell is None])
        many(
            "INSERT OR REPLACE INTO permits VALUES (?, ?, ?)",
            [(key, *permit) for key, permit in permits if permit is not None],
        )
        many("DELETE FROM permits WHERE id = ?", [(key,) for key, permit in permits if permit is None])
        self._cursor.execute("DELETE FROM recent")
        self._cursor.execute(
            "UPDATE head SET seq = ?, hash = ?, floor = ?", (self.seq, self.last, self.floor)
        )

    def folded_now(self) -> None:
        """The fold is committed."""
        self.folded = self.seq
        self.bulk = 0
        for unfolded in self._unfolded:
            unfolded.clear()
        if len(self._cells) + len(self._permits) > KEPT:
            self._forget()

    # --- reading, each page in a transaction of its own ---

    def page_of_cells(self, prefix: str, after: str) -> tuple[list[tuple[str, Sequence[Any]]], str | None]:
        """Some cells behind the key *after*, by key; and the last key looked at, or None if it was the last of all."""
        query = "SELECT key, cell FROM cells WHERE key >= ? AND key > ? ORDER BY key LIMIT ?"
        rows = self._cursor.execute(query, (prefix, after, PAGE)).fetchall()
        stored = {key: tuple(json.loads(cell)) for key, cell in rows if key.startswith(prefix)}
        end = rows[-1][0] if len(stored) == PAGE else None
        recent = {
            key: self._cells[key]
            for key in self._unfolded[0]
            if key.startswith(prefix) and key > after and (end is None or key <= end)
        }
        page = sorted((stored | recent).items())
        return [(key, cell) for key, cell in page if cell is not None], end

    def page_of_entries(self, after: int) -> list[Entry]:
        """Some entries behind the number *after*, in order."""
        query = "SELECT seq, ?, prev, hash, body FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
        return [Entry(*row) for row in self._cursor.execute(query, (self.writer, after, PAGE))]

    # --- below ---

    def _one(self, query: str, *values: object) -> Any:
        return self._cursor.execute(query, values).fetchone()

    def _stored_cell(self, key: str) -> Cell:
        row = self._one("SELECT cell FROM cells WHERE key = ?", key)
        return None if row is None else tuple(json.loads(row[0]))

    def _permit(self, permit: str) -> Permit | None:
        known = self._permits.get(permit, _ABSENT)
        if known is _ABSENT:
            known = self._permits[permit] = self._one("SELECT expires, entry FROM permits WHERE id = ?", permit)
        return cast("Permit | None", known)

    def _learn(self, cells: dict[str, list[Any] | None], permits: dict[str, list[int] | None]) -> None:
        for key, cell in cells.items():
            self._cells[key] = None if cell is None else tuple(cell)
        for key, permit in permits.items():
            self._permits[key] = None if permit is None else (permit[0], permit[1])
        self._unfolded[0].update(dict.fromkeys(cells))
        self._unfolded[1].update(dict.fromkeys(permits))

    def _forget(self) -> None:
        self._cells.clear()
        self._permits.clear()
        for unfolded in self._unfolded:
            unfolded.clear()
