"""Several processes, threads and tasks on one Redis ledger, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from held_up import Gated
from redis import Redis
from redis_server import namespace, shared
from requested import NOW, claiming, granted, noting, once, quota, record, settling, slot, state
from test_redis_equals_memory import sound

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted, Refused, Rejected, Replayed, Settled
from sluicegate.ledger.redis import RedisLedger

WORKER = Path(__file__).with_name("redis_worker.py")


@pytest.fixture
def ledger() -> Iterator[RedisLedger]:
    made = RedisLedger(shared(), namespace=namespace())
    yield made
    sound(made)
    made.close()


# --- several writers ----------------------------------------------------------------------------


def test_two_processes_see_one_another_at_once(ledger: RedisLedger) -> None:
    """What one has claimed the other cannot, settle or replay as it can; each has its own chain."""
    other = RedisLedger(shared(), namespace=space(ledger))
    request, answer = granted(ledger, "p", quota(3), once())
    assert isinstance(other.perform(claiming("q", once())), Refused)
    settled = other.perform(settling(request, answer))
    assert isinstance(settled, Settled)
    assert settled.entry == (1 << 32) + 2
    replayed = ledger.perform(claiming("q", once()))
    assert isinstance(replayed, Replayed)
    assert json.loads(replayed.outcome)["permit"] == "p"
    assert isinstance(ledger.perform(settling(request, answer)), Rejected)
    granted(other, "r", quota(3))
    with pytest.raises(LedgerError, match="permit id r is out already"):
        ledger.perform(claiming("r", quota(3)))
    assert {entry.writer for entry in ledger.entries()} == {ledger.writer, other.writer}
    after = list(ledger.entries(1))
    assert after[0].seq == 1
    assert len(after) == len(record(ledger)) - 1
    assert ledger.head() == other.head() == (len(after) + 1, after[-1].hash)
    assert json.loads(other.body(settled.entry))["kind"] == "outcome"
    with pytest.raises(LedgerError, match="has no entry 99 in its journal"):
        ledger.body(99)
    other.close()


def test_four_processes_take_exactly_what_there_is_and_none_starves() -> None:
    """However 8 threads in 4 processes collide on one budget, it grants what it has, to all of them."""
    space = namespace()
    url = f"{shared()}?namespace={space}"
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), url, f"w{number}", "400", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == '"ready"\n'
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    permits = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(map(len, permits)) == len({permit for some in permits for permit in some}) == 400
    assert min(map(len, permits)) > 20
    ledger = RedisLedger.at(url)
    assert dict(state(ledger))["quota"] == [0, 0, 400]
    sound(ledger)
    ledger.close()


def meta(ledger: RedisLedger) -> str:
    """The key of what a namespace keeps of itself."""
    return f"{{sluicegate:{space(ledger)}}}:meta"


def space(ledger: RedisLedger) -> str:
    return repr(ledger).split("'")[1]


def test_times_of_requests_count_for_all_processes(ledger: RedisLedger) -> None:
    """With exact_time the latest time that any process has seen is the earliest for all."""
    one = RedisLedger(shared(), namespace=space(ledger), exact_time=True)
    two = RedisLedger(shared(), namespace=space(ledger), exact_time=True)
    two.perform(noting(now=NOW))
    one.perform(noting(now=NOW + 9))
    assert two.perform(claiming("p", quota(1), now=NOW + 5)).at == NOW + 9  # type: ignore[union-attr]
    one.close()
    two.close()


def test_who_was_overtaken_goes_first(ledger: RedisLedger) -> None:
    """While another process has the turn, requests wait; a turn that ends late was set by a wrong clock."""
    ledger.perform(noting())
    with Redis.from_url(shared()) as client:

        def until_ending(after: float) -> float:
            seconds, micros = client.time()
            ends = seconds * 1_000_000 + micros + int(after * 1e6)
            client.hset(meta(ledger), "turn", f"w99 {ends}")
            begun = time.monotonic()
            granted(ledger, f"p{after}", quota(9))
            return time.monotonic() - begun

        assert 0.25 < until_ending(0.3) < 2
        assert until_ending(3600) < 0.25


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_is_a_writer_of_its_own(ledger: RedisLedger) -> None:
    """After a fork both go on, on connections and chains of their own."""
    granted(ledger, "parent", quota(2))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = [ledger.perform(claiming(name, quota(2))) for name in ("child", "too much")]
            os.write(
                writing, f"{[type(answer).__name__ for answer in answers]} {ledger.writer}".encode()
            )
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    said = os.read(reading, 1000).decode()
    assert said.startswith("['Granted', 'Refused'] ")
    assert said.endswith(".1")
    assert isinstance(ledger.perform(claiming("q", quota(2))), Refused)
    assert ledger.writer.endswith(".0")


# --- waiting ------------------------------------------------------------------------------------


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_tasks_cancelled_at_any_time_claim_nothing(ledger: RedisLedger) -> None:
    """Whenever a claim is cancelled, its budget and its slot are free afterwards."""
    chance = random.Random(7)

    async def ask(number: int) -> bool:
        request = claiming(f"p{number}", quota(10**6), slot(10**6))
        task = asyncio.ensure_future(ledger.aperform(request))
        await asyncio.sleep(chance.random() / 300)
        task.cancel()
        try:
            await ledger.aperform(settling(request, await task, "failed"))
        except asyncio.CancelledError:
            return True
        return False

    async def ask_all() -> list[bool]:
        return await asyncio.gather(*(ask(number) for number in range(300)))

    cancelled = asyncio.run(ask_all())
    until(lambda: not ledger._committer._waiting.owed and ledger._committer._idle())
    assert state(ledger) == []
    entries = record(ledger)
    ran = [entry for entry in entries if entry["kind"] == "outcome" and "error" not in entry]
    assert len(ran) == cancelled.count(False)
    assert 2 * sum(entry["kind"] == "outcome" for entry in entries) == len(entries)


CANCELLED = ["decision", "cancelled before dispatch"]


def kinds(ledger: RedisLedger) -> list[str]:
    return [entry.get("error", entry["kind"]) for entry in record(ledger)]


def test_a_task_cancelled_in_the_batch_claims_nothing(ledger: RedisLedger) -> None:
    """What is under way is finished and then undone."""
    gate = Gated()

    async def cancel() -> None:
        request = claiming("p", quota(5), gate)  # type: ignore[arg-type]
        task = asyncio.ensure_future(ledger.aperform(request))
        while not gate.reached.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.go_on.set()

    asyncio.run(cancel())
    until(lambda: kinds(ledger) == CANCELLED)
    assert state(ledger) == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_that_is_done_after_the_timeout_is_undone(asynchronous: bool) -> None:
    """Who heard that it took too long does not hold anything afterwards."""
    ledger = RedisLedger(shared(), namespace=namespace(), timeout=0.3)
    gate, first = Gated(), Gated()
    ahead = threading.Thread(target=ledger.perform, args=(claiming("first", first),))  # type: ignore[arg-type]
    ahead.start()
    assert first.reached.wait(10)
    heard: list[BaseException] = []

    def ask() -> None:
        request = claiming("p", quota(5), gate)  # type: ignore[arg-type]
        with pytest.raises(
            LedgerError, match="within 0.3 s; whether the request was carried"
        ) as caught:
            asyncio.run(ledger.aperform(request)) if asynchronous else ledger.perform(request)
        heard.append(caught.value)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: len(ledger._committer._waiting.queue) == 1)
    first.go_on.set()
    assert gate.reached.wait(10)
    asking.join()
    assert len(heard) == 1
    gate.go_on.set()
    ahead.join()
    until(lambda: kinds(ledger) == ["decision", *CANCELLED])
    assert "quota" not in dict(state(ledger))
    ledger.close()


def test_a_loop_that_is_closed_on_its_tasks_claims_nothing(ledger: RedisLedger) -> None:
    """A program that throws its event loop away leaves nothing held."""
    for _ in range(20):
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)  # it complains about the task
        task = loop.create_task(ledger.aperform(claiming("p", quota(1))))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        del task
        gc.collect()
        until(lambda: not ledger._committer._waiting.queue and ledger._committer._idle())
        until(lambda: not ledger._committer._waiting.owed and state(ledger) == [])


def test_a_closed_ledger_says_so() -> None:
    """After close every use is an error, and what waited has been carried out."""
    ledger = RedisLedger(shared(), namespace=namespace())
    threads = [
        threading.Thread(target=ledger.perform, args=(claiming(f"p{number}", quota(99)),))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    ledger.close()
    uses: list[Callable[[], object]] = [
        lambda: ledger.perform(noting()),
        lambda: asyncio.run(ledger.aperform(noting())),
        lambda: ledger.cell("quota"),
        lambda: list(ledger.entries()),
        ledger.head,
        ledger.out,
    ]
    for use in uses:
        with pytest.raises(LedgerError, match="is closed; open it again|is being closed"):
            use()


def test_a_request_with_a_text_that_cannot_be_kept_spoils_no_other(ledger: RedisLedger) -> None:
    """A lone surrogate has no UTF-8: its request raises, and those of the same batch go through."""

    async def ask(permit: str) -> object:
        return await ledger.aperform(claiming(permit, quota(99), slot(99, key=permit)))

    async def ask_all() -> list[object]:
        return await asyncio.gather(*map(ask, ["a", "b", "\ud800", "c"]), return_exceptions=True)

    answers = asyncio.run(ask_all())
    assert [type(answer) for answer in answers] == [Granted, Granted, UnicodeEncodeError, Granted]
    assert [key for key, _ in state(ledger)] == ["a", "b", "c", "quota"]


def test_a_batch_may_have_thousands_of_cells(ledger: RedisLedger) -> None:
    """More values than Lua hands over at once are read, set and removed in parts."""
    claims = [quota(9, key=f"k{number}") for number in range(9001)]
    request, answer = granted(ledger, "p", *claims)
    assert len(state(ledger)) == 9001
    other = RedisLedger(shared(), namespace=space(ledger))
    assert isinstance(other.perform(settling(request, answer, "failed")), Settled)
    assert state(ledger) == []
    other.close()


def test_requests_may_say_what_time_it_is() -> None:
    """With exact_time a history can be carried over with its own times."""
    ledger = RedisLedger(shared(), namespace=namespace(), exact_time=True)
    assert granted(ledger, "p", quota(1))[1] == Granted(NOW, 1)
    assert ledger.floor == NOW
    ledger.close()
