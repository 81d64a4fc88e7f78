"""The journal can be shortened: archive and journal together stay the whole one, and say so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from sluicegate import Defer, Gate, LedgerError, MemoryLedger, Permit, Proposal, Recorded, Succeeded
from sluicegate.archive import SEGMENT, Archive, Whole, segments
from sluicegate.archiving import ARCHIVED
from sluicegate.journal import Journal
from sluicegate.ledger import Ledger
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.ledger.trimming import Trimmable
from sluicegate.migrate import migrate
from sluicegate.replay import replay
from sluicegate.sweeper import PACES, Sweeper
from sluicegate.testing import FakeClock, counted_ids

DAY = 86_400_000_000
SELDOM = PACES[-1][1]
POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {
        "get": {"effect": "read"},
        "pay": {"once": {"key": "pay:{n}"}, "cost": {"eur": 1}},
        "wipe": {"approve": True},
    },
    "limits": [{"budget": "eur", "limit": 100_000, "window": "day"}],
}


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each ledger that is always there, empty."""
    made: Ledger = MemoryLedger()
    if request.param == "sqlite":
        made = SqliteLedger(tmp_path / "ledger.db", durability="process")
    yield made
    made.close()


def gate_on(ledger: Ledger, **options: Any) -> tuple[Gate, FakeClock]:
    """A gate with a clock of its own."""
    clock = FakeClock()
    return Gate(POLICY, ledger, clock=clock, ids=counted_ids(), **options), clock


def get(gate: Gate, count: int = 1) -> None:
    """So many calls, two entries each."""
    for _ in range(count):
        decision = gate.decide(Proposal("get", {}))
        assert isinstance(decision, Permit)
        gate.settle(decision, Succeeded(1))


def pay(gate: Gate, n: int) -> Any:
    """One payment, and what it gave: now or before."""
    decision = gate.decide(Proposal("pay", {"n": n}))
    if isinstance(decision, Recorded):
        return decision.result
    assert isinstance(decision, Permit)
    gate.settle(decision, Succeeded({"paid": n}))
    return {"paid": n}


def archive(ledger: Ledger, folder: Path, now: int, keep: int = 90 * DAY) -> int:
    """Go round once and move what is old; how many entries left."""
    sweeper, moved = Sweeper(ledger, archive=Archive(folder, keep)), 0
    assert sweeper.archiver is not None
    for page in sweeper.pages(now):
        sweeper.sweep(now, page)
    while sweeper.archiver.ready:
        moved += sweeper.archiver.step(now, partial=True)
    return moved


def first(ledger: Ledger) -> int:
    """The number of the first entry that the journal has."""
    return next(iter(ledger.entries())).seq


def kept(ledger: Ledger) -> set[int]:
    """The numbers of entries that have left, and can be found all the same."""
    assert isinstance(ledger, Trimmable)
    return {number for number, _ in ledger.kept()}


def whole(ledger: Ledger, folder: Path) -> Journal:
    """Archive and journal as one."""
    return Journal(cast("Ledger", Whole(ledger, folder)))


def now_of(clock: FakeClock) -> int:
    return clock.now()


def test_old_entries_go_and_the_rest_verifies(ledger: Ledger, tmp_path: Path) -> None:
    """Two months of entries go to the archive; the journal begins behind them, whole."""
    gate, clock = gate_on(ledger)
    get(gate, 30)
    last_old = ledger.head()[0]
    clock.advance(100 * 86_400)
    get(gate, 5)
    before = list(ledger.entries())
    assert archive(ledger, tmp_path / "a", now_of(clock)) == last_old
    assert first(ledger) == last_old + 1
    assert gate.journal.verify() is None
    assert [e for e in ledger.entries() if e.content["kind"] != "archived"] == before[last_old:]
    get(gate, 1)
    assert gate.journal.verify() is None


def test_archive_and_journal_are_the_whole_one(ledger: Ledger, tmp_path: Path) -> None:
    """Read together they verify, and every decision is derived again from the first entry on."""
    gate, clock = gate_on(ledger)
    for n in range(40):
        pay(gate, n)
    clock.advance(100 * 86_400)
    pay(gate, 1)
    pay(gate, 99)
    archive(ledger, tmp_path / "a", now_of(clock))
    clock.advance(100 * 86_400)
    pay(gate, 2)
    archive(ledger, tmp_path / "a", now_of(clock))
    assert len(segments(tmp_path / "a")) == 2
    assert whole(ledger, tmp_path / "a").verify() is None
    found = replay(whole(ledger, tmp_path / "a"))
    assert found.difference is None
    assert (found.entries, found.skipped) == (ledger.head()[0], ())
    with pytest.raises(LedgerError, match="begins with entry"):
        replay(ledger.entries())


def test_nothing_young_goes(ledger: Ledger, tmp_path: Path) -> None:
    """Entries stay until they are as old as the archive says, to the microsecond."""
    gate, clock = gate_on(ledger)
    get(gate, 3)
    assert archive(ledger, tmp_path / "a", now_of(clock), keep=1) == 0
    assert archive(ledger, tmp_path / "a", now_of(clock), keep=0) > 0
    assert gate.journal.verify() is None


def test_what_is_still_referred_to_can_be_found(ledger: Ledger, tmp_path: Path) -> None:
    """A recorded result is shown again, and an unknown outcome found out, long after they left."""
    gate, clock = gate_on(ledger)
    for n in range(20):
        pay(gate, n)
    held = gate.decide(Proposal("pay", {"n": 77}))
    clock.advance(200 * 86_400)
    assert archive(ledger, tmp_path / "a", now_of(clock)) > 40
    assert pay(gate, 7) == {"paid": 7}
    [unknown] = gate.unknowns()
    assert isinstance(held, Permit)
    assert unknown.permit_id == held.id
    gate.reconcile(held.id, Succeeded({"paid": 77}), by="ada")
    assert pay(gate, 77) == {"paid": 77}
    assert gate.journal.verify() is None
    assert replay(Whole(ledger, tmp_path / "a").entries()).difference is None


def test_a_request_can_be_approved_after_its_entry_left(ledger: Ledger, tmp_path: Path) -> None:
    """What a person is asked about is shown from the kept entry, and the yes is spent."""
    gate, clock = gate_on(ledger)
    asked = gate.decide(Proposal("wipe", {"disk": "sda"}))
    assert isinstance(asked, Defer)
    clock.advance(1)
    get(gate, 1)
    assert archive(ledger, tmp_path / "a", now_of(clock), keep=0) > 2
    [pending] = gate.pending()
    assert (pending.id, pending.args) == (asked.request_id, {"disk": "sda"})
    gate.approve(pending.id, by="ada")
    assert isinstance(gate.decide(Proposal("wipe", {"disk": "sda"})), Permit)


def test_what_nothing_refers_to_any_more_is_forgotten(ledger: Ledger, tmp_path: Path) -> None:
    """A kept entry goes in the round after the cell that needed it has gone."""
    gate, clock = gate_on(ledger)
    gate.decide(Proposal("pay", {"n": 1}, call_id="c"))
    clock.advance(200 * 86_400)
    archive(ledger, tmp_path / "a", now_of(clock))
    before = kept(ledger)
    [unknown] = gate.unknowns()
    gate.reconcile(unknown.permit_id, Succeeded(1), by="ada")
    clock.advance(200 * 86_400)
    archive(ledger, tmp_path / "a", now_of(clock))
    left = kept(ledger)
    assert min(left) == min(before), "the policy is needed as long as there is a ledger"
    assert len(before - left) == 1


@pytest.mark.parametrize("dies", ["before it is recorded", "before it is removed"])
def test_an_end_in_the_middle_loses_nothing(ledger: Ledger, tmp_path: Path, dies: str) -> None:
    """Whoever comes next goes on; each entry is in the archive or the journal, or in both."""
    gate, clock = gate_on(ledger)
    get(gate, 10)
    before = list(ledger.entries())
    clock.advance(100 * 86_400)
    now = now_of(clock)

    class Dying:
        """The ledger of a process that ends at the worst moment."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ledger, name)

        def perform(self, request: Any) -> Any:
            if dies == "before it is recorded":
                raise KeyboardInterrupt
            return ledger.perform(request)

        def trim(self, upto: Any, keep: Any) -> None:
            if upto:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive(cast("Ledger", Dying()), tmp_path / "a", now)
    assert gate.journal.verify() is None
    told = [e for e in Whole(ledger, tmp_path / "a").entries() if e.content["kind"] != "archived"]
    assert told == before
    get(gate, 1)
    assert archive(ledger, tmp_path / "a", now) >= len(before)
    assert first(ledger) == len(before) + 1
    assert replay(Whole(ledger, tmp_path / "a").entries()).difference is None
    assert gate.journal.verify() is None


def test_on_the_way_whole_segments_go_one_at_a_time(ledger: Ledger, tmp_path: Path) -> None:
    """A gate with an archive keeps its journal short by itself, in steps of a bounded size."""
    folder = tmp_path / "a"
    gate, clock = gate_on(ledger, archive=Archive(folder, keep=DAY))
    longest = 0
    for _ in range(40):
        get(gate, SELDOM // 4)
        clock.advance(3 * 3600)
        longest = max(longest, ledger.head()[0] - first(ledger))
    assert len(segments(folder)) >= 3
    for file in segments(folder):
        assert len(file.read_text().splitlines()) == SEGMENT
    assert longest < 4 * SEGMENT, "a day is 1,024 entries here"
    assert replay(Whole(ledger, folder).entries()).difference is None
    assert whole(ledger, folder).verify() is None


def test_two_who_archive_do_not_disturb_each_other(ledger: Ledger, tmp_path: Path) -> None:
    """Both end, every entry is in the archive once or more, and the chain is whole."""
    gate, clock = gate_on(ledger)
    get(gate, 1500)
    clock.advance(100 * 86_400)
    get(gate)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(archive, ledger, tmp_path / "a", now_of(clock)) for _ in range(2)]
        assert sum(one.result() for one in both) >= 3000
    assert first(ledger) > 3000
    assert whole(ledger, tmp_path / "a").verify() is None
    assert replay(Whole(ledger, tmp_path / "a").entries()).difference is None


def test_an_unfit_folder_removes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """What cannot be written, or is another ledger's archive, is refused before anything goes."""
    gate, clock = gate_on(ledger)
    get(gate, 3)
    clock.advance(100 * 86_400)
    count = ledger.head()[0]
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be written"):
        archive(ledger, tmp_path / "file" / "a", now_of(clock))
    other, its_clock = gate_on(MemoryLedger())
    for _ in range(2):
        get(other)
        its_clock.advance(100 * 86_400)
        archive(other.ledger, tmp_path / "other", now_of(its_clock))
    with pytest.raises(LedgerError, match="no segment of this ledger"):
        archive(ledger, tmp_path / "other", now_of(clock))
    assert (first(ledger), ledger.head()[0], ledger.cell(ARCHIVED)) == (1, count, None)


def test_who_may_not_remove_records_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """A right that is missing shows before a file is written and the chain says so."""
    gate, clock = gate_on(ledger)
    get(gate, 3)
    clock.advance(100 * 86_400)
    count = ledger.head()[0]

    class Forbidding:
        """A ledger whose role may only add entries."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ledger, name)

        def trim(self, upto: Any, keep: Any) -> None:
            raise LedgerError("permission denied")

    with pytest.raises(LedgerError, match="permission denied"):
        archive(cast("Ledger", Forbidding()), tmp_path / "a", now_of(clock))
    assert ledger.head()[0] == count
    assert not (tmp_path / "a").exists()


def test_a_step_that_fails_on_the_way_stops_no_call(tmp_path: Path) -> None:
    """The archive's disk is full, or gone: that is logged, and decisions go on."""
    (tmp_path / "file").write_text("")
    gate, clock = gate_on(MemoryLedger(), archive=Archive(tmp_path / "file" / "a", keep=0))
    get(gate, SEGMENT)
    clock.advance(1)
    get(gate, 3 * SELDOM)
    assert first(gate.ledger) == 1


def test_a_copy_of_a_shortened_ledger_goes_on(ledger: Ledger, tmp_path: Path) -> None:
    """migrate takes what is left, what is kept, and the place where the chain goes on."""
    gate, clock = gate_on(ledger)
    for n in range(5):
        pay(gate, n)
    clock.advance(100 * 86_400)
    pay(gate, 9)
    archive(ledger, tmp_path / "a", now_of(clock))
    for target in (MemoryLedger(), SqliteLedger(tmp_path / "copy.db", durability="process")):
        migrate(ledger, target)
        copy, _ = gate_on(target)
        assert pay(copy, 3) == {"paid": 3}
        assert copy.journal.verify() is None
        assert whole(target, tmp_path / "a").verify() is None
        target.close()


def test_a_segment_that_was_changed_is_found(ledger: Ledger, tmp_path: Path) -> None:
    """Whoever edits a file of the archive breaks the chain there."""
    gate, clock = gate_on(ledger)
    pay(gate, 1)
    clock.advance(100 * 86_400)
    archive(ledger, tmp_path / "a", now_of(clock))
    [file] = segments(tmp_path / "a")
    text = file.read_text()
    file.write_text(text.replace('"eur":1', '"eur":2', 1))
    broken = whole(ledger, tmp_path / "a").verify()
    assert broken is not None
    assert "was changed" in broken.problem
    file.write_text(text[: len(text) // 2])
    with pytest.raises(LedgerError, match=f"{file.name}: line"):
        whole(ledger, tmp_path / "a").verify()
    file.unlink()
    assert whole(ledger, tmp_path / "a").verify() is None, "as without the archive"
    (tmp_path / "b").mkdir()
    with pytest.raises(LedgerError, match="there is no archive"):
        Whole(ledger, tmp_path / "c")
