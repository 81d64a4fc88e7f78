"""One SQLite file and the one connection of this process to it: transactions, folds, reading."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, NoReturn, TypeVar

from ..claims import Cell
from ..errors import LedgerError
from ..journal import GENESIS, Entry
from .base import Out
from .books import SqliteBooks
from .files import LockFile, create, inspect, refuse_place
from .holdings import Holdings, seq_of_sole, sole_writer

__all__ = ["Database"]

FOLD_ENTRIES: Final = 500
"""Changes are folded, and the write-ahead log is checkpointed, after so many entries…"""

FOLD_BULK: Final = 8_000_000
"""…or characters of them, whichever comes first."""

LOOK: Final = 0.05
"""Seconds between two looks at whether the file is still in its place."""

_T = TypeVar("_T")


class Database:
    """
    The connection is one, and whoever uses it holds the guard: another thread would see
    the open transaction of this one.

    The *lock* is for processes, around every write. SQLite has locks of its own, but its
    busy handler lets a process starve, and its releases 3.7.0 to 3.51.2 can corrupt the
    file when two connections write and checkpoint at the same time (the "WAL-reset bug",
    https://sqlite.org/wal.html). So checkpoints are made under the lock too, and never by
    SQLite itself. Closing the last connection makes one, when there is no second.
    """

    def __init__(self, path: Path, *, synchronous: str, timeout: float) -> None:
        self.path = path
        self.lock = LockFile(path.with_name(path.name + "-lock"))
        self.fold_due: bool = False
        self.floor: int = 0
        self.gone: str | None = None  # why it cannot be used any more
        self._synchronous = synchronous
        self._timeout = timeout
        self._guard = Lock()
        self._opened: tuple[sqlite3.Connection, SqliteBooks] | None = None
        self._inode: tuple[int, int] | None = None
        self._look_again = 0.0
        self._known = (0, GENESIS, "")

    def open(self) -> None:
        """Open the ledger; make it first if there is none. Raises LedgerError."""
        if self.path in _INHERITED:
            raise LedgerError(_INHERITED[self.path][0])
        try:
            refuse_place(self.path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.lock.try_acquire(self._timeout, pause=0.002):
                raise LedgerError(
                    f"the ledger {self.path} was locked for {self._timeout:g} s; see who keeps "
                    f"{self.lock.path} (`fuser -v` names them), or give the ledger a longer timeout"
                )
            if not self.path.exists():
                create(self.path)
            inspect(self.path)
            self._inode = _inode(self.path)
            with self._guard:
                connection, books = self._begin()  # the lock is not enough: may we write?
                books.refresh()
                connection.execute("ROLLBACK")
                self._note(books)
        except BaseException as error:  # noqa: BLE001 - raised again
            self.lock.close()
            self._fail("opened", error)
        self.lock.release()

    def transact(self, work: Callable[[SqliteBooks], None]) -> None:
        """
        Do *work* in one transaction, under the lock, and return when it is durable.

        Raises LedgerError. After a COMMIT that failed nobody knows whether the
        work was done: look for its traces instead of doing it again.
        """
        with self._guard:
            connection, books = self._begin()
            try:
                books.refresh()
                work(books)
                books.write()
                connection.execute("COMMIT")
                books.written()
            except BaseException as error:  # noqa: BLE001 - raised again
                self._fail("written", error)
            self._note(books)

    def fold(self, *, closing: bool = False) -> None:
        """
        Fold the changes and checkpoint the log, under the lock, if nobody else just did.

        When *closing*, fold whatever there is: then `head` has the last entry.
        """
        with self._guard:
            self.fold_due = False  # also if it fails: the next commit sees for itself
            if closing and self._opened is None:
                return
            connection, books = self._begin()
            try:
                books.refresh()
                self._note(books)
                if not (self.fold_due or (closing and books.seq > books.folded)):
                    connection.execute("ROLLBACK")
                    return
                books.fold()
                connection.execute("COMMIT")
                books.was_folded()
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except BaseException as error:  # noqa: BLE001 - raised again
                self._fail("checkpointed", error)
            self._note(books)

    def restore(self, holdings: Holdings) -> None:
        """Fill the empty file in one transaction, under the lock. Raises LedgerError."""
        writer = sole_writer(holdings, "a SQLite file")
        if not self.lock.try_acquire(self._timeout, pause=0.002):
            raise LedgerError(
                f"the ledger {self.path} is in use by another process; copy to one that is not"
            )
        try:
            with self._guard:
                connection, books = self._begin()
                try:
                    books.refresh()
                    books.restore(writer, holdings)
                    connection.execute("COMMIT")
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                except BaseException as error:  # noqa: BLE001 - raised again
                    self._fail("written", error)
                self._drop()  # the books begin anew with what is there now
                self.floor = holdings.floor
        finally:
            self.lock.release()

    def trim(self, upto: Mapping[str, int], keep: Collection[int]) -> None:
        """Remove the oldest entries. Raises LedgerError."""

        def work(books: SqliteBooks) -> None:
            books.trim(seq_of_sole(upto, books.writer, books.seq), keep)

        self._tidy(work)

    def forget(self, numbers: Collection[int]) -> None:
        """Remove entries that were kept. Raises LedgerError."""
        self._tidy(lambda books: books.forget(numbers))

    def _tidy(self, work: Callable[[SqliteBooks], None]) -> None:
        """Do *work*, which is no request's, after a fold, under the lock."""
        lock = LockFile(self.lock.path)  # ours is for whoever has the turn to commit
        if not lock.try_acquire(self._timeout, pause=0.0005):  # commits leave short gaps
            raise LedgerError(
                f"the ledger {self.path} was locked for {self._timeout:g} s; try again"
            )
        try:
            self.fold(closing=True)
            with self._guard:
                connection, books = self._begin()
                try:
                    books.refresh()
                    work(books)
                    connection.execute("COMMIT")
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                except BaseException as error:  # noqa: BLE001 - raised again
                    self._fail("written", error)
        finally:
            lock.release()
            lock.close()

    def head(self) -> tuple[int, str]:
        """The last entry's number and hash."""
        return self._read(SqliteBooks.head)

    def heads(self) -> dict[str, tuple[int, str]]:
        """Number and hash of the last entry, by the one writer of the file."""
        return self._read(SqliteBooks.heads)

    def cell(self, key: str) -> Cell:
        """One cell, as it is now."""
        return self._read(partial(SqliteBooks.one_cell, key=key))

    def look(self, keys: Sequence[str]) -> list[Cell]:
        """Several cells, as they are now."""
        return self._read(partial(SqliteBooks.several, keys=keys))

    def body(self, entry: int) -> str:
        """The body of one journal entry."""
        return self._read(partial(SqliteBooks.body, entry=entry))

    def out(self) -> list[Out]:
        """All permits that are out."""
        return self._read(SqliteBooks.all_out)

    def cells(self, prefix: str) -> Iterator[tuple[str, Sequence[Any]]]:
        """The cells whose key begins with *prefix*; each page of them as it is when it is read."""
        end: str | None = ""
        while end is not None:
            page, end = self._read(partial(SqliteBooks.page_of_cells, prefix=prefix, after=end))
            yield from page

    def entries(self, after: int) -> Iterator[Entry]:
        """The journal behind the entry *after*."""
        while page := self._read(partial(SqliteBooks.page_of_entries, after=after)):
            yield from page
            after = page[-1].seq

    def kept(self) -> Iterator[tuple[int, Entry]]:
        """The entries that `trim` has kept, by number."""
        after = 0
        while page := self._read(partial(SqliteBooks.page_of_kept, after=after)):
            yield from page
            after = page[-1][0]

    def close(self) -> None:
        """Let go of the connection; SQLite tidies up if it is the last one to the file."""
        with self._guard:
            self.gone = f"the ledger {self.path} is closed; open it again with SqliteLedger"
            self._drop()

    # --- fork: nothing of SQLite's may be inherited ---

    def before_fork(self) -> bool:
        """
        Close the connection and keep the guard. It is opened again when it is needed.

        SQLite remembers which locks the process holds. A child would inherit the memory
        and not the locks, and might write into a log that its parent has deleted.
        """
        ready = self._guard.acquire(timeout=self._timeout)
        if ready:
            self._drop()
        return ready

    def after_fork(self) -> None:
        self._guard.release()

    def in_child(self, *, ready: bool) -> None:
        """Begin anew in the child; if its parent was not *ready*, let nobody use the file here."""
        self._guard = Lock()
        self.lock.close()
        if not ready:
            self.gone = (
                f"the ledger {self.path} was at work when this process was forked, and cannot be used "
                "here; fork when it is at rest, or start processes by spawn"
            )
            _INHERITED[self.path] = self.gone, self._opened
            self._opened = None

    # --- below: under the guard ---

    def _begin(self) -> tuple[sqlite3.Connection, SqliteBooks]:
        connection, books = self._connection()
        if time.monotonic() >= self._look_again:
            self._look()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise LedgerError(
                    f"the ledger {self.path} was locked for {self._timeout:g} s by another program; "
                    "end its transaction (`fuser -v` names it), or give the ledger a longer timeout"
                ) from error
            self._fail("written", error)
        return connection, books

    def _look(self) -> None:
        """See that the file is still in its place. It costs as much as the rest of beginning."""
        if _inode(self.path) != self._inode:
            raise LedgerError(
                f"the ledger {self.path} was removed or replaced while it was in use, and with it what "
                "it had counted; put it back, or restart to begin with what is there now"
            )
        self._look_again = time.monotonic() + LOOK

    def _read(self, query: Callable[[SqliteBooks], _T]) -> _T:
        with self._guard:
            connection, books = self._connection()
            try:
                connection.execute("BEGIN")
                found = query(books)
                connection.execute("COMMIT")
            except BaseException as error:  # noqa: BLE001 - raised again
                self._fail("read", error)
            return found

    def _connection(self) -> tuple[sqlite3.Connection, SqliteBooks]:
        if self.gone is not None:
            raise LedgerError(self.gone)
        if self._opened is None:
            try:
                connection = sqlite3.connect(
                    f"{self.path.as_uri()}?mode=rw",
                    uri=True,
                    timeout=self._timeout,
                    isolation_level=None,
                    check_same_thread=False,
                )
                self._opened = connection, SqliteBooks(connection, self._known)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute("PRAGMA fullfsync = 1")  # on macOS fsync alone is no promise
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.Error as error:
                self._fail("opened", error)
        return self._opened

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()  # rolls back

    def _note(self, books: SqliteBooks) -> None:
        self.floor = books.floor
        self._known = books.seq, books.last, books.writer
        self.fold_due = books.seq - books.folded >= FOLD_ENTRIES or books.bulk >= FOLD_BULK

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        """After an error the connection is worthless: drop it, and say what went wrong."""
        self._drop()
        if isinstance(error, LedgerError) or not isinstance(error, Exception):
            raise error
        raise LedgerError(
            f"the ledger {self.path} cannot be {what}: {error}; see that its disk has space, and that "
            "this process may write the file and its directory"
        ) from error


_INHERITED: Final[dict[Path, tuple[str, object]]] = {}
"""Connections that a fork caught at work. They are kept: closing them would do harm too."""


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
