"""A committer whose lanes a test can hold up, and threads that ask it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from requested import claiming, quota, slot

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Claiming
from sluicegate.ledger.committer import Committer
from sluicegate.ledger.memory import MemoryLedger
from sluicegate.ledger.ticket import Batch


class Lane:
    """Carries out batches in memory, as soon as it may."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.reached = threading.Event()
        self.left = False


class InMemory(Committer[Lane]):
    """A committer over a ledger in memory; *before* may raise when a batch has begun, *after* when it is done."""

    def __init__(self, lanes: int = 1, timeout: float = 5.0) -> None:
        self.ledger = MemoryLedger()
        self.lanes = [Lane() for _ in range(lanes)]
        self.batches: list[list[str]] = []
        self.by: list[str] = []
        self.ended = False
        self.before: Callable[[Sequence[str]], None] = lambda permits: None
        self.after: Callable[[], None] = lambda: None
        super().__init__("the ledger", timeout=timeout, lanes=lanes)

    def _open(self) -> Lane:
        return self.lanes[len(self._lanes)]

    def _carry(self, lane: Lane, batch: Batch) -> None:
        requests = [ticket.request for ticket in batch.tickets]
        self.by.append(threading.current_thread().name)
        permits = [request.permit for request in requests if isinstance(request, Claiming)]
        lane.reached.set()
        assert lane.go_on.wait(10)
        self.before(permits)
        self.batches.append(permits)
        batch.answers += [self.ledger.perform(request) for request in requests]
        self.after()

    def _late(self, *, begun: bool) -> str:
        return "too late" if begun else "withdrawn"

    def _gone(self) -> str:
        return "closed"

    def _leave(self, lane: Lane, until: float) -> None:
        lane.left = True

    def _end(self) -> None:
        self.ended = True

    def hold(self, number: int = 0) -> Lane:
        """The lane keeps its next batch until it is told to go on."""
        lane = self.lanes[number]
        lane.reached.clear()
        lane.go_on.clear()
        return lane


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def asking(committer: InMemory, permit: str, told: list[Any]) -> threading.Thread:
    """A thread that asks for a permit, and notes what it is told."""

    def ask() -> None:
        try:
            told.append(committer.perform(claiming(permit, quota(100), slot(100))))
        except LedgerError as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def queued(committer: InMemory, count: int) -> list[Any]:
    """What so many threads, that came one after the other and have to wait, are told in the end."""
    told: list[Any] = []
    for number in range(count):
        asking(committer, f"q{number}", told)
        until(lambda: len(committer._waiting.queue) == number + 1)  # noqa: B023
    return told
