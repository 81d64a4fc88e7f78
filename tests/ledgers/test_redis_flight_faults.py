"""
What ends a batch of an event loop early: Ctrl-C between two calls, a task that is collected,
a loop or a system without what is needed. No lane is left in use, and no claim unknown.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

pytest.importorskip("redis")

from redis_server import Server, namespace, startable
from requested import claiming, granted, noting, once, quota, settling, state
from test_redis_equals_memory import sound

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted, Replayed
from sluicegate.ledger.redis import RedisLedger
from sluicegate.ledger.redis_committer import RedisCommitter
from sluicegate.ledger.redis_flight import RedisFlight
from sluicegate.ledger.ticket import Ticket

pytestmark = pytest.mark.skipif(not startable(), reason="no server by pip for this machine")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.remove()


@pytest.fixture
def ledger(server: Server) -> Iterator[RedisLedger]:
    """One whose connection is open, by a caller's own thread: it has no thread yet."""
    made = RedisLedger(server.url, namespace=namespace(), timeout=3.0)
    made.perform(noting())
    yield made
    until_idle(made)
    sound(made)
    made.close()


def until_idle(ledger: RedisLedger) -> None:
    """Nothing waits, nothing is owed, and nobody has the lane."""
    committer = ledger._committer
    deadline = time.monotonic() + 10
    while not committer._idle() or committer._waiting.owed:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def claim(ledger: RedisLedger, permit: str) -> Coroutine[Any, Any, Any]:
    return ledger.aperform(claiming(permit, quota(1000)))


def once_interrupted(patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """The next call of a method is ended by Ctrl-C before it does anything."""
    real: Callable[..., Any] = getattr(owner, name)

    def interrupted(*arguments: Any, **more: Any) -> Any:
        patch.setattr(owner, name, real)
        raise KeyboardInterrupt

    patch.setattr(owner, name, interrupted)


async def in_the_air(ledger: RedisLedger) -> None:
    """Until a batch was sent by its loop."""
    deadline = time.monotonic() + 10
    while (flight := ledger._committer._flight) is None or flight.batch is None or flight.busy:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (RedisCommitter, "_board"),
        (RedisFlight, "_begin"),
        (RedisFlight, "_send"),
        (RedisFlight, "_receive"),
        (RedisCommitter, "_put_back"),
        (RedisCommitter, "_answer"),
    ],
)
def test_an_interrupted_loop_leaves_the_lane_to_others(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Ctrl-C at any step of a batch: the next claim is served at once, and nobody holds the lost one."""
    once_interrupted(monkeypatch, owner, name)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(claim(ledger, "lost"))
    begun = time.monotonic()
    granted(ledger, "next", quota(1000))
    assert time.monotonic() - begun < 2.4, "less than the ledger's timeout"
    until_idle(ledger)
    assert dict(state(ledger)) == {"quota": [0, 0, 1]}


def test_a_reply_that_an_interrupted_loop_has_not_read_is_nobody_elses(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C when there is a reply: the next command does not take that for its own."""

    async def work() -> None:
        task = asyncio.ensure_future(claim(ledger, "lost"))
        await in_the_air(ledger)
        once_interrupted(monkeypatch, RedisFlight, "_advance")
        await task

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work())
    granted(ledger, "next", quota(1000))
    until_idle(ledger)
    assert dict(state(ledger)) == {"quota": [0, 0, 1]}


def test_a_task_that_is_collected_while_a_thread_takes_over_changes_nothing(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To start a thread takes a while, and tasks may be thrown away in it: the lane is handed on once."""
    committer = ledger._committer
    start, serve = committer._start, committer._serve
    served: list[object] = []

    def counted(lane: Any) -> None:
        served.append(lane)
        serve(lane)

    async def work() -> None:
        coroutine = claim(ledger, "collected")
        coroutine.send(None)  # as a task would
        await in_the_air(ledger)

        def started(needed: int) -> None:
            monkeypatch.setattr(committer, "_start", start)
            coroutine.close()
            start(needed)

        monkeypatch.setattr(committer, "_start", started)
        monkeypatch.setattr(committer, "_serve", counted)
        granted(ledger, "blocking", quota(1000))

    asyncio.run(work())
    until_idle(ledger)
    assert len(served) == 1
    assert dict(state(ledger)) == {"quota": [0, 0, 1]}


def test_a_loop_that_is_called_late_hears_of_its_own_reply(ledger: RedisLedger) -> None:
    """A thread has read its reply by the time the loop is told of it, and a batch of the loop is next."""
    committer = ledger._committer

    async def work() -> None:
        await claim(ledger, "first")
        task = asyncio.ensure_future(claim(ledger, "next"))
        await asyncio.sleep(0)
        flight = committer._flight
        assert isinstance(flight, RedisFlight)
        assert flight.batch is None
        committer._heard(flight._wire)
        begun = time.monotonic()
        assert isinstance(await task, Granted)
        assert time.monotonic() - begun < 2.4, "less than the ledger's timeout"

    asyncio.run(work())


STOPPED = """
import asyncio, sys
from requested import claiming, noting
from sluicegate.ledger.redis import RedisLedger
ledger = RedisLedger(sys.argv[1], namespace=sys.argv[2])
ledger.perform(noting())
loop = asyncio.new_event_loop()
task = loop.create_task(ledger.aperform(claiming("p")))
for _ in range(int(sys.argv[3])):
    loop.call_soon(loop.stop)
    loop.run_forever()
"""


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_program_ends_although_its_loop_has_stopped(server: Server, turns: int) -> None:
    """Whatever became of a claim that nobody waits for any more: the end of Python comes at once."""
    arguments = [sys.executable, "-c", STOPPED, server.url, namespace(), str(turns)]
    done = subprocess.run(
        arguments, env={"PYTHONPATH": ":".join(sys.path)}, stdin=subprocess.DEVNULL, timeout=20,
        check=True,
    )  # fmt: skip
    assert done.returncode == 0


def test_what_is_owed_keeps_nobody_waiting(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many claims that were cancelled the next one shares a batch with what undoes them."""
    committer = ledger._committer
    held = [granted(ledger, f"cancelled{number}", quota(1000)) for number in range(40)]
    for request, answer in held:
        ticket = Ticket(request, 0.0)
        ticket.state, ticket.result = "done", answer
        committer._waiting.abandon(ticket)
    carried: list[int] = []
    concluding = RedisFlight.conclude

    def counted(self: RedisFlight, lane: Any, batch: Any) -> None:
        carried.append(len(batch.tickets))
        concluding(self, lane, batch)

    monkeypatch.setattr(RedisFlight, "conclude", counted)
    assert isinstance(asyncio.run(claim(ledger, "next")), Granted)
    assert carried == [41]
    assert dict(state(ledger)) == {"quota": [0, 0, 1]}


def test_a_batch_that_no_thread_can_take_over_is_taken_over_later(
    ledger: RedisLedger, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system has no thread when the connection breaks: as soon as it has, all goes on by itself."""
    committer = ledger._committer

    def none_left(needed: int) -> None:
        raise RuntimeError("can't start new thread")

    async def work() -> None:
        await claim(ledger, "first")
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with monkeypatch.context() as patch:
            patch.setattr(committer, "_start", none_left)
            with pytest.raises(LedgerError, match="did not get to a request within 3 s"):
                await claim(ledger, "unlucky")
            waiting = asyncio.ensure_future(claim(ledger, "patient"))
            await asyncio.sleep(0.1)
        with pytest.raises(LedgerError, match="did not get to a request within 3 s"):
            await waiting
        assert isinstance(await claim(ledger, "next"), Granted)

    asyncio.run(work())
    until_idle(ledger)
    assert dict(state(ledger)) == {"quota": [0, 0, 2]}


@pytest.mark.parametrize("error", [NotImplementedError(), PermissionError(), RuntimeError("odd")])
def test_a_loop_that_refuses_to_watch_a_connection_has_a_thread(
    ledger: RedisLedger, error: Exception
) -> None:
    """Whatever keeps a loop from watching a connection, its tasks have their answers."""

    def refuse(*arguments: Any) -> None:
        raise error

    loop = asyncio.new_event_loop()
    loop.add_reader = refuse  # type: ignore[method-assign, assignment]
    try:
        assert isinstance(loop.run_until_complete(claim(ledger, "p")), Granted)
    finally:
        loop.close()


def test_a_recorded_result_is_fetched_by_a_thread(ledger: RedisLedger, server: Server) -> None:
    """What was returned long ago is only on the server: no loop waits for it."""
    request, answer = granted(ledger, "first", once())
    ledger.perform(settling(request, answer))

    async def work() -> int:
        again = ledger.aperform(claiming("again", once()))
        assert isinstance(await again, Replayed)
        server.signal(signal.SIGSTOP)
        try:
            task = asyncio.ensure_future(ledger.aperform(claiming("stopped", once())))
            turns = 0
            while not task.done():
                await asyncio.sleep(0.01)
                turns += 1
        finally:
            server.signal(signal.SIGCONT)
        with pytest.raises(LedgerError, match="within 3 s"):
            await task
        return turns

    assert asyncio.run(work()) > 20


def test_an_interrupted_loop_that_has_its_reply_leaves_the_chain_whole(ledger: RedisLedger) -> None:
    """Ctrl-C while we take note that the server has a batch: the next entry comes behind its last."""

    class Interrupted(dict[str, Any]):
        def clear(self) -> None:
            super().clear()
            ledger._committer.store._pending = {}
            raise KeyboardInterrupt

    ledger._committer.store._pending = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(claim(ledger, "lost"))
    granted(ledger, "next", quota(1000))
    until_idle(ledger)
    assert dict(state(ledger)) == {"quota": [0, 0, 1]}
