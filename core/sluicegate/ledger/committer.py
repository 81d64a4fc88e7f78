"""
Who commits, and in which order.

One transaction is under way at a time; whoever carries it out has the *turn*. A thread
that finds nobody at work takes the turn and commits its own request: handing it over
would cost more than the work. Everybody else joins a queue, first in first out, which a
thread of ours commits in batches, so that one wait for the disk serves all who wait by
then. An event loop always joins the queue: it must not wait for a disk.

Who waits can give up: a request that has not begun is withdrawn. A claim that has, and
was granted to nobody, is undone in the next transaction by an outcome of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, RLock, Thread, current_thread
from typing import Final

from ..errors import LedgerError
from .base import Answer, Request, Settled, Settling
from .books import SqliteBooks
from .database import Database
from .ticket import Ticket, answer, undoing

__all__ = ["Committer"]

BATCH: Final = 256
"""So many requests at most share a transaction."""

PAUSE: Final = 0.00005
"""Seconds between two looks at whether something has come: a fraction of a durable commit."""

PATIENCE: Final = 0.002
"""For so many seconds a thread looks itself for the lock of the processes: a few commits long."""


class Committer:
    """Carries out requests on one database; safe for threads and for asyncio."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._fork_ready = False
        self._closing = self._closed = self._retired = False
        self._begin_anew()
        _LIVE.add(self)

    def _begin_anew(self) -> None:
        # For what follows, never held during I/O. Re-entrant, because a task whose loop is gone
        # may be collected, and so abandon its ticket, in a thread that holds it.
        self._mutex = RLock()
        self._queue: deque[Ticket] = deque()
        self._owed: list[Settling] = []  # what undoes claims that were granted to nobody
        self._failing = False  # the last transaction did
        self._turn: object | None = None  # who has it: a ticket, or we ourselves
        self._thread: Thread | None = None
        self._signals: SimpleQueue[None] = SimpleQueue()

    # --- requests ---

    def perform(self, request: Request) -> Answer:
        """The answer to *request*, when it is durable. Raises LedgerError."""
        ticket = Ticket(request)
        try:
            if not (self._may_begin(ticket) and self._commit_alone(ticket)):
                self._wait(ticket)
        except BaseException:  # KeyboardInterrupt comes anywhere
            self._abandon(ticket)
            raise
        return ticket.outcome()

    async def aperform(self, request: Request) -> Answer:
        """The same for an event loop. A claim that is cancelled holds nothing afterwards."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        ticket = Ticket(request, future)
        timer = loop.call_later(self._timeout, self._expire, ticket)
        try:
            with self._mutex:
                self._enqueue(ticket)
            await future
        except BaseException:
            self._abandon(ticket)
            raise
        finally:
            timer.cancel()
        return ticket.outcome()

    def _may_begin(self, ticket: Ticket) -> bool:
        """Take the turn if nobody has it or waits for it, else join the queue."""
        with self._mutex:
            if self._turn is not None or self._queue or self._closing or self._database.fold_due:
                self._enqueue(ticket)
                return False
            self._turn = ticket
            return True

    def _commit_alone(self, ticket: Ticket) -> bool:
        """Commit in this thread; if other processes keep the lock, be the first in the queue."""
        lock = self._database.lock
        blocked = False
        try:
            blocked = not lock.try_acquire(PATIENCE, pause=PAUSE)
            if not blocked:
                try:
                    self._commit(lambda: [ticket])
                finally:
                    lock.release()
        finally:
            with self._mutex:
                self._turn = None
                if blocked:
                    self._enqueue(ticket, first=True)
                self._wake()
        return not blocked

    def _wait(self, ticket: Ticket) -> None:
        assert ticket.bell is not None  # noqa: S101 - for the type checker: it has queued
        if not ticket.bell.acquire(timeout=self._timeout) and not self._expire(ticket):
            ticket.bell.acquire()  # it has begun, and waits for nobody but the disk

    def _enqueue(self, ticket: Ticket, *, first: bool = False) -> None:
        if self._closing and not first:
            raise LedgerError(
                self._database.gone or f"the ledger {self._database.path} is being closed"
            )
        if ticket.future is None:
            ticket.bell = Lock()
            ticket.bell.acquire()
        ticket.state = "waiting"
        if first:
            self._queue.appendleft(ticket)
        else:
            self._queue.append(ticket)
        self._wake()

    def _expire(self, ticket: Ticket) -> bool:
        """Its time is over: withdraw it and say so, unless it has begun."""
        with self._mutex:
            if ticket.state != "waiting":
                return False
            self._queue.remove(ticket)
            ticket.state = "done"
            ticket.result = LedgerError(
                f"the ledger {self._database.path} was locked for {self._timeout:g} s, so the request "
                "was withdrawn; see who keeps it and its -lock file (`fuser -v` names them), or give "
                "the ledger a longer timeout"
            )
        if ticket.future is not None:
            answer([ticket])
        return True

    def _abandon(self, ticket: Ticket) -> None:
        """Nobody is there for the answer any more, so nobody has what it claims."""
        with self._mutex:
            if self._turn is ticket:
                self._turn = None
            if ticket.state == "waiting":
                self._queue.remove(ticket)
            elif ticket.state == "done":
                self._owed += undoing(ticket)
            ticket.state = "left"
            self._wake()

    # --- turns ---

    def _run(self) -> None:
        """The thread: wake up, commit what waits, sleep."""
        while not self._closed:
            self._signals.get()
            self._take_turn()
            if self._retired:
                self.close()
        self._database.lock.close()

    def _take_turn(self) -> None:
        """Commit for those who wait, until nobody does; unless somebody else is at it."""
        with self._mutex:
            if self._turn is not None or not self._work_left():
                return
            self._turn = self
        while self._turn is not None:
            self._serve()
            with self._mutex:
                if not self._work_left():
                    self._turn = None

    def _serve(self) -> None:
        lock = self._database.lock
        try:
            lock.acquire()
        except LedgerError as error:
            tickets = self._give_up(self._take(), (), error)
        else:
            tickets = self._commit(self._take) if self._queue or self._owed else []
            lock.release()
        self._deliver(tickets)
        if self._database.fold_due:
            self._fold()
        if len(tickets) > 1:
            self._gather(len(tickets))

    def _fold(self) -> None:
        """Nobody waits for this, so nobody is told: if it fails, so will the next commit."""
        with suppress(LedgerError):
            self._database.lock.acquire()
            try:
                self._database.fold()
            finally:
                self._database.lock.release()

    def _gather(self, expected: int) -> None:
        """
        Wait for those who were answered together, while they come back. Without this, the
        first of them would commit alone, and all others wait for the disk twice.
        """
        seen = -1
        while seen < len(self._queue) < expected:
            seen = len(self._queue)
            time.sleep(PAUSE)

    def _take(self) -> list[Ticket]:
        with self._mutex:
            tickets: list[Ticket] = []
            while self._queue and len(tickets) < BATCH:
                ticket = self._queue.popleft()
                ticket.state = "begun"
                tickets.append(ticket)
        return tickets

    def _commit(self, take: Callable[[], list[Ticket]]) -> list[Ticket]:
        """Commit what *take* gives as soon as the file is ours, and return it."""
        tickets: list[Ticket] = []
        owed: list[Settling] = []

        def work(books: SqliteBooks) -> None:
            if self._owed:
                with self._mutex:
                    owed[:], self._owed = self._owed, []
                # One that is rejected is resolved: its claim was never committed, or is over.
                owed[:] = [
                    settling for settling in owed if type(books.perform(settling)) is Settled
                ]
            tickets.extend(take())
            for ticket in tickets:
                ticket.result = books.perform(ticket.request)

        try:
            self._database.transact(work)
        except LedgerError as error:
            return self._give_up(tickets or take(), owed, error)
        except BaseException as error:
            self._give_up(tickets, owed, error)
            raise
        with self._mutex:
            self._failing = False
            for ticket in tickets:
                if ticket.state == "left":
                    self._owed += undoing(ticket)
                else:
                    ticket.state = "done"
        return tickets

    def _give_up(
        self, tickets: list[Ticket], owed: Sequence[Settling], error: BaseException
    ) -> list[Ticket]:
        """
        After an error a transaction may have been committed all the same: what it granted
        is undone, and nobody is told that it was granted.
        """
        with self._mutex:
            self._failing = True
            self._owed[:0] = owed
            for ticket in tickets:
                self._owed += undoing(ticket)
                ticket.result = LedgerError(*error.args)
                ticket.result.__cause__ = error
                if ticket.state != "left":
                    ticket.state = "done"
        return tickets

    def _deliver(self, tickets: list[Ticket]) -> None:
        """Wake up who waits: threads one by one, each event loop once."""
        loops: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
        for ticket in tickets:
            if ticket.future is not None:
                loops.setdefault(ticket.future.get_loop(), []).append(ticket)
            elif ticket.bell is not None:
                ticket.bell.release()
        for loop, group in loops.items():
            try:
                loop.call_soon_threadsafe(answer, group)
            except RuntimeError:  # the loop is closed, and its tasks are gone
                for ticket in group:
                    self._abandon(ticket)

    def _work_left(self) -> bool:
        """What is owed while transactions fail is left to the next one that somebody waits for."""
        owed = self._owed and not self._failing
        return bool(self._queue or owed or self._database.fold_due)

    def _wake(self) -> None:
        """Under the mutex: have the thread look, if there is something to do and nobody at it."""
        if self._turn is not None or not self._work_left():
            return
        if self._thread is None:
            name = f"sluicegate {self._database.path.name}"
            thread = Thread(target=self._run, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter is about to end
                raise LedgerError(f"no thread for {self._database.path}: {error}") from error
            self._thread = thread
        self._signals.put(None)

    # --- the end ---

    def close(self) -> None:
        """Finish what waits, within the timeout, and let go of the file."""
        with self._mutex:
            if self._closing:
                return
            self._closing = True
        deadline = time.monotonic() + self._timeout
        while (self._turn is not None or self._work_left()) and time.monotonic() < deadline:
            time.sleep(0.001)
        with self._mutex:
            idle, self._turn = self._turn is None, self
        lock = self._database.lock
        with suppress(LedgerError):  # what was answered is durable as it is
            if idle and lock.try_acquire(deadline - time.monotonic(), pause=0.002):
                try:
                    self._database.fold(closing=True)
                finally:
                    lock.release()
        self._database.close()
        self._closed = True
        if self._thread is None:
            lock.close()
        else:
            self._signals.put(None)  # it may be waiting for the lock; it lets go of it itself
            if self._thread is not current_thread():
                self._thread.join(self._timeout)

    def retire(self) -> None:
        """
        Close because nobody can use the ledger any more.

        A finalizer runs in any thread between any two instructions, perhaps in ours while
        it holds the mutex. So this only leaves word, which SimpleQueue allows at any time.
        """
        if self._thread is None:
            self.close()
        else:
            self._retired = True
            self._signals.put(None)

    # --- fork ---

    def before_fork(self) -> None:
        self._fork_ready = self._database.before_fork()

    def after_fork(self) -> None:
        if self._fork_ready:
            self._database.after_fork()

    def in_child(self) -> None:
        """Threads and what they wait for stay with the parent."""
        self._database.in_child(ready=self._fork_ready)
        self._closing = self._closing or not self._fork_ready
        self._begin_anew()


_LIVE: Final[weakref.WeakSet[Committer]] = weakref.WeakSet()


def _all(step: Callable[[Committer], None]) -> Callable[[], None]:
    def each() -> None:
        for committer in list(_LIVE):
            step(committer)

    return each


os.register_at_fork(
    before=_all(Committer.before_fork),
    after_in_parent=_all(Committer.after_fork),
    after_in_child=_all(Committer.in_child),
)
atexit.register(_all(Committer.close))
