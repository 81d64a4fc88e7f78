"""One timer for all tasks of an event loop that wait for a committer: one for each costs more than waiting."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from typing import Any

from .ticket import Ticket

__all__ = ["Watches"]


class _Watch:
    """The tickets of tasks of one event loop, those first whose time is over first."""

    __slots__ = ("__weakref__", "_armed", "_tickets", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._tickets: dict[Ticket, Callable[[Ticket], Any]] = {}
        self._armed = False

    def add(self, ticket: Ticket, expire: Callable[[Ticket], Any]) -> None:
        """Call *expire* with it when its time is over, unless it is removed by then."""
        self._tickets[ticket] = expire
        if not self._armed:
            self._arm(ticket)

    def remove(self, ticket: Ticket) -> None:
        """It waits no more."""
        self._tickets.pop(ticket, None)

    def _arm(self, first: Ticket) -> None:
        self._armed = True
        self.loop.call_later(max(0.0, first.until - time.monotonic()), self._look)

    def _look(self) -> None:
        now = time.monotonic()
        for ticket in list(self._tickets):
            if ticket.until > now:
                self._arm(ticket)
                return
            self._tickets.pop(ticket)(ticket)
        self._armed = False


class Watches:
    """
    Knows the watch of each event loop.

    Only that loop and its tasks keep it alive: when all of them are thrown away, the
    coroutines that wait are closed, and so give up what they wait for.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # By the id of the loop, which no other has for as long as its watch is here.
        self._known: weakref.WeakValueDictionary[int, _Watch] = weakref.WeakValueDictionary()

    def add(
        self, loop: asyncio.AbstractEventLoop, ticket: Ticket, expire: Callable[[Ticket], Any]
    ) -> _Watch:
        """
        Call *expire* with *ticket* in *loop* when its time is over, unless it is removed from
        what this gives by then.
        """
        watch = self._known.get(id(loop))
        if watch is None:
            watch = self._known[id(loop)] = _Watch(loop)
        watch.add(ticket, expire)
        return watch
