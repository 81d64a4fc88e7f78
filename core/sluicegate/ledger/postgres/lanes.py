"""
Who waits for which connection.

Requests join one queue, first in first out, and a few threads of ours carry them out, each
on a connection of its own: one at a time while there are few, and together what waits by then,
so that one commit serves all who want the same budget. No caller waits inside the network: a thread and a
task wait in the same way, for as long as their timeout says, and can go at any time. What a
claim was granted when nobody waited any more is undone by an outcome of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, RLock, Thread, current_thread
from typing import Any, Final

from ...errors import LedgerError
from ..base import Answer, Request, Settling
from ..meaning import keys
from ..ticket import Ticket, answer, undoing
from .address import Address
from .lane import Answers, Kept, Lane, Undecided

__all__ = ["Lanes"]

BATCH: Final = 48
"""Requests share a transaction until they have so many keys: a server has room for 64 locks each."""

_RETRY: Final = 1.0
"""Seconds after which what is owed is tried again, though nobody asks for anything."""

_PATIENCE: Final = 4
"""Requests that share a transaction wait for a lock for this part of their time; then each is alone."""

_MARGIN: Final = 0.1
"""Of the timeout: a lane gives up that much earlier than its caller, to say what went wrong."""


class Waiting(Ticket):
    """
    A ticket with an end: *until* is a time of `time.monotonic`. One that is *alone* shares
    its transaction with no other.
    """

    __slots__ = ("alone", "until")

    def __init__(
        self, request: Request, until: float, future: asyncio.Future[None] | None = None
    ) -> None:
        super().__init__(request, future)
        self.until = until
        self.alone = False
        self.state = "waiting"
        if future is None:
            self.bell = Lock()
            self.bell.acquire()


class Lanes:
    """Carries out requests on up to `connections` lanes; safe for threads and for asyncio."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._timeout = address.timeout
        self._closing = False
        self.floor = 0
        self._begin_anew()
        _LIVE.add(self)

    def _begin_anew(self) -> None:
        # Never held while anything is waited for. Re-entrant, because a task whose loop is gone
        # may be collected, and so abandon its ticket, in a thread that holds it.
        self._mutex = RLock()
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._idle = 0
        self._waiting = 0
        self._threads: list[Thread] = []
        self._lanes: list[Lane] = []
        self._owed: deque[Settling] = deque()  # what undoes claims that were granted to nobody

    # --- requests ---

    def perform(self, request: Request) -> Answer:
        """The answer to *request*, when it is durable. Raises LedgerError."""
        ticket = Waiting(request, time.monotonic() + self._timeout * (1 - _MARGIN))
        self._enqueue(ticket)
        try:
            assert ticket.bell is not None  # noqa: S101 - for the type checker
            if not ticket.bell.acquire(timeout=self._timeout):
                self._expire(ticket)
        except BaseException:  # KeyboardInterrupt comes anywhere
            self._abandon(ticket)
            raise
        return ticket.outcome()

    async def aperform(self, request: Request) -> Answer:
        """The same for an event loop. A claim that is cancelled holds nothing afterwards."""
        loop = asyncio.get_running_loop()
        until = time.monotonic() + self._timeout * (1 - _MARGIN)
        ticket = Waiting(request, until, loop.create_future())
        self._enqueue(ticket)
        timer = loop.call_later(self._timeout, self._expire, ticket)
        try:
            assert ticket.future is not None  # noqa: S101 - for the type checker
            await ticket.future
        except BaseException:
            self._abandon(ticket)
            raise
        finally:
            timer.cancel()
        return ticket.outcome()

    def _enqueue(self, ticket: Waiting) -> None:
        with self._mutex:
            if self._closing:
                raise LedgerError(f"the ledger {self._address} is closed; open it again")
            self._waiting += 1
            if self._waiting > self._idle and self._may_open():
                self._open_lane()
            self._queue.put(ticket)

    def _may_open(self) -> bool:
        return len(self._threads) < self._address.connections

    def _open_lane(self) -> None:
        lane = Lane(self._address)
        thread = Thread(target=self._run, args=(lane,), name="sluicegate postgres", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is about to end
            if self._threads:
                return  # those that there are will do
            self._waiting -= 1
            raise LedgerError(f"no thread for the ledger {self._address}: {error}") from error
        self._threads.append(thread)
        self._lanes.append(lane)

    def _expire(self, ticket: Waiting) -> None:
        """Its time is over: it is told so, whatever becomes of it."""
        with self._mutex:
            if ticket.state not in ("waiting", "begun"):
                return
            if ticket.state == "waiting":
                problem = (
                    f"all {self._address.connections} connections were busy for {self._timeout:g} s, so "
                    "the request was withdrawn; give the ledger more `connections`, or see in "
                    "pg_stat_activity what holds them up"
                )
            else:
                problem = (
                    f"the server gave no answer within {self._timeout:g} s; a claim will be undone, and "
                    "the journal tells whether a settlement was recorded"
                )
            self._owed += undoing(ticket)
            ticket.state = "left"
            ticket.result = LedgerError(f"the ledger {self._address} cannot be used: {problem}")
        if ticket.future is not None:
            answer([ticket])

    def _abandon(self, ticket: Ticket) -> None:
        """Nobody is there for the answer any more, so nobody has what it claims."""
        with self._mutex:
            if ticket.state == "done":
                self._owed += undoing(ticket)
            ticket.state = "left"
            if self._owed and self._idle:
                self._queue.put(None)

    # --- the threads ---

    def _run(self, lane: Lane) -> None:
        while True:
            with self._mutex:
                self._idle += 1
            try:
                first = self._queue.get(timeout=_RETRY if self._owed else None)
            except Empty:
                first = None
            with self._mutex:
                self._idle -= 1
            tickets = [] if first is None else self._take(first)
            self._repay(lane)
            if tickets:
                self._serve(lane, tickets)
            if first is None and self._closing:
                break
        lane.close()

    def _take(self, first: Waiting) -> list[Waiting]:
        """*first*, and who waits behind it: one commit for all of them."""
        taken = [first]
        with self._mutex:
            room = 0 if first.alone or self._queue.empty() else BATCH - len(keys(first.request))
            while room > 0:
                try:
                    ticket = self._queue.get_nowait()
                except Empty:
                    break
                if ticket is None or ticket.alone:
                    self._queue.put(ticket)  # for somebody who has nothing else to do
                    break
                taken.append(ticket)
                room -= len(keys(ticket.request))
            self._waiting -= len(taken)
            tickets = [ticket for ticket in taken if ticket.state == "waiting"]
            for ticket in tickets:
                ticket.state = "begun"
        return tickets

    def _serve(self, lane: Lane, tickets: list[Waiting]) -> None:
        until = max(ticket.until for ticket in tickets)
        left = until - time.monotonic()
        answers: Answers | None = None
        try:
            answers = results = lane.perform(
                [ticket.request for ticket in tickets],
                self.floor,
                until,
                left if len(tickets) == 1 else left / _PATIENCE,
                lambda: any(ticket.state == "begun" for ticket in tickets),
            )
        except Undecided as error:
            answers, results = error.answers, [LedgerError(*error.args) for _ in tickets]
        except Kept as error:
            if len(tickets) > 1:
                return self._part(tickets)
            results = [error]
        except Exception as error:  # noqa: BLE001 - handed to whoever made the requests
            results = [_copy(error) for _ in tickets]
        with self._mutex:
            self.floor = max(self.floor, lane.floor)
            for number, ticket in enumerate(tickets):
                if answers is not None and (ticket.state == "left" or answers is not results):
                    self._owed += _undoing(ticket, answers[number])
                if ticket.state == "begun":
                    ticket.state, ticket.result = "done", results[number]
        self._deliver(tickets)
        return None

    def _part(self, tickets: list[Waiting]) -> None:
        """Together they asked for too much: each for itself, so that only those wait who have to."""
        with self._mutex:
            for ticket in tickets:
                ticket.alone = True
                if ticket.state == "begun":
                    ticket.state = "waiting"
                    self._waiting += 1
                    if self._waiting > self._idle and self._may_open():
                        self._open_lane()
                    self._queue.put(ticket)

    def _deliver(self, tickets: list[Waiting]) -> None:
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
                for gone in group:
                    self._abandon(gone)

    def _repay(self, lane: Lane) -> None:
        """Undo what is owed. What cannot be undone now is left to the next request."""
        while self._owed:
            with self._mutex:
                if not self._owed:
                    return
                owed = self._owed.popleft()
            try:
                # One that is rejected is resolved: its claim was never committed, or is over.
                until = time.monotonic() + self._timeout
                lane.perform([owed], self.floor, until, self._timeout, lambda: True)
            except LedgerError:
                with self._mutex:
                    self._owed.appendleft(owed)
                return

    # --- the end ---

    def close(self) -> None:
        """Finish what waits, within the timeout, and let go of the connections."""
        with self._mutex:
            if self._closing:
                return
            self._closing = True
        self._dismiss()
        deadline = time.monotonic() + self._timeout
        for thread in self._threads:
            if thread is not current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def retire(self) -> None:
        """
        Close because nobody can use the ledger any more.

        A finalizer runs in any thread between any two instructions, perhaps in ours while
        it holds the mutex. So this only leaves word, which SimpleQueue allows at any time.
        """
        self._closing = True
        self._dismiss()

    def _dismiss(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    def in_child(self) -> None:
        """Threads and what they wait for stay with the parent, and so do its connections."""
        _INHERITED.extend(lane.disown() for lane in self._lanes)
        self._begin_anew()


_INHERITED: Final[list[Any]] = []
"""Connections of the parent of a fork. They are kept: closing them would say good-bye in its name."""

_LIVE: Final[weakref.WeakSet[Lanes]] = weakref.WeakSet()


def _undoing(ticket: Ticket, granted: Answer | Exception) -> list[Settling]:
    copy = Ticket(ticket.request)
    copy.result = granted
    return undoing(copy)


def _copy(error: Exception) -> LedgerError:
    """Each caller gets an error of its own: raising one changes it."""
    copy = LedgerError(*error.args)
    copy.__cause__ = error
    return copy


def _all(step: Callable[[Lanes], None]) -> Callable[[], None]:
    def each() -> None:
        for lanes in list(_LIVE):
            with suppress(LedgerError):
                step(lanes)

    return each


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_all(Lanes.in_child))
atexit.register(_all(Lanes.close))
