"""A report reads what its run did and little else, and is right for any ledger."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate import Gate, LedgerError, MemoryLedger, Proposal, Subject, Succeeded
from sluicegate.archive import Archive, Whole, segments
from sluicegate.archiving import ARCHIVED
from sluicegate.entries import prompt_entry
from sluicegate.housekeeping import Keep
from sluicegate.ledger.base import Noting
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.policy.compile import CompiledPolicy
from sluicegate.policy.model import Policy
from sluicegate.report import report, report_of
from sluicegate.sweeper import Sweeper
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


# --- a journal that was shortened -----------------------------------------------------------------

DAY = 86_400
ARCHIVE = "`sluicegate run-report --archive DIR`"


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    """Ledgers whose journal can be shortened, empty."""
    made = Counting()
    if request.param == "sqlite":
        made = SqliteLedger(tmp_path / "l.db", durability="process")
    yield made
    made.close()


class Desk:
    """Runs that act, and an archive for what they did."""

    def __init__(self, ledger, folder):
        self.ledger, self.folder = ledger, folder
        self.clock = FakeClock()
        self.gate = Gate(POLICY, ledger, clock=self.clock, ids=counted_ids())

    def act(self, *runs, seconds=1):
        for run in runs:
            self.clock.advance(seconds)
            self.gate.settle(self.gate.decide(Proposal("a", {}, run=run)), Succeeded("ok"))

    def archive(self, days, keep=None):
        """Move what is older, and forget runs that are silent for longer than is said in *keep*."""
        now = self.clock.now()
        into = Archive(self.folder, days * DAY * 1_000_000)
        sweeper = Sweeper(self.ledger, keep, into)
        for page in sweeper.pages(now):
            sweeper.sweep(now, page)
        while sweeper.archiver.ready:
            sweeper.archiver.step(now, partial=True)

    def report(self, run, ledger=None):
        return report_of(ledger or self.ledger, COMPILED, run, self.clock.now())


def test_a_run_that_began_before_what_is_left_has_no_report(ledger, tmp_path):
    """Its first calls are in the archive, and with it the report is the one that it was."""
    desk = Desk(ledger, tmp_path / "a")
    desk.act("old", "both")
    desk.clock.advance(100 * DAY)
    desk.act("both", "new", "both")
    before = {run: desk.report(run) for run in ("old", "both", "new")}
    desk.archive(days=90)
    for run in ("old", "both"):
        with pytest.raises(LedgerError, match=ARCHIVE):
            desk.report(run)
        with pytest.raises(LedgerError, match=ARCHIVE):
            desk.gate.finish(run)
    assert desk.report("new") == before["new"]
    whole = Whole(ledger, tmp_path / "a")
    for run, told in before.items():
        found = desk.report(run, whole)
        assert (found.calls, found.owed, found.began) == (told.calls, told.owed, told.began)


def test_of_what_is_left_little_is_read_either(tmp_path):
    """The halving begins behind what was archived."""
    desk = Desk(Counting(), tmp_path / "a")
    desk.act(*["old"] * 100)
    desk.clock.advance(100 * DAY)
    desk.act(*(f"later-{number}" for number in range(1000)), "r", "r")
    desk.archive(days=90)
    desk.ledger.read = 0
    assert [tally.succeeded for tally in desk.report("r").calls] == [2]
    assert desk.ledger.read <= 25


def test_a_run_of_the_same_moment_as_what_left_has_no_report(ledger, tmp_path):
    """The first entry that is left is of its first moment; another of that moment may be gone."""
    desk = Desk(ledger, tmp_path / "a")
    desk.act("r", "r", seconds=0)
    desk.archive(days=0)
    desk.act("r", seconds=0)
    desk.clock.advance(1)
    with pytest.raises(LedgerError, match=ARCHIVE):
        desk.report("r")
    assert [t.succeeded for t in desk.report("r", Whole(ledger, tmp_path / "a")).calls] == [3]


def test_a_run_that_the_ledger_has_forgotten_has_no_report(ledger, tmp_path):
    """Housekeeping says in the journal which; one that never acted owes nothing."""
    desk = Desk(ledger, tmp_path / "a")
    desk.act("r")
    desk.clock.advance(100 * DAY)
    desk.act("x")
    desk.archive(days=90)
    assert ledger.cell("run|r") is None
    with pytest.raises(LedgerError, match=ARCHIVE):
        desk.report("r")
    assert len(desk.report("r", Whole(ledger, tmp_path / "a")).owed) == 1
    assert desk.report("never").began is None
    assert desk.gate.finish("never").fulfilled


def test_what_is_left_of_a_forgotten_run_is_no_report(tmp_path):
    """No cell says when it began, so nobody knows what is missing."""
    desk = Desk(MemoryLedger(), tmp_path / "a")
    desk.act("x", "r")
    desk.clock.advance(100 * DAY)
    desk.act("r")
    desk.archive(days=90)
    desk.ledger._books.cells.pop("run|r")
    with pytest.raises(LedgerError, match=ARCHIVE):
        desk.report("r")
    assert len(desk.report("r", Whole(desk.ledger, tmp_path / "a")).owed) == 2


@pytest.mark.parametrize("lost", [0, 1])
def test_an_archive_with_a_gap_gives_no_report(ledger, tmp_path, lost):
    """A segment was deleted: what is before and behind it does not make a report."""
    desk = Desk(ledger, tmp_path / "a")
    for run in ("x", "r", "r"):
        desk.act(run)
        desk.clock.advance(100 * DAY)
        desk.act("x")
        desk.archive(days=90, keep=Keep(runs=9000 * DAY * 1_000_000))
    whole = Whole(ledger, tmp_path / "a")
    began = min(entry.at for entry in whole.entries() if '"run":"r"' in entry.body)
    segments(tmp_path / "a")[lost].unlink()
    if lost == 0:
        assert desk.report("r", whole).began == began, "the run began behind it"
        segments(tmp_path / "a")[0].unlink()
    with pytest.raises(LedgerError, match="archive DIR|journal verify"):
        desk.report("r", whole)


@pytest.mark.parametrize(("seconds", "sure"), [(30, False), (61, True)])
def test_clocks_of_several_writers_may_differ_by_a_minute(seconds, sure):
    """With one chain a run that began later than what is left is all there; with two, a minute later."""
    ledger, clock = Fleet(), FakeClock()
    gate = Gate(POLICY, ledger, clock=clock)
    for run, wait in (("gone", 1), ("gone", 1), ("x", 1), ("r", seconds)):
        clock.advance(wait)
        gate.decide(Proposal("a", {}, run=run))
    ledger.order = [(1, "w0"), (2, "w1"), (3, "w0"), (4, "w1"), (5, "w0")]
    left = list(ledger.entries(3))
    ledger._books.cells[ARCHIVED] = (1, ("w0", 2, ""), ("w1", 1, ""))
    ledger.entries = lambda after=0: iter(left)
    if sure:
        assert len(report_of(ledger, COMPILED, "r", clock.now()).open) == 1
    else:
        with pytest.raises(LedgerError, match=ARCHIVE):
            report_of(ledger, COMPILED, "r", clock.now())
