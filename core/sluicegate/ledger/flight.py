"""A batch that an event loop carries out itself, where a thread would only wait for replies."""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from .ticket import Batch

__all__ = ["Flight"]

_L = TypeVar("_L")


class Flight(ABC, Generic[_L]):
    """
    A batch on *lane* that only tasks of *loop* wait for; None until it begins.

    It is *busy* while the loop is at it, and *wanted* if a thread is to go on with it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lane: _L) -> None:
        self._loop = weakref.ref(loop)  # a loop that nobody has any more closes its coroutines
        self._error: BaseException | None = None
        self.lane = lane
        self.batch: Batch | None = None
        self.busy = self.wanted = False

    def within(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether it is that loop's."""
        return loop is not None and self._loop() is loop

    def advance(self, batch: Batch) -> bool:
        """In the loop: go on as far as there is nothing to wait for; whether it is over."""
        try:
            return self._advance(batch)
        except BaseException as error:  # noqa: BLE001 - it is raised where batches end
            self._error = error
            return True

    def conclude(self, lane: _L, batch: Batch) -> None:
        """It is over: raise what was raised on the way."""
        if self._error is not None:
            raise self._error

    @property
    def interrupt(self) -> BaseException | None:
        """What ended it and is not for those who wait, such as KeyboardInterrupt."""
        return None if isinstance(self._error, Exception) else self._error

    @abstractmethod
    def _advance(self, batch: Batch) -> bool:
        """What `advance` does. It sets *wanted* where it cannot go on without waiting."""

    @abstractmethod
    def finish(self, lane: _L, batch: Batch) -> None:
        """In a thread, when the loop is not at it: all that is left, waiting where there is need."""
