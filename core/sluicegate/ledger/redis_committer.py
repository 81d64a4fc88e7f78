"""
Who commits, and in which order: as for a file (committer.py), with a server that may be slow.

One batch is under way at a time; whoever carries it out has the *turn*. A thread that
finds nobody at work takes the turn and commits its own request. Everybody else joins a
queue, which a thread of ours commits in batches. An event loop always joins the queue.

Nobody waits longer than the timeout. A request that has not begun by then is withdrawn.
One that has is left behind: if it turns out that it was granted, it is undone by an
outcome of its own, and so is a claim whose task was cancelled.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, RLock, Thread, current_thread
from typing import Final

from ..errors import LedgerError
from .base import Answer, Request, Settling
from .redis_store import Store
from .ticket import Ticket, answer, undoing

__all__ = ["Committer"]

BATCH: Final = 256
"""So many requests at most share a batch."""

PAUSE: Final = 0.00005
"""Seconds between two looks at whether something has come: a fraction of an exchange."""

AGAIN: Final = 0.5
"""Seconds until what could not be undone is tried again."""


class Committer:
    """Carries out requests on the store that *make* makes; safe for threads and for asyncio."""

    def __init__(self, make: Callable[[], Store], *, timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._closing = self._closed = self._retired = False
        self._begin_anew()
        self.store.open()
        _LIVE.add(self)

    def _begin_anew(self) -> None:
        self.store = self._make()
        # For what follows, never held during I/O. Re-entrant, because a task whose loop is gone
        # may be collected, and so abandon its ticket, in a thread that holds it.
        self._mutex = RLock()
        self._queue: deque[Ticket] = deque()
        self._owed: list[Settling] = []  # what undoes claims that were granted to nobody
        self._turn: object | None = None  # who has it: a ticket, or we ourselves
        self._failing = False  # the last batch did
        self._thread: Thread | None = None
        self._signals: SimpleQueue[None] = SimpleQueue()

    # --- requests ---

    def perform(self, request: Request) -> Answer:
        """The answer to *request*, when the server has it. Raises LedgerError."""
        ticket = Ticket(request)
        try:
            if self._may_begin(ticket):
                self._commit_alone(ticket)
            else:
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
            if self._turn is not None or self._queue or self._closing:
                self._enqueue(ticket)
                return False
            self._turn = ticket
            return True

    def _commit_alone(self, ticket: Ticket) -> None:
        try:
            self._commit([ticket])
        finally:
            with self._mutex:
                self._turn = None
                self._wake()

    def _wait(self, ticket: Ticket) -> None:
        assert ticket.bell is not None  # noqa: S101 - for the type checker: it has queued
        if not ticket.bell.acquire(timeout=self._timeout):
            error = self._leave(ticket)
            if error is not None:
                raise error

    def _enqueue(self, ticket: Ticket) -> None:
        if self._closing:
            raise LedgerError(self.store.gone or f"{self.store.label} is being closed")
        if ticket.future is None:
            ticket.bell = Lock()
            ticket.bell.acquire()
        ticket.state = "waiting"
        self._queue.append(ticket)
        self._wake()

    def _expire(self, ticket: Ticket) -> None:
        """The time of a task is over."""
        error = self._leave(ticket)
        if error is not None and ticket.future is not None and not ticket.future.done():
            ticket.future.set_exception(error)

    def _leave(self, ticket: Ticket) -> LedgerError | None:
        """Its time is over: nobody waits for it any more, unless it is done by now."""
        with self._mutex:
            if ticket.state in ("done", "left"):
                return None
            begun = ticket.state == "begun"
            if not begun:
                self._queue.remove(ticket)
            ticket.state = "left"
        fate = (
            "whether the request was carried out is not known, and a claim that it made is given "
            "back as soon as the server answers"
            if begun
            else "the request was withdrawn"
        )
        return LedgerError(
            f"{self.store.label} did not get to a request within {self._timeout:g} s; {fate}; "
            "see that the server runs and how busy it is, then try again"
        )

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
            try:
                self._signals.get(timeout=AGAIN if self._owed else None)
            except Empty:
                self._failing = False
            self._take_turn()
            if self._retired:
                self.close()

    def _take_turn(self) -> None:
        """Commit for those who wait, until nobody does; unless somebody else is at it."""
        with self._mutex:
            if self._turn is not None or not self._work_left():
                return
            self._turn = self
        while self._turn is not None:
            tickets = self._take()
            try:
                self._commit(tickets)
            finally:
                self._deliver(tickets)
            if len(tickets) > 1:
                self._gather(len(tickets))
            with self._mutex:
                if not self._work_left():
                    self._turn = None

    def _take(self) -> list[Ticket]:
        with self._mutex:
            tickets: list[Ticket] = []
            while self._queue and len(tickets) < BATCH:
                ticket = self._queue.popleft()
                ticket.state = "begun"
                tickets.append(ticket)
        return tickets

    def _gather(self, expected: int) -> None:
        """Wait for those who were answered together, while they come back: they share a batch again."""
        seen = -1
        while seen < len(self._queue) < expected:
            seen = len(self._queue)
            time.sleep(PAUSE)

    def _commit(self, tickets: list[Ticket]) -> None:
        """Commit what is owed and the requests of *tickets*, and note the answers."""
        with self._mutex:
            owed, self._owed = self._owed[:BATCH], self._owed[BATCH:]
        requests = [*owed, *(ticket.request for ticket in tickets)]
        answers: list[Answer | Exception] = []
        try:
            self.store.commit(requests, answers)
        except Exception as error:  # noqa: BLE001 - it is told to all who wait, and the thread goes on
            self._give_up(tickets, owed, answers, error)
        except BaseException as error:
            self._give_up(tickets, owed, answers, error)
            raise
        else:
            with self._mutex:
                self._failing = False
                self._note(tickets, answers[len(owed) :])

    def _note(self, tickets: Sequence[Ticket], answers: Sequence[Answer | Exception]) -> None:
        """Under the mutex: what was granted to somebody who has left is undone."""
        for ticket, result in zip(tickets, answers, strict=True):
            ticket.result = result
            if ticket.state == "left":
                self._owed += undoing(ticket)
            else:
                ticket.state = "done"

    def _give_up(
        self,
        tickets: Sequence[Ticket],
        owed: Sequence[Settling],
        answers: Sequence[Answer | Exception],
        error: BaseException,
    ) -> None:
        """
        After an error the batch may have been committed all the same: what it granted is
        undone, and nobody is told that it was granted. To undo what was not granted
        changes nothing.
        """
        with self._mutex:
            self._failing = True
            self._owed[:0] = owed
            for ticket, result in zip(tickets, answers[len(owed) :], strict=False):
                ticket.result = result
                self._owed += undoing(ticket)
            for ticket in tickets:
                known = isinstance(error, LedgerError)
                ticket.result = LedgerError(
                    str(error) if known else f"{self.store.label} failed: {error!r}"
                )
                ticket.result.__cause__ = error
                if ticket.state != "left":
                    ticket.state = "done"

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
        """What is owed while the server fails is left to the next request, or to the next AGAIN."""
        return bool(self._queue or (self._owed and not self._failing))

    def _wake(self) -> None:
        """Under the mutex: have the thread look, if there is something to do and nobody at it."""
        if self._turn is not None or not (self._queue or self._owed):
            return
        if self._thread is None:
            thread = Thread(target=self._run, name=f"sluicegate {self.store.label}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter is about to end
                raise LedgerError(f"no thread for {self.store.label}: {error}") from error
            self._thread = thread
        self._signals.put(None)

    # --- the end ---

    def close(self) -> None:
        """Finish what waits, within the timeout, and let go of the server."""
        with self._mutex:
            if self._closing:
                return
            self._closing = True
            self._failing = False
            self._wake()
        deadline = time.monotonic() + self._timeout
        while (self._turn is not None or self._work_left()) and time.monotonic() < deadline:
            if self._thread is current_thread():
                break
            time.sleep(0.001)
        self._closed = True
        self.store.close()
        if self._thread is not None:
            self._signals.put(None)
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

    def in_child(self) -> None:
        """After a fork: threads, connections and the journal's chain stay with the parent."""
        if not self._closing:
            self._begin_anew()


_LIVE: Final[weakref.WeakSet[Committer]] = weakref.WeakSet()


def _each(step: Callable[[Committer], None]) -> Callable[[], None]:
    def all_of_them() -> None:
        for committer in list(_LIVE):
            step(committer)

    return all_of_them


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_each(Committer.in_child))
atexit.register(_each(Committer.close))
