"""The books of one transaction: what was read under its locks, and what is to be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from ...claims import Cell
from ...errors import LedgerError
from ...journal import link
from .locks import Locks

__all__ = ["Chain", "Change", "PostgresBooks", "kept", "restored"]

LONGEST: Final = 2000
"""Bytes of a key or an id: PostgreSQL's indexes take some more."""

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
    prev: str
    hash: str
    body: str
    at: int
    keys: list[str]
    cells: list[str]
    gone: list[str]
    permit: str | None
    expires: int | None
    entry: int | None


class PostgresBooks:
    """
    Nothing is written before it is asked for in `change`.

    *cells* is what the server found, a JSON object; *body* fetches an entry's body.
    """

    def __init__(
        self,
        locks: Locks,
        chain: Chain,
        floor: int,
        cells: str | None,
        permit: Permit | None,
        body: Callable[[int], str],
    ) -> None:
        self.floor = floor
        self._body = body
        self._locks = locks
        self._chain = chain
        self._permit = permit
        found: dict[str, list[Any]] = json.loads(f"{{{cells}}}") if cells else {}
        self._cells: dict[str, Cell] = {
            key: tuple(found[name]) if (name := kept(key)) in found else None for key in locks.kept
        }
        self._changed: dict[str, Cell] = {}
        self._out: tuple[Permit | None] | None = None
        self._entry: tuple[int, str] | None = None

    def cell(self, key: str) -> Cell:
        return self._cells[key]

    def put(self, key: str, cell: Cell) -> None:
        if key not in self._cells or key in self._locks.only_looked_at:
            raise LedgerError(f"a request would change the cell {key!r:.80} without its lock")
        self._cells[key] = self._changed[key] = cell

    def permit(self, permit: str) -> Permit | None:
        assert permit == self._locks.permit  # noqa: S101 - a request is about one permit
        return self._permit if self._out is None else self._out[0]

    def put_permit(self, permit: str, out: Permit | None) -> None:
        assert permit == self._locks.permit  # noqa: S101 - a request is about one permit
        self._out = (out,)

    @property
    def next(self) -> int:
        return self._chain.entry(self._chain.seq + 1)

    def append(self, at: int, rest: str) -> int:
        assert self._entry is None  # noqa: S101 - a request makes one entry at most
        self._entry = at, f'{{"at":{at},{rest}'
        return self.next

    def body(self, entry: int) -> str:
        return self._body(entry)

    def change(self) -> Change | None:
        """What is to be written; None if that is nothing."""
        if self._entry is None:
            return None  # nothing changes without an entry
        at, body = self._entry
        chain, seq = self._chain, self._chain.seq + 1
        put = [
            (kept(key), _encode(cell)) for key, cell in self._changed.items() if cell is not None
        ]
        gone = [kept(key) for key, cell in self._changed.items() if cell is None]
        permit = None if self._out is None else kept(self._locks.permit or "")
        out = self._out and self._out[0]
        return Change(
            chain.number,
            seq,
            chain.hash,
            link(chain.hash, chain.name, seq, body),
            body,
            at,
            [key for key, _ in put],
            [cell for _, cell in put],
            gone,
            permit,
            *(out or (None, None)),
        )


def kept(text: str) -> str:
    """A key or an id as PostgreSQL can keep it: its texts have no NUL. The order stays as it is."""
    if "\0" in text or "\1" in text:
        text = text.replace("\1", "\1\2").replace("\0", "\1\1")
    if len(text) > LONGEST // 4 and len(text.encode()) > LONGEST:
        raise LedgerError(
            f"the key {text[:60]!r}… has {len(text.encode())} bytes, and PostgreSQL keeps keys of "
            f"{LONGEST} bytes at most; count by something shorter"
        )
    return text


def restored(text: str) -> str:
    """The opposite of `kept`."""
    return text.replace("\1\1", "\0").replace("\1\2", "\1") if "\1" in text else text
