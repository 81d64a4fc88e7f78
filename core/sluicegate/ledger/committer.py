"""
Who commits, and in which order: the same for a file and for servers.

Requests are carried out on a *lane*: the one connection to a file, or one of some to a
server. A thread that finds nobody at work, and nobody waiting, carries out its own request:
handing it over would cost more than the work. Everybody else joins a queue, first in first
out, which threads of ours carry out in batches, so that one wait for the disk serves all who
wait by then. An event loop always joins the queue: it must not wait itself.

A batch costs hardly more than one request, so a second lane is used only if the first is
slow: it waits for a lock, or the server is far away.

Who waits can give up: a request that has not begun is withdrawn. What a claim that has begun
was granted when nobody waited any more is undone in the next batch by an outcome of its own.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, RLock, Thread, current_thread
from typing import ClassVar, Generic, TypeVar

from ..errors import LedgerError
from .base import Answer, Request
from .living import Living
from .pauses import AGAIN, OVERLAP, PAUSE
from .ticket import Batch, Kept, Ticket, answer, deliver
from .waiting import Waiting
from .watch import Watches

__all__ = ["Committer"]

_L = TypeVar("_L")


class Committer(Living, ABC, Generic[_L]):
    """
    Carries out requests; safe for threads and for asyncio. Its subclasses say what depends
    on where the ledger is.
    """

    room: ClassVar[int] = 256
    """Requests share a batch until together they have this size."""

    lasting: ClassVar[bool] = False
    """Whether a request that has begun is waited for until it ends, however long that takes."""

    @abstractmethod
    def _open(self) -> _L:
        """A new lane; nothing is waited for."""

    @abstractmethod
    def _carry(self, lane: _L, batch: Batch) -> None:
        """
        Carry out *batch*, and put its answers there. Raises Kept if it is *hurried* and
        would have to wait before it begins, or if its requests are better carried out one
        by one; anything else that is raised is told to all of them.
        """

    @abstractmethod
    def _late(self, *, begun: bool) -> str:
        """What to tell a request for which the timeout was too short."""

    @abstractmethod
    def _gone(self) -> str:
        """What to tell a request that comes when the ledger is closed, or about to be."""

    def _size(self, request: Request) -> int:
        """How much of the *room* of a batch a request takes."""
        return 1

    def _due(self) -> bool:
        """Whether there is anything to tidy."""
        return False

    def _tidy(self) -> None:
        """Do what nobody waits for, when those who did wait have their answers."""

    def _leave(self, lane: _L, until: float) -> None:
        """Nobody will use *lane* any more. What there is left to do has time *until* then."""

    def _end(self) -> None:
        """The ledger is closed, although a lane may be in use still."""

    def __init__(self, label: str, *, timeout: float, lanes: int = 1) -> None:
        self._label = label
        self._timeout = timeout
        self._most = lanes
        self._closing = self._closed = self._retired = False
        self._begin_anew()
        super().__init__()

    def _begin_anew(self) -> None:
        # For what follows, never held while anything is waited for. Re-entrant, because a task whose
        # loop is gone may be collected, and so abandon its ticket, in a thread that holds it.
        self._mutex = RLock()
        self._waiting = Waiting(self.room, self._size)
        self._watches = Watches()
        # Who has which: a caller's ticket, our threads (then it is *self*), or nobody.
        self._lanes: dict[_L, object] = {}
        self._threads: list[Thread] = []
        self._watching = False  # a thread of ours looks after those who wait for a second lane
        self._signals: SimpleQueue[_L | None] = SimpleQueue()

    # --- requests ---

    def perform(self, request: Request) -> Answer:
        """The answer to *request*, when the ledger has it for good. Raises LedgerError."""
        ticket = Ticket(request, time.monotonic() + self._timeout)
        try:
            lane = self._may_begin(ticket)
            if lane is not None:
                self._commit_alone(lane, ticket)
            if ticket.bell is not None:
                self._wait(ticket, ticket.bell)
            return ticket.outcome()
        except BaseException:  # KeyboardInterrupt comes anywhere
            self._abandon(ticket)
            raise

    async def aperform(self, request: Request) -> Answer:
        """The same for an event loop. A claim that is cancelled holds nothing afterwards."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        ticket = Ticket(request, time.monotonic() + self._timeout, future)
        watch, waiting = self._watches.add(loop, ticket, self._expire), self._waiting
        try:
            with self._mutex:
                self._enqueue(ticket, loop)
            await future
            return ticket.outcome()
        except BaseException:
            if waiting is self._waiting:  # else it is a task of the parent of a fork
                self._abandon(ticket)
            raise
        finally:
            watch.remove(ticket)

    def _may_begin(self, ticket: Ticket) -> _L | None:
        """Take a lane if nobody waits for one, else join the queue."""
        with self._mutex:
            lane = None
            if not (self._waiting.queue or self._waiting.owed or self._closing):
                lane = None if self._busy() or self._due() else self._take_lane(ticket)
            if lane is None:
                self._enqueue(ticket)
            return lane

    def _commit_alone(self, lane: _L, ticket: Ticket) -> None:
        """In this thread; if it would have to wait before it begins, it is the first in the queue."""
        try:
            self._commit(lane, Batch(lambda: [ticket], hurried=True))
        finally:
            with self._mutex:
                self._put_back(lane)

    def _wait(self, ticket: Ticket, bell: Lock) -> None:
        left = max(0.0, ticket.until - time.monotonic())
        if not bell.acquire(timeout=left) and not self._expire(ticket):
            bell.acquire()

    def _enqueue(self, ticket: Ticket, loop: AbstractEventLoop | None = None) -> None:
        if self._closing:
            raise LedgerError(self._gone())
        if self._waiting.join(ticket):
            self._wake(loop)  # for all who join it from now on

    def _expire(self, ticket: Ticket) -> bool:
        """Its time is over: it is told so, unless it is done by now or lasts."""
        with self._mutex:
            begun = ticket.state == "begun"
            if begun and self.lasting:
                return False
            if begun or ticket.state == "waiting":
                self._waiting.expire(ticket, self._late(begun=begun))
        answer([ticket])
        return True

    def _abandon(self, ticket: Ticket) -> None:
        with self._mutex:
            self._waiting.abandon(ticket)
            for lane in [lane for lane, who in self._lanes.items() if who is ticket]:
                self._put_back(lane)
            self._wake()

    # --- batches ---

    def _take(self, most: int | None = None) -> list[Ticket]:
        with self._mutex:
            taken = self._waiting.take(most=most)
            self._wake()  # for those who had no room
        return taken

    def _commit(
        self, lane: _L, batch: Batch, carry: Callable[[_L, Batch], None] | None = None
    ) -> Sequence[Ticket]:
        """Those who are answered by now."""
        try:
            (carry or self._carry)(lane, batch)
            with self._mutex:
                self._waiting.note(batch)
        except BaseException as error:  # told to all who wait; a thread of ours goes on
            if isinstance(error, Kept) and (not batch.begun or len(batch.tickets) > 1):
                with self._mutex:
                    self._waiting.part(batch)
                    self._wake()
                return ()
            with self._mutex:
                if not (batch.begun or batch.hurried):  # who came after this attempt has another
                    batch.begin(self._waiting.take(batch.since + self._timeout))
                self._waiting.give_up(batch, error, self._label)
            if batch.hurried and not isinstance(error, Exception):
                raise
        return batch.tickets

    def _answer(self, answered: Sequence[Ticket], here: AbstractEventLoop | None = None) -> None:
        """Tell them, from a thread or in the loop *here*."""
        for ticket in deliver(answered, here):
            self._abandon(ticket)

    # --- lanes and threads: under the mutex ---

    def _take_lane(self, who: object) -> _L | None:
        """One that nobody has, if there can be one: *who* has it now."""
        for lane, other in self._lanes.items():
            if other is None:
                self._lanes[lane] = who
                return lane
        if self._closed or len(self._lanes) >= self._most:
            return None
        lane = self._open()
        self._lanes[lane] = who
        return lane

    def _put_back(self, lane: _L) -> None:
        """Whoever waits may have it."""
        if self._closed:
            del self._lanes[lane]
            self._leave(lane, 0.0)
        else:
            self._lanes[lane] = None
            self._wake()

    def _work_left(self) -> bool:
        return bool(self._waiting) or self._due()

    def _busy(self) -> bool:
        return [*self._lanes.values()].count(None) < len(self._lanes)

    def _spare(self) -> bool:
        return len(self._lanes) < self._most or None in self._lanes.values()

    def _wake(self, loop: AbstractEventLoop | None = None) -> None:
        """Have a thread of ours, or *loop* if it can, do what there is to do, if there is a lane for it."""
        left = self._work_left()
        if self._closed or not (left or self._waiting.owed):
            return
        lane, busy = None, self._busy()
        if left:
            if busy and not self._spare():
                return  # whoever puts one back looks again
            late = self._waiting.until() - self._timeout + OVERLAP < time.monotonic()
            if late or not busy:
                lane = self._take_lane(self)
            elif self._watching:
                return
        elif busy:
            return  # else somebody has to try again after a while
        try:
            self._start([*self._lanes.values()].count(self) + (lane is None))  # or one that watches
        except BaseException as error:
            if lane is not None:
                self._lanes[lane] = None
            if not isinstance(error, RuntimeError):
                raise
            # The interpreter is about to end, or the system has no more. Whoever has a lane, if
            # anybody has, looks again.
            if not busy and not self._threads:
                deliver(self._waiting.refuse(f"no thread for {self._label}: {error}", error))
        else:
            self._signals.put(lane)

    def _start(self, needed: int) -> None:
        """See that there are so many threads. Raises RuntimeError if there can be no more."""
        if len(self._threads) < needed:
            thread = Thread(target=self._run, name=f"sluicegate {self._label}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _run(self) -> None:
        """A thread: wait for a lane and for something to do on it, and do it until there is no more."""
        while not (self._closed and self._signals.empty()):
            lane = None
            try:
                lane = self._signals.get(timeout=self._pause())
                self._watching = False
            except Empty:
                with self._mutex:
                    self._waiting.failing = False
                    self._wake()
            if lane is not None:
                self._serve(lane)
            if self._retired:
                self.close()
        self._signals.put(None)  # the next one may go home too

    def _pause(self) -> float | None:
        """For so long a thread waits for a signal before it looks again by itself."""
        with self._mutex:
            self._watching = bool(self._waiting.queue) and self._spare()
            if self._watching:
                return OVERLAP
            return AGAIN if self._waiting.owed else None

    def _serve(self, lane: _L) -> None:
        while self._work_for(lane):
            answered = self._commit(lane, Batch(self._take, hurried=False))
            self._answer(answered)
            if self._due():
                self._tidy()
            if len(answered) > 1:
                self._gather(len(answered))

    def _work_for(self, lane: _L) -> bool:
        """Others may have done it by now: then *lane* is not needed."""
        with self._mutex:
            left = self._work_left()
            if not left:
                self._put_back(lane)
        return left

    def _gather(self, expected: int) -> None:
        """While those who were answered together come back, wait for them: else the first commits alone."""
        queue = self._waiting.queue
        seen = -1
        while seen < len(queue) < expected:
            seen = len(queue)
            time.sleep(PAUSE)

    # --- the end ---

    def close(self) -> None:
        """Finish what waits, within the timeout, and let go of everything."""
        until = time.monotonic() + self._timeout
        ours = current_thread() in self._threads
        with self._mutex:
            if self._closing:
                return
            self._closing = True
            self._waiting.failing = False
            self._wake()
        try:
            while not (ours or self._idle() or time.monotonic() >= until):
                time.sleep(0.001)
        finally:  # Ctrl-C comes when something hangs
            self._let_go(until)

    def _let_go(self, until: float) -> None:
        with self._mutex:
            self._closed = True
            free = [lane for lane, who in self._lanes.items() if who is None]
            for lane in free:
                del self._lanes[lane]
        for lane in free:
            self._leave(lane, until)  # who has another will do so
        self._end()
        self._signals.put(None)
        until = max(until, time.monotonic() + AGAIN)
        for thread in self._threads:
            if thread is not current_thread():
                thread.join(max(0.0, until - time.monotonic()))  # one that hangs is left alone

    def _idle(self) -> bool:
        with self._mutex:
            return not (self._busy() or self._work_left())

    def retire(self) -> None:
        """
        Close because nobody can use the ledger any more.

        A finalizer runs in any thread between any two instructions, perhaps in ours while
        it holds the mutex. So this only leaves word, which SimpleQueue allows at any time.
        """
        if not self._threads:
            self.close()
        else:
            self._retired = True
            self._signals.put(None)

    def in_child(self) -> None:
        """Threads and what they wait for stay with the parent."""
        self._begin_anew()
