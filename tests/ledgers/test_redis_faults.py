"""
Redis ledgers on a real server that fails: nothing is spent twice, nothing acknowledged is
lost where the server keeps it, callers hear in time, and all goes on by itself.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from redis_server import Proxy, Server, namespace, startable
from requested import (
    NOW,
    SECOND,
    claiming,
    granted,
    noting,
    once,
    quota,
    record,
    settling,
    slot,
    state,
)
from test_redis_equals_memory import sound

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted, Refused, Rejected, Replayed, Settled
from sluicegate.ledger.redis import RedisLedger

pytestmark = pytest.mark.skipif(not startable(), reason="no server by pip for this machine")

TIMEOUT = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that keeps what it has acknowledged, for one file of tests."""
    made = Server(appendfsync="always")
    yield made
    made.remove()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    made = Proxy(server)
    yield made
    made.close()


@pytest.fixture
def ledger(proxy: Proxy) -> Iterator[RedisLedger]:
    """A ledger behind the proxy, which has written once."""
    made = RedisLedger(
        proxy.url, namespace=namespace(), timeout=TIMEOUT, require_durable=True, exact_time=True
    )
    made.perform(noting())
    yield made
    made.close()


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kinds(ledger: RedisLedger) -> list[str]:
    return [entry.get("error", entry["kind"]) for entry in record(ledger)]


@pytest.mark.parametrize("fault", ["cut before", "cut after"])
def test_a_connection_that_breaks_is_no_error(
    ledger: RedisLedger, proxy: Proxy, fault: str
) -> None:
    """The batch is sent again, and whether or not it had arrived, it is carried out once."""
    proxy.fault = fault  # type: ignore[assignment]
    request, answer = granted(ledger, "p", quota(5), slot(5), once())
    assert proxy.fault == ""
    assert state(ledger)[1] == ("quota", [0, 0, 1])
    assert kinds(ledger) == ["policy", "decision"]
    proxy.fault = fault  # type: ignore[assignment]
    assert isinstance(ledger.perform(settling(request, answer)), Settled)
    proxy.fault = fault  # type: ignore[assignment]
    assert isinstance(ledger.perform(claiming("q", once())), Replayed)
    assert kinds(ledger) == ["policy", "decision", "outcome", "decision"]
    sound(ledger)


def test_a_reply_that_never_comes_is_an_error_in_time_and_undone(
    ledger: RedisLedger, proxy: Proxy
) -> None:
    """The caller hears within the timeout, and the claim that nobody has is given back unasked."""
    proxy.fault = "silence"
    begun = time.monotonic()
    with pytest.raises(LedgerError, match=r"did not answer within 1 s .* is not known"):
        ledger.perform(claiming("p", quota(5), slot(5), once()))
    assert 0.8 * TIMEOUT < time.monotonic() - begun < 1.5 * TIMEOUT
    until(lambda: ledger.head()[0] == 3)
    assert state(ledger) == []
    assert kinds(ledger) == ["policy", "decision", "cancelled before dispatch"]
    assert ledger.out() == []
    sound(ledger)


def test_a_batch_that_arrives_late_changes_nothing(
    ledger: RedisLedger, proxy: Proxy, server: Server
) -> None:
    """What its caller has given up is shut out by the next batch, or undone by it."""
    proxy.fault = "late"
    target, proxy.target = proxy.target, 1  # nobody listens there
    with pytest.raises(LedgerError, match="did not answer within 1 s"):
        ledger.perform(claiming("p", quota(1)))
    proxy.target = target
    granted(ledger, "q", quota(1))
    before = state(ledger), ledger.head()
    proxy.release.set()
    assert proxy.arrived.wait(10)
    assert (state(ledger), ledger.head()) == before
    assert isinstance(ledger.perform(claiming("r", quota(1))), Refused)
    assert kinds(ledger) == ["policy", "decision", "decision"]
    sound(ledger)


def test_a_late_batch_is_shut_out_though_the_next_one_changes_nothing(
    ledger: RedisLedger, proxy: Proxy
) -> None:
    """A rejection writes nothing of its own, and all the same nothing overtaken comes after it."""
    request, answer = granted(ledger, "a", quota(9, key="other"))
    ledger.perform(settling(request, answer))
    proxy.fault = "late"
    target, proxy.target = proxy.target, 1
    with pytest.raises(LedgerError, match="did not answer within 1 s"):
        ledger.perform(claiming("p", quota(1)))
    proxy.target = target
    assert isinstance(ledger.perform(settling(request, answer)), Rejected)
    before = state(ledger), ledger.head()
    proxy.release.set()
    assert proxy.arrived.wait(10)
    assert (state(ledger), ledger.head()) == before


def test_a_late_batch_is_shut_out_though_its_copy_was_told_to_wait(
    ledger: RedisLedger, proxy: Proxy, server: Server
) -> None:
    """That one copy was refused does not mean that the other will be."""
    meta = f"{{sluicegate:{repr(ledger).split(chr(39))[1]}}}:meta"
    proxy.fault = "late"
    with server.client() as client:

        def another_has_the_turn() -> None:
            while not over.is_set():
                seconds, micros = client.time()
                client.hset(meta, "turn", f"w9 {seconds * SECOND + micros + SECOND // 2}")
                time.sleep(0.05)
            client.hset(meta, "turn", "")

        over = threading.Event()
        another = threading.Thread(target=another_has_the_turn)
        another.start()
        time.sleep(0.02)
        try:
            with pytest.raises(
                LedgerError,
                match=r"was overtaken by other processes for 1 s|did not answer within 1 s",
            ):
                ledger.perform(claiming("p", quota(1)))
        finally:
            over.set()
            another.join()
    never_out = settling(claiming("never", quota(1)), Granted(NOW, 1))
    assert isinstance(ledger.perform(never_out), Rejected)
    before = state(ledger), ledger.head()
    proxy.release.set()
    assert proxy.arrived.wait(10)
    assert (state(ledger), ledger.head()) == before


def test_a_server_that_stands_still_keeps_nobody_longer_than_the_timeout(
    ledger: RedisLedger, server: Server
) -> None:
    """Threads and tasks get their errors in time, and the loop goes on meanwhile."""
    heard: list[float] = []

    def ask(number: int) -> None:
        begun = time.monotonic()
        with pytest.raises(LedgerError, match=r"within 1 s"):
            ledger.perform(claiming(f"t{number}", quota(100), slot(100)))
        heard.append(time.monotonic() - begun)

    async def ask_all() -> int:
        async def one(number: int) -> None:
            begun = time.monotonic()
            with pytest.raises(LedgerError, match=r"within 1 s"):
                await ledger.aperform(claiming(f"a{number}", quota(100), slot(100)))
            heard.append(time.monotonic() - begun)

        turns = 0
        tasks = asyncio.gather(*map(one, range(10)))
        while not tasks.done():
            await asyncio.sleep(0.01)
            turns += 1
        await tasks
        return turns

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    server.signal(signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        assert asyncio.run(ask_all()) > 20
        for thread in threads:
            thread.join()
    finally:
        server.signal(signal.SIGCONT)
    assert len(heard) == 15
    assert max(heard) < 1.6 * TIMEOUT
    granted(ledger, "q", quota(100))
    until(lambda: dict(state(ledger)) == {"quota": [0, 0, 1]})
    sound(ledger)


def test_memory_that_is_used_up_changes_nothing(ledger: RedisLedger, server: Server) -> None:
    """A refused write is an error at once that names the setting; afterwards it works again."""
    request, answer = granted(ledger, "p", quota(5))
    before = state(ledger), ledger.head()
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
        try:
            begun = time.monotonic()
            with pytest.raises(
                LedgerError, match="refuses: .*; its memory is used up; raise `maxm"
            ):
                ledger.perform(claiming("q", quota(5)))
            with pytest.raises(LedgerError, match="memory is used up"):
                ledger.perform(settling(request, answer))
            assert time.monotonic() - begun < TIMEOUT
            assert (state(ledger), ledger.head()) == before
        finally:
            client.config_set("maxmemory", "0")
    assert isinstance(ledger.perform(settling(request, answer)), Settled)
    sound(ledger)


def test_a_script_that_is_flushed_is_loaded_again(ledger: RedisLedger, server: Server) -> None:
    """SCRIPT FLUSH, as a restart or a failover, costs one exchange more."""
    for number in range(3):
        with server.client() as client:
            client.script_flush()
        granted(ledger, f"p{number}", quota(5))
    assert state(ledger) == [("quota", [0, 0, 3])]


def test_a_server_killed_under_load_loses_nothing_it_acknowledged(
    ledger: RedisLedger, server: Server
) -> None:
    """
    SIGKILL and a new start, three times: eight threads go on by themselves, what was
    acknowledged is on record once, and the books agree with the journal.
    """
    said: list[str] = []
    errors: list[str] = []
    over = threading.Event()

    def work(thread: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            permit = f"{thread}.{number}"
            request = claiming(permit, quota(10**9), once(permit))
            try:
                answer = ledger.perform(request)
                assert isinstance(answer, Granted)
                said.append(permit)
                if number % 2:
                    ledger.perform(settling(request, answer))
                    said.append(f"{permit} settled")
            except LedgerError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.3)
        server.kill()
        time.sleep(0.1)
        server.start()
        until(partial(lambda before: len(said) > before + 50, len(said)))
    over.set()
    for thread in threads:
        thread.join()
    until(lambda: not ledger._committer._waiting.owed)
    told = record(ledger)
    permits = [entry["permit"] for entry in told if entry["kind"] == "decision"]
    settled = [
        f"{entry['permit']} settled" for entry in told if entry.get("outcome") == "succeeded"
    ]
    undone = [entry["permit"] for entry in told if "error" in entry]
    assert len(permits) == len(set(permits))
    assert len(settled) == len(set(settled))
    assert set(said) <= {*permits, *settled}
    assert not set(undone) & set(said)
    held = len(permits) - len(undone) - len(settled)
    assert dict(state(ledger))["quota"] == [0, len(settled), held]
    assert {out.permit for out in ledger.out()} == set(permits) - set(undone) - {
        name.removesuffix(" settled") for name in settled
    }
    sound(ledger)


def test_a_replica_without_our_last_decisions_is_recognised(proxy: Proxy, server: Server) -> None:
    """
    After a failover that lost acknowledged decisions every request is an error, until
    the program is started anew; before the promotion the replica is refused as such.
    """
    replica = Server(replicaof=f"127.0.0.1 {server.port}")
    with replica.client() as client:
        until(lambda: client.info("replication")["master_link_status"] == "up")
        space = namespace()
        ledger = RedisLedger(proxy.url, namespace=space, timeout=5 * TIMEOUT)
        granted(ledger, "p", quota(5))
        until(lambda: client.hlen(f"{{sluicegate:{space}}}:permits") == 1)
        proxy.target = replica.port
        proxy.cut()
        with pytest.raises(LedgerError, match="refuses: .* it is a replica"):
            ledger.perform(claiming("q", quota(5)))
        proxy.target = server.port
        proxy.cut()
        granted(ledger, "q", quota(5))
        until(lambda: client.hlen(f"{{sluicegate:{space}}}:permits") == 2)
        client.replicaof("NO", "ONE")
        granted(ledger, "lost", quota(5))
    proxy.target = replica.port
    proxy.cut()
    for permit in ("r", "s"):
        with pytest.raises(LedgerError, match="has lost decisions that it had acknowledged"):
            ledger.perform(claiming(permit, quota(5)))
    ledger.close()
    anew = RedisLedger(proxy.url, namespace=space, timeout=TIMEOUT)
    granted(anew, "t", quota(5))
    assert dict(state(anew))["quota"] == [0, 0, 3]
    anew.close()
    replica.remove()


def test_a_failover_that_lost_nothing_goes_unnoticed(proxy: Proxy, server: Server) -> None:
    """A replica that has everything serves on, with the script that it has never seen."""
    replica = Server(replicaof=f"127.0.0.1 {server.port}")
    space = namespace()
    ledger = RedisLedger(proxy.url, namespace=space, timeout=TIMEOUT)
    granted(ledger, "p", quota(5))
    with replica.client() as client:
        until(lambda: client.hlen(f"{{sluicegate:{space}}}:permits") == 1)
        client.replicaof("NO", "ONE")
    proxy.target = replica.port
    proxy.cut()
    granted(ledger, "q", quota(5))
    assert state(ledger) == [("quota", [0, 0, 2])]
    ledger.close()
    replica.remove()


def test_what_another_process_lost_is_noticed_here(proxy: Proxy, server: Server) -> None:
    """Time that steps back in the ledger means that somebody's decisions are gone, ours or not."""
    space = namespace()
    mine = RedisLedger(proxy.url, namespace=space, timeout=TIMEOUT)
    other = RedisLedger(proxy.url, namespace=space, timeout=TIMEOUT)
    granted(mine, "p", quota(5))
    granted(other, "q", quota(5))
    assert isinstance(mine.perform(settling(claiming("no", quota(5)), Granted(NOW, 1))), Rejected)
    with server.client() as client:
        client.hincrby(f"{{sluicegate:{space}}}:meta", "floor", -1)
    with pytest.raises(LedgerError, match="has lost decisions"):
        mine.perform(claiming("r", quota(5)))
    other.close()
    mine.close()


def test_a_namespace_that_was_removed_is_recognised(server: Server) -> None:
    """FLUSHDB under a running ledger is an error and no fresh start with full budgets."""
    space = namespace()
    ledger = RedisLedger(server.url, namespace=space, timeout=TIMEOUT)
    granted(ledger, "p", quota(1))
    with server.client() as client:
        client.delete(*client.keys(f"{{sluicegate:{space}}}*"))
    for _ in range(2):
        with pytest.raises(LedgerError, match="does not have this ledger any more"):
            ledger.perform(claiming("q", quota(1)))
    ledger.close()


def test_a_worker_whose_clock_is_wrong_by_an_hour_changes_nothing(server: Server) -> None:
    """Time is the server's: whatever the requests say, slots end and entries are dated by it."""
    space = namespace()
    ledger = RedisLedger(server.url, namespace=space, timeout=TIMEOUT)
    with server.client() as client:
        seconds, micros = client.time()
        now = seconds * SECOND + micros
    granted(ledger, "p", slot(1), lease=600 * SECOND, now=now)
    for wrong in (-3600, 3600):
        answer = ledger.perform(claiming("q", slot(1), now=now + wrong * SECOND))
        assert isinstance(answer, Refused)
        assert 0 <= answer.at - now < 10 * SECOND
        assert 0 <= ledger.floor - answer.at < 10 * SECOND
    assert all(0 <= entry["at"] - now < 10 * SECOND for entry in record(ledger))
    ledger.close()


def test_a_server_whose_clock_is_set_back_frees_nothing(server: Server) -> None:
    """The ledger's time goes on from the latest it has seen, for every process."""
    space = namespace()
    first = RedisLedger(server.url, namespace=space, timeout=TIMEOUT)
    _, answer = granted(first, "p", slot(1), lease=7200 * SECOND)
    granted(first, "short", slot(1, key="other"), lease=3600 * SECOND)
    latest = answer.at + 3600 * SECOND  # as if the clock had been an hour ahead until now
    with server.client() as client:
        client.hset(f"{{sluicegate:{space}}}:meta", "floor", latest)
    others = (first, RedisLedger(server.url, namespace=space))
    for number, ledger in enumerate(others):
        refused = ledger.perform(claiming("q", slot(1)))
        assert isinstance(refused, Refused)
        assert latest <= refused.at < latest + 10 * SECOND
        _, after = granted(ledger, f"r{number}", slot(9, key="other"))
        assert refused.at <= after.at < refused.at + SECOND
        latest = after.at
        ledger.close()
