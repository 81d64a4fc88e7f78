"""A request on its way through the committer, and what undoes it."""

from __future__ import annotations

import asyncio
import json
from threading import Lock
from typing import Literal, TypeAlias

from ..claims import Hold
from .base import Answer, Claiming, Granted, Request, Settling

__all__ = ["State", "Ticket", "answer", "undoing"]

State: TypeAlias = Literal["waiting", "begun", "done", "left"]
"""In the queue · in a transaction · answered · nobody is there to be answered."""


class Ticket:
    """A request, and whoever waits for its answer."""

    __slots__ = ("bell", "future", "request", "result", "state")

    def __init__(self, request: Request, future: asyncio.Future[None] | None = None) -> None:
        self.request = request
        self.result: Answer | Exception | None = None
        self.state: State = "begun"
        self.future = future
        self.bell: Lock | None = None

    def outcome(self) -> Answer:
        """The answer, when it is done. Raises what its request raised."""
        if isinstance(self.result, Exception):
            raise self.result
        assert self.result is not None  # noqa: S101 - for the type checker: it is done
        return self.result


def answer(tickets: list[Ticket]) -> None:
    """In the event loop of their tasks; one that is cancelled by now has seen to itself."""
    for ticket in tickets:
        if ticket.future is not None and not ticket.future.done():
            ticket.future.set_result(None)


def undoing(ticket: Ticket) -> list[Settling]:
    """What gives back the claim that *ticket* was granted, if it was; on record as never dispatched."""
    request, granted = ticket.request, ticket.result
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
    return [Settling(hold, (*request.claims, *approval), granted.at, "failed", {}, entry)]
