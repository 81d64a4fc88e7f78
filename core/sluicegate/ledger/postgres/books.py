"""The books of one transaction: what was read under its locks, and what is to be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import psycopg

from ...claims import Cell
from ...errors import LedgerError
from ...journal import link
from ..base import Answer, Request
from ..meaning import perform
from .locks import Locks

__all__ = ["Chain", "Change", "PostgresBooks"]

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

Permit: TypeAlias = tuple[int, int]


class Chain(NamedTuple):
    """Where a writer's chain of entries ends."""

    number: int
    name: str
    seq: int
    hash: str

    def entry(self, seq: int) -> int:
        """The number by which cells refer to the entry *seq*: below 2^53, as JSON needs it."""
        return (self.number << 32) + seq


class Change(NamedTuple):
    """What a transaction writes: the arguments of `write` in schema.sql, in their order."""

    writer: int
    seq: int
    at: int
    prevs: list[str]
    hashes: list[str]
    bodies: list[str]
    keys: list[str]
    cells: list[str]
    gone: list[str]
    ids: list[str]
    untils: list[int]
    entries: list[int]
    ended: list[str]


class PostgresBooks:
    """
    Several requests, one after the other; nothing is written before it is asked for in `change`.

    *cells* and *permits* are what the server found, members of a JSON object; *body*
    fetches an entry's body. What the request at hand changes is kept apart until it is done:
    one that raises leaves nothing behind.
    """

    def __init__(
        self,
        locks: Locks,
        chain: Chain,
        floor: int,
        cells: str | None,
        permits: str | None,
        body: Callable[[int], str],
    ) -> None:
        self.floor = floor
        self._locks = locks
        self._chain = chain
        self._fetch = body
        found: dict[str, list[Any]] = json.loads(f"{{{cells}}}") if cells else {}
        out: dict[str, list[int]] = json.loads(f"{{{permits}}}") if permits else {}
        self._cells: dict[str, Cell] = {
            key: tuple(found[name]) if name in found else None for key, name in locks.keys.items()
        }
        self._permits: dict[str, Permit | None] = {
            permit: (out[name][0], out[name][1]) if name in out else None
            for permit, name in locks.permits.items()
        }
        self._changed_cells: dict[str, Cell] = {}
        self._changed_permits: dict[str, Permit | None] = {}
        self._rows: list[tuple[str, str, str]] = []  # prev, hash, body
        self._new_cells: dict[str, Cell] = {}
        self._new_permits: dict[str, Permit | None] = {}
        self._new_entry: tuple[int, str] | None = None

    # --- for `perform`: see Books in base.py ---

    def cell(self, key: str) -> Cell:
        return self._new_cells[key] if key in self._new_cells else self._cells[key]

    def put(self, key: str, cell: Cell) -> None:
        if key not in self._locks.writable:
            raise LedgerError(f"a request would change the cell {key!r:.80} without its lock")
        self._new_cells[key] = cell

    def permit(self, permit: str) -> Permit | None:
        known = self._new_permits if permit in self._new_permits else self._permits
        return known.get(permit)

    def put_permit(self, permit: str, out: Permit | None) -> None:
        self._new_permits[permit] = out

    @property
    def next(self) -> int:
        return self._chain.entry(self._chain.seq + 1)

    def append(self, at: int, rest: str) -> int:
        assert self._new_entry is None  # noqa: S101 - a request makes one entry at most
        self._new_entry = at, f'{{"at":{at},{rest}'
        return self.next

    def body(self, entry: int) -> str:
        ours = entry - self.next + len(self._rows)
        return self._rows[ours][2] if 0 <= ours < len(self._rows) else self._fetch(entry)

    # --- one transaction ---

    def perform(self, request: Request) -> Answer | Exception:
        """The answer to *request*, or the error it raised; then the books are as before it."""
        answer: Answer | Exception
        try:
            answer = perform(request, self)
            self._keep()
        except psycopg.Error:
            raise  # the trouble of the whole transaction, not of this request
        except Exception as error:  # noqa: BLE001 - handed to whoever made the request
            answer = error
        self._new_cells.clear()
        self._new_permits.clear()
        self._new_entry = None
        return answer

    def _keep(self) -> None:
        if self._new_entry is None:
            return  # nothing changes without an entry
        at, body = self._new_entry
        chain, seq = self._chain, self._chain.seq + 1
        hashed = link(chain.hash, chain.name, seq, body)
        self._rows.append((chain.hash, hashed, body))
        self._chain, self.floor = chain._replace(seq=seq, hash=hashed), at
        self._cells.update(self._new_cells)
        self._changed_cells.update(self._new_cells)
        self._permits.update(self._new_permits)
        self._changed_permits.update(self._new_permits)

    def change(self) -> Change | None:
        """What is to be written; None if that is nothing."""
        if not self._rows:
            return None
        change = Change(
            self._chain.number,
            self._chain.seq,
            self.floor,
            [row[0] for row in self._rows],
            [row[1] for row in self._rows],
            [row[2] for row in self._rows],
            keys=[],
            cells=[],
            gone=[],
            ids=[],
            untils=[],
            entries=[],
            ended=[],
        )
        for key, cell in self._changed_cells.items():
            name = self._locks.keys[key]
            if cell is None:
                change.gone.append(name)
            else:
                change.keys.append(name)
                change.cells.append(_encode(cell))
        for permit, out in self._changed_permits.items():
            name = self._locks.permits[permit]
            if out is None:
                change.ended.append(name)
            else:
                change.ids.append(name)
                change.untils.append(out[0])
                change.entries.append(out[1])
        return change
