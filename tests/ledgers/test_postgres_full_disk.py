"""A PostgreSQL server whose disk is really full: that of its tables, or that of its write-ahead log."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="the PostgreSQL ledger needs psycopg")
import pg_server
import psycopg
from pg_ledgers import again, assert_whole
from pg_load import Load, assert_nothing_lost
from requested import granted, quota

from sluicegate import Deny, Gate, Permit, Proposal, Succeeded
from sluicegate.ledger.postgres import PostgresLedger

TIMEOUT = 2.0
POLICY = {
    "version": 1,
    "tools": {"pay": {"once": {"key": "pay:{n}"}, "cost": {"eur": 1}}},
    "limits": [{"budget": "eur", "limit": 10**6}],
}


class Disk:
    """A disk of so many MB, in memory, that can be filled up to its last byte."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._ballast = path / "ballast"
        path.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(path)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free(self) -> None:
        self._ballast.unlink()

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)


@pytest.fixture
def disks() -> Iterator[tuple[Disk, Disk]]:
    """Two small disks: for the tables, and for the log."""
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-disks-")))
        folder.chmod(0o755)  # the server is no root
        made = []
        for name, size in (("tables", 96), ("log", 80)):
            made.append(Disk(folder / name, size))
            stack.callback(made[-1].remove)
        yield made[0], made[1]


@pytest.fixture
def server(disks: tuple[Disk, Disk], monkeypatch: pytest.MonkeyPatch) -> Iterator[pg_server.Server]:
    """A server with its tables on one disk and its log on the other."""
    tables, log = disks
    monkeypatch.setattr(tempfile, "tempdir", str(tables.path))
    made = pg_server.Server(min_wal_size="32MB", max_wal_size="48MB", wal_recycle="off")
    inside = made._data / "pg_wal"
    subprocess.run(["cp", "-a", str(inside), str(log.path)], check=True)
    shutil.rmtree(inside)
    inside.symlink_to(log.path / "pg_wal")
    yield made.start()
    made.remove()


@contextmanager
def loaded(ledger: PostgresLedger) -> Iterator[Load]:
    """Four threads that claim and settle."""
    load = Load(ledger, limit=10**6, slots=10**6)
    threads = [threading.Thread(target=load.work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for it, for half a minute at most."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def refused(gate: Gate, number: int) -> Deny:
    """Calls that would each run once, until one is refused; that one is, within the timeout."""
    while True:
        begun = time.monotonic()
        decision = gate.decide(Proposal("pay", {"n": number}))
        assert time.monotonic() - begun < TIMEOUT + 0.3
        if isinstance(decision, Deny):
            return decision
        assert isinstance(decision, Permit)
        number += 1


def assert_told(decision: Deny) -> None:
    """The caller hears that the ledger is not there, and when to come back."""
    (reason,) = decision.reasons
    assert reason.code == "ledger_unavailable"
    assert isinstance(reason.retry, float)
    assert reason.retry > 0


def assert_went_well(ledger: PostgresLedger, load: Load) -> None:
    """Nobody waited for too long, and what was told is on record, exactly."""
    assert load.slowest < 2 * TIMEOUT + 0.5, "two requests"
    granted(ledger, "last", quota(10**9, key="another"))  # and what is owed is paid before
    assert_nothing_lost(ledger, load)
    with closing(again(ledger)) as last:
        assert_whole(last)


def test_a_disk_without_room_for_tables_refuses_and_recovers(
    disks: tuple[Disk, Disk], server: pg_server.Server
) -> None:
    """
    The server stays up and says no to what needs room: callers are told in time, and what to do
    about it. As soon as there is room all goes on by itself, and nothing was lost or done twice.
    """
    tables, _ = disks
    ledger = PostgresLedger.at(pg_server.fresh(server.url()) + f"&timeout={TIMEOUT}")
    watching = PostgresLedger.at(pg_server.fresh(server.url()) + f"&timeout={TIMEOUT}")
    gate = Gate(POLICY, watching)
    with loaded(ledger) as load:
        until(lambda: len(load.granted) > 50, "it works at first")
        tables.fill()
        denied = refused(gate, 0)
        assert_told(denied)
        assert "give the server's disk some space" in denied.reasons[0].message
        failed = load.errors
        until(lambda: load.errors > failed + 40, "the load hears of it")
        before = len(load.granted)
        tables.free()
        until(lambda: len(load.granted) > before + 50, "it goes on by itself")
    assert_went_well(ledger, load)
    permit = gate.decide(Proposal("pay", {"n": -1}))
    assert isinstance(permit, Permit)
    gate.settle(permit, Succeeded(None))
    assert gate.journal.verify() is None
    watching.close()
    ledger.close()


def test_a_disk_without_room_for_the_log_ends_the_server_and_loses_nothing(
    disks: tuple[Disk, Disk], server: pg_server.Server
) -> None:
    """
    The server panics, as it must, and does not come up again while the disk is full: callers are
    told in time. With room, and the server started, all goes on without a hand at the ledger.
    """
    _, log = disks
    ledger = PostgresLedger.at(pg_server.fresh(server.url()) + f"&timeout={TIMEOUT}")
    watching = PostgresLedger.at(pg_server.fresh(server.url()) + f"&timeout={TIMEOUT}")
    gate = Gate(POLICY, watching)
    with loaded(ledger) as load:
        until(lambda: len(load.granted) > 50, "it works at first")
        log.fill()
        until(lambda: exhausted(server), "there is no room for the log any more")
        assert_told(refused(gate, 0))
        failed = load.errors
        until(lambda: load.errors > failed + 10, "the load hears of it")
        assert "PANIC" in (server._root / "log").read_text("utf-8")
        process = server._process
        assert process is not None
        with suppress(subprocess.TimeoutExpired):
            process.wait(3)  # it cannot write that it is up again
        before = len(load.granted)
        log.free()
        if process.poll() is not None:
            server.stop()
            server.start()
        until(lambda: len(load.granted) > before + 50, "it goes on by itself")
    assert_went_well(ledger, load)
    assert gate.journal.verify() is None
    watching.close()
    ledger.close()


def exhausted(server: pg_server.Server) -> bool:
    """Have the server begin another file of its log; whether it failed."""
    try:
        with psycopg.connect(server.url(), autocommit=True, connect_timeout=2) as connection:
            connection.execute("SELECT pg_switch_wal()")
    except psycopg.OperationalError:
        return True
    return False
