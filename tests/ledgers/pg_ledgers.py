"""Ledgers in PostgreSQL for tests, and what must hold of each in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pg_server
import psycopg

from sluicegate.journal import Entry, verify
from sluicegate.ledger.postgres import PostgresLedger
from sluicegate.ledger.postgres.locks import lock_of


@contextmanager
def opened(options: str = "", url: str | None = None) -> Iterator[PostgresLedger]:
    """A ledger that nobody has used yet. Whatever a test did to it, its journal holds together."""
    url = pg_server.fresh(url)
    ledger = PostgresLedger.at(url + options)
    try:
        yield ledger
        with closing(again(ledger)) as last:
            assert_whole(last)
    finally:
        ledger.close()
        pg_server.drop(url)


def assert_whole(ledger: PostgresLedger) -> None:
    """Every writer's chain is whole and ends where the ledger says, and the heads agree."""
    entries = list(ledger.entries())
    chains: dict[str, list[Entry]] = {}
    for entry in entries:
        chains.setdefault(entry.writer, []).append(entry)
    heads = ledger.heads()
    assert chains.keys() == heads.keys()
    for writer, chain in chains.items():
        assert verify(chain, heads[writer]) is None
        assert len(chain) == heads[writer][0]
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
