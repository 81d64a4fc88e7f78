"""Rows of the ledgers that need no server: memory and SQLite."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from row import Row, folder, now, spread, timed
from scene import POLICY, UNSETTLED, decide_only, entry_size, proposal, settle, spend

from sluicegate import Gate, Proposal


def memory(quick: bool) -> Iterator[Row]:
    """Decide and settle without durability, beside a hash under a lock."""
    gate = Gate(POLICY, "memory:")
    lock, entry = threading.Lock(), os.urandom(600)
    decides, boths, floors = [], [], []

    def floor() -> None:
        with lock:
            hashlib.sha256(entry).hexdigest()

    for number in range(2_000 if quick else 20_000):
        given = proposal(number)
        begin = now()
        permit = decide_only(gate, given)
        middle = now()
        settle(gate, permit)
        end = now()
        decides.append((middle - begin) / 1000)
        boths.append((end - begin) / 1000)
        floors.append(timed(floor))
    bare = statistics.median(floors)
    decide, both = statistics.median(decides), statistics.median(boths)
    yield Row(
        "memory: decide",
        decide,
        "µs",
        bare,
        "hash and lock",
        "p50 ≤ 30 µs",
        decide <= 30,
        spread(decides),
    )
    yield Row(
        "memory: decide + settle",
        both,
        "µs",
        bare,
        "hash and lock",
        "p50 ≤ 45 µs",
        both <= 45,
        spread(boths),
    )


def bare(path: Path) -> Callable[[bytes], None]:
    """One durable commit of some bytes, as plain as SQLite can do it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS journal (seq INTEGER PRIMARY KEY, body BLOB)")

    def commit(body: bytes) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO journal (body) VALUES (?)", (body,))
        connection.execute("COMMIT")

    return commit


def sqlite(quick: bool) -> Iterator[Row]:
    """Decide and settle durably in one thread, beside two bare commits of the same bytes."""
    with folder() as where:
        gate = Gate(POLICY, f"sqlite:///{where / 'gate.db'}")
        commit, body = bare(where / "bare.db"), os.urandom(entry_size())
        boths, floors = [], []
        for number in range(300 if quick else 3_000):
            given = proposal(number)
            boths.append(timed(lambda given=given: spend(gate, given)))
            floors.append(timed(lambda: (commit(body), commit(body))))
        gate.close()
    ours, floor = statistics.median(boths), statistics.median(floors)
    yield Row(
        "SQLite durable: decide + settle",
        ours,
        "µs",
        floor,
        "two bare commits",
        "≤ 1.3 × floor",
        ours <= 1.3 * floor,
        spread(boths),
    )


def threads(quick: bool) -> Iterator[Row]:
    """Sixteen threads on one file, beside bare commits by one thread."""
    seconds = 1.0 if quick else 4.0
    with folder() as where:
        commit, body = bare(where / "bare.db"), os.urandom(entry_size())
        floor = 1e6 / statistics.median(timed(lambda: commit(body)) for _ in range(200))
        gate = Gate(UNSETTLED, f"sqlite:///{where / 'decide.db'}")
        rate, fair, note = raced(gate, decide_only, seconds)
        both, _, _ = raced(Gate(POLICY, f"sqlite:///{where / 'both.db'}"), spend, seconds)
    name = "SQLite durable: 16 threads"
    yield Row(
        name, rate, "/s", floor, "bare commits, 1 thread", "≥ 6,000 decisions/s", rate >= 6000
    )
    yield Row("  slowest thread / fastest", fair, "×", None, "", "≥ 0.5", fair >= 0.5, note)
    yield Row("  each settled as well", both, "/s", floor, "bare commits, 1 thread")


def raced(
    gate: Gate, work: Callable[[Gate, Proposal], None], seconds: float
) -> tuple[float, float, str]:
    """Calls per second of sixteen threads together, and the slowest one's part of the fastest one's."""
    counts = [0] * 16
    stop = time.monotonic() + seconds

    def run(index: int) -> None:
        number = 0
        while time.monotonic() < stop:
            work(gate, proposal(number, f"t{index}-"))
            number += 1
        counts[index] = number

    workers = [threading.Thread(target=run, args=(n,)) for n in range(16)]
    begin = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rate = sum(counts) / (time.monotonic() - begin)
    gate.close()
    return rate, min(counts) / max(counts), f"{min(counts)}–{max(counts)} each"


RATE, LENGTH = 150, 4.0


def one_process(
    path: str, index: int, length: float, results: multiprocessing.Queue[list[float]], plain: bool
) -> None:
    """150 calls a second by an exponential clock; latency counts from when a call was due."""
    work = plain_work(Path(path)) if plain else gate_work(path, index)
    spread_out = random.Random(index)
    number, due, latencies = 0, time.monotonic() + 0.5, []
    end = due + length
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        work(number)
        latencies.append((time.monotonic() - due) * 1e6)
        number += 1
        due += spread_out.expovariate(RATE)
    results.put(latencies)


def gate_work(path: str, index: int) -> Callable[[int], None]:
    gate = Gate(UNSETTLED, f"sqlite:///{path}")
    return lambda number: decide_only(gate, proposal(number, f"p{index}-"))


def plain_work(path: Path) -> Callable[[int], None]:
    """The floor: the same bytes, committed under a file lock by nothing but SQLite."""
    import fcntl

    commit, body = bare(path), os.urandom(entry_size())
    lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT)

    def work(_: int) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX)
        commit(body)
        fcntl.flock(lock, fcntl.LOCK_UN)

    return work


def crowd(path: Path, length: float, *, plain: bool) -> tuple[float, float, str]:
    """Median and 99th percentile of four processes on one file, and what else there is to say."""
    context = multiprocessing.get_context("spawn")
    bare(path) if plain else Gate(UNSETTLED, f"sqlite:///{path}").close()
    results: multiprocessing.Queue[list[float]] = context.Queue()
    given = [(str(path), n, length, results, plain) for n in range(4)]
    workers = [context.Process(target=one_process, args=args) for args in given]
    for worker in workers:
        worker.start()
    each = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    together = sorted(latency for one in each for latency in one)
    medians = [statistics.median(one) for one in each]
    note = f"max {together[-1]:.0f} µs; medians {min(medians):.0f}–{max(medians):.0f} µs"
    return together[len(together) // 2], together[len(together) * 99 // 100], note


def processes(quick: bool) -> Iterator[Row]:
    """Four processes on one file, each at 150 calls a second, beside bare commits at that rate."""
    length = 1.5 if quick else LENGTH
    with folder() as where:
        half, high, note = crowd(where / "gate.db", length, plain=False)
        bare_half, bare_high, _ = crowd(where / "bare.db", length, plain=True)
    name = "SQLite durable: 4 processes × 150/s"
    yield Row(f"{name}, p50", half, "µs", bare_half, "bare commits, flock", "", None, note)
    yield Row(
        f"{name}, p99", high, "µs", bare_high, "bare commits, flock", "≤ 3 × p50", high <= 3 * half
    )
