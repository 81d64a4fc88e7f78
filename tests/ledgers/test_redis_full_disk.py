"""
A Redis or Valkey server whose disk is full: a small one of its own, filled by the decisions
themselves. Callers are refused in time, nothing that was acknowledged is lost, no key runs twice.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("redis")

from redis_server import Server, startable
from requested import claiming, granted, quota

from sluicegate import Deny, Gate, LedgerError, Permit, Proposal, Recorded, Succeeded
from sluicegate.ledger.redis import RedisLedger
from sluicegate.replay import replay

pytestmark = pytest.mark.skipif(not startable(), reason="no server by pip for this machine")

TIMEOUT = 1.0
POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"pay": {"once": {"key": "pay:{n}"}, "cost": {"eur": 1}}},
    "limits": [{"budget": "eur", "limit": 10_000}],
}


class Disk:
    """A file system of one megabyte, with little room left."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._filler = place / "filler"
        self._filler.write_bytes(bytes(900_000))

    def make_room(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small disk can be mounted here: {getattr(error, 'stderr', error)}")
    yield Disk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def serving(disk: Disk, **settings: str) -> Server:
    """A server that keeps its data on this disk."""
    return Server(dir=str(disk.place), **settings)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Payers:
    """Threads that pay one thing after the other, and note what they were told, and how soon."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._over = threading.Event()
        self.permitted: set[int] = set()
        self.settled: set[int] = set()
        self.refused: list[Deny] = []
        self.slowest = 0.0
        self._threads = [threading.Thread(target=self._pay, args=(n,)) for n in range(4)]
        for thread in self._threads:
            thread.start()

    def _pay(self, thread: int) -> None:
        n = thread
        while not self._over.is_set():
            n += 4
            begun = time.monotonic()
            decision = self._gate.decide(Proposal("pay", {"n": n}))
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if isinstance(decision, Deny):
                self.refused.append(decision)
                time.sleep(0.005)
                continue
            assert isinstance(decision, Permit)
            self.permitted.add(n)
            try:
                self._gate.settle(decision, Succeeded({"paid": n}))
                self.settled.add(n)
            except LedgerError:
                pass  # it stays out, which frees nothing

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def assert_nothing_lost(gate: Gate, ledger: RedisLedger, payers: Payers) -> None:
    """All that was said is on record once, no key runs again, and the budget is what was taken."""
    assert isinstance(
        gate.decide(Proposal("pay", {"n": -1})), Permit
    )  # what is owed goes before it
    told = [entry.content for entry in ledger.entries()]
    on_record = [
        entry["proposal"]["args"]["n"] for entry in told if entry.get("decision") == "permit"
    ]
    assert len(on_record) == len(set(on_record))
    assert payers.permitted <= set(on_record)
    undone = sum(entry.get("error") == "cancelled before dispatch" for entry in told)
    (budget,) = (cell for key, cell in ledger.cells("") if key.startswith("quota"))
    assert budget[1] + budget[2] == 1_000_000 * (len(on_record) - undone)
    for n in payers.permitted:
        again = gate.decide(Proposal("pay", {"n": n}))
        assert not isinstance(again, Permit)
        assert isinstance(again, Recorded) or n not in payers.settled
    assert gate.journal.verify() is None
    assert replay(ledger.entries()).difference is None


@pytest.mark.parametrize("appendfsync", ["everysec", "always"])
def test_a_full_disk_refuses_in_time_and_loses_nothing(disk: Disk, appendfsync: str) -> None:
    """
    With everysec the server lives on, and works again as soon as there is room. With always it
    ends itself, and is there again when somebody starts it; the gate needs no hand either way.
    """
    server = serving(disk, appendfsync=appendfsync)
    with (
        closing(RedisLedger(server.url, timeout=TIMEOUT)) as ledger,
        closing(Gate(POLICY, ledger)) as gate,
    ):
        payers = Payers(gate)
        try:
            until(lambda: len(payers.refused) > 8)
            before = len(payers.permitted)
            assert before > 10
            disk.make_room()
            if appendfsync == "always":
                assert server._process is not None
                assert server._process.wait() == 1
                server.start()
            until(lambda: len(payers.permitted) > before + 20)
        finally:
            payers.stop()
        assert payers.slowest < 1.6 * TIMEOUT
        for refused in payers.refused:
            (reason,) = refused.reasons
            assert reason.code == "ledger_unavailable"
            assert refused.retry == 1.0
            assert not refused.final
        problem = {"everysec": "cannot write its data to disk", "always": "did not (answer|get to)"}
        said = [refused.reasons[0].message for refused in payers.refused]
        assert any(re.search(problem[appendfsync], message) for message in said)
        assert_nothing_lost(gate, ledger, payers)
    server.remove()


def test_a_server_killed_while_its_disk_is_full_is_recognised(disk: Disk) -> None:
    """
    With everysec the last answers before the disk was full are only in its memory. If that goes
    too, whoever was answered is refused from then on, and nothing is spent again unseen.
    """
    server = serving(disk, appendfsync="everysec")
    with closing(RedisLedger(server.url, timeout=TIMEOUT)) as ledger:
        permits: list[str] = []

        def fill() -> None:
            while True:
                granted(ledger, f"p{len(permits)}", quota(10_000))
                permits.append(f"p{len(permits)}")

        with pytest.raises(LedgerError, match="cannot write its data to disk"):
            fill()
        assert sorted(out.permit for out in ledger.out()) == sorted(permits)
        server.kill()
        disk.make_room()
        server.start()
        with pytest.raises(LedgerError, match="has lost decisions that it had acknowledged"):
            ledger.perform(claiming("q", quota(10_000)))
    server.remove()
