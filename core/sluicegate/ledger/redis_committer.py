"""Committing to a Redis or Valkey server: its one store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from .flying import Ear, Flying
from .redis_flight import RedisFlight
from .redis_store import Store
from .redis_wire import Wire
from .ticket import Batch

__all__ = ["RedisCommitter"]


class RedisCommitter(Flying[Store]):
    """
    The only lane is the store that *make* makes: it computes from what it knows of the last
    batch, so there cannot be two at a time.
    """

    store: Store

    def __init__(self, make: Callable[[], Store], *, timeout: float) -> None:
        self._make = make
        super().__init__("", timeout=timeout)
        self.store.open()

    def _begin_anew(self) -> None:
        """Connections, and the journal's chain, are of this process."""
        self.store = self._make()
        self._label = self.store.label
        super()._begin_anew()

    def _open(self) -> Store:
        return self.store

    def _carry(self, lane: Store, batch: Batch) -> None:
        lane.commit([ticket.request for ticket in batch.tickets], batch.answers)

    def _board(self, loop: asyncio.AbstractEventLoop, lane: Store) -> RedisFlight | None:
        wire = lane.wire(loop, self._ear)
        return None if wire is None else RedisFlight(loop, lane, wire)

    def _ear(self, wire: Wire) -> Ear:
        return Ear(partial(self._heard, wire), partial(self._cannot_hear, wire))

    def _cannot_hear(self, wire: Wire) -> None:
        """Its loop was closed on its tasks, perhaps while one of them waits for a reply."""
        with self._mutex:
            flight = self._flight
            if isinstance(flight, RedisFlight) and flight.awaits(wire):
                self._land()

    def _heard(self, wire: Wire) -> None:
        """In its loop: there is something to read."""
        flight = self._flight
        if isinstance(flight, RedisFlight) and flight.awaits(wire):
            self._proceed(flight)
        else:
            wire.leave()

    def _late(self, *, begun: bool) -> str:
        fate = (
            "whether the request was carried out is not known, and a claim that it made is given "
            "back as soon as the server answers"
            if begun
            else "the request was withdrawn"
        )
        return (
            f"{self._label} did not get to a request within {self._timeout:g} s; {fate}; see that the "
            "server runs and how busy it is, then try again"
        )

    def _gone(self) -> str:
        return self.store.gone or f"{self._label} is being closed"

    def _end(self) -> None:
        self.store.close()

    def in_child(self) -> None:
        super().in_child()
        if self._closing:
            self.store.close()
