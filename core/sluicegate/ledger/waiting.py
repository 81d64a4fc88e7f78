"""Who waits for a committer, and what it owes: bookkeeping that waits for nothing itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from threading import Lock

from ..errors import LedgerError
from .base import Request
from .ticket import Batch, Ticket, undoing

__all__ = ["Waiting"]


class Waiting:
    """
    The requests of one committer that are not carried out yet. All methods are to be called
    under its mutex.

    Requests share a batch until together they have the size *room*.
    """

    __slots__ = ("_room", "_size", "failing", "owed", "queue")

    def __init__(self, room: int, size: Callable[[Request], int]) -> None:
        self.queue: deque[Ticket] = deque()
        self.owed: deque[Ticket] = deque()  # what undoes claims that were granted to nobody
        self.failing = False  # the last batch did
        self._room = room
        self._size = size

    def __bool__(self) -> bool:
        """
        Whether there is anything to do. What is owed while batches fail is left to the next one
        that somebody waits for, or until `failing` is taken back.
        """
        return bool(self.queue or (self.owed and not self.failing))

    def until(self) -> float:
        """Until when the first of them waits; what is owed is overdue."""
        return self.queue[0].until if self.queue and not self.owed else 0.0

    def join(self, ticket: Ticket) -> bool:
        """It is the last from now on; whether it is the first too."""
        _wait(ticket)
        self.queue.append(ticket)
        return len(self.queue) == 1

    def take(self, until: float = inf, most: int | None = None) -> list[Ticket]:
        """
        What is owed, and who waits, as far as there is room: they have begun. Only those who
        wait *until* then at the longest, and *most* of them at most.
        """
        taken: list[Ticket] = []
        room = self._room
        while (line := self.owed or self.queue) and room > 0:
            if (line[0].alone and taken) or line[0].until > until or len(taken) == most:
                break
            ticket = line.popleft()
            ticket.state = "begun"
            taken.append(ticket)
            room -= room if ticket.alone else self._size(ticket.request)
        return taken

    def expire(self, ticket: Ticket, why: str) -> None:
        """Its time is over: it is told *why*, and what it may be granted all the same is undone."""
        if ticket.state == "waiting" and ticket in self.queue:  # else Ctrl-C came as it was taken
            self.queue.remove(ticket)
        ticket.state, ticket.result = "left", LedgerError(why)

    def abandon(self, ticket: Ticket) -> None:
        """Nobody is there for the answer any more, so nobody has what it claims."""
        if ticket.state == "waiting" and ticket in self.queue:  # else Ctrl-C came as it was taken
            self.queue.remove(ticket)
        elif ticket.state == "done":
            self.owed += undoing(ticket.request, ticket.result)
        ticket.state = "left"

    def note(self, batch: Batch) -> None:
        """*batch* was carried out: what was granted to somebody who has left is undone."""
        self.failing = False
        for ticket, result in zip(batch.tickets, batch.answers, strict=True):
            if ticket.state == "left":
                self.owed += undoing(ticket.request, result)
            else:
                ticket.state, ticket.result = "done", result

    def part(self, batch: Batch) -> None:
        """
        *batch* was not carried out: its requests are the first again; those that have begun
        asked for too much together, so each is for itself from now on.
        """
        begun = batch.begun
        for ticket in reversed(batch.tickets):
            if ticket.state == "begun":
                _wait(ticket)
                ticket.alone = begun
                self.queue.appendleft(ticket)

    def give_up(self, batch: Batch, error: BaseException, label: str) -> None:
        """
        After an error a batch may have been carried out all the same: what it may have
        granted is undone, and nobody is told that it was granted. To undo what was not
        granted changes nothing.
        """
        known = isinstance(error, LedgerError)
        told = error.args if known else (f"{label} failed: {error!r}",)
        self.failing = True
        self.owed.extendleft(ticket for ticket in reversed(batch.tickets) if ticket.owed)
        for ticket, result in zip(batch.tickets, batch.answers, strict=False):
            if ticket.state != "done":  # else it was noted before the error, which is an interrupt
                self.owed += undoing(ticket.request, result)
        for ticket in batch.tickets:
            ticket.alone = False
            if ticket.state == "begun":
                _fail(ticket, told, error)

    def refuse(self, why: str, error: BaseException) -> list[Ticket]:
        """Nobody can carry out what is in the queue: those who wait in it, to be told *why*."""
        refused = [ticket for ticket in self.queue if not ticket.owed]
        self.owed.extendleft(ticket for ticket in reversed(self.queue) if ticket.owed)
        self.queue.clear()
        for ticket in refused:
            _fail(ticket, (why,), error)
        return refused


def _fail(ticket: Ticket, told: tuple[object, ...], error: BaseException) -> None:
    # An error of its own for each: raising one changes it.
    ticket.state, ticket.result = "done", LedgerError(*told)
    ticket.result.__cause__ = error


def _wait(ticket: Ticket) -> None:
    ticket.state = "waiting"
    if ticket.future is None and ticket.bell is None and not ticket.owed:
        ticket.bell = Lock()
        ticket.bell.acquire()
