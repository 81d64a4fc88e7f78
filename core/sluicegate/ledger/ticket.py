"""A request on its way through a committer, the batch it is carried out in, and what undoes it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Literal, TypeAlias

from ..claims import Hold
from ..errors import LedgerError
from .base import Answer, Claiming, Granted, Request, Settling

__all__ = ["Batch", "Kept", "State", "Ticket", "answer", "deliver", "undoing"]

State: TypeAlias = Literal["waiting", "begun", "done", "left"]
"""In the queue · in a batch · answered · nobody is there to be answered."""


class Ticket:
    """
    A request, and who waits for its answer until *until*, a time of `time.monotonic`: a
    thread for its *bell*, a task for its *future*, and nobody for what is *owed*. One that
    is *alone* shares its batch with no other.
    """

    __slots__ = ("alone", "bell", "future", "owed", "request", "result", "state", "until")

    def __init__(
        self,
        request: Request,
        until: float,
        future: asyncio.Future[None] | None = None,
        *,
        owed: bool = False,
    ) -> None:
        self.request = request
        self.until = until
        self.future = future
        self.owed = owed
        self.alone = False
        self.bell: Lock | None = None
        self.result: Answer | Exception | None = None
        self.state: State = "begun"

    def outcome(self) -> Answer:
        """The answer, when it is done. Raises what its request raised."""
        if isinstance(self.result, Exception):
            raise self.result
        assert self.result is not None  # noqa: S101 - for the type checker: it is done
        return self.result


class Kept(LedgerError):
    """What a batch needs is in use by somebody else; nothing of it was carried out."""


class Batch:
    """
    What is carried out together, tried from *since* on, a time of `time.monotonic`. *answers*
    are in the order of its tickets; after an error they are those that may hold all the same,
    as far as there are any.
    """

    __slots__ = ("_take", "_tickets", "answers", "hurried", "since")

    def __init__(self, take: Callable[[], list[Ticket]], *, hurried: bool) -> None:
        self.answers: list[Answer | Exception] = []
        self.hurried = hurried  # it is carried out by a caller's thread, which has better to do
        self.since = time.monotonic()
        self._take = take
        self._tickets: list[Ticket] | None = None

    @property
    def begun(self) -> bool:
        """Whether its requests cannot be withdrawn any more."""
        return self._tickets is not None

    @property
    def tickets(self) -> list[Ticket]:
        """All who wait when this is asked first: they have begun by then."""
        if self._tickets is None:
            self._tickets = self._take()
        return self._tickets

    def begin(self, tickets: list[Ticket]) -> None:
        """It is for these, whoever else may wait."""
        self._tickets = tickets

    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(ticket.state == "begun" for ticket in self.tickets)


def answer(tickets: list[Ticket]) -> None:
    """In the event loop of their tasks; one that is cancelled by now has seen to itself."""
    for ticket in tickets:
        if ticket.future is not None and not ticket.future.done():
            ticket.future.set_result(None)


def deliver(
    tickets: Sequence[Ticket], here: asyncio.AbstractEventLoop | None = None
) -> list[Ticket]:
    """
    Wake up who waits for one: threads one by one, each event loop once; *here* is the one that
    this is called in, if any. Those whose loop is closed are given back: their tasks are gone.
    """
    loops: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
    for ticket in tickets:
        if ticket.future is not None:
            loops.setdefault(ticket.future.get_loop(), []).append(ticket)
        elif ticket.bell is not None:
            ticket.bell.release()
    gone: list[Ticket] = []
    if here in loops:
        answer(loops.pop(here))
    for loop, group in loops.items():
        try:
            loop.call_soon_threadsafe(answer, group)
        except RuntimeError:
            gone += group
    return gone


def undoing(request: Request, granted: Answer | Exception | None) -> list[Ticket]:
    """What gives back the claim that *request* was granted, if it was; on record as never dispatched."""
    if type(request) is not Claiming or type(granted) is not Granted:
        return []
    hold = Hold(request.permit, granted.at, granted.at + request.lease, request.binding)
    text = {
        "error": "cancelled before dispatch",
        "kind": "outcome",
        "outcome": "failed",
        "permit": hold.permit,
    }
    entry = json.dumps(text, separators=(",", ":"), ensure_ascii=False).removeprefix("{")
    approval = () if request.approval is None else (request.approval,)
    settling = Settling(hold, (*request.claims, *approval), granted.at, "failed", {}, entry)
    return [Ticket(settling, 0, owed=True)]
