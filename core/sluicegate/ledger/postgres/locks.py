"""
Which locks a request takes, and in which order.

A lock is a number made of its key's hash. All requests take theirs in the order of the
numbers, so no two wait for one another; two keys with one number would merely wait where
they need not. What many calls share has the higher numbers: whoever holds that waits for
nobody any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from ...claims import Barrier, Halts, Needs, Traced
from ...errors import LedgerError
from ..base import Claiming, Request, Settling
from ..meaning import keys

__all__ = ["Locks", "Needed", "kept", "lane_of", "lock_of", "restored"]

_SHARED: Final = frozenset("breaker halts policy quota rate repeat schema slot".split())
"""The kinds of keys that calls of many runs have in common."""

_HIGH: Final = 1 << 62

LONGEST: Final = 2000
"""Bytes of a key or an id: PostgreSQL's indexes take some more."""


class Needed:
    """
    What one request needs to be kept still: *keys*, of which it *looks* only at some, and a *permit*.

    Raises UnicodeEncodeError for a key that is no text, LedgerError for one that is too long.
    """

    __slots__ = ("exclusive", "keys", "looks", "permit", "shared")

    def __init__(self, request: Request, namespace: str) -> None:
        self.keys = {key: kept(key) for key in keys(request)}
        self.looks = _only_looked_at(request)
        self.permit = _permit(request)
        self.shared: set[int] = set()
        self.exclusive: set[int] = set()
        for key in self.keys:
            (self.shared if key in self.looks else self.exclusive).add(lock_of(namespace, key))
        if self.permit:  # a call that is refused whatever happens has no id
            kept(self.permit)
            self.exclusive.add(lock_of(namespace, f"permit|{self.permit}"))


class Locks:
    """The locks of some requests: *numbers* in their order, and which of them are *sharing*."""

    __slots__ = ("keys", "numbers", "permits", "sharing", "writable")

    def __init__(self, needed: Sequence[Needed]) -> None:
        exclusive: set[int] = set()
        shared: set[int] = set()
        self.keys: dict[str, str] = {}
        self.permits: dict[str, str] = {}
        self.writable: set[str] = set()
        for one in needed:
            exclusive |= one.exclusive
            shared |= one.shared
            self.keys.update(one.keys)
            self.writable.update(one.keys.keys() - one.looks)
            if one.permit:
                self.permits[one.permit] = kept(one.permit)
        self.numbers = sorted(exclusive | shared)
        self.sharing = [number not in exclusive for number in self.numbers]


def lane_of(namespace: str) -> int:
    """The number under which writers note positions that are under way; see schema.sql."""
    return int.from_bytes(_digest(f"{namespace}\0positions"), "big") >> 33


@lru_cache(4096)
def lock_of(namespace: str, key: str) -> int:
    """
    The number of one key's lock.

    All values that came up in a run share one: a result may bring hundreds at once, and
    the server has room for some thousand locks.
    """
    kind = key.partition("|")[0]
    if kind == "came":
        key = key.rpartition("|")[0]
    number = int.from_bytes(_digest(f"{namespace}\0{key}"), "big") >> 2
    return number + _HIGH if kind in _SHARED else number


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:8]


def _permit(request: Request) -> str | None:
    if type(request) is Claiming:
        return request.permit
    return request.hold.permit if type(request) is Settling else None


def _only_looked_at(request: Request) -> frozenset[str]:
    """The keys of cells that *request* reads and never changes."""
    if type(request) is not Claiming:
        return frozenset()
    looking: set[str] = set()
    changing: set[str] = set()
    for standing in request.standing:
        (looking if type(standing) is Halts else changing).add(standing.key)
    for claim in request.claims:
        if isinstance(claim, Traced):
            looking.update(claim.keys)
        else:
            looks = isinstance(claim, (Needs, Barrier))
            (looking if looks else changing).add(claim.key)
    return frozenset(looking - changing)


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
