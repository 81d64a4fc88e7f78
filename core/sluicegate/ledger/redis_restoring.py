"""Filling an empty namespace on a Redis server with what another ledger has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from os import urandom
from typing import Any, Final, TypeVar

from ..errors import LedgerError
from .holdings import Holdings, chained
from .redis_journal import Keys

__all__ = ["restore"]

T = TypeVar("T")

_BATCH: Final = 500

_APPEND: Final = """
for i = 2, #ARGV, 4 do
  local place = string.format('%.0f', ARGV[1] + (i + 2) / 4)
  redis.call('XADD', KEYS[1], place .. '-0', 'n', ARGV[i], 'p', ARGV[i+1], 'h', ARGV[i+2], 'b', ARGV[i+3])
  redis.call('HSET', KEYS[2], ARGV[i], place)
end
"""
_STAMP: Final = "0.0 "
"""What begins every value that is copied, and none of any batch: their numbers begin with 1."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def restore(
    call: Callable[..., Any], keys: Keys, label: str, made: str, holdings: Holdings
) -> None:
    """
    Have exactly *holdings*. *keys* are all that a namespace has, and *made* is the format of a whole ledger.

    While it is being copied the ledger has another format, which no process will use: that is
    also how it stays if the server goes down meanwhile. Raises LedgerError.
    """
    meta = keys[0]
    token = f"unfinished-copy-{urandom(4).hex()}"
    if not call("EXISTS", *keys):
        call("HSETNX", meta, "format", token)
    if call("HGET", meta, "format") != token.encode():
        raise LedgerError(f"{label} is not empty; name another namespace to copy to")
    try:
        _fill(call, keys, made, holdings)
    except BaseException:
        with suppress(LedgerError):  # what cannot be removed keeps its format
            call("UNLINK", *keys)
        raise


def _fill(call: Callable[..., Any], keys: Keys, made: str, holdings: Holdings) -> None:
    meta, cells, permits, journal, index, kept = keys
    count, head = 0, ""
    for batch in _batches(chained(holdings.entries)):
        told = [str(count)]
        for entry in batch:
            number = (holdings.writers[entry.writer] << 32) + entry.seq
            told += (str(number), entry.prev, entry.hash, entry.body)
            count, head = count + 1, f"{number} {entry.hash}"
        call("EVAL", _APPEND, 2, journal, index, *told)
    for numbered in _batches(holdings.kept):
        told = [
            part
            for number, entry in numbered
            for part in (str(number), f"{entry.prev} {entry.hash} {entry.body}")
        ]
        call("HSET", kept, *told)
    for some in _batches(holdings.cells):
        call("HSET", cells, *(part for key, cell in some for part in (key, _stamped(cell))))
    for outs in _batches(holdings.permits):
        told = [part for out in outs for part in (out.permit, _stamped((out.expires, out.entry)))]
        call("HSET", permits, *told)
    news = ["id", urandom(8).hex(), "floor", str(holdings.floor), "count", str(count)]
    news += ["head", head, "writers", str(max(holdings.writers.values()) + 1)]
    # So many were removed before: places are counted as if they were there.
    news += ["shift", str(sum(seq for seq, _ in holdings.heads.values()) - count)]
    for writer, number in holdings.writers.items():
        seq, last = holdings.heads[writer]
        news += [f"w{number}", f"0 {seq} {last}", f"n{number}", writer]
    call("HSET", meta, *news, "format", made)


def _stamped(value: Sequence[Any]) -> str:
    return _STAMP + _encode(value)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
