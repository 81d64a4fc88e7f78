"""A connection to Redis or Valkey, as an event loop uses it: it never waits."""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

import hiredis

__all__ = ["Wire"]

MOST: Final = 65_536
"""So many bytes of a reply are read at once."""


class Wire:
    """
    A second handle of the connection *of*, for one *loop*, which calls what *ear* gives for it when
    there is something to read. Raises what a loop raises that cannot watch a connection, such as
    NotImplementedError.

    A handle of its own, because whoever drops the connection may be another thread: then
    this one tells its loop of the end, and only there it stops being watched.
    """

    def __init__(
        self,
        of: socket.socket,
        loop: asyncio.AbstractEventLoop,
        ear: Callable[[Wire], Callable[[], None]],
    ) -> None:
        self._loop = weakref.ref(loop)  # a loop that nobody has any more closes its coroutines
        self._ear = ear
        self._watched = False
        self._begun = False
        self._reader = hiredis.Reader()
        self._socket = of.dup()
        self._socket.settimeout(0)
        self.watch()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def within(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is for that loop."""
        return self._loop() is loop

    def watch(self) -> None:
        """Have the loop look whether there is something to read, from now on."""
        loop = self._loop()
        if loop is not None and not self._watched:
            Context().run(loop.add_reader, self._socket.fileno(), self._ear(self))
            self._watched = True

    def leave(self) -> None:
        """Have it look no more: what there is to read is for a thread."""
        loop = self._loop()
        if loop is not None and self._watched:
            loop.remove_reader(self._socket.fileno())
            self._watched = False

    @property
    def begun(self) -> bool:
        """Whether a part of a reply was read, which nobody else can read any more."""
        return self._begun

    def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError if there is not room enough; then some of it may be sent."""
        if self._socket.send(data) < len(data):
            raise BlockingIOError("there is no room for all of it")

    def receive(self) -> Any:
        """
        The reply, or False if not all of it is there. Raises OSError if the connection is at its
        end, and what hiredis raises for what is no reply.
        """
        try:
            data = self._socket.recv(MOST)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionResetError("the connection was closed by the server")
        self._reader.feed(data)
        reply = self._reader.gets()
        self._begun = reply is False
        return reply
