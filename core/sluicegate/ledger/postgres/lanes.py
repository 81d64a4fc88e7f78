"""Committing to PostgreSQL: several connections, and batches whose locks go together."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final

from ..base import Request
from ..committer import Committer
from ..meaning import keys
from ..ticket import Batch
from .address import Address
from .lane import Lane

__all__ = ["Lanes"]

_PATIENCE: Final = 4
"""Requests that share a transaction wait for a lock for this part of their time; then each is alone."""

_MARGIN: Final = 0.1
"""Of the timeout: a lane gives up that much earlier than its caller, if it can, to say what went wrong."""


class Lanes(Committer[Lane]):
    """
    Up to `connections` lanes, each a connection with a chain of entries of its own. While there
    are few requests each has a lane; what waits for one shares its next transaction, so that one
    commit serves all who want the same budget.
    """

    room: ClassVar[int] = 48  # keys: a server has room for 64 locks for each connection

    def __init__(self, address: Address) -> None:
        self._address = address
        self.floor = 0
        super().__init__(
            f"the ledger {address}", timeout=address.timeout, lanes=address.connections
        )

    def _open(self) -> Lane:
        return Lane(self._address)

    def _size(self, request: Request) -> int:
        return len(keys(request))

    def _carry(self, lane: Lane, batch: Batch) -> None:
        tickets = batch.tickets
        if not tickets:
            return  # another lane has them
        now = time.monotonic()
        left = (max(ticket.until for ticket in tickets) or now + self._timeout) - now
        left -= min(_MARGIN * self._timeout, left / 2)
        lane.perform(
            [ticket.request for ticket in tickets],
            batch.answers,
            self.floor,
            now + left,
            left if len(tickets) == 1 else left / _PATIENCE,
            batch.wanted,
        )
        with self._mutex:
            self.floor = max(self.floor, lane.floor)

    def _late(self, *, begun: bool) -> str:
        problem = (
            f"the server gave no answer within {self._timeout:g} s; a claim will be undone, and the "
            "journal tells whether a settlement was recorded"
            if begun
            else f"all {self._most} connections were busy for {self._timeout:g} s, so the request was "
            "withdrawn; give the ledger more `connections`, or see in pg_stat_activity what holds them up"
        )
        return f"{self._label} cannot be used: {problem}"

    def _gone(self) -> str:
        return f"{self._label} is closed; open it again"

    def _leave(self, lane: Lane, until: float) -> None:
        lane.close()

    def in_child(self) -> None:
        """A connection of the parent must not even be closed: that would say good-bye in its name."""
        _INHERITED.extend(lane.disown() for lane in self._lanes)
        super().in_child()


_INHERITED: Final[list[Any]] = []
"""Connections of the parent of a fork, kept for as long as the child lives."""
