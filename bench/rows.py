"""The rows of the benchmark. Each gives its figures beside a floor that was measured with it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scene import POLICY, UNSETTLED, proposal, spend

from sluicegate import Gate, Permit, Proposal
from sluicegate.ledger import MemoryLedger
from sluicegate.ledger.base import Noting

now = time.perf_counter_ns


@dataclass(frozen=True)
class Row:
    """One line of the result: what, how much, beside which floor, against which target."""

    name: str
    measured: float
    unit: str
    floor: float | None = None
    floor_name: str = ""
    target: str = ""
    met: bool | None = None
    note: str = ""


def timed(work: Callable[[], object]) -> float:
    begin = now()
    work()
    return (now() - begin) / 1000


# --- memory ------------------------------------------------------------------------------------


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
        permit = gate.decide(given)
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


def settle(gate: Gate, permit: object) -> None:
    from sluicegate import Succeeded

    if not isinstance(permit, Permit):
        raise RuntimeError(f"not permitted: {permit}")
    gate.settle(permit, Succeeded({"refunded": 12}))


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return (
        f"p90 {ordered[len(ordered) * 9 // 10]:.0f}, p99 {ordered[len(ordered) * 99 // 100]:.0f} µs"
    )


# --- SQLite ------------------------------------------------------------------------------------


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that the benchmark is started on: a RAM disk would measure nothing."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        yield Path(name)


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


def entry_size() -> int:
    """How many bytes a decision and its outcome add to the journal, on average."""
    gate = Gate(POLICY, "memory:")
    spend(gate, proposal(1))
    return sum(len(entry.body) for entry in gate.journal.tail(2)) // 2 + 128


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


def decide_only(gate: Gate, given: Proposal) -> None:
    if not isinstance(gate.decide(given), Permit):
        raise RuntimeError("not permitted")


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


# --- growth and footprint ------------------------------------------------------------------------


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


def footprint(quick: bool) -> Iterator[Row]:
    """What importing costs, and how large the base install is."""
    runs = 5 if quick else 15
    ours, floor = [], []
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
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


ROWS = {
    "memory": memory,
    "sqlite": sqlite,
    "threads": threads,
    "processes": processes,
    "growth": growth,
    "footprint": footprint,
}
