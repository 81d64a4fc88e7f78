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
import json
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Final, Literal, TypeAlias

from ..claims import Hold
from ..errors import LedgerError
from .base import Answer, Claiming, Granted, Request, Settled, Settling
from .books import SqliteBooks
from .database import Database

__all__ = ["Committer"]

BATCH: Final = 256
"""So many requests share a transaction at most: their arithmetic takes about as long as the disk."""

GATHER: Final = 0.00005
"""Seconds between two looks at whether more requests come in; a tenth of a durable commit or so."""

State: TypeAlias = Literal["waiting", "begun", "done", "left"]
"""In the queue · in a transaction · answered · nobody is there to be answered."""


class Ticket:
    """A request, and whoever waits for its answer."""

    __slots__ = ("bell", "future", "request", "result", "state")

    def __init__(self, request: Request, future: asyncio.Future[None] | None = None) -> None:
        self.request = request
        self.result: Answer | Exception | None = None
        self.state: State = "begun"
        self.future = future
        self.bell: Lock | None = None

    def outcome(self) -> Answer:
        if isinstance(self.result, Exception):
            raise self.result
        assert self.result is not None  # noqa: S101 - for the type checker: it is done
        return self.result


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
        self._mutex = Lock()  # for what follows; never held during I/O
        self._queue: deque[Ticket] = deque()
        self._owed: list[Settling] = []  # what undoes claims that were granted to nobody
        self._busy = False  # somebody has the turn
        self._obstacle = "its turn"
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
        with self._mutex:
            self._enqueue(ticket)
        timer = loop.call_later(self._timeout, self._expire, ticket)
        try:
            await future
        except BaseException:
            self._abandon(ticket)
            raise
        finally:
            timer.cancel()
        return ticket.outcome()

    def _may_begin(self, ticket: Ticket) -> bool:
        """Take the turn if that is fair, else join the queue."""
        with self._mutex:
            if self._busy or self._queue or self._database.fold_due or self._closing:
                self._enqueue(ticket)
                return False
            self._busy = True
            return True

    def _commit_alone(self, ticket: Ticket) -> bool:
        """Commit in this thread. If another process has the lock, join the queue as its first."""
        locked = False
        try:
            locked = self._database.lock.try_acquire()
            if locked:
                try:
                    self._commit(lambda: [ticket])
                finally:
                    self._database.lock.release()
        finally:
            with self._mutex:
                self._busy = False
                if not locked:
                    self._enqueue(ticket, first=True)
                self._wake()
        return locked

    def _wait(self, ticket: Ticket) -> None:
        assert ticket.bell is not None  # noqa: S101 - for the type checker: it has queued
        if not ticket.bell.acquire(timeout=self._timeout) and not self._expire(ticket):
            ticket.bell.acquire()  # it has begun, and waits for nobody but the disk

    def _enqueue(self, ticket: Ticket, *, first: bool = False) -> None:
        if self._closing and not first:
            raise LedgerError(f"the ledger {self._database.path} is closed; open it again with SqliteLedger")
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
                f"{self._database.path}: after {self._timeout:g} s the request still waited for {self._obstacle}, "
                "and was withdrawn; end what holds it up (`fuser -v` names it), or give the ledger a longer timeout"
            )
        if ticket.future is not None:
            _answer([ticket])
        return True

    def _abandon(self, ticket: Ticket) -> None:
        """Nobody is there for the answer any more: nobody has what it claims."""
        with self._mutex:
            if ticket.state == "waiting":
                self._queue.remove(ticket)
            elif ticket.state == "done":
                self._undo(ticket)
            ticket.state = "left"
            self._wake()

    def _undo(self, ticket: Ticket) -> None:
        if type(ticket.result) is Granted and type(ticket.request) is Claiming:
            self._owed.append(_undoing(ticket.request, ticket.result))

    # --- turns ---

    def _run(self) -> None:
        """The thread: wake up, commit what waits, sleep."""
        while not self._closed:
            self._signals.get()
            while self._turn():
                pass
            if self._retired:
                self.close()
        self._database.lock.close()

    def _turn(self) -> bool:
        """Take the turn for those who wait; False if nobody does, or if somebody else has it."""
        with self._mutex:
            if self._busy or not (self._requests_left() or self._database.fold_due):
                return False
            self._busy = True
        try:
            self._serve()
            while self._requests_left():
                self._serve()
        finally:
            with self._mutex:
                self._busy = False
        return True

    def _serve(self) -> None:
        lock = self._database.lock
        self._obstacle = f"the lock {lock.path}, which another process holds"
        try:
            with lock:
                self._obstacle = "the disk, or for another program that holds SQLite's write lock"
                tickets = self._commit(self._take) if self._requests_left() else []
        except LedgerError as error:  # the lock itself cannot be used
            tickets = self._conclude(self._take(), (), error)
        self._deliver(tickets)
        if self._database.fold_due:
            # Nobody waits for this and nobody is told: if it fails, so does the next commit.
            with suppress(LedgerError), lock:
                self._database.fold()
        if len(tickets) > 1:
            self._gather(len(tickets))

    def _gather(self, expected: int) -> None:
        """
        Wait for those who were answered together, while they come back: without this, the
        first one would commit alone, and all the others wait for the disk twice.
        """
        seen = -1
        while seen < len(self._queue) < expected:
            seen = len(self._queue)
            time.sleep(GATHER)

    def _take(self) -> list[Ticket]:
        with self._mutex:
            tickets = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            for ticket in tickets:
                ticket.state = "begun"
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
                owed[:] = [undoing for undoing in owed if type(books.perform(undoing)) is Settled]
            tickets.extend(take())
            for ticket in tickets:
                ticket.result = books.perform(ticket.request)

        try:
            self._database.transact(work)
        except LedgerError as error:
            return self._conclude(tickets or take(), owed, error)
        except BaseException as error:
            self._conclude(tickets, owed, error)
            raise
        return self._conclude(tickets, (), None)

    def _conclude(
        self, tickets: list[Ticket], owed: Sequence[Settling], error: BaseException | None
    ) -> list[Ticket]:
        """
        The transaction is over. After an error it may have been committed all the same:
        what it claims is undone, and nobody is told that it was granted.
        """
        with self._mutex:
            self._owed[:0] = owed
            for ticket in tickets:
                if error is not None or ticket.state == "left":
                    self._undo(ticket)
                if error is not None:
                    ticket.result = LedgerError(*error.args)
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
                loop.call_soon_threadsafe(_answer, group)
            except RuntimeError:  # the loop is closed, and its tasks are gone
                for ticket in group:
                    self._abandon(ticket)

    def _requests_left(self) -> bool:
        return bool(self._queue or self._owed)

    def _wake(self) -> None:
        """Have the thread look after what waits, if there is anything. Under the mutex."""
        if self._busy or not (self._requests_left() or self._database.fold_due):
            return  # whoever is busy looks when it is done
        if self._thread is None:
            thread = Thread(target=self._run, name=f"sluicegate {self._database.path.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise LedgerError(f"{self._database.path}: no thread for commits: {error}") from error
            self._thread = thread
        self._signals.put(None)

    # --- the end ---

    def close(self) -> None:
        """Finish what waits, within the timeout; then let go of the file."""
        with self._mutex:
            if self._closing:
                return
            self._closing = True
        deadline = time.monotonic() + self._timeout
        while (self._busy or self._requests_left()) and time.monotonic() < deadline:
            time.sleep(0.001)
        error = LedgerError(f"the ledger {self._database.path} was closed before the request was carried out")
        self._deliver(self._conclude(self._take(), (), error))
        self._database.close()
        self._closed = True
        if self._thread is None:
            self._database.lock.close()
        else:
            self._signals.put(None)  # the thread may be waiting for the lock; it closes the file itself
            if self._thread is not current_thread():
                self._thread.join(self._timeout)

    def retire(self) -> None:
        """
        Close because nobody can use the ledger any more.

        A finalizer runs in any thread between any two instructions, perhaps in ours
        while it holds the mutex: so this only leaves word. SimpleQueue allows that.
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
        self._begin_anew()


def _answer(tickets: list[Ticket]) -> None:
    """In the event loop of their tasks; one that is cancelled by now has seen to itself."""
    for ticket in tickets:
        if ticket.future is not None and not ticket.future.done():
            ticket.future.set_result(None)


def _undoing(request: Claiming, granted: Granted) -> Settling:
    hold = Hold(request.permit, granted.at, granted.at + request.lease, request.binding)
    entry = (
        f'"error":"cancelled before dispatch","kind":"outcome","outcome":"failed","permit":{json.dumps(hold.permit)}}}'
    )
    return Settling(hold, request.claims, granted.at, "failed", {}, entry)


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
