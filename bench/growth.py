"""Rows of what grows: a decision beside a long journal, an import, an installation."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from row import Row, folder, timed
from scene import POLICY, proposal, spend
from servers import at, drop, forget, missing, postgres, redis

from sluicegate import Gate
from sluicegate.ledger import MemoryLedger
from sluicegate.ledger.base import Noting


def growth(quick: bool) -> Iterator[Row]:
    """Decisions on a ledger with 10⁶ entries and 10⁵ live keys, beside an empty one, alternating."""
    entries, keys = (100_000, 10_000) if quick else (1_000_000, 100_000)
    full, empty = Gate(POLICY, "memory:"), Gate(POLICY, "memory:")
    fill_memory(full, entries, keys)
    yield compared("memory", full, empty, 2_000, entries, keys)
    with folder() as where:
        paths = [where / "full.db", where / "empty.db"]
        fill_file(paths[0], entries, keys)
        full, empty = (Gate(POLICY, f"sqlite:///{path}") for path in paths)
        yield compared("SQLite", full, empty, 200 if quick else 1_000, entries, keys)
        full.close()
        empty.close()
    yield from on_servers(200 if quick else 1_000, entries, keys)


def on_servers(count: int, entries: int, keys: int) -> Iterator[Row]:
    """The same for the ledgers of fleets, each of whose namespaces is filled by the server itself."""
    for kind, name in (("redis", "Redis"), ("postgres", "PostgreSQL")):
        if problem := missing(kind):
            yield Row(f"growth, {name}", None, "", note=problem)
            continue
        with ExitStack() as stack:
            if kind == "redis":
                client, _, url = stack.enter_context(redis())
                stack.callback(forget, client)
                fill = partial(fill_redis, client)
            else:
                url = stack.enter_context(postgres())
                fill = partial(fill_postgres, url)
            gates = [
                stack.enter_context(closing(Gate(POLICY, at(url, f"bench_{which}"))))
                for which in ("full", "empty")
            ]
            spend(gates[0], proposal(0, "first"))
            fill("bench_full", entries, keys)
            yield compared(name, *gates, count, entries, keys)
            if kind == "postgres":
                drop(url, "bench_full", "bench_empty")


def compared(name: str, full: Gate, empty: Gate, count: int, entries: int, keys: int) -> Row:
    for number in range(50):
        spend(full, proposal(number, "warm"))
        spend(empty, proposal(number, "warm"))
    large, small = [], []
    for number in range(count):
        given = proposal(number, "new")
        large.append(timed(lambda given=given: spend(full, given)))
        small.append(timed(lambda given=given: spend(empty, given)))
    ours, floor = statistics.median(large), statistics.median(small)
    return Row(
        f"growth, {name}: {entries:,} entries, {keys:,} keys",
        ours,
        "µs",
        floor,
        "empty ledger",
        "≤ 1.2 ×",
        ours <= 1.2 * floor,
    )


def fill_memory(gate: Gate, entries: int, keys: int) -> None:
    ledger = gate.ledger
    if not isinstance(ledger, MemoryLedger):
        raise TypeError("only a memory ledger is filled like this")
    for number in range(keys // 2):  # a call leaves two keys: its own and its call id
        spend(gate, proposal(number, "old"))
    rest = '"filler":"' + "x" * 400 + '"}'
    for _ in range(entries - len(list(ledger.entries()))):
        ledger.perform(Noting(1, rest))


def fill_file(path: Path, entries: int, keys: int) -> None:
    """Copy the rows of some real calls many times: hashes do not matter for how long a decision takes."""
    gate = Gate(POLICY, f"sqlite:///{path}")
    for number in range(100):
        spend(gate, proposal(number, "old"))
    head = gate.journal.head()[0]
    gate.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO journal (seq, prev, hash, body) "
        "SELECT ? - i, prev, hash, body FROM n JOIN journal j ON j.seq = 2 + i % ?",
        (entries - head, 0, head - 2),
    )
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO cells (key, cell) SELECT 'once|\"acme\"|refund:' || hex(randomblob(8)), "
        "'[\"done\",\"' || hex(randomblob(32)) || '\",1767225600000000,\"' || hex(randomblob(16)) || '\",5]' FROM n",
        (keys,),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


FILL = """
local count = tonumber(redis.call('HGET', KEYS[4], 'count'))
for i = count + 1, count + tonumber(ARGV[1]) do
  local filler = i .. string.rep('x', 90)
  redis.call('XADD', KEYS[1], i .. '-0', 'n', -i, 'p', '', 'h', '', 'b', filler)
  redis.call('HSET', KEYS[2], -i, i)
  if i <= tonumber(ARGV[2]) then redis.call('HSET', KEYS[3], 'once|old|' .. i, filler) end
end
redis.call('HSET', KEYS[4], 'count', string.format('%.0f', count + tonumber(ARGV[1])))
"""
"""Entries with numbers that no cell refers to, behind those that there are."""


def fill_redis(client: Any, namespace: str, entries: int, keys: int) -> None:
    names = [f"{{sluicegate:{namespace}}}:{name}" for name in ("journal", "index", "cells", "meta")]
    script = client.register_script(FILL)
    for _ in range(entries // 10_000):
        script(names, [10_000, keys])


def fill_postgres(url: str, namespace: str, entries: int, keys: int) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as own:
        own.execute(
            f"INSERT INTO {namespace}.journal (number, prev, hash, body) SELECT -i, repeat('0', 64), "
            f"repeat('0', 64), repeat('x', 400) FROM generate_series(1, {entries}) i"
        )
        own.execute(
            f"INSERT INTO {namespace}.cells (key, at, cell) SELECT 'once|old|' || i, 1, repeat('x', 90) "
            f"FROM generate_series(1, {keys}) i"
        )
        own.execute("ANALYZE")


def footprint(quick: bool) -> Iterator[Row]:
    """What importing costs, and how large the base install is."""
    runs = 5 if quick else 15
    ours, floor = [], []
    importing("sluicegate")  # compiled files are written once, as pip does
    for _ in range(runs):
        ours.append(importing("sluicegate"))
        floor.append(importing("pydantic, sqlite3, json"))
    mine, theirs = statistics.median(ours), statistics.median(floor)
    yield Row(
        "import sluicegate",
        mine,
        "ms",
        theirs,
        "import pydantic, sqlite3, json",
        "≤ 120 ms",
        mine <= 120,
    )
    size = installed_size()
    if size is not None:
        yield Row(
            "base install",
            size,
            "MB",
            None,
            "",
            "≤ 65 MB",
            size <= 65,
            "pip install . in a new environment",
        )


def importing(names: str) -> float:
    code = f"import time; t = time.perf_counter(); import {names}; print((time.perf_counter() - t) * 1000)"
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=kept)
    return float(done.stdout)


def installed_size() -> float | None:
    """The size of all that `pip install .` brings along, as it lies on the disk after a first import."""
    with tempfile.TemporaryDirectory() as where:
        root = Path(__file__).parent.parent
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", where, str(root)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            return None
        return sum(f.stat().st_size for f in Path(where).rglob("*") if f.is_file()) / 1e6
