"""A report reads what its run did and little else, and is right for any ledger."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate import Gate, MemoryLedger, Proposal, Subject, Succeeded
from sluicegate.entries import prompt_entry
from sluicegate.ledger.base import Noting
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.policy.compile import CompiledPolicy
from sluicegate.policy.model import Policy
from sluicegate.report import report, report_of
from sluicegate.testing import FakeClock, counted_ids

POLICY = {
    "version": 1,
    "tools": {"*": {"effect": "read"}},
    "contracts": [{"when": "a", "then": "b"}],
}
COMPILED = CompiledPolicy(Policy.of(POLICY))


class Counting(MemoryLedger):
    """A ledger that counts the entries that are read from it."""

    def __init__(self):
        super().__init__()
        self.read = 0

    def entries(self, after=0):
        for entry in super().entries(after):
            self.read += 1
            yield entry

    def body(self, entry):
        self.read += 1
        return super().body(entry)


class Fleet(MemoryLedger):
    """Several writers with clocks of their own: all are read in one order, each numbers its own entries."""

    order = ()
    """In the order of reading: the number of an entry as it was made, and its writer."""

    def entries(self, after=0):
        made, numbers = list(super().entries()), Counter()
        for place, (number, writer) in enumerate(self.order, 1):
            numbers[writer] += 1
            if place > after:
                yield made[number - 1]._replace(seq=numbers[writer], writer=writer)

    def body(self, entry):
        return super().body(self.order[entry - 1][0])


class Opaque(MemoryLedger):
    """The numbers of this ledger's entries are no places: a number in between is none at all."""

    def head(self):
        return 10**12, super().head()[1]

    def body(self, entry):
        if entry > 10**6:
            raise KeyError(entry)
        return super().body(entry)


def played(ledger, before=20, behind=3):
    """Entries of others, the run that is asked for, and some more of others."""
    clock = FakeClock()
    gate = Gate(POLICY, ledger, clock=clock, ids=counted_ids())

    def do(tool, run):
        clock.advance(1)
        proposal = Proposal(tool, {}, run=run, subject=Subject(tenant="acme"))
        gate.settle(gate.decide(proposal), Succeeded("ok"))

    for number in range(before):
        do("a", f"earlier-{number}")
    do("a", "r")
    for number in range(behind):
        do("b", f"later-{number}")
    do("c", "r")
    return clock.now()


def test_of_a_long_journal_little_is_read():
    """10^5 entries before the run cost some seventeen reads: halving, not reading all."""
    ledger = Counting()
    start = FakeClock().now()
    for number in range(100_000):
        ledger.perform(Noting(start + number, prompt_entry(f"earlier-{number}", "hello")))
    now = played(ledger, before=0, behind=100)
    since = ledger.head()[0] - 100_000
    found = report_of(ledger, COMPILED, "r", now + 10**12)
    assert len(found.owed) == 1
    assert [tally.tool for tally in found.calls] == ["a", "c"]
    assert since > 200
    assert ledger.read <= since + 20


def test_a_run_of_which_nothing_is_known_is_looked_for_everywhere():
    """No cell says when it began, so nothing may be skipped: a sub-agent may have acted for it."""
    ledger = Counting()
    clock = FakeClock()
    gate = Gate(POLICY, ledger, clock=clock)
    clock.advance(1)
    inner = Proposal("a", {}, run="inner", parent="r", root="r")
    gate.settle(gate.decide(inner), Succeeded("ok"))
    assert ledger.cell("run|r") is None or ledger._books.cells.pop("run|r")
    assert len(report_of(ledger, COMPILED, "r", clock.now()).owed) == 1
    assert ledger.read >= ledger.head()[0]


@pytest.mark.parametrize("kind", [MemoryLedger, Opaque])
@pytest.mark.parametrize("before", [0, 1, 2, 7])
def test_the_report_is_that_of_the_whole_journal(kind, before):
    """Wherever the run begins, and whatever the numbers of a ledger's entries mean."""
    ledger = kind()
    now = played(ledger, before)
    found = report_of(ledger, COMPILED, "r", now)
    assert found == report("r", COMPILED, ledger.entries(), now)
    assert [tally.succeeded for tally in found.calls] == [1, 1]


@example([number == 12 for number in range(1, 14)], [True])  # a later call comes first of all
@given(st.lists(st.booleans(), min_size=13, max_size=13), st.lists(st.booleans(), max_size=13))
def test_writers_may_take_turns_in_any_order(writers, turns):
    """Times fall where one writer's clock is behind another's; nothing of the run is missed for it."""
    ledger = Fleet()
    now = played(ledger, before=3, behind=1)
    chains = {who: [n for n, w in enumerate(writers, 1) if w is who] for who in (True, False)}
    order = []
    for turn in [*turns, *[True] * 13, *[False] * 13]:
        if chains[turn]:
            order.append((chains[turn].pop(0), f"writer {turn}"))
    ledger.order = order
    assert len(order) == ledger.head()[0]
    assert report_of(ledger, COMPILED, "r", now) == report("r", COMPILED, ledger.entries(), now)


def test_a_report_that_misses_the_beginning_is_made_anew():
    """The run's only entry was skipped, so that no number is left to show it; the time does."""
    ledger, clock = Fleet(), FakeClock()
    gate = Gate(POLICY, ledger, clock=clock)
    for run in ("earlier", "r"):
        clock.advance(1)
        gate.decide(Proposal("a", {}, run=run))
    ledger.order = [(3, "w1"), (1, "w0"), (2, "w0")]
    assert len(report_of(ledger, COMPILED, "r", clock.now()).open) == 1


def test_sqlite_gives_the_same_report_as_memory(tmp_path):
    """The file is read from the same place on, and by another process's gate as well."""
    memory, path = MemoryLedger(), tmp_path / "l.db"
    now = played(memory, before=600)
    with_file = SqliteLedger(path, durability="process")
    assert played(with_file, before=600) == now
    with_file.close()
    again = SqliteLedger(path)
    assert report_of(again, COMPILED, "r", now) == report_of(memory, COMPILED, "r", now)
    again.close()


def test_entries_of_the_same_time_as_the_first_are_read():
    """The run began at a time at which others acted too; none of its own is skipped."""
    ledger, clock = MemoryLedger(), FakeClock()
    gate = Gate(POLICY, ledger, clock=clock)
    for run in ("x", "r", "y", "r", "r"):
        gate.settle(gate.decide(Proposal("a", {"run": run}, run=run)), Succeeded("ok"))
    times = {json.loads(entry.body)["at"] for entry in ledger.entries()}
    assert len(times) == 1
    assert [tally.succeeded for tally in report_of(ledger, COMPILED, "r", clock.now()).calls] == [3]
