"""The default ledger: one SQLite file, durable, for all threads and processes of one machine."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, unquote

from ..claims import Cell
from ..errors import LedgerError
from ..journal import Entry
from .base import Answer, Out, Request
from .database import Database
from .holdings import Holdings
from .sqlite_committer import SqliteCommitter

__all__ = ["Durability", "SqliteLedger"]

Durability: TypeAlias = Literal["power", "process"]
"""What an answered request survives: loss of power, or only the end of the process."""

_SYNCHRONOUS: Final = {"power": "FULL", "process": "NORMAL"}

_FORMS: Final = "write sqlite:///relative/file.db or sqlite:////absolute/file.db"


class SqliteLedger:
    """
    A ledger in the file *path*, which is made with its directories if it is not there.

    With *durability* "power" an answer is given when the disk has it. With "process" it
    survives the death of the process, but a loss of power may take back the last
    decisions, and what they counted with them. *timeout* is in seconds: for so long at
    most a request waits for those before it, for other processes, and for SQLite's own
    locks; then it raises LedgerError, and nothing has happened.

    Beside the file are `<file>-lock`, `<file>-wal` and `<file>-shm`; leave them alone
    while anything uses the ledger. The file must be on a local disk: network file
    systems are refused where they can be recognised, which is on Linux.

    A process may fork: parent and child each open the file anew.

    Raises LedgerError if the file is no ledger, is damaged, is of another version, or
    cannot be used for any other reason. Such a file is left as it is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "power",
        timeout: float = 5.0,
    ) -> None:
        if durability not in _SYNCHRONOUS:
            accepted = " or ".join(get_args(Durability))
            raise LedgerError(f"durability is {durability!r}; it must be {accepted}")
        if not (math.isfinite(timeout) and timeout > 0):
            raise LedgerError(f"timeout is {timeout!r}; it must be a number of seconds above 0")
        self.path = Path(os.path.realpath(path))
        database = Database(self.path, synchronous=_SYNCHRONOUS[durability], timeout=timeout)
        database.open()
        self._database = database
        self._committer = SqliteCommitter(database, timeout=timeout)
        # At exit they are all closed in the open; this is for a ledger that is forgotten before.
        weakref.finalize(self, self._committer.retire).atexit = False

    @classmethod
    def at(cls, url: str) -> SqliteLedger:
        """
        The ledger at a URL: `sqlite:///relative.db`, or
        `sqlite:////absolute.db?durability=process&timeout=2`.

        Raises LedgerError.
        """
        if not url.startswith("sqlite:///"):
            raise LedgerError(f"{url!r} names no file; {_FORMS}")
        quoted, _, query = url.removeprefix("sqlite:///").partition("?")
        path = unquote(quoted)
        if path in ("", "/", ":memory:"):
            raise LedgerError(f"{url!r} names no file; {_FORMS}, or memory: for a ledger in memory")
        options: dict[str, Any] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in ("durability", "timeout"):
                raise LedgerError(
                    f"{url!r} has an unknown option {name!r}; the options are durability and timeout"
                )
            if name in options:
                raise LedgerError(f"{url!r} gives {name!r} twice")
            options[name] = _seconds(value) if name == "timeout" else value
        return cls(path, **options)

    @property
    def floor(self) -> int:
        """The latest time that this process has seen in the ledger, in µs since 1970 UTC."""
        return self._database.floor

    def perform(self, request: Request) -> Answer:
        """Carry out *request* in one transaction, and return when it is durable. Raises LedgerError."""
        return self._committer.perform(request)

    async def aperform(self, request: Request) -> Answer:
        """The same without blocking the event loop; a cancelled claim holds nothing afterwards."""
        return await self._committer.aperform(request)

    def cell(self, key: str) -> Cell:
        """One cell, as it is now. Raises LedgerError."""
        return self._database.cell(key)

    def look(self, keys: Sequence[str]) -> list[Cell]:
        """Several cells in the order of their keys, as they are at one time. Raises LedgerError."""
        return self._database.look(keys)

    def out(self) -> list[Out]:
        """All permits that are out. Raises LedgerError."""
        return self._database.out()

    def cells(self, prefix: str) -> Iterator[tuple[str, Sequence[Any]]]:
        """
        All cells whose key begins with *prefix*, by key. Raises LedgerError.

        They are read in pages of some hundreds, each as it is at that time.
        """
        yield from self._database.cells(prefix)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The journal in order, beginning after the entry with the number *after*. Raises LedgerError."""
        yield from self._database.entries(after)

    def body(self, entry: int) -> str:
        """The body of the journal entry with this number. Raises LedgerError."""
        return self._database.body(entry)

    def head(self) -> tuple[int, str]:
        """Number and hash of the journal's last entry. Raises LedgerError."""
        return self._database.head()

    def heads(self) -> dict[str, tuple[int, str]]:
        """The same by writer, of whom a file has one. Raises LedgerError."""
        return self._database.heads()

    def writers(self) -> dict[str, int]:
        """The number of the only writer, which is 0, by its name. Raises LedgerError."""
        return dict.fromkeys(self._database.heads(), 0)

    def restore(self, holdings: Holdings) -> None:
        """
        Have exactly *holdings*, in one transaction; the chain goes on from there. Raises LedgerError
        if there is anything in this ledger, or if the journal has several writers.
        """
        self._database.restore(holdings)

    def trim(self, upto: Mapping[str, int], keep: Collection[int]) -> None:
        """
        Remove the oldest entries of the journal, in one transaction; those in *keep* can still
        be found by `body`. The file's space is used again, and not given back. Raises LedgerError.
        """
        self._database.trim(upto, keep)

    def kept(self) -> Iterator[tuple[int, Entry]]:
        """The entries that `trim` has kept, with their numbers. Raises LedgerError."""
        yield from self._database.kept()

    def forget(self, numbers: Collection[int]) -> None:
        """Remove kept entries for good. Raises LedgerError."""
        self._database.forget(numbers)

    def close(self) -> None:
        """Finish what waits, and let go of the file. A closed ledger raises LedgerError when it is used."""
        self._committer.close()


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise LedgerError(f"timeout is {value!r}; it must be a number of seconds above 0") from None
