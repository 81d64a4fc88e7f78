"""Ledgers in PostgreSQL for tests, and what must hold of each in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pg_server

from sluicegate.journal import Entry, verify
from sluicegate.ledger.postgres import PostgresLedger


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
