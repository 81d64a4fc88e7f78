"""Ledgers in PostgreSQL for tests, and what must hold of each in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pg_server
import psycopg

from sluicegate.journal import Journal, archived
from sluicegate.ledger.postgres import PostgresLedger
from sluicegate.ledger.postgres.locks import lock_of


@contextmanager
def opened(
    options: str = "", url: str | None = None, *, whole: bool = True
) -> Iterator[PostgresLedger]:
    """A ledger that nobody has used yet. If a test left it *whole*, its journal holds together."""
    url = pg_server.fresh(url)
    ledger = PostgresLedger.at(url + options)
    try:
        yield ledger
        if whole:
            with closing(again(ledger)) as last:
                assert_whole(last)
    finally:
        ledger.close()
        pg_server.drop(url)


def assert_whole(ledger: PostgresLedger) -> None:
    """
    Every writer's chain is whole and ends where the ledger says, and the heads agree. Chains
    begin with their first entry, or where an entry says that those before were archived.
    """
    assert Journal(ledger).verify() is None
    entries, heads = list(ledger.entries()), ledger.heads()
    ends = {entry.writer: (entry.seq, entry.hash) for entry in entries}
    assert ends == {writer: heads[writer] for writer in ends}
    if not any(map(archived, entries)):
        assert ends == heads
        assert len(entries) == sum(seq for seq, _ in heads.values())
    if entries:
        assert ledger.head()[1] == entries[-1].hash


def again(ledger: PostgresLedger) -> PostgresLedger:
    """Another ledger in the same place, as another process would have it."""
    return PostgresLedger(ledger.address)


@contextmanager
def kept_lock(ledger: PostgresLedger, key: str, seconds: float) -> Iterator[None]:
    """A neighbour's transaction that has the lock of *key*, and may be idle for so long."""
    name, number = ledger.address.namespace, lock_of(ledger.address.namespace, key)
    with closing(psycopg.connect(pg_server.shared(), autocommit=True)) as neighbour:
        neighbour.execute("BEGIN")
        neighbour.execute(
            f"SELECT {name}.hold(0, {round(seconds * 1000)}, true, ARRAY[{number}], ARRAY[false], "
            f"ARRAY['{key}'], ARRAY['x'])"
        )
        yield
