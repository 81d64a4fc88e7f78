"""Waiting for a SQLite ledger: timeouts, cancellation, trouble with the disk, and the end."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import random
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from requested import (
    NOW,
    claiming,
    granted,
    noting,
    once,
    quota,
    record,
    settling,
    slot,
    state,
)

from sluicegate.claims import Cell, Ending, Hold, Taken
from sluicegate.errors import LedgerError
from sluicegate.journal import verify
from sluicegate.ledger.base import Answer, Granted, Replayed, Settled
from sluicegate.ledger.committer import Committer
from sluicegate.ledger.database import LOOK
from sluicegate.ledger.sqlite import SqliteLedger

CANCELLED = {"error": "cancelled before dispatch", "kind": "outcome", "outcome": "failed"}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, as another process would: by a descriptor of one's own."""
    descriptor = os.open(path.with_name(path.name + "-lock"), os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


class Gated:
    """A claim on nothing that lets a test stop time in the middle of a transaction."""

    key = "gated"

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def take(self, cell: Cell, hold: Hold) -> Taken:
        self.reached.set()
        assert self.go_on.wait(10)
        return (hold.permit,)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        return None


async def until(reached: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_a_lock_that_is_held_ends_in_an_error_in_time(sqlite_ledger: SqliteLedger) -> None:
    """After the timeout the request is withdrawn: it is not carried out afterwards either."""
    with locked(sqlite_ledger.path):
        begun = time.monotonic()
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s, so the request was withdrawn"):
            sqlite_ledger.perform(claiming("p", quota(5)))
        assert 0.4 < time.monotonic() - begun < 5
    granted(sqlite_ledger, "q", quota(5))
    assert [entry["permit"] for entry in record(sqlite_ledger)] == ["q"]


def test_a_task_too_waits_no_longer_than_the_timeout(sqlite_ledger: SqliteLedger) -> None:
    """The loop turns on while a task waits for the lock, and the task gets its error in time."""

    async def wait() -> int:
        turns = 0
        task = asyncio.ensure_future(sqlite_ledger.aperform(claiming("p", quota(5))))
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s"):
            await task
        return turns

    with locked(sqlite_ledger.path):
        assert asyncio.run(wait()) > 5
    granted(sqlite_ledger, "q", quota(5))
    assert sqlite_ledger.head()[0] == 1


def test_a_lock_that_is_released_in_time_is_no_error(sqlite_ledger: SqliteLedger) -> None:
    """Those who wait are served in the order in which they came."""
    order: list[str] = []

    def ask(permit: str) -> None:
        sqlite_ledger.perform(claiming(permit, quota(50)))
        order.append(permit)

    threads = [threading.Thread(target=ask, args=(f"p{number}",)) for number in range(5)]
    with locked(sqlite_ledger.path):
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert [entry["permit"] for entry in record(sqlite_ledger)] == [f"p{n}" for n in range(5)]
    assert sorted(order) == [f"p{number}" for number in range(5)]


def test_another_program_with_a_transaction_ends_in_an_error(sqlite_ledger: SqliteLedger) -> None:
    """SQLite's own lock counts like ours, and when it is gone the ledger works again."""
    with closing(sqlite3.connect(sqlite_ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s by another program; end its"):
            sqlite_ledger.perform(claiming("p", quota(5)))
        with pytest.raises(LedgerError, match=r"locked for 0\.5 s"):
            asyncio.run(sqlite_ledger.aperform(claiming("q", quota(5))))
        other.execute("ROLLBACK")
    granted(sqlite_ledger, "r", quota(5))
    assert [entry["permit"] for entry in record(sqlite_ledger)] == ["r"]


def test_what_has_begun_is_not_given_up(sqlite_ledger: SqliteLedger) -> None:
    """A slow disk makes an answer late, not wrong: nobody is told no about what is then done."""
    gate = Gated()
    answers: list[object] = []
    request = claiming("p", gate)  # type: ignore[arg-type]
    with locked(sqlite_ledger.path):
        asking = threading.Thread(target=lambda: answers.append(sqlite_ledger.perform(request)))
        asking.start()
        time.sleep(0.1)
    assert gate.reached.wait(10)
    time.sleep(0.7)
    assert answers == []
    gate.go_on.set()
    asking.join()
    assert answers == [Granted(NOW, 1)]


def test_a_replay_finds_an_outcome_of_its_own_batch(sqlite_ledger: SqliteLedger) -> None:
    """What one request of a transaction records, the next one can be answered with."""
    request, answer = granted(sqlite_ledger, "p", once())

    async def ask() -> list[object]:
        requests = [settling(request, answer), noting(), claiming("q", once())]
        return await asyncio.gather(*map(sqlite_ledger.aperform, requests))

    answers: list[object] = []
    with locked(sqlite_ledger.path):
        asking = threading.Thread(target=lambda: answers.extend(asyncio.run(ask())))
        asking.start()
        time.sleep(0.1)
    asking.join()
    assert answers[0] == Settled(NOW, 2)
    assert answers[2] == Replayed(NOW, list(sqlite_ledger.entries())[1].body)


def test_opening_waits_for_the_lock_no_longer_than_the_timeout(path: Path) -> None:
    """A ledger that is locked for ever can be seen to be so from the first line of a program."""
    SqliteLedger(path).close()
    with locked(path), pytest.raises(LedgerError, match=r"was locked for 0\.1 s"):
        SqliteLedger(path, timeout=0.1)


def test_a_task_cancelled_in_the_queue_claims_nothing(sqlite_ledger: SqliteLedger) -> None:
    """What has not begun is withdrawn: there is no trace of it."""

    async def cancel() -> None:
        task = asyncio.ensure_future(sqlite_ledger.aperform(claiming("p", quota(5))))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with locked(sqlite_ledger.path):
        asyncio.run(cancel())
    sqlite_ledger.perform(noting())
    assert state(sqlite_ledger) == []
    assert [entry["kind"] for entry in record(sqlite_ledger)] == ["policy"]


def undone(ledger: SqliteLedger, permit: str) -> None:
    """The permit was granted and given back, and the journal says that it never ran."""
    deadline = time.monotonic() + 10
    while ledger.head()[0] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert state(ledger) == []
    assert record(ledger) == [
        {"at": NOW, "kind": "decision", "permit": permit},
        {"at": NOW, "permit": permit, **CANCELLED},
    ]
    text = '"error":"cancelled before dispatch","kind":"outcome","outcome":"failed","permit":"p"}'
    assert list(ledger.entries())[1].body == f'{{"at":{NOW},{text}'


def test_a_task_cancelled_in_the_transaction_claims_nothing(sqlite_ledger: SqliteLedger) -> None:
    """What is under way is finished and then undone."""
    gate = Gated()

    async def cancel() -> None:
        request = claiming("p", quota(5), slot(5), gate)  # type: ignore[arg-type]
        task = asyncio.ensure_future(sqlite_ledger.aperform(request))
        await until(gate.reached.is_set)
        task.cancel()
        await asyncio.sleep(0)
        assert task.cancelled()
        gate.go_on.set()

    asyncio.run(cancel())
    undone(sqlite_ledger, "p")


def test_a_task_cancelled_with_the_answer_on_its_way_claims_nothing(
    sqlite_ledger: SqliteLedger,
) -> None:
    """Between the commit and the next turn of the loop, a permit is nobody's."""

    async def cancel() -> None:
        task = asyncio.ensure_future(sqlite_ledger.aperform(claiming("p", quota(5), slot(5))))
        await asyncio.sleep(0)
        while sqlite_ledger.head()[0] < 1:
            time.sleep(0.001)  # the loop stands still on purpose
        time.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    undone(sqlite_ledger, "p")


def test_a_loop_that_is_closed_on_its_tasks_claims_nothing(sqlite_ledger: SqliteLedger) -> None:
    """A program that throws its event loop away leaves nothing held."""
    gate = Gated()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it complains about the task
    tasks: list[asyncio.Future[Answer]] = []

    async def begin() -> None:
        request = claiming("p", quota(5), slot(5), gate)  # type: ignore[arg-type]
        tasks.append(asyncio.ensure_future(sqlite_ledger.aperform(request)))
        await until(gate.reached.is_set)

    loop.run_until_complete(begin())
    loop.close()
    gate.go_on.set()
    undone(sqlite_ledger, "p")


def test_tasks_cancelled_at_any_time_claim_nothing(sqlite_ledger: SqliteLedger) -> None:
    """Whenever a claim is cancelled, its budget and its slot are free afterwards."""
    chance = random.Random(7)

    async def ask(number: int) -> bool:
        request = claiming(f"p{number}", quota(10**6), slot(10**6))
        task = asyncio.ensure_future(sqlite_ledger.aperform(request))
        await asyncio.sleep(chance.random() / 500)
        task.cancel()
        try:
            await sqlite_ledger.aperform(settling(request, await task, "failed"))
        except asyncio.CancelledError:
            return True
        return False

    async def ask_all() -> list[bool]:
        return await asyncio.gather(*(ask(number) for number in range(300)))

    cancelled = asyncio.run(ask_all())
    sqlite_ledger.close()
    with closing(SqliteLedger(sqlite_ledger.path)) as ledger:
        assert state(ledger) == []
        assert verify(ledger.entries(), ledger.head()) is None
        entries = record(ledger)
        ran = [entry for entry in entries if entry["kind"] == "outcome" and "error" not in entry]
        assert len(ran) == cancelled.count(False)
        outcomes = [entry for entry in entries if entry["kind"] == "outcome"]
        assert len(outcomes) == len(entries) - len(outcomes)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_transaction_claims_nothing(
    sqlite_ledger: SqliteLedger, error: type[BaseException]
) -> None:
    """Ctrl-C in the middle rolls back, and the ledger works on."""

    class Interrupted(Gated):
        def take(self, cell: Cell, hold: Hold) -> Taken:
            raise error

    with pytest.raises(error):
        sqlite_ledger.perform(claiming("p", quota(5), Interrupted()))  # type: ignore[arg-type]
    assert state(sqlite_ledger) == []
    granted(sqlite_ledger, "q", quota(5))
    assert sqlite_ledger.head()[0] == 1


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Let no file grow beyond the size of the ledger's log, as a quota of the disk would."""
    size = path.with_name(path.name + "-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_and_recovers(sqlite_ledger: SqliteLedger) -> None:
    """What cannot be written is an error and holds nothing; with space again, work goes on."""
    request, answer = granted(sqlite_ledger, "p", quota(9), slot(9))
    before = state(sqlite_ledger)
    with full_disk(sqlite_ledger.path):
        for permit in ("q", "r"):
            with pytest.raises(
                LedgerError, match=r"cannot be \w+: .*; see that its disk has space"
            ):
                sqlite_ledger.perform(claiming(permit, quota(9), slot(9)))
        with pytest.raises(LedgerError, match="see that its disk has space"):
            asyncio.run(sqlite_ledger.aperform(settling(request, answer)))
    assert state(sqlite_ledger) == before
    assert isinstance(sqlite_ledger.perform(settling(request, answer)), Settled)
    assert [entry["kind"] for entry in record(sqlite_ledger)] == ["decision", "outcome"]
    assert verify(sqlite_ledger.entries(), sqlite_ledger.head()) is None


def test_a_ledger_that_was_removed_permits_nothing(sqlite_ledger: SqliteLedger) -> None:
    """Without its file a process would go on counting where nobody else can see it."""
    granted(sqlite_ledger, "p", quota(9))
    away = sqlite_ledger.path.with_name("away.db")
    sqlite_ledger.path.rename(away)
    time.sleep(2 * LOOK)
    with pytest.raises(LedgerError, match="was removed or replaced while it was in use"):
        sqlite_ledger.perform(claiming("q", quota(9)))
    sqlite_ledger.path.write_bytes(away.read_bytes())
    with pytest.raises(LedgerError, match="was removed or replaced while it was in use"):
        sqlite_ledger.perform(claiming("q", quota(9)))
    away.rename(sqlite_ledger.path)
    granted(sqlite_ledger, "r", quota(9))


def test_an_entry_that_was_removed_permits_nothing(sqlite_ledger: SqliteLedger) -> None:
    """If the last entry vanishes, so does what it counted; that is noticed, and for good."""
    granted(sqlite_ledger, "p", quota(9))
    granted(sqlite_ledger, "q", quota(9))
    with closing(sqlite3.connect(sqlite_ledger.path)) as other:
        other.execute("DELETE FROM journal WHERE seq = 2")
        other.commit()
    for _ in range(2):
        with pytest.raises(LedgerError, match="entry 2 of the journal was removed or replaced"):
            sqlite_ledger.perform(claiming("r", quota(9)))
        with pytest.raises(LedgerError, match="entry 2 of the journal was removed or replaced"):
            sqlite_ledger.head()


def test_an_outcome_that_was_removed_is_not_made_up(sqlite_ledger: SqliteLedger) -> None:
    """A replay whose entry is missing is an error, and leaves no trace."""
    request, answer = granted(sqlite_ledger, "p", once())
    sqlite_ledger.perform(settling(request, answer))
    sqlite_ledger.perform(noting())
    with closing(sqlite3.connect(sqlite_ledger.path)) as other:
        other.execute("DELETE FROM journal WHERE seq = 2")
        other.commit()
    head = sqlite_ledger.head()
    with pytest.raises(LedgerError, match="the journal has no entry 2"):
        sqlite_ledger.perform(claiming("q", once()))
    assert sqlite_ledger.head() == head


def test_a_fold_that_fails_holds_nothing_up(
    sqlite_ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is what counts: who needs what is broken is refused, everybody else goes on."""
    monkeypatch.setattr("sluicegate.ledger.database.FOLD_ENTRIES", 2)
    granted(sqlite_ledger, "p", quota(9))
    with closing(sqlite3.connect(sqlite_ledger.path)) as other:
        other.execute("DROP TABLE permits")
    for _ in range(5):
        sqlite_ledger.perform(noting())
    with pytest.raises(LedgerError, match="no such table: permits"):
        sqlite_ledger.perform(claiming("q", quota(9)))
    assert sqlite_ledger.head()[0] == 6


def lose_the_lock(ledger: SqliteLedger) -> None:
    """Close its descriptor, as daemons do with all of them."""
    for name in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{name}") == f"{ledger.path}-lock":
            os.close(int(name))


def test_a_lock_that_is_taken_away_is_an_error_once(sqlite_ledger: SqliteLedger) -> None:
    """Who closes the ledger's descriptors hears of it, and nothing is carried out without a lock."""

    async def ask() -> None:
        await sqlite_ledger.aperform(noting())
        lose_the_lock(sqlite_ledger)
        with pytest.raises(LedgerError, match="-lock beside the ledger cannot be used: Bad file"):
            await sqlite_ledger.aperform(noting())
        await sqlite_ledger.aperform(noting())

    asyncio.run(ask())
    lose_the_lock(sqlite_ledger)
    with pytest.raises(LedgerError, match="-lock beside the ledger cannot be used: Bad file"):
        sqlite_ledger.perform(noting())
    sqlite_ledger.perform(noting())
    assert sqlite_ledger.head()[0] == 3


def test_an_interrupt_just_before_the_transaction_holds_nothing_up(
    sqlite_ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between taking the turn and using it gives the turn back."""

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Committer, "_commit_alone", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sqlite_ledger.perform(claiming("p", quota(9)))
    granted(sqlite_ledger, "q", quota(9))
    assert sqlite_ledger.head()[0] == 1


def test_without_a_thread_there_is_an_error(
    sqlite_ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the interpreter ends no thread can be started: a task is told, and nothing is queued."""

    def too_late(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", too_late)
        with pytest.raises(LedgerError, match="no thread for .*: can't start new thread"):
            asyncio.run(sqlite_ledger.aperform(claiming("p", quota(9))))
    granted(sqlite_ledger, "q", quota(9))
    assert sqlite_ledger.head()[0] == 1


def test_a_request_with_a_text_that_cannot_be_kept_spoils_no_other(
    sqlite_ledger: SqliteLedger,
) -> None:
    """A lone surrogate has no UTF-8: its request raises, and those of the same batch go through."""

    async def ask(permit: str) -> object:
        return await sqlite_ledger.aperform(claiming(permit, quota(99), slot(99, key=permit)))

    async def ask_all() -> list[object]:
        permits = ["a", "b", "\ud800", "c"]
        return await asyncio.gather(*map(ask, permits), return_exceptions=True)

    with locked(sqlite_ledger.path):
        answers: list[object] = []
        waiting = threading.Thread(target=lambda: answers.extend(asyncio.run(ask_all())))
        waiting.start()
        time.sleep(0.1)
    waiting.join()
    assert [type(answer) for answer in answers] == [Granted, Granted, UnicodeEncodeError, Granted]
    assert [key for key, _ in state(sqlite_ledger)] == ["a", "b", "c", "quota"]


class Broken(Gated):
    """A claim that cannot be settled."""

    def take(self, cell: Cell, hold: Hold) -> Taken:
        return (1,)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        raise ZeroDivisionError


def test_a_request_that_fails_half_way_leaves_no_half_behind(sqlite_ledger: SqliteLedger) -> None:
    """What it had changed by then is taken back, in the books and in the journal."""
    request, answer = granted(sqlite_ledger, "p", quota(9), Broken())  # type: ignore[arg-type]
    before = state(sqlite_ledger), sqlite_ledger.head()
    with pytest.raises(ZeroDivisionError):
        sqlite_ledger.perform(settling(request, answer))
    assert (state(sqlite_ledger), sqlite_ledger.head()) == before
    granted(sqlite_ledger, "q", quota(9))
    sound = request._replace(claims=request.claims[:1])
    assert isinstance(sqlite_ledger.perform(settling(sound, answer)), Settled)
    assert dict(state(sqlite_ledger))["quota"] == [0, 1, 1]
    assert [entry.seq for entry in sqlite_ledger.entries()] == [1, 2, 3]
    assert verify(sqlite_ledger.entries(), sqlite_ledger.head()) is None


def test_closing_finishes_what_waits(path: Path) -> None:
    """Requests in the queue are carried out before the file is let go of."""
    ledger = SqliteLedger(path)
    answers: list[object] = []
    with locked(path):
        asking = threading.Thread(target=lambda: answers.append(ledger.perform(noting())))
        asking.start()
        time.sleep(0.05)
        end = threading.Thread(target=ledger.close)
        end.start()
        time.sleep(0.05)
    asking.join()
    end.join()
    assert len(answers) == 1
    with closing(SqliteLedger(path)) as again:
        assert again.head()[0] == 1


def test_closing_leaves_the_file_and_its_lock_alone(path: Path) -> None:
    """After the last close all is in the one file: no log is left beside it."""
    ledger = SqliteLedger(path)
    asyncio.run(ledger.aperform(claiming("p", quota(9))))
    ledger.close()
    ledger.close()
    assert sorted(os.listdir(path.parent)) == ["ledger.db", "ledger.db-lock"]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT key, cell FROM cells").fetchall() == [("quota", "[0,0,1]")]
        assert database.execute("SELECT seq FROM head").fetchall() == [(1,)]


def test_a_closed_ledger_is_of_no_use(path: Path) -> None:
    """Every way to use it raises, and says how to go on."""
    ledger = SqliteLedger(path)
    ledger.close()
    uses: list[Callable[[], object]] = [
        lambda: ledger.perform(noting()),
        lambda: asyncio.run(ledger.aperform(noting())),
        lambda: list(ledger.cells("")),
        lambda: list(ledger.entries()),
        ledger.head,
    ]
    for use in uses:
        with pytest.raises(LedgerError, match="is closed; open it again"):
            use()


def test_a_lock_that_never_comes_does_not_keep_a_program_from_its_end(path: Path) -> None:
    """Closing takes no longer than the timeout, and who waits is told."""
    ledger = SqliteLedger(path, timeout=0.3)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            ledger.perform(noting())
        except LedgerError as error:
            errors.append(error)

    with locked(path):
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.1)
        begun = time.monotonic()
        ledger.close()
        assert time.monotonic() - begun < 5
        asking.join()
    assert len(errors) == 1


FORGETFUL = """
import asyncio, gc, sys, threading
sys.path.insert(0, sys.argv[2])
from requested import noting
from sluicegate.ledger.database import LOOK
from sluicegate.ledger.sqlite import SqliteLedger
def use(name):
    ledger = SqliteLedger(f"{sys.argv[1]}/{name}.db")
    ledger.perform(noting())
    if "thread" in name:
        asyncio.run(ledger.aperform(noting()))
    return ledger
use("collected"); use("collected-thread"); gc.collect()
kept = use("kept"), use("kept-thread")
ring = [use("ring"), use("ring-thread")]; ring.append(ring); del ring
print("end")
"""


def test_a_ledger_that_is_never_closed_ends_without_a_warning(tmp_path: Path) -> None:
    """Collected early or at exit, with a thread or without: no ResourceWarning, and no log is left."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", FORGETFUL, str(tmp_path)]
    ran = subprocess.run([*command, str(Path(__file__).parent)], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("end\n", "", 0)
    assert not list(tmp_path.glob("*-wal"))


def test_threads_that_are_done_leave_nothing_open(path: Path) -> None:
    """A closed ledger keeps no descriptor and no thread."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    ledger = SqliteLedger(path)
    asyncio.run(ledger.aperform(noting()))
    ledger.close()
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
