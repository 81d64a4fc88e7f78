"""
A committer whose lane an event loop can use itself.

While only tasks of one event loop wait, no thread is needed: the loop sends a batch, and
looks at the reply when it comes. To hand each batch to a thread and back would cost more
than the batch, because both take turns with Python's lock. In the meantime other tasks
decide: as soon as there are many, half of them are on the way while the others are at it.

The loop never waits, and nobody waits for the loop: it may be blocked by the very caller
who needs the lane. So when anybody else comes, or who waits gives up, a thread takes over
what is on its way.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Final, TypeVar

from .committer import Committer
from .flight import Flight
from .ticket import Batch, Ticket

__all__ = ["Ear", "Flying"]

HALVED: Final = 8
"""From so many tasks on a batch is for half of them: fewer are served better together."""

_L = TypeVar("_L")


class Ear:
    """What an event loop is to call: *heard*; *lost* is called when the loop has thrown it away."""

    def __init__(self, heard: Callable[[], object], lost: Callable[[], object]) -> None:
        self._heard, self._lost = heard, lost

    def __call__(self) -> None:
        """It is called."""
        self._heard()

    def __del__(self) -> None:
        self._lost()


class Flying(Committer[_L]):
    """One of its lanes at a time may be that of a flight. It has nothing to tidy."""

    @abstractmethod
    def _board(self, loop: asyncio.AbstractEventLoop, lane: _L) -> Flight[_L] | None:
        """A flight in *loop*; None if it would have to wait before it can begin."""

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._flight: Flight[_L] | None = None
        self._landed: Flight[_L] | None = None  # a thread is about to go on with it

    # --- in the loop ---

    def _proceed(self, flight: Flight[_L], answered: int = 0) -> None:
        """Go as far as there is nothing to wait for, and on to the next batch if this one is over."""
        following: Flight[_L] | None = flight
        try:
            while following is not None:
                flight, following = following, None
                batch = self._begun(flight, answered)
                if batch is not None:
                    following = self._step(flight, batch)
                    answered = len(batch.tickets)
        except BaseException:
            with self._mutex:
                left = self._flight  # this or the following one, or another loop's by now
                if left is not None and left.within(asyncio.get_running_loop()):
                    left.busy = False
                    self._land()
                else:
                    self._wake()
            raise
        if self._retired and self._flight is None:
            self.close()

    def _begun(self, flight: Flight[_L], answered: int) -> Batch | None:
        """Its batch, if it is still for the loop to go on with; it is *busy* from then on."""
        with self._mutex:
            if flight is not self._flight or flight.busy:
                return None
            if flight.batch is None:
                if not self._waiting.queue:
                    self._end_flight(flight)
                    return None
                flight.batch = Batch(partial(self._take, self._share(answered)), hurried=False)
            flight.busy = True
            return flight.batch

    def _share(self, answered: int) -> int:
        """
        How many may board, besides what is owed: those who were *answered* just now will be
        back in a moment.
        """
        active = len(self._waiting.queue) + answered
        share = active if active < HALVED else (active + 1) // 2
        return share + len(self._waiting.owed)

    def _step(self, flight: Flight[_L], batch: Batch) -> Flight[_L] | None:
        """The flight after this one, if it is over and there is another."""
        over = flight.advance(batch)
        answered = self._commit(flight.lane, batch, flight.conclude) if over else ()
        following = None
        with self._mutex:
            if flight is not self._flight:
                pass  # this is the child of a fork
            elif over:
                following = self._follow(flight)
            else:
                flight.busy = False
                if flight.wanted:
                    self._land()
        self._answer(answered, asyncio.get_running_loop())
        if flight.interrupt is not None:
            raise flight.interrupt
        return following

    def _follow(self, flight: Flight[_L]) -> Flight[_L] | None:
        """The next one on its lane, unless a thread is wanted, or nobody is there for it."""
        following = None
        if self._waiting.queue and not (flight.wanted or self._closing):
            following = self._board(asyncio.get_running_loop(), flight.lane)
        if following is None:
            self._end_flight(flight)
        else:
            self._lanes[flight.lane] = self._flight = following
        return following

    # --- under the mutex ---

    def _end_flight(self, flight: Flight[_L]) -> None:
        self._flight, self._lanes[flight.lane] = None, None
        self._put_back(flight.lane)

    def _wake(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if loop is None or not self._depart(loop):
            super()._wake()

    def _depart(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Have *loop* serve who waits, if there is a lane and nobody else is at work."""
        lane = None if self._busy() else self._take_lane(self)
        if lane is None:
            return False
        try:
            flight = self._board(loop, lane)
            if flight is not None:  # soon: all tasks that are ready come along
                ear = Ear(partial(self._proceed, flight), partial(self._lose, flight))
                loop.call_soon(ear, context=Context())
        except BaseException:
            self._lanes[lane] = None
            raise
        self._lanes[lane] = self._flight = flight
        return flight is not None

    def _lose(self, flight: Flight[_L]) -> None:
        """The loop will not go on with it, if it has not: it was closed on its tasks."""
        with self._mutex:
            if flight is self._flight and flight.batch is None:
                self._land()

    def _enqueue(self, ticket: Ticket, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super()._enqueue(ticket, loop)
        flight = self._flight
        if flight is not None and not flight.within(loop):
            self._land()

    def _land(self) -> bool:
        """Have a thread go on with the flight; whether there is a thread."""
        flight = self._flight
        if flight is None:
            return True
        if flight.busy:
            flight.wanted = True  # the loop hands it over itself
            return True
        # First of all: a task that is collected while a thread is started calls this again.
        self._flight, self._landed, self._lanes[flight.lane] = None, flight, self
        try:
            self._start([*self._lanes.values()].count(self))
        except BaseException as error:
            self._flight, self._landed, self._lanes[flight.lane] = flight, None, flight
            if not isinstance(error, RuntimeError):
                raise
            return False  # there can be no thread: it is for the loop to go on
        self._signals.put(flight.lane)
        return True

    # --- when somebody leaves ---

    def _expire(self, ticket: Ticket) -> bool:
        with self._mutex:
            over = super()._expire(ticket)
            self._land()
        return over

    def _abandon(self, ticket: Ticket) -> None:
        with self._mutex:
            begun = ticket.state == "begun"
            super()._abandon(ticket)
            if begun:
                self._land()

    def close(self) -> None:
        """Finish what waits, within the timeout, and let go of everything."""
        with self._mutex:
            flight = None if self._land() else self._flight
            if flight is not None:
                self._flight, self._lanes[flight.lane] = None, self
        if flight is not None:  # the interpreter is about to end
            self._finish(flight)
            with self._mutex:
                self._put_back(flight.lane)
        super().close()

    def retire(self) -> None:
        """Close because nobody can use the ledger any more. Like in `Committer` it may come anywhere."""
        if self._flight is None:
            super().retire()
        else:
            self._retired = True
            self._signals.put(None)

    # --- in a thread ---

    def _serve(self, lane: _L) -> None:
        with self._mutex:
            flight, self._landed = self._landed, None
        if flight is not None:
            self._finish(flight)
        super()._serve(lane)

    def _finish(self, flight: Flight[_L]) -> None:
        if flight.batch is not None:  # else it has not begun, and nobody has boarded
            self._answer(self._commit(flight.lane, flight.batch, flight.finish))
