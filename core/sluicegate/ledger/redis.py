"""A ledger on a Redis or Valkey server: for fleets whose workers share their limits."""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from ..claims import Cell
from ..errors import LedgerError
from ..journal import Entry
from .base import Answer, Out, Request
from .holdings import Holdings
from .redis_committer import RedisCommitter
from .redis_inspect import Durability
from .redis_link import Address
from .redis_store import Store
from .url import unambiguous

__all__ = ["Durability", "RedisLedger"]

_FORMS: Final = (
    "write redis://host:6379/0, rediss://… for TLS, or unix:///path/to/redis.sock, "
    "with options such as ?namespace=acme&timeout=2&require_durable=yes"
)
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SWITCH: Final = {"yes": True, "no": False}


class RedisLedger:
    """
    A ledger on the server at *url*, in the *namespace* there.

    `redis://user:password@host:6379/0`, `rediss://…` for TLS or `unix:///path`; options
    in its query whose names begin with `ssl_` are handed to redis-py. All workers that
    give the same server and namespace share all limits, keys and halts; no other does.

    An answer is given when the server has it. What it survives there is `durability`,
    and depends on the server's settings; with *require_durable* the ledger refuses a
    server that can lose an answered decision by losing power. Time is the server's, not
    this machine's. *timeout* is in seconds: for so long at most a request waits; then it
    raises LedgerError, and what it may have claimed is given back.

    With *exact_time* the requests say what time it is, as in a ledger in memory: for
    tests, and to carry over a history. All processes must do the same then.

    A process may fork: the child opens connections of its own, and is a writer of its own.

    Raises LedgerError if the server cannot be reached, is not fit (see docs/redis.md), or
    has something else under the ledger's keys.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "default",
        require_durable: bool = False,
        timeout: float = 5.0,
        exact_time: bool = False,
    ) -> None:
        if not (math.isfinite(timeout) and timeout > 0):
            raise LedgerError(f"timeout is {timeout!r}; it must be a number of seconds above 0")
        if not _NAMESPACE.fullmatch(namespace):
            raise LedgerError(
                f"the namespace {namespace!r} must have 1 to 64 letters, digits, dots, hyphens or "
                "underscores"
            )
        make = partial(
            Store,
            _address(url, namespace),
            timeout=timeout,
            require_durable=require_durable,
            exact=exact_time,
        )
        self._committer = RedisCommitter(make, timeout=timeout)
        # At exit they are all closed in the open; this is for a ledger that is forgotten before.
        weakref.finalize(self, self._committer.retire).atexit = False

    @classmethod
    def at(cls, url: str) -> RedisLedger:
        """
        The ledger at a URL with all its options:
        `redis://host:6379/0?namespace=acme&timeout=2&require_durable=yes`.

        Raises LedgerError.
        """
        place, _, query = unambiguous(url).partition("?")
        options: dict[str, Any] = {}
        passed: list[tuple[str, str]] = []
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name.startswith("ssl_") or name == "db":
                passed.append((name, value))
            elif name not in _OPTIONS:
                raise LedgerError(
                    f"{_label(place)} has an unknown option {name!r}; the options are "
                    f"{', '.join(_OPTIONS)}, db, and those of redis-py that begin with ssl_"
                )
            elif name in options:
                raise LedgerError(f"{_label(place)} gives {name!r} twice")
            else:
                options[name] = _OPTIONS[name](value)
        return cls(f"{place}?{urlencode(passed)}" if passed else place, **options)

    def __repr__(self) -> str:
        return f"RedisLedger({self._committer.store.label})"

    @property
    def durability(self) -> Durability:
        """
        What an answered request survives on this server, as it was set when last connected:
        "power", "second" (loss of power may take the last second), "memory" (the server's
        end takes everything since its last snapshot), or "unknown" (it does not say).
        """
        return self._committer.store.findings.durability

    @property
    def server(self) -> str:
        """Name and version of the server."""
        return self._committer.store.findings.server

    @property
    def writer(self) -> str:
        """Under which this process writes its journal; "" before its first entry."""
        return self._committer.store.name

    @property
    def floor(self) -> int:
        """The server's time as far as this process knows, in µs since 1970 UTC; it never steps back."""
        return self._committer.store.now()

    def perform(self, request: Request) -> Answer:
        """Carry out *request*, and return when the server has it. Raises LedgerError."""
        return self._committer.perform(request)

    async def aperform(self, request: Request) -> Answer:
        """The same without blocking the event loop; a cancelled claim holds nothing afterwards."""
        return await self._committer.aperform(request)

    def cell(self, key: str) -> Cell:
        """One cell, as it is now. Raises LedgerError."""
        return self._committer.store.cell(key)

    def look(self, keys: Sequence[str]) -> list[Cell]:
        """Several cells in the order of their keys, as they are at one time. Raises LedgerError."""
        return self._committer.store.look(keys)

    def out(self) -> list[Out]:
        """All permits that are out. Raises LedgerError."""
        return self._committer.store.out()

    def cells(self, prefix: str) -> list[tuple[str, Sequence[Any]]]:
        """
        All cells whose key begins with *prefix*, by key. Raises LedgerError.

        They are read in pages of a thousand, each as it is at that time.
        """
        return self._committer.store.cells(prefix)

    def walk(self) -> Iterator[tuple[str, Sequence[Any]]]:
        """
        All cells in no particular order, read as they are needed. Raises LedgerError.

        What is there all the time comes up at least once.
        """
        return self._committer.store.walk()

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """
        The journal in the order of its commits, behind its first *after* entries. Raises
        LedgerError, also if those that come next are removed meanwhile.

        The number of an entry, as cells refer to it, is its writer's number × 2³² + its place
        in that writer's chain.
        """
        yield from self._committer.store.journal.entries(after)

    def body(self, entry: int) -> str:
        """The body of the journal entry with this number. Raises LedgerError."""
        return self._committer.store.journal.body(entry)

    def head(self) -> tuple[int, str]:
        """How many entries the journal has, and the hash of the last. Raises LedgerError."""
        return self._committer.store.journal.head()

    def heads(self) -> dict[str, tuple[int, str]]:
        """Place in its chain and hash of the last entry of each writer, by name. Raises LedgerError."""
        return self._committer.store.journal.heads()

    def writers(self) -> dict[str, int]:
        """The number of each writer, by name. Raises LedgerError."""
        return self._committer.store.journal.writers()

    def trim(self, upto: Mapping[str, int], keep: Collection[int]) -> None:
        """
        Take each writer's entries up to that number of its chain, by the writer's name, out of the
        journal, in one step. `body` still finds those whose numbers are in *keep*.

        Raises LedgerError if they are not the oldest of the journal, or if they are all of it.
        """
        self._committer.store.journal.trim(upto, keep, self._committer.store.floor)

    def kept(self) -> Iterator[tuple[int, Entry]]:
        """
        The entries that `trim` has kept, with their numbers, in the order of these. Raises
        LedgerError.
        """
        yield from self._committer.store.journal.kept()

    def forget(self, numbers: Collection[int]) -> None:
        """Remove these kept entries for good; other numbers are passed over. Raises LedgerError."""
        self._committer.store.journal.forget(numbers, self._committer.store.floor)

    def restore(self, holdings: Holdings) -> None:
        """
        Have exactly *holdings*; until all of it is there, no process uses the namespace. The
        chains of its writers end there, and new ones begin.

        Raises LedgerError if there is anything in this namespace.
        """
        self._committer.store.restore(holdings)

    def close(self) -> None:
        """Finish what waits, and let go of the server. A closed ledger raises LedgerError when used."""
        self._committer.close()


def _address(url: str, namespace: str) -> Address:
    """Where *url* leads. Its password may hold anything, so no error quotes it."""
    label = _label(unambiguous(url))
    if url.partition("://")[0] not in ("redis", "rediss", "unix"):
        raise LedgerError(f"{label} is no address of a Redis server; {_FORMS}")
    database = label.partition("://")[2].partition("/")[2].strip("/")
    if not url.startswith("unix:") and database and not database.isdecimal():
        raise LedgerError(  # the client would take database 0 without a word
            f"{label} names the database {database!r:.40}; databases of Redis are numbers, and "
            "?namespace=… keeps ledgers apart"
        )
    return Address(url, f"the ledger {namespace!r} at {label}", namespace, {})


def _label(url: str) -> str:
    """The URL without user, password and options; if it cannot be read, only its scheme."""
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
        if scheme == "unix":
            return f"unix://{unquote(parts.path)}"
        port = f":{parts.port}" if parts.port else ""
        place = f"{parts.hostname}{port}{parts.path}"
    except ValueError:
        return f"{scheme[:10]}://…"
    if scheme not in ("redis", "rediss") or parts.hostname is None:
        return f"{scheme[:10]}://…"
    return f"{scheme}://{place}"


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise LedgerError(f"timeout is {value!r}; it must be a number of seconds above 0") from None


def _switch(value: str) -> bool:
    if value not in _SWITCH:
        raise LedgerError(f"require_durable is {value!r}; it must be yes or no")
    return _SWITCH[value]


_OPTIONS: Final[dict[str, Any]] = {
    "namespace": str, "timeout": _seconds, "require_durable": _switch
}  # fmt: skip
