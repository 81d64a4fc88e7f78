"""Filling an empty ledger in PostgreSQL with what another ledger has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

import psycopg

from ...errors import LedgerError
from ...journal import Entry
from ..holdings import Holdings, chained
from .address import Address
from .line import Line, connected, trouble
from .locks import kept, lane_of
from .statement import Statement, identifier

__all__ = ["restore"]

T = TypeVar("T")

_BATCH: Final = 500

# A reader must not pass the positions that are taken here before they are committed: see
# settled() in schema.sql. Chains that others have begun and not written to are taken back.
_BEGIN: Final = """
BEGIN;
SET LOCAL statement_timeout = 0;
LOCK TABLE {ns}.writers IN ACCESS EXCLUSIVE MODE;
SELECT pg_advisory_xact_lock_shared(
    {lane}, ((CASE WHEN is_called THEN last_value ELSE 0 END) & 4294967295)::bit(32)::int
) FROM {ns}.journal_position_seq;
DELETE FROM {ns}.writers WHERE seq = 0;
SELECT EXISTS (SELECT FROM {ns}.writers) OR EXISTS (SELECT FROM {ns}.cells)
    OR EXISTS (SELECT FROM {ns}.journal) OR EXISTS (SELECT FROM {ns}.permits)
"""
_ENTRIES: Final = """
INSERT INTO {ns}.journal (number, prev, hash, body)
SELECT u.number, u.prev, u.hash, u.body
  FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[])
       WITH ORDINALITY AS u(number, prev, hash, body, place)
 ORDER BY u.place
"""
# The positions of entries that are gone are left free: those that were kept have some of them.
_GONE: Final = "SELECT setval(pg_get_serial_sequence(%s, 'position'), %s)"
_KEPT: Final = """
INSERT INTO {ns}.journal (position, number, prev, hash, body) OVERRIDING SYSTEM VALUE
SELECT -u.place - %s, u.number, u.prev, u.hash, u.body
  FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[])
       WITH ORDINALITY AS u(number, prev, hash, body, place)
"""
_CELLS: Final = """
INSERT INTO {ns}.cells (key, at, cell)
SELECT u.key, %s, u.cell FROM unnest(%s::text[], %s::text[]) AS u(key, cell)
"""
_PERMITS: Final = """
INSERT INTO {ns}.permits (id, expires, entry)
SELECT u.id, u.expires, u.entry
  FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS u(id, expires, entry)
"""
_WRITER: Final = """
INSERT INTO {ns}.writers (number, name, free, seq, floor, used, hash)
OVERRIDING SYSTEM VALUE VALUES (%s, %s, true, %s, %s, {ns}.clock(), %s)
"""
_NUMBERS: Final = """
SELECT setval(pg_get_serial_sequence(%s, 'number'), (SELECT max(number) FROM {ns}.writers));
COMMIT
"""
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def restore(address: Address, holdings: Holdings) -> None:
    """
    Have exactly *holdings*, in one transaction; the chain of each writer goes on from there.

    The role must own the tables. Raises LedgerError, and then nothing has changed.
    """
    try:
        line = connected(address)
        try:
            line.until = time.monotonic() + address.timeout
            _fill(line, address, holdings)
        finally:
            line.drop()
    except psycopg.Error as error:
        raise trouble(address, error) from error


def _fill(line: Line, address: Address, holdings: Holdings) -> None:
    name = identifier(address.namespace)

    def say(text: str, *given: object) -> list[tuple[object, ...]]:
        # Each statement has its time; how many there are depends on the source.
        line.until = time.monotonic() + max(60.0, address.timeout)
        return line.rows(Statement(text, ns=name, lane=str(lane_of(address.namespace))), *given)

    ((used,),) = say(_BEGIN)
    if used:
        raise LedgerError("the ledger to copy to is not empty; name another database or namespace")
    done = 0
    for those in _batches(holdings.kept):
        numbers = [number for number, _ in those]
        say(_KEPT, done, numbers, *_texts([entry for _, entry in those]))
        done += len(those)
    if holdings.gone or done:
        say(_GONE, f"{name}.journal", max(holdings.gone, done))
    for batch in _batches(chained(holdings.entries)):
        numbers = [_number(entry, holdings) for entry in batch]
        say(_ENTRIES, numbers, *_texts(batch))
    for cells in _batches(holdings.cells):
        keys, values = [kept(key) for key, _ in cells], [_encode(cell) for _, cell in cells]
        say(_CELLS, holdings.floor, keys, values)
    for permits in _batches(holdings.permits):
        ids = [kept(out.permit) for out in permits]
        say(_PERMITS, ids, [out.expires for out in permits], [out.entry for out in permits])
    for writer, number in holdings.writers.items():
        seq, last = holdings.heads[writer]
        say(_WRITER, number, writer, seq, holdings.floor, last)
    say(_NUMBERS, f"{name}.writers")


def _number(entry: Entry, holdings: Holdings) -> int:
    return (holdings.writers[entry.writer] << 32) + entry.seq


def _texts(entries: list[Entry]) -> tuple[list[str], list[str], list[str]]:
    prevs, hashes = [entry.prev for entry in entries], [entry.hash for entry in entries]
    return prevs, hashes, [entry.body for entry in entries]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
