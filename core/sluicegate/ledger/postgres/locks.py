"""
Which locks a request takes, and in which order.

A lock is a number made of its key's hash. All requests take theirs in the order of the
numbers, so no two wait for one another; two keys with one number would merely wait where
they need not. What many calls share has the higher numbers: whoever holds that waits for
nobody any more.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from ...claims import Barrier, Halts, Needs, Run, Traced
from ..base import Claiming, Request, Settling
from ..meaning import keys

__all__ = ["Locks", "lane_of"]

_SHARED: Final = frozenset("breaker halts policy quota rate repeat schema slot".split())
"""The kinds of keys that calls of many runs have in common."""

_HIGH: Final = 1 << 62


class Locks:
    """
    The locks of one request: *numbers* in their order, and which of them are *sharing*.

    Raises UnicodeEncodeError for a key that is no text.
    """

    __slots__ = ("kept", "numbers", "only_looked_at", "permit", "sharing")

    def __init__(self, request: Request, namespace: str) -> None:
        self.kept = keys(request)
        self.permit = _permit(request)
        self.only_looked_at = _only_looked_at(request)
        numbers = {lock_of(namespace, key): True for key in self.only_looked_at}
        for key in self.kept:
            if key not in self.only_looked_at:
                numbers[lock_of(namespace, key)] = False
        if self.permit:  # a call that is refused whatever happens has no id
            numbers[lock_of(namespace, f"permit|{self.permit}")] = False
        self.numbers = sorted(numbers)
        self.sharing = [numbers[number] for number in self.numbers]


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
        looks = type(standing) is Halts or (type(standing) is Run and not standing.own)
        (looking if looks else changing).add(standing.key)
    for claim in request.claims:
        if type(claim) is Traced:
            looking.update(claim.keys)
        else:
            looks = type(claim) is Needs or type(claim) is Barrier
            (looking if looks else changing).add(claim.key)
    return frozenset(looking - changing)
