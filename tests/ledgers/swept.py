"""What housekeeping must do on a server, whichever it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from sluicegate import Gate, Permit, Proposal, Subject, Succeeded
from sluicegate.housekeeping import Keep
from sluicegate.ledger import Ledger
from sluicegate.replay import replay
from sluicegate.sweeper import Sweeper

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"pay": {"once": {"key": "pay:{n}"}, "cost": {"eur": 1}, "concurrency": 8}},
    "limits": [
        {"budget": "eur", "limit": 1000, "per": ["tenant"]},
        {"rate": "1000/s", "per": ["user"]},
    ],
}
LATER = 90 * 86_400_000_000


def spend(gate: Gate, n: int, users: int) -> bool:
    """One payment of so many that there are to be made."""
    who = Subject(tenant="acme", user=f"u{n % users}")
    decision = gate.decide(Proposal("pay", {"n": n % 60}, subject=who, run="r", call_id=f"c{n}"))
    if isinstance(decision, Permit):
        gate.settle(decision, Succeeded(n))
    return isinstance(decision, Permit)


def assert_exact_while_swept(ledger: Ledger, sweeping: Ledger) -> None:
    """Threads make each payment once, whatever another process sweeps away meanwhile."""
    gate = Gate(POLICY, ledger)
    done = Event()

    def sweep() -> int:
        sweeper, removed = Sweeper(sweeping, Keep(runs=0, calls=0)), 0
        while not done.is_set():
            for page in sweeper.pages(sweeping.floor):
                removed += sweeper.sweep(sweeping.floor, page).total()
        return removed

    with ThreadPoolExecutor(5) as pool:
        broom = pool.submit(sweep)
        permitted = sum(pool.map(lambda n: spend(gate, n, 5), range(180)))
        done.set()
        broom.result()
    assert permitted == 60
    assert gate.journal.verify() is None
    assert replay(ledger.entries()).difference is None


def assert_swept(ledger: Ledger) -> None:
    """What is over goes, in one round, and all of it is on record; *ledger* takes the caller's time."""
    gate = Gate(POLICY, ledger)
    for n in range(60):
        assert spend(gate, n, 60)
    before = {key for key, _ in ledger.cells("")}
    sweeper, later = Sweeper(ledger), ledger.floor + LATER
    for page in sweeper.pages(later):
        sweeper.sweep(later, page)
    left = {key for key, _ in ledger.cells("")}
    named = [
        key
        for entry in ledger.entries()
        if entry.content["kind"] == "swept"
        for key in entry.content["keys"]
    ]
    assert sorted(named) == sorted(before - left)
    kinds = {key.partition("|")[0] for key in before - left}
    assert kinds == {"rate", "seen", "run"}
    assert gate.journal.verify() is None
    assert replay(ledger.entries()).difference is None
