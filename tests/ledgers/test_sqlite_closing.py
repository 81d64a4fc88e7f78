"""The end of a SQLite ledger: closed, forgotten, or held up."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from held_up import locked
from requested import claiming, noting, quota

from sluicegate.errors import LedgerError
from sluicegate.ledger.sqlite import SqliteLedger


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
