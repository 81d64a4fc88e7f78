"""Workers that use a ledger as hard as they can, and what must hold of what they were told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count

from requested import claiming, once, quota, record, settling, slot, state

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Claiming, Granted, Settled
from sluicegate.ledger.postgres import PostgresLedger

LIMIT = 400


class Load:
    """Workers that claim and settle for as long as they are let, and remember what they were told."""

    def __init__(self, ledger: PostgresLedger, limit: int = LIMIT, slots: int = 50) -> None:
        self.ledger = ledger
        self.limit = limit
        self.slots = slots
        self.granted: dict[str, str] = {}
        self.settled: set[str] = set()
        self.slowest = 0.0
        self.errors = 0
        self.stop = threading.Event()

    def requests(self, worker: int) -> Iterator[tuple[str, Claiming]]:
        for number in count():
            if self.stop.is_set():
                return
            key = f"once|{number}"  # all workers want the same keys
            permit = f"{worker}.{number}"
            yield key, claiming(permit, quota(self.limit), slot(self.slots), once(key))

    def work(self, worker: int) -> None:
        for key, request in self.requests(worker):
            begun = time.monotonic()
            try:
                answer = self.ledger.perform(request)
                self._heard(key, request, answer)
                if isinstance(answer, Granted):
                    self._ended(request, self.ledger.perform(settling(request, answer)))
            except LedgerError:
                self._failed()
            self.slowest = max(self.slowest, time.monotonic() - begun)

    async def awork(self, worker: int) -> None:
        for key, request in self.requests(worker):
            try:
                answer = await self.ledger.aperform(request)
                self._heard(key, request, answer)
                if isinstance(answer, Granted):
                    self._ended(request, await self.ledger.aperform(settling(request, answer)))
            except LedgerError:
                self._failed()
                await asyncio.sleep(0.01)

    def _heard(self, key: str, request: Claiming, answer: object) -> None:
        if isinstance(answer, Granted):
            assert key not in self.granted, "a key is executed once"
            self.granted[key] = request.permit

    def _ended(self, request: Claiming, answer: object) -> None:
        if isinstance(answer, Settled):
            self.settled.add(request.permit)

    def _failed(self) -> None:
        self.errors += 1
        time.sleep(0.01)


def assert_nothing_lost(ledger: PostgresLedger, load: Load) -> None:
    """What was told is on record, once, and the budget has exactly what is on record."""
    told = record(ledger)
    granted_ever = {e["permit"] for e in told if e["kind"] == "decision" and "permit" in e}
    undone = {e["permit"] for e in told if "error" in e}
    succeeded = {e["permit"] for e in told if e["kind"] == "outcome" and "error" not in e}
    assert set(load.granted.values()) <= granted_ever
    assert not undone & set(load.granted.values()), "what somebody was told is not taken back"
    assert load.settled <= succeeded
    assert max(Counter(e["permit"] for e in told if e["kind"] == "outcome").values()) == 1
    open_permits = {out.permit for out in ledger.out()} - {"last"}
    assert granted_ever == undone | succeeded | open_permits | {"last"}
    assert dict(state(ledger))["quota"][1:] == [len(succeeded), len(open_permits)]
    assert len(succeeded) + len(open_permits) <= load.limit
