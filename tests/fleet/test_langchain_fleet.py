"""
A fleet: four processes with real agents share budgets, slots, keys and halts through one ledger.

The same policy and the same agents run on each kind of ledger; only the URL is another.
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from sluicegate import Gate
from sluicegate.replay import replay

WORKERS, BUDGET, SLOTS = 4, 200, 3
ASKED = WORKERS * 4 * 3 * 6
"""More payments are proposed than there is money for: 288."""

POLICY = f"""
version: 1
tools:
  pay: {{cost: {{eur: 1}}}}
  notify: {{once: {{key: "{{topic}}", wait: 10s}}}}
  crunch: {{effect: read, lease: 1m}}
limits:
  - {{budget: eur, limit: {BUDGET}, per: [tenant]}}
  - {{concurrency: {SLOTS}, per: [tenant], tools: [crunch], wait: 30s}}
"""


def address(kind: str, folder: Path) -> str:
    """The URL of a new ledger of this kind, on a real server if it needs one."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'ledger.db'}"
    if kind == "redis":
        pytest.importorskip("redis")
        from redis_server import namespace, shared

        return f"{shared()}?namespace={namespace()}"
    pytest.importorskip("psycopg")
    from pg_server import fresh

    return fresh()


class Fleet:
    """Four worker processes."""

    def __init__(self, url: str, folder: Path) -> None:
        (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
        program = Path(__file__).with_name("fleet_worker.py")
        command = [sys.executable, str(program), url, str(folder / "policy.yaml"), str(folder)]
        self.workers = [
            subprocess.Popen(
                [*command, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for number in range(WORKERS)
        ]

    def all_say(self, word: str) -> None:
        """Wait until each worker has said so."""
        for worker in self.workers:
            assert lines(worker.stdout).readline().strip() == word

    def go(self) -> None:
        """Let all of them begin."""
        for worker in self.workers:
            pipe = lines(worker.stdin)
            pipe.write("go\n")
            pipe.flush()

    def end(self) -> None:
        """Stop what still runs."""
        for worker in self.workers:
            worker.kill()
            worker.communicate()


def lines(pipe: IO[str] | None) -> IO[str]:
    """A pipe that is there."""
    assert pipe is not None
    return pipe


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger that four processes can share."""
    return address(request.param, tmp_path)


@pytest.fixture
def fleet(url: str, tmp_path: Path) -> Iterator[Fleet]:
    """The workers, which are gone afterwards."""
    made = Fleet(url, tmp_path)
    yield made
    made.end()


def test_a_fleet_shares_everything_exactly(fleet: Fleet, url: str, tmp_path: Path) -> None:
    """The budget is spent to the last euro and no further, keys and slots hold, and a halt reaches all."""
    fleet.all_say("ready")
    fleet.go()
    fleet.all_say("done")
    paid = (tmp_path / "paid").read_text().split()
    assert len(paid) == BUDGET
    assert len(set(paid)) == BUDGET
    notified = collections.Counter((tmp_path / "notified").read_text().splitlines())
    notified.pop("are we halted", None)
    assert notified == {f"topic {n}": 1 for n in range(5)}
    assert peak(tmp_path / "busy") <= SLOTS
    refused = collections.Counter((tmp_path / "refused").read_text().splitlines())
    assert refused == {"pay budget": ASKED - BUDGET}

    with Gate(tmp_path / "policy.yaml", url) as gate:
        gate.halt(tenant="acme", by="ada", reason="enough")
        fleet.all_say("halted")
        left = [row.left for row in gate.usage() if row.name == "eur"]
        assert left == [0]
        assert gate.unknowns() == []
        assert gate.journal.verify() is None
        found = replay(gate.journal)
        assert found.difference is None
        assert not found.skipped


def peak(busy: Path) -> int:
    """How many were at work at the same time, by the clock that all processes of a machine share."""
    marks = sorted(
        (int(time), sign) for sign, time in map(str.split, busy.read_text().splitlines())
    )
    now = most = 0
    for _, sign in marks:
        now += 1 if sign == "+" else -1
        most = max(most, now)
    assert now == 0
    return most
