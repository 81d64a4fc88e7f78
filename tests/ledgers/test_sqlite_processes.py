"""Several processes on one SQLite ledger: exact, durable against SIGKILL, safe to fork."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from held_up import Gated
from requested import LEASE, NOW, claiming, granted, quota, record, slot, state

from sluicegate.errors import LedgerError
from sluicegate.journal import verify
from sluicegate.ledger.base import Refused
from sluicegate.ledger.sqlite import SqliteLedger

WORKER = Path(__file__).with_name("ledger_worker.py")


class Worker:
    """A process of its own, which does one thing at a time and says what came of it."""

    def __init__(self) -> None:
        command = [sys.executable, str(WORKER)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, do: str, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def kill(self) -> list[Any]:
        """SIGKILL; what it had said by then, and was not yet heard."""
        self._process.send_signal(signal.SIGKILL)
        said = []
        while (answer := self.hear()) is not None:
            said.append(answer)
        self.end()
        return said

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Iterator[list[Worker]]:
    """Some processes, started together; none outlives its test."""
    started = [Worker() for _ in range(request.param)]
    yield started
    for worker in started:
        worker.end()


def sound(path: Path) -> SqliteLedger:
    """Open the ledger, and see that its journal holds together."""
    ledger = SqliteLedger(path)
    assert verify(ledger.entries(), ledger.head()) is None
    return ledger


@pytest.mark.parametrize("workers", [4], indirect=True)
def test_four_processes_of_eight_threads_take_exactly_what_there_is(
    path: Path, workers: list[Worker]
) -> None:
    """However 32 threads in 4 processes collide, a budget for 100 calls grants 100: 20 times."""
    for worker in workers:
        worker.tell("open", path=str(path))
    assert [worker.hear() for worker in workers] == ["open"] * 4
    for turn in range(20):
        for number, worker in enumerate(workers):
            worker.tell("race", name=f"{turn}.{number}", key=f"turn{turn}", limit=100, threads=8)
        permits = [permit for worker in workers for permit in worker.hear()]
        assert len(permits) == len(set(permits)) == 100
    for worker in workers:
        worker.tell("close")
        assert worker.hear() == "closed"
    with closing(sound(path)) as ledger:
        assert state(ledger) == sorted((f"turn{turn}", [0, 0, 100]) for turn in range(20))
        assert ledger.head()[0] == 20 * (100 + 32)


@pytest.mark.parametrize("workers", [10], indirect=True)
def test_a_killed_process_loses_no_decision_and_doubles_none(
    path: Path, workers: list[Worker]
) -> None:
    """
    Whenever SIGKILL comes, what was acknowledged is on record once, the books agree with
    the journal, and what the dead held comes back when its lease ends.
    """
    chance = random.Random(11)
    survivor, *victims = workers
    said: list[tuple[str, str]] = []
    survivor.tell("open", path=str(path))
    assert survivor.hear() == "open"
    survivor.tell("stream", name="survivor")
    for number, victim in enumerate(victims):
        victim.tell("open", path=str(path))
        victim.tell("stream", name=f"victim{number}")
        assert victim.hear() == "open"
        said.append(tuple(victim.hear()))
        time.sleep(chance.random() / 10)
        said += map(tuple, victim.kill())
        with closing(sound(path)):
            pass
    said += map(tuple, survivor.kill())
    with closing(sound(path)) as ledger:
        entries = record(ledger)
        decided = [entry["permit"] for entry in entries if entry["kind"] == "decision"]
        settled = [entry["permit"] for entry in entries if entry["kind"] == "outcome"]
        assert len(decided) == len(set(decided))
        assert len(settled) == len(set(settled))
        assert {permit for what, permit in said if what == "granted"} <= set(decided)
        assert {permit for what, permit in said if what == "settled"} <= set(settled)
        # One decision and one outcome at most were on their way to each process as it died.
        assert len(entries) - len(said) <= 2 * len(workers)
        assert dict(state(ledger))["quota"] == [0, len(settled), len(decided) - len(settled)]
        slots_come_back(ledger)


def slots_come_back(ledger: SqliteLedger) -> None:
    """What a dead process held is taken until its lease ends, and free from then on."""
    held = [(key, cell) for key, cell in state(ledger) if key.startswith("slot:")]
    assert held
    for key, cell in held:
        in_use = len(cell) // 2
        assert isinstance(ledger.perform(claiming(f"late {key}", slot(in_use, key=key))), Refused)
    for key, cell in held:
        in_use = len(cell) // 2
        granted(ledger, f"free {key}", slot(in_use, key=key), now=NOW + LEASE)


@pytest.mark.parametrize("workers", [4], indirect=True)
def test_processes_that_make_a_ledger_at_once_make_one(path: Path, workers: list[Worker]) -> None:
    """Who comes second finds the first one's ledger, complete."""
    for turn in range(5):
        file = path.parent / f"new{turn}" / "ledger.db"
        for worker in workers:
            worker.tell("open", path=str(file))
        assert [worker.hear() for worker in workers] == ["open"] * 4
        for number, worker in enumerate(workers):
            worker.tell("claim", permit=f"{number}", limit=3)
        assert sorted(worker.hear() for worker in workers) == ["Granted"] * 3 + ["Refused"]
        with closing(sound(file)) as ledger:
            assert len({entry.writer for entry in ledger.entries()}) == 1


HOLD = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_of_a_dead_process_is_free(path: Path) -> None:
    """Who dies with the lock in its hands holds nobody up."""
    with closing(SqliteLedger(path)) as ledger:
        command = [sys.executable, "-c", HOLD, f"{path}-lock"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            holder.kill()
        granted(ledger, "p", quota(9))


def fork(do: Callable[[], None]) -> Callable[[], int]:
    """Do something in a forked child; what is returned waits for its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            do()
            code = 0
        except BaseException:  # noqa: BLE001 - the exit code says it
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# From 3.12 on, Python warns of every fork with threads about: other libraries may not bear it.
forking = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forking
def test_a_forked_process_may_go_on_with_the_ledger(path: Path) -> None:
    """Parent and child both write on, also when the parent closes the file first; nothing is lost."""
    ledger = SqliteLedger(path)
    granted(ledger, "before", quota(1000))
    asyncio.run(ledger.aperform(claiming("task before", quota(1000))))  # its thread is started
    closed, tell = os.pipe()
    busy = threading.Event()

    def keep_busy() -> None:
        for number in range(60):
            granted(ledger, f"parent {number}", quota(1000))
            busy.set()

    def child() -> None:
        for number in range(20):
            granted(ledger, f"child {number}", quota(1000))
        asyncio.run(ledger.aperform(claiming("task in child", quota(1000))))
        os.read(closed, 1)
        for number in range(20, 40):
            granted(ledger, f"child {number}", quota(1000))
        assert verify(ledger.entries(), ledger.head()) is None

    working = threading.Thread(target=keep_busy)
    working.start()
    busy.wait()
    done = fork(child)
    working.join()
    ledger.close()
    os.write(tell, b".")
    assert done() == 0
    os.close(closed)
    os.close(tell)
    with closing(sound(path)) as again:
        assert again.head()[0] == 2 + 60 + 41
        assert state(again) == [("quota", [0, 0, 103])]


@forking
def test_a_process_forked_in_the_middle_of_a_transaction_refuses(path: Path) -> None:
    """What SQLite left in its memory is of no use and no harm; the parent is not disturbed."""
    slow = Gated()
    ledger = SqliteLedger(path, timeout=0.2)
    request = claiming("slow", slow)  # type: ignore[arg-type]
    working = threading.Thread(target=lambda: ledger.perform(request))
    working.start()
    assert slow.reached.wait(10)

    def child() -> None:
        for use in (lambda: ledger.perform(request), lambda: SqliteLedger(path)):
            with pytest.raises(LedgerError, match="was at work when this process was forked"):
                use()

    assert fork(child)() == 0
    slow.go_on.set()
    working.join()
    granted(ledger, "after", quota(9))
    ledger.close()
    with closing(sound(path)) as again:
        assert [entry["permit"] for entry in record(again)] == ["slow", "after"]
