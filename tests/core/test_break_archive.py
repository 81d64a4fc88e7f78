"""What was tried to lose an entry on its way to the archive, and must not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from sluicegate import Deny, Gate, LedgerError, MemoryLedger, Permit, Proposal, Recorded, Succeeded
from sluicegate.archive import Archive, Archiver, Whole, segments
from sluicegate.archiving import ARCHIVED, referred, state_of
from sluicegate.drive import drive
from sluicegate.journal import Entry, Journal, archived, exported, imported, link, verify
from sluicegate.ledger import Ledger
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.migrate import migrate
from sluicegate.replay import replay
from sluicegate.sweeper import Sweeper
from sluicegate.testing import FakeClock, counted_ids

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"get": {"effect": "read"}, "pay": {"once": {"key": "pay:{n}"}}},
}


class Till:
    """A gate on a ledger, its clock, and the folder of its archive."""

    def __init__(self, ledger: Any, folder: Path) -> None:
        self.ledger = ledger
        self.folder = folder
        self.clock = FakeClock()
        self.gate = Gate(POLICY, ledger, clock=self.clock, ids=counted_ids())

    def get(self, count: int = 1) -> None:
        """So many calls, two entries each."""
        for _ in range(count):
            decision = self.gate.decide(Proposal("get", {}))
            assert isinstance(decision, Permit)
            self.gate.settle(decision, Succeeded(1))

    def pay(self, n: int) -> object:
        """One payment, and what it gave: now or before."""
        decision = self.gate.decide(Proposal("pay", {"n": n}))
        if isinstance(decision, Permit):
            self.gate.settle(decision, Succeeded({"paid": n}))
            return {"paid": n}
        assert isinstance(decision, Recorded)
        return decision.result

    def round(self, ledger: Any = None) -> Archiver:
        """An archiver who has gone round all cells once."""
        sweeper = Sweeper(ledger or self.ledger, archive=Archive(self.folder, keep=0))
        assert sweeper.archiver is not None
        for _ in sweeper.pages(self.clock.now()):
            pass
        return sweeper.archiver

    def move(self, archiver: Archiver | None = None) -> int:
        """All that is to be moved; how many entries left."""
        archiver, moved = archiver or self.round(), 0
        while archiver.ready:
            moved += archiver.step(self.clock.now(), partial=True)
        return moved

    def check(self) -> None:
        """Archive and journal are the whole one, and the same is decided again."""
        whole = cast("Ledger", Whole(self.ledger, self.folder))
        assert Journal(self.ledger).verify() is None
        assert Journal(whole).verify() is None
        assert sum(1 for _ in whole.entries()) == self.ledger.head()[0]
        assert replay(whole.entries()).difference is None


@pytest.fixture(params=["memory", "sqlite"])
def till(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Till]:
    """A till on each ledger that is always there."""
    ledger: Ledger = MemoryLedger()
    if request.param == "sqlite":
        ledger = SqliteLedger(tmp_path / "ledger.db", durability="process")
    yield Till(ledger, tmp_path / "a")
    ledger.close()


class Before:
    """A ledger to which something happens, once, before *name* is called."""

    def __init__(self, ledger: Any, name: str, happen: Callable[[], object]) -> None:
        self._ledger = ledger
        self._name = name
        self._happen: Callable[[], object] | None = happen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ledger, name)
        if name != self._name:
            return found

        def call(*given: Any) -> Any:
            happen, self._happen = self._happen, None
            if happen is not None and given != ({}, ()):
                happen()
            else:
                self._happen = happen
            return found(*given)

        return call


# --- two who archive ------------------------------------------------------------------------------


def test_who_comes_late_removes_no_segment_of_another(till: Till) -> None:
    """Two wrote the same file; the other one recorded it and went on: the file stays."""
    till.get(5)

    def other() -> None:
        till.move()
        till.get(2)
        till.move()

    late = till.round(Before(till.ledger, "perform", other))
    till.move(late)
    assert state_of(till.ledger.cell(ARCHIVED)).segments == 2
    assert len(segments(till.folder)) == 2
    till.check()


def test_a_shorter_file_of_who_came_to_an_end_is_set_aside(till: Till) -> None:
    """Who goes on has more to move, and writes it anew; then the archive goes on as ever."""
    till.get(3)

    def end() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        till.move(till.round(Before(till.ledger, "perform", end)))
    till.get(3)
    till.move()
    till.get(1)
    till.move()
    assert [file.name[:16] for file in segments(till.folder)] == [
        "journal-00000001",
        "journal-00000002",
    ]
    assert len([*till.folder.glob("*.aside")]) == 1, "nothing is ever deleted in there"
    till.check()


def test_a_file_of_who_came_late_stops_nobody(till: Till) -> None:
    """It was written when another was on record already, and has other entries."""
    till.get(3)
    late: list[Path] = []

    def other() -> None:
        late.extend(segments(till.folder))
        till.get(3)
        till.move()
        late[0].with_name(f"{late[0].name}.aside").rename(late[0])  # written only now

    till.move(till.round(Before(till.ledger, "perform", other)))
    till.get(1)
    till.move()
    till.check()


def test_who_has_not_seen_what_refers_to_an_entry_does_not_remove_it(till: Till) -> None:
    """Another recorded entries that are younger than our round: only they know what to keep."""
    till.get(3)
    ours = till.round()
    till.pay(7)
    till.get(1)

    theirs = till.round(Before(till.ledger, "trim", lambda: till.move(ours)))
    till.move(theirs)
    assert till.pay(7) == {"paid": 7}
    till.check()


def test_who_has_slept_forgets_nothing_that_came_since(till: Till) -> None:
    """A round that began before an outcome was recorded says nothing of who refers to it."""
    till.get(3)
    slept = till.round()
    till.pay(7)
    till.get(1)
    till.move()
    till.move(slept)
    assert till.pay(7) == {"paid": 7}
    till.check()


def test_a_step_goes_on_by_its_own_round(till: Till) -> None:
    """Another thread begins the next round while a segment is moved: what to keep is known still."""
    till.pay(7)
    till.get(3)
    archiver = till.round()
    archiver._ledger = cast("Any", Before(till.ledger, "writers", archiver.begin))
    assert archiver.step(till.clock.now(), partial=True) > 0
    assert till.pay(7) == {"paid": 7}


def test_a_restored_ledger_goes_on_beside_a_segment_of_the_time_it_lost(tmp_path: Path) -> None:
    """Its next segment begins with the same entries: the other one is set aside, and not deleted."""
    till = Till(MemoryLedger(), tmp_path / "a")
    till.get(3)
    till.move()
    till.get(2)
    copy = Till(MemoryLedger(), tmp_path / "a")
    migrate(till.ledger, copy.ledger)
    till.get(3)
    till.move()
    for n in range(5):
        copy.pay(n)
    copy.move()
    copy.get(1)
    copy.move()
    assert len([*copy.folder.glob("*.aside")]) == 1
    copy.check()


def test_a_folder_without_the_latest_segment_takes_no_other(till: Till, tmp_path: Path) -> None:
    """Its disk is not mounted, or it is another one: nothing leaves until the segment is there."""
    till.get(3)
    till.move()
    [file] = segments(till.folder)
    first = next(iter(till.ledger.entries()))
    till.folder = tmp_path / "b"
    till.get(3)
    with pytest.raises(LedgerError, match="cannot be read"):
        till.move()
    till.folder.mkdir()
    with pytest.raises(LedgerError, match="has not got segment 1, .* is mounted"):
        till.move()
    assert next(iter(till.ledger.entries())) == first
    file.rename(till.folder / file.name)
    till.move()
    till.check()


# --- others that are slow, or many ----------------------------------------------------------------


def test_a_process_that_slept_while_its_entries_left_goes_on(tmp_path: Path) -> None:
    """What it knew was folded before it left, so it counts on from where the others are."""
    slept = Till(SqliteLedger(tmp_path / "ledger.db", durability="process"), tmp_path / "a")
    awake = Till(SqliteLedger(tmp_path / "ledger.db", durability="process"), tmp_path / "a")
    slept.pay(1)
    reading = iter(slept.ledger.entries())
    next(reading)
    for n in range(3):
        awake.pay(10 + n)
        awake.get(300)
        awake.move()
    assert [slept.pay(n) for n in (1, 10, 12)] == [{"paid": n} for n in (1, 10, 12)]
    assert slept.ledger.head() == awake.ledger.head()
    slept.move()
    slept.check()
    slept.ledger.close()
    awake.ledger.close()


def test_another_shortened_ledger_is_not_taken_for_ours(tmp_path: Path) -> None:
    """Copied into our file while it is in use: it begins behind what we know, and is another's."""
    ours = Till(SqliteLedger(tmp_path / "ours.db", durability="process"), tmp_path / "a")
    theirs = Till(SqliteLedger(tmp_path / "theirs.db", durability="process"), tmp_path / "b")
    ours.pay(1)
    theirs.get(20)
    theirs.move()
    theirs.ledger.close()
    files = (sqlite3.connect(tmp_path / f"{name}.db") for name in ("theirs", "ours"))
    with closing(next(files)) as source, closing(next(files)) as target:
        source.backup(target)
    with pytest.raises(LedgerError, match="removed or replaced by another program"):
        list(ours.ledger.cells(""))
    assert isinstance(ours.gate.decide(Proposal("get", {})), Deny)
    ours.ledger.close()


def test_a_reader_misses_nothing_of_a_writer_who_is_silent_since(tmp_path: Path) -> None:
    """Its entries leave while others are read, and no gap in any chain tells: that is said."""
    prev, chains = dict.fromkeys("ab", "0" * 64), dict[str, list[Entry]](a=[], b=[])
    for seq in (1, 2, 3):
        for writer, chain in chains.items():
            last = link(prev[writer], writer, seq, "{}")
            chain.append(Entry(seq, writer, prev[writer], last, "{}"))
            prev[writer] = last

    class Moving:
        """A ledger from which all of *b* is moved while it is read."""

        def entries(self) -> Iterator[Entry]:
            yield chains["a"][0]
            lines = "".join(f"{line}\n" for line in exported(chains["b"]))
            (tmp_path / f"journal-00000001-{'0' * 12}.jsonl").write_text(lines)
            yield from chains["a"][1:]

    whole = Whole(cast("Ledger", Moving()), tmp_path)
    with pytest.raises(LedgerError, match="read it again"):
        list(whole.entries())
    assert len(list(whole.entries())) == 6


def test_what_is_kept_is_looked_through_soon(till: Till) -> None:
    """Nobody looks at cells meanwhile: with a page every 256 decisions they would grow without end."""
    for n in range(1200):
        till.pay(n)
    till.move()
    sweeper, now, waited = Sweeper(till.ledger, archive=Archive(till.folder)), till.clock.now(), 0
    assert sweeper.archiver is not None
    for _ in range(5000):
        if sweeper.due():
            drive(sweeper.stepping(now), till.ledger)
        waited += sweeper.archiver.ready
        if waited and not sweeper.archiver.ready:
            break
    assert 0 < waited <= 16 * (1200 // 256 + 3)


# --- what somebody else has put there -----------------------------------------------------------


def test_a_segment_that_is_damaged_is_written_again(till: Till) -> None:
    """A file of the right name proves nothing: what is on record is what was written."""
    till.get(3)
    seen: list[bytes] = []

    def damage() -> None:
        [file] = segments(till.folder)
        seen.append(file.read_bytes())
        file.write_bytes(seen[0].replace(b'"succeeded"', b'"succeedet"'))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        till.move(till.round(Before(till.ledger, "perform", damage)))
    till.move()
    [file] = segments(till.folder)
    assert file.read_bytes() == seen[0]
    till.check()


def test_a_segment_that_is_no_text_is_refused_in_words(till: Till) -> None:
    """It stops the archive, and nothing else: what is refused is a LedgerError."""
    till.get(3)
    till.move()
    [file] = segments(till.folder)
    file.write_bytes(b"\xff\xfe" * 100)
    till.get(3)
    with pytest.raises(LedgerError):
        till.move()
    with pytest.raises(LedgerError, match="cannot be read"):
        list(Whole(till.ledger, till.folder).entries())


@pytest.mark.parametrize("writer", [r'"\q"', r'"\ud800"', '"a\tb"'])
def test_a_writer_that_cannot_be_read_is_refused_in_words(writer: str) -> None:
    """A line that no ledger exported is no entry, and names its file."""
    line = f'{{"entry":{{}},"hash":"{"0" * 64}","prev":"{"0" * 64}","seq":1,"writer":{writer}}}'
    with pytest.raises(LedgerError, match=r"x\.jsonl: line 1"):
        list(imported([line], "x.jsonl"))


HOSTILE = [
    '{"w":[1e999,"00"]}',
    '{"w":[[],"00"]}',
    '{"w":1}',
    "[]",
    "null",
    '{"w":[-1,"00"]}',
    '{"w":[1.5,"00"]}',
    '{"w":[true,"00"]}',
    '{"w":[1,null]}',
    "[" * 100_000 + "]" * 100_000,
]


@pytest.mark.parametrize("upto", HOSTILE, ids=range(len(HOSTILE)))
def test_an_entry_that_claims_nonsense_breaks_the_chain_in_words(upto: str) -> None:
    """Whatever stands where an entry says what was archived, verify names the entry."""
    body = f'{{"at":1,"kind":"archived","upto":{upto}}}'
    entry = Entry(1, "w", "0" * 64, link("0" * 64, "w", 1, body), body)
    with pytest.raises(LedgerError, match="in no readable way"):
        archived(entry)
    broken = verify([entry])
    assert broken is not None
    assert "in no readable way" in broken.problem


def test_a_cell_of_a_plugin_under_another_key_stops_nothing() -> None:
    """What cannot be read as one of our cells refers to nothing."""
    for kind in ("once", "seen", "approval", "policy", "schema"):
        assert referred(f"{kind}|x", ()) is None
        assert referred(f"{kind}|x", cast("Any", 5)) is None


def test_names_in_the_folder_that_are_not_ours_are_left_alone(till: Till) -> None:
    """Part files, folders and other people's files neither stop the archive nor are read."""
    till.folder.mkdir()
    (till.folder / "journal-00000001-0123456789ab.jsonl.12345678.part").write_text("half")
    (till.folder / "notes.txt").write_text(json.dumps({}))
    till.get(3)
    till.move()
    till.check()
