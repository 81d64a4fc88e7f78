"""The PostgreSQL ledger: its locks, and the journal of many writers."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pg_server
import psycopg
import pytest
from held_up import Gated
from pg_ledgers import again, kept_lock, opened
from requested import Plain, claiming, granted, noting, once, quota, settling, slot, state

from sluicegate.claims import HALTS, Came, Halts, Run
from sluicegate.claims.standing import run_key
from sluicegate.errors import LedgerError
from sluicegate.journal import GENESIS, Journal
from sluicegate.ledger.base import Amending, Granted, Refused, Replayed, Request, Settled
from sluicegate.ledger.postgres import PostgresLedger
from sluicegate.ledger.postgres.locks import Locks, Needed, kept, restored

# --- locks ----------------------------------------------------------------------------------------


def test_no_order_of_keys_leads_to_a_deadlock() -> None:
    """Sixteen threads of two ledgers take overlapping keys in random order: no error, exact sums."""
    taken: dict[str, int] = {}
    problems: list[BaseException] = []
    with opened("&timeout=20") as one, closing(again(one)) as two:

        def take(thread: int) -> None:
            chance = random.Random(thread)
            for number in range(15):
                keys = chance.sample([f"quota|{key}" for key in range(6)], 3)
                request = claiming(f"{thread}.{number}", *(quota(10**6, key=key) for key in keys))
                try:
                    assert isinstance((one, two)[thread % 2].perform(request), Granted)
                except Exception as problem:  # noqa: BLE001 - shown below
                    problems.append(problem)
                for key in keys:
                    taken[key] = taken.get(key, 0) + 1

        threads = [threading.Thread(target=take, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert dict(state(one)) == {key: [0, 0, count] for key, count in taken.items()}


def test_what_is_only_looked_at_is_shared() -> None:
    """Every decision looks at the halts, and none waits for another because of that."""
    halts = Halts(HALTS, None, None, None, ())
    deciding = Needed(claiming("p", quota(1))._replace(standing=(halts,)), "n")
    assert deciding.looks == {HALTS}
    assert sorted(Locks([deciding]).sharing) == [False, False, True]
    amending = Needed(Amending(0, (HALTS,), lambda cells, at: cells, ""), "n")  # type: ignore[arg-type, return-value]
    assert Locks([amending]).sharing == [False]
    together = Locks([deciding, amending])
    assert together.sharing == [False, False, False]
    assert together.numbers == sorted({*deciding.exclusive, *deciding.shared})


def test_a_sub_agent_may_be_the_first_of_a_run() -> None:
    """The run around a call is looked at and may be changed by it: it is not locked in share mode."""
    around = Run(run_key("r"), "r", "t", (), own=False)
    with opened() as ledger:
        answer = ledger.perform(claiming("p", quota(1))._replace(standing=(around,)))
        assert isinstance(answer, Granted)


def test_many_values_of_one_run_take_one_lock() -> None:
    """A long result brings hundreds of values, and the server has room for 64 locks in a transaction."""
    notes = tuple(Came(f"came|run|{n:02x}", "t", None, (f"{n:02x}",)) for n in range(256))
    request = claiming("p", quota(1))
    needed = Needed(settling(request, Granted(0, 1))._replace(notes=notes), "n")
    assert len(needed.keys) == 257
    assert len(Locks([needed]).numbers) == 3


def test_a_halt_is_seen_by_every_decision_after_it() -> None:
    """No decision is made beside a halt: those in the journal before it did not see it, all others did."""
    rest = '"kind":"halt"}'
    halts = Halts(HALTS, None, None, None, ())
    with opened() as one, closing(again(one)) as two:

        def decide(count: int) -> None:
            for number in range(count):
                request = claiming(f"p{number}", quota(10**6))
                one.perform(request._replace(standing=(halts,)))

        deciding = threading.Thread(target=decide, args=(60,))
        deciding.start()
        time.sleep(0.05)
        cell = ((None, None, None, None, "ops", "stop", 0),)
        two.perform(Amending(0, (HALTS,), lambda cells, at: (cell,), rest))
        deciding.join()
        told = [entry.content for entry in one.entries()]
        kinds = ["halt" if entry["kind"] == "halt" else "permit" in entry for entry in told]
        halted = kinds.index("halt")
        assert set(kinds[:halted]) <= {True}
        assert set(kinds[halted + 1 :]) <= {False}


# --- requests that share a transaction ------------------------------------------------------------


def held_up(ledger: PostgresLedger, asked: Sequence[Request]) -> list[Any]:
    """The answers to requests that were all waiting when the one connection became free."""
    gate = Gated()

    async def ask() -> list[Any]:
        first = asyncio.ensure_future(ledger.aperform(claiming("first", gate)))  # type: ignore[arg-type]
        await asyncio.to_thread(gate.reached.wait, 10)
        others = [asyncio.ensure_future(ledger.aperform(request)) for request in asked]
        await asyncio.sleep(0)
        gate.go_on.set()
        await first
        return await asyncio.gather(*others, return_exceptions=True)

    return asyncio.run(ask())


def commits(ledger: PostgresLedger) -> int:
    """How many transactions have written the journal."""
    name = ledger.address.namespace
    ((count,),) = pg_server.execute(
        pg_server.shared(), f"SELECT count(DISTINCT xmin::text) FROM {name}.journal"
    )
    return int(str(count))


def test_what_waits_by_then_shares_a_commit() -> None:
    """Twenty requests that wait for one connection see one another, in order, and cost one commit."""
    with opened("&connections=1") as ledger:
        answers = held_up(ledger, [claiming(f"p{n}", quota(15)) for n in range(20)])
        assert [type(answer) for answer in answers] == [Granted] * 15 + [Refused] * 5
        assert [answer.entry for answer in answers[:15]] == list(range(2, 17))
        assert commits(ledger) == 2
        assert [entry.seq for entry in ledger.entries()] == list(range(1, 22))


def test_a_request_that_raises_spoils_no_other_of_its_transaction() -> None:
    """A lone surrogate, an id that is out already, a text that fails: only their own callers hear of it."""

    class Broken(Plain):
        def permitted(self, permit: str, lease: int, approval: str | None) -> str:
            raise ZeroDivisionError

    with opened("&connections=1") as ledger:
        asked = [
            claiming("a", quota(9), slot(9)),
            claiming("\ud800", quota(9)),
            claiming("a", quota(9)),
            claiming("b", quota(9), once())._replace(wording=Broken("b")),
            claiming("x" * 3000, quota(9)),
            claiming("c", quota(9)),
        ]
        answers = held_up(ledger, asked)
        kinds = [Granted, UnicodeEncodeError, LedgerError, ZeroDivisionError, LedgerError, Granted]
        assert [type(answer) for answer in answers] == kinds
        assert dict(state(ledger))["quota"] == [0, 0, 2]
        assert "once" not in dict(state(ledger))
        assert commits(ledger) == 2


def test_a_result_is_shown_again_in_the_transaction_that_recorded_it() -> None:
    """An identical call that waits behind the settlement gets its outcome."""
    with opened("&connections=1") as ledger:
        request, answer = granted(ledger, "p", once())
        settled, replayed = held_up(ledger, [settling(request, answer), claiming("q", once())])
        assert isinstance(settled, Settled)
        assert isinstance(replayed, Replayed)
        assert '"outcome":"succeeded","permit":"p"' in replayed.outcome


def test_one_that_has_to_wait_for_a_lock_does_not_keep_its_company() -> None:
    """A neighbour keeps one key: its request fails in time, those that shared its transaction go through."""
    with opened("&connections=1&timeout=4") as ledger, kept_lock(ledger, "kept", 20):
        asked = [claiming(f"p{n}", quota(9, key="free")) for n in range(3)]
        asked.append(claiming("unlucky", quota(9, key="kept")))
        *lucky, unlucky = held_up(ledger, asked)
        assert [type(answer) for answer in lucky] == [Granted] * 3
        assert isinstance(unlucky, LedgerError)
        assert "another transaction kept what the request needs" in str(unlucky)


# --- the journal of many writers ------------------------------------------------------------------


def test_an_entry_on_its_way_holds_readers_up_and_nobody_else() -> None:
    """A reader ends before an entry that is not committed yet, so it finds it when it reads on."""
    with opened() as ledger:
        name = ledger.address.namespace
        ledger.perform(noting())
        with closing(psycopg.connect(pg_server.shared(), autocommit=True)) as slow:
            ((number,),) = slow.execute(f"SELECT number FROM {name}.enlist('slow')").fetchall()
            slow.execute("BEGIN")
            slow.execute(
                f"SELECT {name}.write({number}, 1, 1, '{{{GENESIS}}}', '{{h}}', '{{body}}', "
                "'{}', '{}', '{}', '{}', '{}', '{}', '{}')"
            )
            ledger.perform(noting())
            ledger.perform(noting())
            assert len(list(ledger.entries())) == 1
            assert ledger.head()[0] == 1
            assert Journal(ledger).verify() is None
            assert [seq for seq, _ in ledger.heads().values()] == [1]
            slow.execute("COMMIT")
        assert next(entry.hash for entry in ledger.entries(1)) == "h"
        assert len(list(ledger.entries(1))) == 3
        assert ledger.head()[0] == 4
        pg_server.execute(
            pg_server.shared(),
            f"DELETE FROM {name}.journal WHERE hash = 'h'; UPDATE {name}.writers SET seq = 0 WHERE hash = 'h'",
        )


def test_a_reader_that_reads_on_misses_nothing() -> None:
    """While eight threads of two ledgers write, a reader that goes from head to head sees all of it."""
    with opened("&connections=4") as one, closing(again(one)) as two:
        threads = [
            threading.Thread(
                target=lambda n=n: [(one, two)[n % 2].perform(noting()) for _ in range(25)]
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        seen: list[str] = []
        place, alive = 0, True
        while alive:
            alive = any(thread.is_alive() for thread in threads)
            end, last = one.head()
            for entry in one.entries(place) if end > place else ():
                seen.append(entry.hash)
                if entry.hash == last:
                    break
            place = end
        assert len(seen) == 200
        assert seen == [entry.hash for entry in two.entries()]


def test_a_journal_that_lost_its_end_is_noticed() -> None:
    """Writers know how far they came: an entry that was removed is missed, the last one too."""
    with opened("&connections=1") as ledger:
        for _ in range(3):
            ledger.perform(noting())
        assert Journal(ledger).verify() is None
        name = ledger.address.namespace
        remove = f"DELETE FROM {name}.journal WHERE position = 3 RETURNING position, number, prev, hash, body"
        (row,) = pg_server.execute(pg_server.shared(), remove)
        broken = Journal(ledger).verify()
        assert broken is not None
        assert "entry 3" in broken.problem
        values = ", ".join(f"$${value}$$" for value in row)
        pg_server.execute(
            pg_server.shared(),
            f"INSERT INTO {name}.journal OVERRIDING SYSTEM VALUE VALUES ({values})",
        )


def test_a_chain_that_somebody_else_goes_on_with_is_left() -> None:
    """A writer that slept for a day finds its chain taken over: it begins another, and nothing is lost."""
    with opened("&connections=1") as ledger:
        name = ledger.address.namespace
        ledger.perform(noting())
        pg_server.execute(pg_server.shared(), f"UPDATE {name}.writers SET used = 0")
        with closing(again(ledger)) as heir:
            heir.perform(noting())
            assert len(heir.heads()) == 1
            ledger.perform(noting())
            assert len(heir.heads()) == 2
            assert len(list(heir.entries())) == 3


def test_a_closed_ledger_leaves_its_chain_to_the_next() -> None:
    """Programs that come and go do not leave a chain each behind."""
    with opened("&connections=1") as ledger:
        ledger.perform(noting())
        ledger.close()
        for _ in range(3):
            with closing(again(ledger)) as next_one:
                next_one.perform(noting())
                assert [seq for seq, _ in next_one.heads().values()] == [next_one.head()[0]]


def test_an_entry_is_found_by_its_number_in_whichever_chain() -> None:
    """Numbers are different in all chains, and small enough for JSON."""
    with opened("&connections=1") as one, closing(again(one)) as two:
        _, first = granted(one, "p", quota(9))
        _, second = granted(two, "q", quota(9))
        assert first.entry != second.entry < 2**53
        assert '"permit":"q"' in one.body(second.entry)
        with pytest.raises(LedgerError, match="the journal has no entry 77"):
            one.body(77)


def test_keys_of_any_text_keep_their_order() -> None:
    """PostgreSQL's texts have no NUL: keys with one are kept in another form, and come back."""
    texts = ["", "\0", "\0\1", "\1", "\1\0", "\1\1", "\1\2", "\2", "a", "a\0b", "a\1", "é"]
    assert [restored(kept(text)) for text in texts] == texts
    assert sorted(map(kept, texts)) == list(map(kept, sorted(texts)))
    with pytest.raises(LedgerError, match="has 3000 bytes, and PostgreSQL keeps keys of 2000"):
        kept("k" * 3000)
