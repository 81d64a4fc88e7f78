"""What a shortened journal must be on a server, whichever it is: several writers, one order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, cast

from sluicegate import Gate, Permit, Proposal, Recorded, Succeeded, SystemClock
from sluicegate.archive import Archive, Whole, segments
from sluicegate.journal import Journal
from sluicegate.ledger import Ledger
from sluicegate.migrate import migrate
from sluicegate.replay import replay
from sluicegate.sweeper import Sweeper

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"pay": {"once": {"key": "pay:{n}"}, "cost": {"eur": 1}}},
    "limits": [{"budget": "eur", "limit": 100_000}],
}


def pay(gate: Gate, n: int) -> Any:
    """One payment, and what it gave: now or before."""
    decision = gate.decide(Proposal("pay", {"n": n}))
    if isinstance(decision, Recorded):
        return decision.result
    assert isinstance(decision, Permit)
    gate.settle(decision, Succeeded({"paid": n}))
    return {"paid": n}


def move(ledger: Ledger, folder: Path) -> int:
    """Go round once and move all there is; how many entries left."""
    now = max(SystemClock().now(), ledger.floor) + 1_000_000
    sweeper, moved = Sweeper(ledger, archive=Archive(folder, keep=0)), 0
    assert sweeper.archiver is not None
    for page in sweeper.pages(now):
        sweeper.sweep(now, page)
    while sweeper.archiver.ready:
        moved += sweeper.archiver.step(now, partial=True)
    return moved


def assert_whole(ledger: Ledger, folder: Path) -> None:
    """The journal verifies alone and with its archive, and follows from its first entry."""
    assert Journal(ledger).verify() is None
    whole = cast("Ledger", Whole(ledger, folder))
    assert Journal(whole).verify() is None
    found = replay(whole.entries())
    assert found.difference is None
    assert found.skipped == ()


def assert_archived(one: Ledger, two: Ledger, folder: Path) -> None:
    """Both write; what is old leaves, also all of a writer that is silent from then on."""
    gates = Gate(POLICY, one), Gate(POLICY, two)
    for n in range(60):
        pay(gates[n % 2], n)
    count = one.head()[0]
    assert move(one, folder) >= count
    first = next(iter(two.entries()))
    assert first.content["kind"] == "archived"
    assert_whole(two, folder)
    for n in range(60):
        assert pay(gates[0], n) == {"paid": n}
    assert pay(gates[0], 99) == {"paid": 99}
    assert_whole(one, folder)
    assert move(two, folder) > 0
    assert_whole(one, folder)
    for n, gate in enumerate(gates, 200):
        pay(gate, n)  # a chain whose entries have all left goes on behind the entry that says so
        assert_whole(one, folder)


def assert_copied(source: Ledger, target: Ledger, folder: Path) -> None:
    """A shortened ledger is copied with what is kept, and goes on: again shortened, and whole."""
    gate = Gate(POLICY, source)
    for n in range(20):
        pay(gate, n)
    move(source, folder)
    pay(gate, 20)
    migrate(source, target)
    assert target.head() == source.head(), "a head that was kept elsewhere still fits"
    copy = Gate(POLICY, target)
    assert [pay(copy, n) for n in range(22)] == [{"paid": n} for n in range(22)]
    assert_whole(target, folder)
    assert move(target, folder) > 0
    assert_whole(target, folder)


def assert_archived_under_load(ledger: Ledger, archiving: Ledger, folder: Path) -> None:
    """Payments go on while another process moves what is behind them, and nothing gets lost."""
    gate, done = Gate(POLICY, ledger), Event()

    def work() -> int:
        moved = 0
        while not done.is_set():
            moved += move(archiving, folder)
        return moved

    with ThreadPoolExecutor(5) as pool:
        mover = pool.submit(work)
        paid = list(pool.map(lambda n: pay(gate, n % 100), range(400)))
        done.set()
        assert mover.result() > 0
    assert paid == [{"paid": n % 100} for n in range(400)]
    assert len(segments(folder)) > 0
    assert_whole(ledger, folder)
