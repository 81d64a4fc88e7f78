"""A SQLite ledger in trouble: what fails is refused, holds nothing, and spoils nothing else."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from held_up import Gated, locked
from requested import NOW, claiming, granted, noting, once, quota, record, settling, slot, state

from sluicegate.claims import Cell, Ending, Hold, Taken
from sluicegate.errors import LedgerError
from sluicegate.journal import verify
from sluicegate.ledger.base import Granted, Replayed, Settled
from sluicegate.ledger.books import SqliteBooks
from sluicegate.ledger.committer import Committer
from sluicegate.ledger.database import LOOK
from sluicegate.ledger.sqlite import SqliteLedger


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


def test_a_commit_whose_reply_is_lost_holds_nothing(
    sqlite_ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was told of an error has no permit: should it be on record, it is given back first."""

    def lost(books: SqliteBooks) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    for ask in (sqlite_ledger.perform, lambda asked: asyncio.run(sqlite_ledger.aperform(asked))):
        with monkeypatch.context() as patched:
            patched.setattr(SqliteBooks, "written", lost)
            with pytest.raises(LedgerError, match="cannot be written: disk I/O error"):
                ask(claiming("p", quota(1), slot(1)))
        request, answer = granted(sqlite_ledger, "q", quota(1), slot(1))
        sqlite_ledger.perform(settling(request, answer, "failed"))
    permits = [entry["permit"] for entry in record(sqlite_ledger)]
    assert permits == ["p", "p", "q", "q"] * 2
    assert state(sqlite_ledger) == []


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
