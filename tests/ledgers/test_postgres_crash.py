"""A PostgreSQL server that is killed under load and started again: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

pytest.importorskip("psycopg", reason="the PostgreSQL ledger needs psycopg")
import pg_server
from pg_ledgers import again, assert_whole
from pg_load import LIMIT, Load, assert_nothing_lost
from requested import claiming, granted, quota, state

from sluicegate.errors import LedgerError
from sluicegate.ledger.postgres import PostgresLedger


@pytest.fixture(scope="module")
def server() -> Iterator[pg_server.Server]:
    """A server of our own, which writes through."""
    made = pg_server.Server().start()
    yield made
    made.remove()


def test_a_server_killed_under_load_loses_no_answer(server: pg_server.Server) -> None:
    """
    Killed three times while threads and tasks claim and settle: whoever was told yes is on record,
    no limit is passed, no key runs twice, nobody waits longer than the timeout, and all goes on.
    """
    ledger = PostgresLedger.at(pg_server.fresh(server.url()) + "&timeout=2")
    load = Load(ledger)

    async def tasks() -> None:
        await asyncio.gather(*(load.awork(number) for number in (10, 11, 12)))

    threads = [threading.Thread(target=load.work, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=lambda: asyncio.run(tasks())))
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.5)
        server.kill()
        time.sleep(0.2)
        server.start()
        before = len(load.granted)
        deadline = time.monotonic() + 20
        while len(load.granted) == before and len(load.granted) < LIMIT - 20:
            assert time.monotonic() < deadline, "it goes on by itself"
            time.sleep(0.01)
    load.stop.set()
    for thread in threads:
        thread.join()
    granted(ledger, "last", quota(10**9, key="another"))  # and what is owed is paid before
    assert load.errors
    assert load.slowest < 2 * 2 + 0.5, "two requests, of two seconds each at most"
    assert_nothing_lost(ledger, load)
    ledger.close()
    with closing(again(ledger)) as last:
        assert_whole(last)


def test_a_server_that_is_stopped_in_order_is_no_more_than_that(server: pg_server.Server) -> None:
    """Requests fail at once while it is down, and work as soon as it is up."""
    ledger = PostgresLedger.at(pg_server.fresh(server.url()) + "&timeout=2")
    granted(ledger, "p", quota(9))
    assert ledger.head()[0] == 1
    server.stop()
    begun = time.monotonic()
    with pytest.raises(LedgerError, match="see that the server is up"):
        ledger.perform(claiming("q", quota(9)))
    with pytest.raises(LedgerError, match="see that the server is up"):
        ledger.head()
    assert time.monotonic() - begun < 1
    server.start()
    granted(ledger, "r", quota(9))
    assert dict(state(ledger))["quota"] == [0, 0, 2]
    ledger.close()


def test_a_commit_that_no_standby_has_is_no_answer(server: pg_server.Server) -> None:
    """
    With a synchronous standby that is away, requests end in an error, in time or when somebody
    cancels the wait; what they had claimed here is given back when the standby is there.
    """
    ledger = PostgresLedger.at(pg_server.fresh(server.url()) + "&timeout=2")
    other = PostgresLedger(ledger.address)
    granted(ledger, "p", quota(9))
    granted(other, "o", quota(9))
    standby(server, "away")
    with pytest.raises(LedgerError, match="cannot be used"):
        ledger.perform(claiming("late", quota(9)))
    cancelling = threading.Thread(target=cancel_waits, args=(server, ledger.address.namespace))
    cancelling.start()
    with pytest.raises(LedgerError, match="canceling wait for synchronous replication"):
        other.perform(claiming("cancelled", quota(9, key="another")))
    cancelling.join()
    standby(server, "")
    granted(ledger, "q", quota(9))
    granted(other, "r", quota(9))
    deadline = time.monotonic() + 10
    while state(ledger) != [("quota", [0, 0, 4])]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other.close()
    ledger.close()


def standby(server: pg_server.Server, name: str) -> None:
    """Have commits wait for the standby of this name; an empty one for none."""
    pg_server.execute(server.url(), f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    pg_server.execute(server.url(), "SELECT pg_reload_conf()")
    shown: list[tuple[object, ...]] = []
    while shown != [(name,)]:
        shown = pg_server.execute(server.url(), "SHOW synchronous_standby_names")


def cancel_waits(server: pg_server.Server, namespace: str) -> None:
    """Cancel the wait of a commit for its standby, as an impatient administrator would."""
    found: list[tuple[object, ...]] = []
    while not found:
        found = pg_server.execute(
            server.url(),
            "SELECT pid, pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' "
            f"AND query LIKE '%{namespace}%' AND xact_start > now() - interval '1 second'",
        )
