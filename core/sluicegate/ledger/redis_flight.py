"""A batch that an event loop sends to Redis or Valkey, and whose reply it looks at when it comes."""

from __future__ import annotations

import asyncio
from typing import Any

from hiredis import HiredisError

from .flight import Flight
from .redis_store import Exchange, Steps, Store
from .redis_wire import Wire
from .ticket import Batch

__all__ = ["RedisFlight"]


class RedisFlight(Flight[Store]):
    """
    Over the *wire* of *lane*. Whatever is not simply a reply is left to a thread, which sends
    again what was sent: that means the same (see redis_link.py).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lane: Store, wire: Wire) -> None:
        super().__init__(loop, lane)
        self._wire = wire
        self._steps: Steps | None = None
        self._step: Exchange | float = 0.0
        self._sent = False

    def awaits(self, wire: Wire) -> bool:
        """Whether the reply to come over *wire* is for this one."""
        return self._sent and self._wire is wire

    def _advance(self, batch: Batch) -> bool:
        try:
            if self._steps is None:
                self._send(next(self._begin(batch)))
            else:
                reply = self._receive()
                if reply is not None:
                    self._send(self._steps.send(reply))
        except StopIteration:
            self._step = 0.0
            return True
        return False

    def conclude(self, lane: Store, batch: Batch) -> None:
        """It is over: raise what was raised on the way."""
        if self._error is not None and self._sent:
            lane.cut()  # a reply to come would be taken for that of the next command
        super().conclude(lane, batch)

    def _begin(self, batch: Batch) -> Steps:
        requests = [ticket.request for ticket in batch.tickets]
        self._steps = self.lane.committing(requests, batch.answers)
        return self._steps

    def _send(self, step: Exchange | float) -> None:
        self._step, self._sent = step, isinstance(step, Exchange)
        if isinstance(step, Exchange):
            try:
                self._wire.watch()  # a call that came late from what a thread did may have ended it
                self._wire.send(self.lane.packed(step))
            except OSError:
                self._sent = False
                self.lane.cut()
        self.wanted = self.wanted or not self._sent

    def _receive(self) -> Any:
        """The reply; None as long as there is none, and if it is for a thread to ask for it again."""
        try:
            reply = self._wire.receive()
        except (OSError, HiredisError):
            reply = None
            self.lane.cut()
        if reply is False:
            return None
        self._sent = False
        if reply is None or isinstance(reply, Exception):  # the server has gone, or refuses
            self.wanted = True
            return None
        return reply

    def finish(self, lane: Store, batch: Batch) -> None:
        """In a thread, when the loop is not at it: all that is left, waiting where there is need."""
        self.conclude(lane, batch)  # it may be over by now, and only not be noted
        if self._wire.begun:
            lane.cut()
        sent = self._sent and not self._wire.begun
        lane.finish(self._steps or self._begin(batch), self._step, sent=sent)
