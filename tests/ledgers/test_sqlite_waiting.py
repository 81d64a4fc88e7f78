"""Waiting for a SQLite ledger: timeouts, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from held_up import Gated, locked
from requested import NOW, claiming, granted, noting, quota, record, settling, slot, state

from sluicegate.errors import LedgerError
from sluicegate.journal import verify
from sluicegate.ledger.base import Answer, Granted
from sluicegate.ledger.sqlite import SqliteLedger

CANCELLED = {"error": "cancelled before dispatch", "kind": "outcome", "outcome": "failed"}


async def until(reached: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_a_lock_that_is_held_ends_in_an_error_in_time(sqlite_ledger: SqliteLedger) -> None:
    """After the timeout the request is withdrawn: it is not carried out afterwards either."""
    with locked(sqlite_ledger.path):
        begun = time.monotonic()
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s, so the request was withdrawn"):
            sqlite_ledger.perform(claiming("p", quota(5)))
        assert 0.4 < time.monotonic() - begun < 5
    granted(sqlite_ledger, "q", quota(5))
    assert [entry["permit"] for entry in record(sqlite_ledger)] == ["q"]


def test_a_task_too_waits_no_longer_than_the_timeout(sqlite_ledger: SqliteLedger) -> None:
    """The loop turns on while a task waits for the lock, and the task gets its error in time."""

    async def wait() -> int:
        turns = 0
        task = asyncio.ensure_future(sqlite_ledger.aperform(claiming("p", quota(5))))
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s"):
            await task
        return turns

    with locked(sqlite_ledger.path):
        assert asyncio.run(wait()) > 5
    granted(sqlite_ledger, "q", quota(5))
    assert sqlite_ledger.head()[0] == 1


def test_a_lock_that_is_released_in_time_is_no_error(sqlite_ledger: SqliteLedger) -> None:
    """Those who wait are served in the order in which they came."""
    order: list[str] = []

    def ask(permit: str) -> None:
        sqlite_ledger.perform(claiming(permit, quota(50)))
        order.append(permit)

    threads = [threading.Thread(target=ask, args=(f"p{number}",)) for number in range(5)]
    with locked(sqlite_ledger.path):
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert [entry["permit"] for entry in record(sqlite_ledger)] == [f"p{n}" for n in range(5)]
    assert sorted(order) == [f"p{number}" for number in range(5)]


def test_another_program_with_a_transaction_ends_in_an_error(sqlite_ledger: SqliteLedger) -> None:
    """SQLite's own lock counts like ours, and when it is gone the ledger works again."""
    with closing(sqlite3.connect(sqlite_ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s by another program; end its"):
            sqlite_ledger.perform(claiming("p", quota(5)))
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s"):
            asyncio.run(sqlite_ledger.aperform(claiming("q", quota(5))))
        other.execute("ROLLBACK")
    granted(sqlite_ledger, "r", quota(5))
    assert [entry["permit"] for entry in record(sqlite_ledger)] == ["r"]


def test_what_has_begun_is_not_given_up(sqlite_ledger: SqliteLedger) -> None:
    """A slow disk makes an answer late, not wrong: nobody is told no about what is then done."""
    gate = Gated()
    answers: list[object] = []
    request = claiming("p", gate)  # type: ignore[arg-type]
    with locked(sqlite_ledger.path):
        asking = threading.Thread(target=lambda: answers.append(sqlite_ledger.perform(request)))
        asking.start()
        time.sleep(0.1)
    assert gate.reached.wait(10)
    time.sleep(0.7)
    assert answers == []
    gate.go_on.set()
    asking.join()
    assert answers == [Granted(NOW, 1)]


def test_opening_waits_for_the_lock_no_longer_than_the_timeout(path: Path) -> None:
    """A ledger that is locked for ever can be seen to be so from the first line of a program."""
    SqliteLedger(path).close()
    with locked(path), pytest.raises(LedgerError, match=r"was locked for 0\.1 s"):
        SqliteLedger(path, timeout=0.1)


def test_a_task_cancelled_in_the_queue_claims_nothing(sqlite_ledger: SqliteLedger) -> None:
    """What has not begun is withdrawn: there is no trace of it."""

    async def cancel() -> None:
        task = asyncio.ensure_future(sqlite_ledger.aperform(claiming("p", quota(5))))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with locked(sqlite_ledger.path):
        asyncio.run(cancel())
    sqlite_ledger.perform(noting())
    assert state(sqlite_ledger) == []
    assert [entry["kind"] for entry in record(sqlite_ledger)] == ["policy"]


def undone(ledger: SqliteLedger, permit: str) -> None:
    """The permit was granted and given back, and the journal says that it never ran."""
    deadline = time.monotonic() + 10
    while ledger.head()[0] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert state(ledger) == []
    assert record(ledger) == [
        {"at": NOW, "kind": "decision", "permit": permit},
        {"at": NOW, "permit": permit, **CANCELLED},
    ]
    text = '"error":"cancelled before dispatch","kind":"outcome","outcome":"failed","permit":"p"}'
    assert list(ledger.entries())[1].body == f'{{"at":{NOW},{text}'


def test_a_task_cancelled_in_the_transaction_claims_nothing(sqlite_ledger: SqliteLedger) -> None:
    """What is under way is finished and then undone."""
    gate = Gated()

    async def cancel() -> None:
        request = claiming("p", quota(5), slot(5), gate)  # type: ignore[arg-type]
        task = asyncio.ensure_future(sqlite_ledger.aperform(request))
        await until(gate.reached.is_set)
        task.cancel()
        await asyncio.sleep(0)
        assert task.cancelled()
        gate.go_on.set()
        await until(lambda: sqlite_ledger.head()[0] == 2)

    asyncio.run(cancel())
    undone(sqlite_ledger, "p")


def test_a_task_cancelled_with_the_answer_on_its_way_claims_nothing(
    sqlite_ledger: SqliteLedger,
) -> None:
    """Between the commit and the next turn of the loop, a permit is nobody's."""

    async def cancel() -> None:
        task = asyncio.ensure_future(sqlite_ledger.aperform(claiming("p", quota(5), slot(5))))
        await asyncio.sleep(0)
        while sqlite_ledger.head()[0] < 1:
            time.sleep(0.001)  # the loop stands still on purpose
        time.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    undone(sqlite_ledger, "p")


def test_a_loop_that_is_closed_on_its_tasks_claims_nothing(sqlite_ledger: SqliteLedger) -> None:
    """A program that throws its event loop away leaves nothing held."""
    gate = Gated()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it complains about the task
    tasks: list[asyncio.Future[Answer]] = []

    async def begin() -> None:
        request = claiming("p", quota(5), slot(5), gate)  # type: ignore[arg-type]
        tasks.append(asyncio.ensure_future(sqlite_ledger.aperform(request)))
        await until(gate.reached.is_set)

    loop.run_until_complete(begin())
    loop.close()
    gate.go_on.set()
    undone(sqlite_ledger, "p")


def test_tasks_cancelled_at_any_time_claim_nothing(sqlite_ledger: SqliteLedger) -> None:
    """Whenever a claim is cancelled, its budget and its slot are free afterwards."""
    chance = random.Random(7)

    async def ask(number: int) -> bool:
        request = claiming(f"p{number}", quota(10**6), slot(10**6))
        task = asyncio.ensure_future(sqlite_ledger.aperform(request))
        await asyncio.sleep(chance.random() / 500)
        task.cancel()
        try:
            await sqlite_ledger.aperform(settling(request, await task, "failed"))
        except asyncio.CancelledError:
            return True
        return False

    async def ask_all() -> list[bool]:
        return await asyncio.gather(*(ask(number) for number in range(300)))

    cancelled = asyncio.run(ask_all())
    sqlite_ledger.close()
    with closing(SqliteLedger(sqlite_ledger.path)) as ledger:
        assert state(ledger) == []
        assert verify(ledger.entries(), ledger.head()) is None
        entries = record(ledger)
        ran = [entry for entry in entries if entry["kind"] == "outcome" and "error" not in entry]
        assert len(ran) == cancelled.count(False)
        outcomes = [entry for entry in entries if entry["kind"] == "outcome"]
        assert len(outcomes) == len(entries) - len(outcomes)
