"""The ledger in PostgreSQL: what the gate sees of it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from ...claims import Cell
from ...journal import Entry
from ..base import Answer, Out, Request
from ..holdings import Holdings
from .address import Address
from .lanes import Lanes
from .reading import Reading
from .restoring import restore
from .schema import prepare
from .trimming import forget, trim

__all__ = ["PostgresLedger"]


class PostgresLedger:
    """
    A ledger in a PostgreSQL database, for all workers on all hosts.

    An answer is given when the server has made it durable, and time is the server's: the
    time of a request counts only with `clock=caller`. Every method raises LedgerError if
    the server cannot be used, within the timeout, and then nothing has changed, or what was
    claimed is undone. After a fork, parent and child each connect anew.
    """

    def __init__(self, address: Address) -> None:
        prepare(address)
        self.address = address
        self._lanes = Lanes(address)
        self._reading = Reading(address)
        self._lanes.floor = self._reading.floor()
        _READING.add(self._reading)
        # At exit they are all closed in the open; this is for a ledger that is forgotten before.
        weakref.finalize(self, _forgotten, self._lanes, self._reading).atexit = False

    @classmethod
    def at(cls, url: str) -> PostgresLedger:
        """
        The ledger at a URL: `postgresql://user:secret@host/database?namespace=acme&timeout=2`.

        The options are:

        - `namespace`: the schema that has its tables (`sluicegate`); ledgers of different
          namespaces have nothing in common;
        - `timeout`: seconds after which a request ends in LedgerError (5);
        - `connections`: how many there may be at the same time (4), and one for reading;
        - `durability`: `power` (an answer survives a crash of the server) or `process`
          (a crash may take back the last answers, and what they counted with them);
        - `migrate`: `no` never creates tables;
        - `clock`: `server`, or `caller` to take the time of each request, for simulations
          and tests: then a worker with a wrong clock does harm.

        All others are libpq's, such as `sslmode`, `sslrootcert` or `target_session_attrs`.
        Raises LedgerError.
        """
        return cls(Address.read(url))

    @property
    def floor(self) -> int:
        """The latest time that this process has seen in the ledger, in µs since 1970 UTC."""
        return self._lanes.floor

    def perform(self, request: Request) -> Answer:
        """Carry out *request* in one transaction, and return when it is durable. Raises LedgerError."""
        return self._lanes.perform(request)

    async def aperform(self, request: Request) -> Answer:
        """The same without blocking the event loop; a cancelled claim holds nothing afterwards."""
        return await self._lanes.aperform(request)

    def cell(self, key: str) -> Cell:
        """One cell, as it is now. Raises LedgerError."""
        return self._reading.cell(key)

    def look(self, keys: Sequence[str]) -> list[Cell]:
        """Several cells in the order of their keys, as they are at one time. Raises LedgerError."""
        return self._reading.look(keys)

    def out(self) -> list[Out]:
        """All permits that are out. Raises LedgerError."""
        return self._reading.out()

    def cells(self, prefix: str) -> Iterator[tuple[str, Sequence[Any]]]:
        """
        All cells whose key begins with *prefix*, by key. Raises LedgerError.

        They are read in pages of some hundreds, each as it is at that time.
        """
        yield from self._reading.cells(prefix)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """
        The journal of all writers in one order, behind the position *after*. Raises LedgerError.

        It ends before the first entry that is still on its way to be committed, so whoever
        reads on from there misses none. Whoever is among entries when they are removed goes on
        with the first that is left.
        """
        yield from self._reading.entries(after)

    def body(self, entry: int) -> str:
        """The body of the journal entry with this number. Raises LedgerError."""
        return self._reading.body(entry)

    def head(self) -> tuple[int, str]:
        """Position and hash of the journal's last entry, of whichever writer. Raises LedgerError."""
        return self._reading.head()

    def heads(self) -> dict[str, tuple[int, str]]:
        """By writer: the number and the hash of its last entry. Raises LedgerError."""
        return self._reading.heads()

    def writers(self) -> dict[str, int]:
        """The number of each writer, by name. Raises LedgerError."""
        return self._reading.writers()

    def restore(self, holdings: Holdings) -> None:
        """
        Have exactly *holdings*, in one transaction; the chain of each writer goes on from there.

        Raises LedgerError if there is anything in this ledger, or if its role does not own the tables.
        """
        restore(self.address, holdings)
        self._lanes.floor = self._reading.floor()

    def trim(self, upto: Mapping[str, int], keep: Collection[int]) -> None:
        """
        Remove each writer's entries up to that number of its chain, in one transaction, and no
        commit waits for it. Those in *keep* leave the journal too, but `body` still finds them.

        They must be the oldest entries, and not all; what is removed already stays so. Raises
        LedgerError, also for a role that may not DELETE from the journal.
        """
        trim(self._reading, self.address, upto, keep)

    def kept(self) -> Iterator[tuple[int, Entry]]:
        """The entries that `trim` has kept, with their numbers, by number. Raises LedgerError."""
        yield from self._reading.kept()

    def forget(self, numbers: Collection[int]) -> None:
        """Remove these kept entries for good; other numbers are passed over. Raises LedgerError."""
        forget(self._reading, self.address, numbers)

    def close(self) -> None:
        """Finish what waits, and disconnect. A closed ledger raises LedgerError when it is used."""
        self._lanes.close()
        self._reading.close()

    def __repr__(self) -> str:
        return f"<PostgresLedger {self.address}>"


_READING: Final[weakref.WeakSet[Reading]] = weakref.WeakSet()
_INHERITED: Final[list[Any]] = []


def _forgotten(lanes: Lanes, reading: Reading) -> None:
    lanes.retire()
    reading.close()


def _in_child() -> None:
    _INHERITED.extend(reading.in_child() for reading in list(_READING))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)
