"""Rows of the ledgers on servers: Redis or Valkey, and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from row import Row, now, spread, timed
from scene import POLICY, UNSETTLED, decide_only, entry_size, proposal, settle, spend
from servers import Counting, at, drop, forget, missing, postgres, redis

from sluicegate import Gate, Permit
from sluicegate.ledger import open_ledger

TASKS = 16


# --- what both have in common --------------------------------------------------------------------


def trips(url: str) -> tuple[float, float]:
    """Round trips of a decision and of a settlement, counted between them and the server."""
    parts = urlsplit(url)
    proxy = Counting(parts.hostname or "localhost", parts.port or 0)
    user, at, _ = parts.netloc.rpartition("@")
    way = urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{proxy.port}"))
    with closing(Gate(POLICY, way)) as gate:
        for number in range(5):  # connections are made, scripts loaded, and chains begun
            spend(gate, proposal(number, "warm"))
        decided = settled = 0
        for number in range(50):
            begin = proxy.trips
            permit = decide_only(gate, proposal(number, "trip"))
            middle = proxy.trips
            settle(gate, permit)
            decided += middle - begin
            settled += proxy.trips - middle
    proxy.close()
    return decided / 50, settled / 50


def beside(
    url: str, floor: Callable[[], object], quick: bool
) -> tuple[list[float], list[float], list[float]]:
    """Decisions, settlements and the floor, in µs, one after the other."""
    decides, settles, floors = [], [], []
    with closing(Gate(POLICY, url)) as gate:
        for number in range(20):
            spend(gate, proposal(number, "warm"))
            floor()
        for number in range(300 if quick else 3_000):
            given = proposal(number)
            begin = now()
            permit = decide_only(gate, given)
            middle = now()
            settle(gate, permit)
            decides.append((middle - begin) / 1000)
            settles.append((now() - middle) / 1000)
            floors.append(timed(floor))
    return decides, settles, floors


async def many(work: Callable[[int, int], Awaitable[object]], seconds: float) -> float:
    """Calls per second of sixteen tasks together."""
    counts = [0] * TASKS
    stop = time.monotonic() + seconds

    async def run(index: int) -> None:
        while time.monotonic() < stop:
            await work(index, counts[index])
            counts[index] += 1

    begin = time.monotonic()
    await asyncio.gather(*(run(index) for index in range(TASKS)))
    return sum(counts) / (time.monotonic() - begin)


async def deciding(url: str, seconds: float, *, settling: bool) -> float:
    """Decisions per second of sixteen tasks of one process."""
    from sluicegate import Succeeded

    gate = Gate(POLICY if settling else UNSETTLED, url)

    async def work(index: int, number: int) -> None:
        permit = await gate.adecide(proposal(number, f"a{index}-"))
        if not isinstance(permit, Permit):
            raise RuntimeError(f"not permitted: {permit}")
        if settling:
            await gate.asettle(permit, Succeeded({"refunded": 12}))

    await many(lambda index, number: work(index, -number - 1), 0.3)  # until it is warm
    rate = await many(work, seconds)
    gate.close()
    return rate


# --- Redis and Valkey ----------------------------------------------------------------------------

BARE = """
local read, wrote = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('TIME')
redis.call('HMGET', KEYS[1], unpack(ARGV, 4, 3 + read))
redis.call('XADD', KEYS[2], '*', 'b', ARGV[3])
for i = 1, wrote do redis.call('HSET', KEYS[1], ARGV[3 + read + i], ARGV[3 + i]) end
return 'ok'
"""
"""As many keys as a decision reads and writes, and its bytes of journal, in one script."""


def touched(url: str) -> tuple[int, int]:
    """How many keys a decision of the scene reads, and how many it writes."""
    from sluicegate.ledger.base import Claiming
    from sluicegate.ledger.meaning import keys

    ledger = open_ledger(url)
    asked: list[Claiming] = []

    class Listening:
        """The ledger, and what it was asked for."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ledger, name)

        def perform(self, request: Any) -> Any:
            asked.append(request)
            return ledger.perform(request)

    gate = Gate(POLICY, Listening())  # type: ignore[arg-type]
    decide_only(gate, proposal(1, "keys"))
    request = next(one for one in asked if isinstance(one, Claiming))
    read = len(set(keys(request))) + 1  # and its permit
    wrote = len(list(ledger.cells(""))) + 1
    gate.close()
    return read, wrote


def bare_script(read: int, wrote: int) -> tuple[tuple[str, str], list[Any]]:
    """Keys and arguments of the script that is the floor."""
    body = os.urandom(entry_size() // 2).hex()
    names = [f"refund|acme|order-{n}" for n in range(read + wrote)]
    return ("{sluicegate:bench}:cells", "{sluicegate:bench}:journal"), [read, wrote, body, *names]


def redis_rows(quick: bool) -> Iterator[Row]:
    """One decision in one exchange, beside a bare script that touches as many keys."""
    if problem := missing("redis"):
        yield Row("Redis", None, "", note=problem)
        return
    from redis.asyncio import Redis as AsyncRedis

    with redis() as (client, levels, url):
        read, wrote = touched(at(url, "bench-keys"))
        keys, arguments = bare_script(read, wrote)
        script = client.register_script(BARE)
        decided, settled = trips(at(url, "bench-trips"))
        met = decided <= 1 and settled <= 1
        yield Row("Redis: decide", decided, "round trips", target="1", met=met,
                  note=f"settle {settled:g}; counted by a proxy")  # fmt: skip
        for level in levels:
            if len(levels) > 1:
                client.config_set("appendfsync", level)
            where = at(url, f"bench-{level}")
            floor = lambda: script(keys, arguments)  # noqa: E731
            yield from redis_level(level, where, floor, quick, f"{read} keys read, {wrote} written")

            async def bare() -> float:
                async with AsyncRedis.from_url(url) as one:
                    run = one.register_script(BARE)
                    return await many(lambda _, __: run(keys, arguments), 1.0 if quick else 3.0)

            yield from redis_tasks(level, where, asyncio.run(bare()), quick)
        forget(client)


def redis_level(
    level: str, url: str, floor: Callable[[], object], quick: bool, note: str
) -> Iterator[Row]:
    decides, settles, floors = beside(url, floor, quick)
    bare = statistics.median(floors)
    for name, values in (("decide", decides), ("settle", settles)):
        ours = statistics.median(values)
        yield Row(
            f"Redis, appendfsync {level}: {name}",
            ours,
            "µs",
            bare,
            "bare script",
            "≤ 1.8 × floor",
            ours <= 1.8 * bare,
            f"{spread(values)}; {note}" if name == "decide" else spread(values),
        )


def redis_tasks(level: str, url: str, floor: float, quick: bool) -> Iterator[Row]:
    seconds = 1.0 if quick else 4.0
    rate = asyncio.run(deciding(f"{url}-many", seconds, settling=False))
    both = asyncio.run(deciding(f"{url}-both", seconds, settling=True))
    name = f"Redis, appendfsync {level}: {TASKS} tasks"
    yield Row(name, rate, "/s", floor, f"bare scripts, {TASKS} tasks", "≥ 10,000 decisions/s",
              rate >= 10_000)  # fmt: skip
    yield Row("  each settled as well", both, "/s", floor, f"bare scripts, {TASKS} tasks")


# --- PostgreSQL ----------------------------------------------------------------------------------


def postgres_rows(quick: bool) -> Iterator[Row]:
    """One decision in one transaction, beside a durable commit of one row."""
    if problem := missing("postgres"):
        yield Row("PostgreSQL", None, "", note=problem)
        return
    import psycopg

    with postgres() as server, psycopg.connect(server, autocommit=True) as own:
        spaces = ("bench_trips", "bench_both", "bench_many", "bench_settled", "bench_one")
        urls = [at(server, space) for space in spaces]
        own.execute("CREATE TABLE bench_bare (n bigint GENERATED ALWAYS AS IDENTITY, body text)")
        body = os.urandom(entry_size() // 2).hex()
        try:
            yield from postgres_measured(
                urls,
                lambda: own.execute("INSERT INTO bench_bare (body) VALUES (%s)", (body,)),
                quick,
            )
        finally:
            own.execute("DROP TABLE bench_bare")
            drop(server, *spaces)


def postgres_measured(urls: list[str], floor: Callable[[], object], quick: bool) -> Iterator[Row]:
    decided, settled = trips(urls[0])
    met = decided <= 3 and settled <= 3
    yield Row("PostgreSQL: decide", decided, "round trips", target="≤ 3", met=met,
              note=f"settle {settled:g}; counted by a proxy")  # fmt: skip
    decides, settles, floors = beside(urls[1], floor, quick)
    bare = statistics.median(floors)
    for name, values in (("decide", decides), ("settle", settles)):
        ours = statistics.median(values)
        yield Row(
            f"PostgreSQL, durable: {name}",
            ours,
            "µs",
            bare,
            "commit of one row",
            "≤ 3 × floor",
            ours <= 3 * bare,
            spread(values),
        )
    seconds = 1.0 if quick else 4.0
    rate = asyncio.run(deciding(urls[2], seconds, settling=False))
    both = asyncio.run(deciding(urls[3], seconds, settling=True))
    name = f"PostgreSQL, durable: {TASKS} tasks"
    yield Row(name, rate, "/s", 1e6 / bare, "commits of one row, 1 client")
    one = asyncio.run(deciding(f"{urls[4]}&connections=1", seconds, settling=False))
    yield Row("  on one connection", one, "/s", 1e6 / bare, "commits of one row, 1 client")
    yield Row("  each settled as well", both, "/s", 1e6 / bare, "commits of one row, 1 client")
