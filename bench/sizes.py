"""Rows of how much a call leaves behind in each ledger: its journal, and its cells."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from row import Row, folder
from scene import POLICY, proposal, spend
from servers import at, drop, forget, missing, postgres, redis

from sluicegate import Gate

CALLS = 5_000


def filled(gate: Gate, count: int) -> tuple[float, float]:
    """Make calls. Bytes of journal per call as text, and live cells per call."""
    for number in range(count):
        spend(gate, proposal(number, "size"))
    text = sum(len(entry.body) for entry in gate.journal.tail(200)) / 100
    cells = len(list(gate.ledger.cells(""))) / count
    return text, cells


def sized(name: str, size: float, text: float, note: str) -> Row:
    return Row(f"{name}, a settled call", size, "B", text, "its journal as text", note=note)


def sizes(quick: bool) -> Iterator[Row]:
    """Bytes of a permitted and settled call, by ledger."""
    count = CALLS // 10 if quick else CALLS
    yield in_memory(count)
    with folder() as where:
        yield in_file(where / "size.db", count)
    for kind, name, made in (
        ("redis", "Redis", in_redis),
        ("postgres", "PostgreSQL", in_postgres),
    ):
        if problem := missing(kind):
            yield Row(f"{name}, a settled call", None, "", note=problem)
        else:
            yield made(count)


def in_memory(count: int) -> Row:
    gate = Gate(POLICY, "memory:")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    text, cells = filled(gate, count)
    size = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    return sized("memory", size, text, f"{cells:.1f} live cells with it")


def in_file(path: Path, count: int) -> Row:
    with closing(Gate(POLICY, f"sqlite:///{path}")) as gate:
        text, cells = filled(gate, count)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        whole = path.stat().st_size
        connection.execute("DELETE FROM journal")
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rest = path.stat().st_size
    note = f"{cells:.1f} live cells with it, {rest / (cells * count):.0f} B each"
    return sized("SQLite", whole / count, text, note)


def in_redis(count: int) -> Row:
    with redis() as (client, _, url):
        before = client.info("persistence").get("aof_current_size", 0)
        with closing(Gate(POLICY, at(url, "bench-size"))) as gate:
            text, cells = filled(gate, count)
        tag = "{sluicegate:bench-size}"
        parts = {
            name: client.memory_usage(f"{tag}:{name}", samples=0) or 0
            for name in ("meta", "cells", "permits", "journal", "index")
        }
        file = client.info("persistence").get("aof_current_size", 0) - before
        forget(client)
    note = (
        f"{cells:.1f} live cells with it, {parts['cells'] / (cells * count):.0f} B each; "
        f"append-only file {file / count:,.0f} B"
    )
    return sized("Redis", sum(parts.values()) / count, text, note)


def in_postgres(count: int) -> Row:
    import psycopg

    with postgres() as server, psycopg.connect(server, autocommit=True) as own:
        before = own.execute("SELECT pg_current_wal_lsn()").fetchone()
        with closing(Gate(POLICY, at(server, "bench_size"))) as gate:
            text, cells = filled(gate, count)
        log = own.execute("SELECT pg_current_wal_lsn() - %s::pg_lsn", before).fetchone()
        own.execute("VACUUM ANALYZE")
        found = own.execute(
            "SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname = 'bench_size' AND c.relkind = 'r'"
        ).fetchall()
        drop(server, "bench_size")
    parts = dict(found)
    note = (
        f"{cells:.1f} live cells with it, {parts['cells'] / (cells * count):.0f} B each; "
        f"log {float(log[0]) / count if log else 0:,.0f} B"
    )
    return sized("PostgreSQL", sum(parts.values()) / count, text, note)
