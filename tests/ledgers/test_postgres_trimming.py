"""Taking the oldest entries out of a journal in PostgreSQL, and what is kept of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pg_server
import psycopg
import pytest
from lived import holdings
from pg_ledgers import again, opened
from requested import claiming, granted, noting, once, quota, settling, slot, state

from sluicegate.archiving import ARCHIVED, Segment, archiving, state_of
from sluicegate.errors import LedgerError
from sluicegate.journal import GENESIS, Entry, Journal, verify
from sluicegate.ledger.base import Amended, Replayed, Settled
from sluicegate.ledger.postgres import PostgresLedger
from sluicegate.ledger.trimming import Trimmable


def upto(entries: Sequence[Entry]) -> dict[str, int]:
    """The last of these entries by each writer."""
    return {entry.writer: entry.seq for entry in entries}


def announce(ledger: PostgresLedger, entries: Sequence[Entry]) -> dict[str, int]:
    """Put on record that these are archived, as whoever trims does; then they verify."""
    before = state_of(ledger.cell(ARCHIVED))
    places = dict(before.upto) | {entry.writer: (entry.seq, entry.hash) for entry in entries}
    segment = Segment(before.segments + 1, len(entries), "0" * 64, places)
    assert isinstance(ledger.perform(archiving(ledger.floor, segment)), Amended)
    return upto(entries)


def shorten(ledger: PostgresLedger, count: int, keep: Sequence[int] = ()) -> list[Entry]:
    """Take so many entries out of the journal, as is right; those that went."""
    gone = list(ledger.entries())[:count]
    ledger.trim(announce(ledger, gone), keep)
    return gone


def number(ledger: PostgresLedger, entry: Entry) -> int:
    """As cells refer to it."""
    return (ledger.writers()[entry.writer] << 32) + entry.seq


def paid(ledger: PostgresLedger, key: str) -> int:
    """A call with this key that has succeeded; the number of its outcome."""
    request, answer = granted(ledger, f"p {key} {ledger.head()[0]}", quota(10**6), once(key))
    settled = ledger.perform(settling(request, answer))
    assert isinstance(settled, Settled)
    return settled.entry


def administer(ledger: PostgresLedger, statement: str) -> None:
    """What an administrator types, for this ledger's namespace."""
    pg_server.execute(pg_server.shared(), statement.replace("{ns}", ledger.address.namespace))


@contextmanager
def on_delete(ledger: PostgresLedger, body: str) -> Iterator[None]:
    """Have the server do this for each entry that is deleted."""
    function = "CREATE FUNCTION {ns}.deleted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    administer(ledger, f"{function}{body}; RETURN OLD; END$$")
    administer(
        ledger,
        "CREATE TRIGGER deleted BEFORE DELETE ON {ns}.journal FOR EACH ROW EXECUTE FUNCTION {ns}.deleted()",
    )
    yield
    administer(ledger, "DROP TRIGGER deleted ON {ns}.journal; DROP FUNCTION {ns}.deleted")


# --- what goes and what stays -------------------------------------------------------------------


def test_the_oldest_entries_leave_the_journal_and_nothing_else_changes() -> None:
    """Two writers' entries go in the one order; heads, cells, places and numbers go on."""
    with opened() as one, closing(again(one)) as two:
        assert isinstance(one, Trimmable)
        for turn in range(4):
            paid(one, f"a{turn}")
            paid(two, f"b{turn}")
        before = list(one.entries())
        ends = announce(one, before[:7])
        kept = (state(one), one.heads(), one.head(), one.writers(), one.out())
        middle, after = [one.head()[0] - 3, list(two.entries(one.head()[0] - 3))]
        one.trim(ends, [])
        assert list(two.entries())[:-1] == before[7:]
        assert (state(one), one.heads(), one.head(), one.writers(), one.out()) == kept
        assert list(two.entries(middle)) == after
        with pytest.raises(LedgerError, match="has no entry"):
            two.body(number(two, before[0]))
        assert two.body(number(two, before[7])) == before[7].body
        for ledger in (one, two):
            paid(ledger, f"by {ledger is one}")
            assert Journal(ledger).verify() is None


def test_what_is_kept_is_still_found_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no part of the journal any more, and is read by number in pages; the rest is gone."""
    monkeypatch.setattr("sluicegate.ledger.postgres.reading.PAGE", 2)
    monkeypatch.setattr("sluicegate.ledger.postgres.reading.PAGES", 2)
    with opened() as one, closing(again(one)) as two:
        for turn in range(6):
            paid((one, two)[turn % 2], f"a{turn}")
        before = list(one.entries())
        numbers = [number(one, entry) for entry in before]
        chosen = [place for place in range(10) if place not in (0, 4)]
        asked = [numbers[place] for place in chosen]
        shorten(one, 10, [*asked, numbers[11], 99, -1])
        found = sorted((numbers[place], before[place]) for place in chosen)
        assert list(two.kept()) == found
        assert [two.body(wanted) for wanted, _ in found] == [entry.body for _, entry in found]
        assert list(two.entries())[:-1] == before[10:]
        for gone in (0, 4):
            with pytest.raises(LedgerError, match="has no entry"):
                two.body(numbers[gone])


def test_a_key_answers_from_the_entry_that_was_kept() -> None:
    """The recorded outcome is shown again after it has left the journal; forgotten, it is an error."""
    with opened() as one, closing(again(one)) as two:
        outcome = paid(one, "k")
        told = one.body(outcome)
        shorten(one, 2, [outcome])
        for which in (one, two):
            replayed = which.perform(claiming("again", once("k")))
            assert isinstance(replayed, Replayed)
            assert replayed.outcome == told
        one.forget([outcome])
        with pytest.raises(LedgerError, match="has no entry"):
            two.perform(claiming("and again", once("k")))


def test_forgetting_touches_no_entry_of_the_journal() -> None:
    """Only what was kept goes; unknown numbers and none at all change nothing."""
    with opened() as ledger:
        for turn in range(3):
            paid(ledger, f"a{turn}")
        before = list(ledger.entries())
        numbers = [number(ledger, entry) for entry in before]
        shorten(ledger, 4, numbers[:4])
        ledger.forget([])
        ledger.forget([numbers[0], numbers[2], numbers[4], 12345])
        ledger.forget([numbers[0]])
        assert [found for found, _ in ledger.kept()] == [numbers[1], numbers[3]]
        assert list(ledger.entries())[:-1] == before[4:]


# --- again, too late, or wrong ------------------------------------------------------------------


def test_what_was_removed_stays_removed() -> None:
    """The same again, or less, changes nothing: nothing that was forgotten is kept again."""
    with opened() as ledger:
        for turn in range(4):
            paid(ledger, f"a{turn}")
        before = list(ledger.entries())
        numbers = [number(ledger, entry) for entry in before]
        shorten(ledger, 4, numbers[:2])
        ledger.forget(numbers[:1])
        for end in (4, 2):
            ledger.trim(upto(before[:end]), numbers[:4])
        ledger.trim({}, [])
        assert list(ledger.kept()) == [(numbers[1], before[1])]
        assert list(ledger.entries())[:-1] == before[4:]
        shorten(ledger, 2, numbers[:6])
        assert [found for found, _ in ledger.kept()] == [numbers[1], *numbers[4:6]]


def test_only_the_oldest_can_be_removed_and_never_all() -> None:
    """A piece from the middle, everything, or what is not there: an error, and nothing has changed."""
    with opened("&connections=1") as one, closing(again(one)) as two:
        for ledger in (one, two, one):
            for _ in range(2):
                ledger.perform(noting())
        before = list(one.entries())
        mine, other = before[0].writer, before[2].writer
        for ends, problem in (
            ({other: 1}, "are not the oldest of its journal"),
            ({mine: 3}, "are not the oldest of its journal"),
            ({mine: 4, other: 2}, "are all that its journal has"),
            ({mine: 9, other: 2}, "entry 9 of writer .* is not there; its last is 4"),
            ({mine: 1, "nobody": 1}, "has no writer 'nobody'"),
        ):
            with pytest.raises(LedgerError, match=problem):
                two.trim(ends, [1])
            assert list(one.entries()) == before
            assert list(one.kept()) == []


def test_all_goes_or_nothing() -> None:
    """What fails in the middle, after the first were moved, is taken back, and the next attempt works."""
    with opened() as ledger:
        for turn in range(3):
            paid(ledger, f"a{turn}")
        before = list(ledger.entries())
        first, last = number(ledger, before[0]), number(ledger, before[3])
        ends = announce(ledger, before[:4])
        with on_delete(ledger, f"IF OLD.number = {last} THEN RAISE 'no'; END IF"):
            with pytest.raises(LedgerError, match="cannot be used: no"):
                ledger.trim(ends, [first])
            assert list(ledger.entries())[:-1] == before
            assert list(ledger.kept()) == []
        ledger.trim(ends, [first])
        assert list(ledger.kept()) == [(first, before[0])]


def test_an_entry_on_its_way_is_waited_for() -> None:
    """
    Were readers to see nothing of what is left, nothing is removed: not until what is being
    committed is there. Entries that readers cannot see yet change nothing in the heads.
    """
    with opened("&connections=1") as ledger:
        name = ledger.address.namespace
        for _ in range(3):
            ledger.perform(noting())
        before = list(ledger.entries())
        with closing(psycopg.connect(pg_server.shared(), autocommit=True)) as slow:
            ((writer,),) = slow.execute(f"SELECT number FROM {name}.enlist('slow')").fetchall()
            slow.execute("BEGIN")
            slow.execute(
                f"SELECT {name}.write({writer}, 1, 1, '{{{GENESIS}}}', '{{h}}', '{{body}}', "
                "'{}', '{}', '{}', '{}', '{}', '{}', '{}')"
            )
            ends = announce(ledger, before)
            with pytest.raises(LedgerError, match="are still being committed"):
                ledger.trim(ends, [])
            assert list(ledger.entries()) == before
            ledger.trim(upto(before[:2]), [])
            assert list(ledger.entries()) == before[2:]
            assert ledger.heads() == {before[0].writer: (3, before[2].hash)}
            assert ledger.head()[1] == before[2].hash
            threading.Timer(0.3, lambda: slow.execute("ROLLBACK")).start()
            ledger.trim(ends, [])
            assert [entry.seq for entry in ledger.entries()] == [4]


def test_whoever_asks_for_a_reply_that_was_lost_finds_a_trimmed_entry_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A claim was committed, its reply lost, and its entry archived before anybody could ask: it holds."""
    from pg_proxy import Proxy

    from sluicegate.ledger.postgres.lane import Lane

    parts = pg_server.parameters(pg_server.shared())
    proxy = Proxy(str(parts["host"]), int(str(parts["port"])))
    asking = Lane._was_committed
    with opened("&timeout=3") as ledger:
        through = {**ledger.address.parts, "host": "127.0.0.1", "port": proxy.port}

        def later(lane: Lane, *about: object) -> bool:
            shorten(ledger, 2)
            return asking(lane, *about)  # type: ignore[arg-type]

        monkeypatch.setattr(Lane, "_was_committed", later)
        with closing(PostgresLedger(ledger.address._replace(parts=through))) as far:
            granted(far, "first", quota(9))
            proxy.fault, proxy.faults = "after commit", 1
            granted(far, "second", quota(9))
        assert proxy.faults == 0
        assert [entry.content["kind"] for entry in ledger.entries()] == ["archived"]
        assert dict(state(ledger))["quota"] == [0, 0, 2]
    proxy.close()


# --- at the same time ---------------------------------------------------------------------------


def test_no_commit_waits_while_entries_are_removed() -> None:
    """The server takes a second to remove them; decisions, also those that show a result again, go on."""
    with opened("&timeout=5") as one, closing(again(one)) as two:
        outcome = paid(one, "k")
        for turn in range(3):
            paid(one, f"a{turn}")
        ends = announce(one, list(one.entries())[:4])
        with on_delete(one, "PERFORM pg_sleep(0.4)"):
            removing = threading.Thread(target=one.trim, args=(ends, [outcome]))
            removing.start()
            time.sleep(0.2)
            slowest, count = 0.0, 0
            while removing.is_alive():
                begun = time.monotonic()
                paid(two, f"b{count}")
                assert isinstance(two.perform(claiming(f"again{count}", once("k"))), Replayed)
                slowest, count = max(slowest, time.monotonic() - begun), count + 1
        removing.join()
        assert count > 3
        assert slowest < 0.35
        assert [found for found, _ in one.kept()] == [outcome]


def test_two_that_shorten_at_once_take_turns() -> None:
    """
    Each moves first what the other one only removes, slowly: the second waits for the first and
    finds nothing left to do, and neither hears of a deadlock.
    """
    with opened() as one, closing(again(one)) as two:
        for turn in range(10):
            paid(one, f"a{turn}")
        before = list(one.entries())
        numbers = [number(one, entry) for entry in before]
        ends = announce(one, before[:16])
        problems: list[BaseException] = []

        def trim(ledger: PostgresLedger, keep: list[int]) -> None:
            try:
                ledger.trim(ends, keep)
            except LedgerError as error:
                problems.append(error)

        ways = ((one, numbers[:8]), (two, numbers[8:16]))
        threads = [threading.Thread(target=trim, args=way) for way in ways]
        with on_delete(one, "PERFORM pg_sleep(0.03)"):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert problems == []
        assert [found for found, _ in one.kept()] in (numbers[:8], numbers[8:16])
        assert list(two.entries())[:-1] == before[16:]


def test_a_reader_goes_on_with_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is behind what is removed misses nothing; one that is not goes on where the journal begins."""
    monkeypatch.setattr("sluicegate.ledger.postgres.reading.PAGE", 4)
    with opened("&connections=1") as ledger:
        for _ in range(20):
            ledger.perform(noting())
        before = list(ledger.entries())
        behind, ahead = iter(ledger.entries()), iter(ledger.entries())
        read, one = [next(behind) for _ in range(12)], next(ahead)
        shorten(ledger, 12)
        assert (read + list(behind))[:20] == before
        rest = [one, *ahead]
        assert rest[:-1] == before[:4] + before[12:]
        problem = verify(rest)
        assert problem is not None
        assert "entry 5 is missing" in problem.problem


# --- copies -------------------------------------------------------------------------------------


def test_a_shortened_ledger_can_be_copied_and_shortened_again() -> None:
    """Kept entries and chains go along, also of a writer who has no entry left, and places never clash."""
    with opened() as one, closing(again(one)) as two, opened() as copy:
        outcome = paid(two, "k")
        granted(two, "out", slot(3))
        for turn in range(4):
            paid(one, f"a{turn}")
        shorten(one, 3, [outcome])
        assert len(one.heads()) == 2
        assert {entry.writer for entry in one.entries()} < one.heads().keys()
        copy.restore(holdings(one))
        for what in (PostgresLedger.heads, PostgresLedger.writers, PostgresLedger.out):
            assert what(copy) == what(one)
        assert list(copy.kept()) == list(one.kept())
        assert list(copy.entries()) == list(one.entries())
        assert copy.head()[1] == one.head()[1]
        assert state(copy) == state(one)
        assert isinstance(copy.perform(claiming("again", once("k"))), Replayed)
        before = list(copy.entries())
        shorten(copy, 5, [number(copy, entry) for entry in before[:5]])
        assert len(list(copy.kept())) == 6
        copy.forget([outcome])
        assert next(iter(copy.kept()))[1] in before[:5]
        with closing(again(copy)) as next_one:
            paid(next_one, "b")
