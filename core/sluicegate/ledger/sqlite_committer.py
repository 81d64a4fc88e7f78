"""Committing to a SQLite file: its one connection, and the lock between processes."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import ClassVar, Final

from ..errors import LedgerError
from .books import SqliteBooks
from .committer import Committer
from .database import Database
from .pauses import PAUSE
from .ticket import Batch, Kept

__all__ = ["SqliteCommitter"]

PATIENCE: Final = 0.002
"""For so many seconds a caller's thread looks itself for the lock of the processes: a few commits long."""


class SqliteCommitter(Committer[Database]):
    """The only lane is the *database*. What has begun waits for nobody but the disk, so it lasts."""

    lasting: ClassVar[bool] = True

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._fork_ready = False
        super().__init__(f"the ledger {database.path}", timeout=timeout)

    def _open(self) -> Database:
        return self._database

    def _carry(self, lane: Database, batch: Batch) -> None:
        """Who comes until the file is ours shares its transaction, and can be withdrawn until then."""

        def work(books: SqliteBooks) -> None:
            for ticket in batch.tickets:
                batch.answers.append(books.perform(ticket.request))

        if not batch.hurried:
            lane.lock.acquire()
        elif not lane.lock.try_acquire(PATIENCE, pause=PAUSE):
            raise Kept(f"another process keeps {lane.lock.path}")
        try:
            lane.transact(work)
        finally:
            lane.lock.release()

    def _due(self) -> bool:
        return self._database.fold_due

    def _tidy(self) -> None:
        """Nobody waits for this, so nobody is told: if it fails, so will the next commit."""
        with suppress(LedgerError):
            self._database.lock.acquire()
            try:
                self._database.fold()
            finally:
                self._database.lock.release()

    def _late(self, *, begun: bool) -> str:
        return (
            f"{self._label} was locked for {self._timeout:g} s, so the request was withdrawn; see who "
            "keeps it and its -lock file (`fuser -v` names them), or give the ledger a longer timeout"
        )

    def _gone(self) -> str:
        return self._database.gone or f"{self._label} is being closed"

    def _leave(self, lane: Database, until: float) -> None:
        with suppress(LedgerError):  # what was answered is durable as it is
            if lane.lock.try_acquire(until - time.monotonic(), pause=0.002):
                try:
                    lane.fold(closing=True)
                finally:
                    lane.lock.release()
        lane.lock.close()

    def _end(self) -> None:
        self._database.close()

    def before_fork(self) -> None:
        self._fork_ready = self._database.before_fork()

    def after_fork(self) -> None:
        if self._fork_ready:
            self._database.after_fork()

    def in_child(self) -> None:
        self._database.in_child(ready=self._fork_ready)
        self._closing = self._closing or not self._fork_ready
        super().in_child()
