"""Sweeping at a ledger: exact while others are at work, bounded, on record, and derived again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sluicegate import Gate, LedgerError, MemoryLedger, Permit, Policy, Proposal, Subject, Succeeded
from sluicegate.backtest import backtest
from sluicegate.drive import drive
from sluicegate.housekeeping import Keep, sweeping, swept
from sluicegate.journal import Entry, link
from sluicegate.ledger import Ledger
from sluicegate.ledger.base import Amended, Rejected
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.replay import replay
from sluicegate.sweeper import BATCH, PACES, PAGE, Sweeper
from sluicegate.testing import FakeClock, counted_ids

A_DAY = 86_400
POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {
        "get": {"effect": "read"},
        "pay": {"once": {"key": "pay:{n}", "within": "1h"}, "cost": {"eur": 1}},
    },
    "limits": [
        {"budget": "eur", "limit": 100, "per": ["user"], "window": "hour"},
        {"rate": "100/s", "per": ["user"]},
        {"concurrency": 9, "per": ["user"]},
        {"repeat": 9, "per": ["run"]},
    ],
}


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each ledger that is always there, empty."""
    made: Ledger = MemoryLedger()
    if request.param == "sqlite":
        made = SqliteLedger(tmp_path / "ledger.db", durability="process")
    yield made
    made.close()


def gate_on(ledger: Ledger) -> tuple[Gate, FakeClock]:
    """A gate with a clock of its own."""
    clock = FakeClock()
    return Gate(POLICY, ledger, clock=clock, ids=counted_ids()), clock


def pay(gate: Gate, n: int, call_id: str | None = None) -> Permit:
    """One payment, by a user of its own."""
    who = Subject(tenant="acme", user=f"u{n}")
    call = Proposal("pay", {"n": n}, subject=who, run="r", call_id=call_id or f"c{n}")
    decision = gate.decide(call)
    assert isinstance(decision, Permit)
    gate.settle(decision, Succeeded({"paid": n}))
    return decision


def step(sweeper: Sweeper, ledger: Ledger, now: int) -> None:
    """What a gate does before a decision."""
    if sweeper.due():
        drive(sweeper.stepping(now), ledger)


def sweep(sweeper: Sweeper, now: int) -> int:
    """Go round once; how many cells were removed."""
    return sum(sweeper.sweep(now, page).total() for page in sweeper.pages(now))


def test_what_is_over_goes_in_batches_and_is_on_record(ledger: Ledger) -> None:
    """Hundreds of cells: the journal names each one that went, and the chain is whole."""
    gate, clock = gate_on(ledger)
    for n in range(150):
        pay(gate, n)
    clock.advance(40 * A_DAY)
    before = dict(ledger.cells(""))
    removed = sweep(Sweeper(ledger), clock.now())
    left = dict(ledger.cells(""))
    entries = [entry.content for entry in ledger.entries()]
    named = [key for entry in entries if entry["kind"] == "swept" for key in entry["keys"]]
    assert sorted(named) == sorted(before.keys() - left.keys())
    assert removed == len(named) >= 4 * 150
    assert all(len(entry["keys"]) <= BATCH for entry in entries if entry["kind"] == "swept")
    assert {key.partition("|")[0] for key in left} == {"policy", "run"}
    assert gate.journal.verify() is None


def test_a_second_round_changes_nothing(ledger: Ledger) -> None:
    """What stays is not touched, and no entry is made for nothing."""
    gate, clock = gate_on(ledger)
    pay(gate, 1)
    clock.advance(40 * A_DAY)
    assert sweep(Sweeper(ledger), clock.now()) > 0
    head = ledger.head()
    assert sweep(Sweeper(ledger), clock.now()) == 0
    assert ledger.head() == head


def test_a_cell_that_was_taken_again_stays(ledger: Ledger) -> None:
    """Between the listing and the removal: that cell stays as it is, the others go."""
    gate, clock = gate_on(ledger)
    for n in (1, 2):
        pay(gate, n)
    clock.advance(2 * 3600)
    sweeper = Sweeper(ledger)
    (page,) = sweeper.pages(clock.now())
    assert 'rate|100/1000000|"*"|user="u1"' in page.over
    pay(gate, 1, "again")
    cells = dict(ledger.cells(""))
    sweeper.sweep(clock.now(), page)
    after = dict(ledger.cells(""))
    assert {key: after[key] for key in after if 'user="u1"' in key} == {
        key: cells[key] for key in cells if 'user="u1"' in key
    }
    assert not [key for key in after if 'user="u2"' in key]


def test_a_request_removes_all_of_its_cells_or_none(ledger: Ledger) -> None:
    """One that is not over, or not there any more: refused, and nothing has changed."""
    gate, clock = gate_on(ledger)
    pay(gate, 1)
    clock.advance(2 * 3600)
    rate, run = 'rate|100/1000000|"*"|user="u1"', "run|r"
    head = ledger.head()
    for keys in ((rate, run), (rate, "rate|x")):
        answer = ledger.perform(sweeping(clock.now(), keys, Keep()))
        assert isinstance(answer, Rejected)
        assert "is not over" in answer.problem
    assert ledger.head() == head
    assert isinstance(ledger.perform(sweeping(clock.now(), (rate,), Keep())), Amended)


def test_what_is_kept_is_kept_for_a_time(ledger: Ledger) -> None:
    """One below 0 would remove what is alive: neither a sweeper nor a journal entry may say it."""
    gate, clock = gate_on(ledger)
    pay(gate, 1)
    for keep in (Keep(runs=-1), Keep(calls=-1)):
        with pytest.raises(ValueError, match="below 0"):
            Sweeper(ledger, keep)
    key = next(iter(ledger.cells("seen|")))[0]
    answer = ledger.perform(sweeping(clock.now(), (key,), Keep(calls=-90 * A_DAY * 1_000_000)))
    assert isinstance(answer, Rejected)
    assert ledger.cell(key) is not None


def test_limits_are_exact_while_it_sweeps(ledger: Ledger) -> None:
    """Threads spend a budget while another one sweeps without end: never too much, never twice."""
    gate = Gate(POLICY, ledger)
    done = Event()

    def sweeping_on() -> None:
        sweeper = Sweeper(ledger, Keep(runs=0, calls=0))
        while not done.is_set():
            now = max(ledger.floor, 1)
            for page in sweeper.pages(now):
                sweeper.sweep(now, page)

    def spend(n: int) -> bool:
        call = Proposal("pay", {"n": n % 60}, subject=Subject(tenant="a", user="u"), run="r")
        decision = gate.decide(call)
        if isinstance(decision, Permit):
            gate.settle(decision, Succeeded(n))
        return isinstance(decision, Permit)

    with ThreadPoolExecutor(5) as pool:
        broom = pool.submit(sweeping_on)
        permitted = sum(pool.map(spend, range(240)))
        done.set()
        broom.result()
    assert permitted == 60
    assert gate.journal.verify() is None
    assert replay(ledger.entries()).difference is None


# --- a step on the way ------------------------------------------------------------------------------


def test_steps_on_the_way_keep_a_ledger_from_growing(ledger: Ledger) -> None:
    """Thousands of calls, each by another user: there is hardly more than is still alive."""
    clock = FakeClock()
    unrepeated = {**POLICY, "limits": POLICY["limits"][:3]}
    gate = Gate(unrepeated, ledger, clock=clock, ids=counted_ids())
    sweeper = Sweeper(ledger, Keep(calls=0))
    most = 0
    for n in range(1500):
        step(sweeper, ledger, clock.now())
        pay(gate, n)
        clock.advance(60)  # the keys and budgets of sixty calls are alive
        if n % 50 == 0:
            most = max(most, len(list(ledger.cells(""))))
    assert most < 1200, "two hundred cells are alive, and 256 calls pass between two looks"
    assert replay(ledger.entries()).difference is None


def test_a_step_is_bounded(ledger: Ledger) -> None:
    """Once in so many calls, one page, and sooner where much is over; nothing is left out."""
    gate, clock = gate_on(ledger)
    for n in range(200):
        pay(gate, n)
    clock.advance(40 * A_DAY)
    sweeper = Sweeper(ledger)
    sizes = [len(list(ledger.cells("")))]
    seldom, soon = PACES[-1][1], PACES[0][1]
    for call in range(1, seldom + 8 * soon + 1):
        step(sweeper, ledger, clock.now())
        size = len(list(ledger.cells("")))
        assert (size < sizes[-1]) <= (call >= seldom and call % soon == 0)
        if size < sizes[-1]:
            assert sizes[-1] - size <= PAGE
            sizes.append(size)
    assert sizes[-1] == 2


def test_a_step_that_fails_fails_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A ledger that cannot be read: it is said in the log, and tried again later."""

    class Down(MemoryLedger):
        def walk(self) -> Any:
            raise LedgerError("the disk is gone")

    ledger = Down()
    sweeper = Sweeper(ledger)
    with caplog.at_level(logging.WARNING, "sluicegate"):
        for _ in range(PACES[-1][1]):
            step(sweeper, ledger, 1)
    assert "the disk is gone" in caplog.text


# --- replay -----------------------------------------------------------------------------------------


def test_a_swept_journal_is_derived_again(ledger: Ledger) -> None:
    """Decisions before and after housekeeping follow from the journal, by the same and by another policy."""
    gate, clock = gate_on(ledger)
    for n in range(5):
        pay(gate, n)
    clock.advance(40 * A_DAY)
    sweep(Sweeper(ledger), clock.now())
    for n in range(5):
        pay(gate, n)
    found = replay(ledger.entries())
    assert (found.difference, found.decisions, found.skipped) == (None, 10, ())
    stricter = Policy.of({**POLICY, "limits": [{"budget": "calls", "limit": 3, "per": ["run"]}]})
    assert backtest(ledger.entries(), stricter).total.refused == 7


def test_replay_finds_housekeeping_that_removed_too_much() -> None:
    """An entry that says that a live cell was removed cannot have been recorded."""
    ledger = MemoryLedger()
    gate, clock = gate_on(ledger)
    pay(gate, 1)
    entries = list(ledger.entries())
    last = entries[-1]
    told = {"at": clock.now(), "keep": Keep()._asdict(), "keys": ['once|"acme"|pay:1']}
    body = json.dumps({**told, "kind": "swept"})
    assert isinstance(ledger.perform(swept(json.loads(body))), Rejected)
    seq = last.seq + 1
    forged = Entry(seq, last.writer, last.hash, link(last.hash, last.writer, seq, body), body)
    difference = replay([*entries, forged]).difference
    assert difference is not None
    assert (difference.entry, "is not over" in difference.problem) == (seq, True)
