"""Taking the oldest entries out of a journal on Redis or Valkey, and what is kept of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("redis")

from lived import holdings
from redis import Redis
from redis_server import Proxy, Server, namespace, shared, startable
from requested import claiming, granted, noting, once, quota, record, settling, state

from sluicegate.errors import LedgerError
from sluicegate.journal import Entry, verify
from sluicegate.ledger.base import Replayed, Settled
from sluicegate.ledger.redis import RedisLedger
from sluicegate.ledger.trimming import Trimmable

WORKER = Path(__file__).with_name("redis_worker.py")
needs_server = pytest.mark.skipif(not startable(), reason="no server by pip for this machine")


@pytest.fixture
def space() -> str:
    """A namespace on a real server."""
    shared()
    return namespace()


def on_server(space: str) -> RedisLedger:
    """The ledger in a namespace, as another process would have it."""
    return RedisLedger(shared(), namespace=space)


@pytest.fixture
def ledger(space: str) -> Iterator[RedisLedger]:
    made = on_server(space)
    yield made
    made.close()


def upto(entries: Sequence[Entry]) -> dict[str, int]:
    """The last of these entries by each writer."""
    return {entry.writer: entry.seq for entry in entries}


def number(ledger: RedisLedger, entry: Entry) -> int:
    """As cells refer to it."""
    return (ledger.writers()[entry.writer] << 32) + entry.seq


def continues(ledger: RedisLedger, before: Sequence[Entry]) -> None:
    """What is left of the journal goes on from *before*, to the heads that the ledger keeps."""
    assert verify([*before, *ledger.entries()], ledger.heads()) is None


def paid(ledger: RedisLedger, key: str) -> int:
    """A call with this key that has succeeded; the number of its outcome."""
    request, answer = granted(ledger, f"p {key}", quota(99), once(key))
    settled = ledger.perform(settling(request, answer))
    assert isinstance(settled, Settled)
    return settled.entry


# --- what goes and what stays -------------------------------------------------------------------


def test_the_oldest_entries_leave_the_journal_and_nothing_else_changes(space: str) -> None:
    """Two writers' entries go in the order of their commits; heads, cells and numbers go on."""
    with closing(on_server(space)) as one, closing(on_server(space)) as two:
        assert isinstance(one, Trimmable)
        for turn in range(4):
            paid(one, f"a{turn}")
            paid(two, f"b{turn}")
        before, kept = list(one.entries()), (state(one), one.heads(), one.head(), one.writers())
        one.trim(upto(before[:7]), [])
        assert list(two.entries()) == before[7:]
        assert (state(one), one.heads(), one.head(), one.writers()) == kept
        assert list(two.entries(9)) == before[9:]
        assert list(one.entries(3)) == before[7:]
        with pytest.raises(LedgerError, match="has no entry .* in its journal"):
            two.body(number(two, before[0]))
        for ledger in (one, two):
            paid(ledger, ledger.writer)
        continues(two, before[:7])
        assert one.head()[0] == 20


def test_what_is_kept_is_still_found_by_its_number(ledger: RedisLedger, space: str) -> None:
    """It is no part of the journal any more, for other processes too, and unasked numbers are not kept."""
    for turn in range(5):
        paid(ledger, f"a{turn}")
    before = list(ledger.entries())
    numbers = [number(ledger, entry) for entry in before]
    ledger.trim(upto(before[:6]), [numbers[3], numbers[1], numbers[8], 99])
    assert list(ledger.entries()) == before[6:]
    with closing(on_server(space)) as other:
        assert list(other.kept()) == [(numbers[1], before[1]), (numbers[3], before[3])]
        assert other.body(numbers[3]) == before[3].body
        for gone in (0, 2, 4, 5):
            with pytest.raises(LedgerError, match="has no entry"):
                other.body(numbers[gone])


def test_a_key_answers_from_the_entry_that_was_kept(ledger: RedisLedger, space: str) -> None:
    """The recorded outcome is shown again after it has left the journal; forgotten, it is an error."""
    outcome = paid(ledger, "k")
    ledger.perform(noting())
    told = ledger.body(outcome)
    ledger.trim(upto(list(ledger.entries())[:2]), [outcome])
    with closing(on_server(space)) as other:
        for which in (ledger, other):
            replayed = which.perform(claiming(f"again {which.writer}", once("k")))
            assert isinstance(replayed, Replayed)
            assert replayed.outcome == told
    ledger.forget([outcome])
    with pytest.raises(LedgerError, match="has no entry"):
        ledger.perform(claiming("and again", once("k")))


def test_forgetting_touches_no_entry_of_the_journal(ledger: RedisLedger) -> None:
    """Only what was kept goes; unknown numbers and none at all change nothing."""
    for turn in range(3):
        paid(ledger, f"a{turn}")
    before = list(ledger.entries())
    numbers = [number(ledger, entry) for entry in before]
    ledger.trim(upto(before[:4]), numbers[:4])
    ledger.forget([])
    ledger.forget([numbers[0], numbers[2], numbers[4], 12345])
    assert [found for found, _ in ledger.kept()] == [numbers[1], numbers[3]]
    assert list(ledger.entries()) == before[4:]
    ledger.forget([numbers[0]])
    assert [found for found, _ in ledger.kept()] == [numbers[1], numbers[3]]


def test_thousands_are_removed_in_one_step_and_kept_ones_read_in_pages(ledger: RedisLedger) -> None:
    """More numbers than Lua hands over at once, and more kept entries than a page has."""

    async def note() -> None:
        await asyncio.gather(*(ledger.aperform(noting()) for _ in range(9000)))

    asyncio.run(note())
    before = list(ledger.entries())
    numbers = [number(ledger, entry) for entry in before]
    ledger.trim(upto(before[:8999]), numbers[:2000:3])
    assert list(ledger.entries()) == before[8999:]
    assert list(ledger.kept()) == list(zip(numbers[:2000:3], before[:2000:3], strict=True))


# --- again, too late, or wrong ------------------------------------------------------------------


def test_what_was_removed_stays_removed(ledger: RedisLedger) -> None:
    """The same again, or less, changes nothing: nothing that was forgotten is kept again."""
    for turn in range(4):
        paid(ledger, f"a{turn}")
    before = list(ledger.entries())
    numbers = [number(ledger, entry) for entry in before]
    ledger.trim(upto(before[:4]), numbers[:2])
    ledger.forget(numbers[:1])
    for end in (4, 2):
        ledger.trim(upto(before[:end]), numbers[:4])
    ledger.trim({}, [])
    assert list(ledger.kept()) == [(numbers[1], before[1])]
    assert list(ledger.entries()) == before[4:]
    ledger.trim(upto(before[:6]), numbers[:6])
    assert [found for found, _ in ledger.kept()] == [numbers[1], *numbers[4:6]]
    continues(ledger, before[:6])


def test_only_the_oldest_can_be_removed_and_never_all(space: str) -> None:
    """A piece from the middle, everything, or what is not there: an error, and nothing has changed."""
    with closing(on_server(space)) as one, closing(on_server(space)) as two:
        for ledger in (one, two, one):
            for _ in range(2):
                ledger.perform(noting())
        before = list(one.entries())
        for ends, problem in (
            ({two.writer: 1}, "are not the oldest of the journal"),
            ({one.writer: 3}, "are not the oldest of the journal"),
            ({one.writer: 4, two.writer: 2}, "are all that the journal has"),
            ({one.writer: 9, two.writer: 2}, "entry 9 of writer .* is not there; its last is 4"),
            ({one.writer: 1, "nobody": 1}, "has no writer 'nobody'"),
        ):
            with pytest.raises(LedgerError, match=problem):
                two.trim(ends, [1])
            assert list(one.entries()) == before
            assert list(one.kept()) == []


@needs_server
def test_a_lost_reply_and_a_restart_change_nothing() -> None:
    """Sent again after the connection broke, it means the same; SIGKILL afterwards loses nothing."""
    server = Server(appendfsync="always")
    proxy = Proxy(server)
    with closing(RedisLedger(proxy.url, namespace="a", require_durable=True)) as ledger:
        outcomes = [paid(ledger, f"k{turn}") for turn in range(4)]
        before = list(ledger.entries())
        for cut, fault in enumerate(("cut before", "cut after"), 1):
            proxy.fault = fault  # type: ignore[assignment]
            ledger.trim(upto(before[: 2 * cut]), outcomes)
            assert proxy.fault == ""
            assert list(ledger.entries()) == before[2 * cut :]
        proxy.fault = "cut after"
        ledger.forget(outcomes[:1])
        assert proxy.fault == ""
        server.kill()
        server.start()
        assert list(ledger.entries()) == before[4:]
        assert list(ledger.kept()) == [(outcomes[1], before[3])]
        replayed = ledger.perform(claiming("again", once("k1")))
        assert isinstance(replayed, Replayed)
        paid(ledger, "new")
        continues(ledger, before[:4])
    proxy.close()
    server.remove()


@needs_server
def test_a_step_that_arrives_late_changes_nothing_that_came_after() -> None:
    """Its caller has given up and done more since; what was forgotten is not kept again."""
    server = Server()
    proxy = Proxy(server)
    with closing(RedisLedger(proxy.url, timeout=0.5)) as ledger:
        outcomes = [paid(ledger, f"k{turn}") for turn in range(4)]
        before = list(ledger.entries())
        proxy.fault = "late"
        target, proxy.target = proxy.target, 1  # nobody listens there
        with pytest.raises(LedgerError, match=r"did not answer within 0\.5 s"):
            ledger.trim(upto(before[:4]), outcomes)
        proxy.target = target
        ledger.trim(upto(before[:6]), outcomes)
        ledger.forget(outcomes[:2])
        proxy.release.set()
        assert proxy.arrived.wait(10)
        assert list(ledger.entries()) == before[6:]
        assert list(ledger.kept()) == [(outcomes[2], before[5])]
    proxy.close()
    server.remove()


@needs_server
def test_memory_that_is_used_up_keeps_the_journal_whole() -> None:
    """What cannot be kept is not removed either; what need not be kept can go, and makes room."""
    server = Server()
    with closing(RedisLedger(server.url)) as ledger, server.client() as client:
        outcome = paid(ledger, "k")
        ledger.perform(noting())
        before = list(ledger.entries())
        client.config_set("maxmemory", "1mb")
        with pytest.raises(LedgerError, match="its memory is used up; raise `maxmemory`"):
            ledger.trim(upto(before[:2]), [outcome])
        assert list(ledger.entries()) == before
        ledger.trim(upto(before[:1]), [outcome])
        assert list(ledger.entries()) == before[1:]
    server.remove()


def test_a_server_that_has_lost_something_removes_nothing(ledger: RedisLedger, space: str) -> None:
    """Its journal may lack the entry that says what was archived; so may a namespace made anew."""
    for _ in range(3):
        ledger.perform(noting())
    before = list(ledger.entries())
    meta = f"{{sluicegate:{space}}}:meta"
    with Redis.from_url(shared()) as client:
        client.hincrby(meta, "floor", -1)
        with pytest.raises(LedgerError, match="has lost decisions .*; nothing was removed"):
            ledger.trim(upto(before[:1]), [])
        client.hincrby(meta, "floor", 1)
        kept = ledger._committer.store.journal._meta()
        client.hset(meta, "id", "another")
        with pytest.raises(LedgerError, match="does not have this ledger any more"):
            ledger._committer.store.journal._remove(kept, 0, [1], [], [])
        client.hset(meta, "id", kept["id"])
    assert list(ledger.entries()) == before


def test_an_entry_that_is_missing_stops_the_step_before_it_begins(
    ledger: RedisLedger, space: str
) -> None:
    """What somebody's hand took out of the stream cannot be kept, so nothing is; nor is nonsense read."""
    for _ in range(4):
        ledger.perform(noting())
    before = list(ledger.entries())
    numbers = [number(ledger, entry) for entry in before]
    with Redis.from_url(shared()) as client:
        client.xdel(f"{{sluicegate:{space}}}:journal", "2-0")
        with pytest.raises(LedgerError, match="refuses"):
            ledger.trim(upto(before[:3]), numbers[:3])
        assert list(ledger.kept()) == []
        assert list(ledger.entries()) == [before[0], *before[2:]]
        client.hset(f"{{sluicegate:{space}}}:kept", "99", "nonsense")
    for read in (lambda: ledger.body(99), lambda: list(ledger.kept())):
        with pytest.raises(LedgerError, match="an entry that no ledger wrote: b'nonsense'"):
            read()


# --- at the same time ---------------------------------------------------------------------------


def test_limits_and_chains_are_exact_while_another_process_shortens(space: str) -> None:
    """Two processes claim what there is; all that is removed meanwhile and what is left is one journal."""
    url = f"{shared()}?namespace={space}"
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), url, f"w{number}", "300", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdin is not None
        assert worker.stdout.readline() == '"ready"\n'
        worker.stdin.write("go\n")
        worker.stdin.flush()
    removed: list[Entry] = []
    with closing(RedisLedger.at(url)) as ledger:
        while any(worker.poll() is None for worker in workers):
            some = list(ledger.entries())[:-5][:100]
            if some:
                ledger.trim(upto(some), [])
                removed += some
        permits = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
        assert sum(map(len, permits)) == 300
        assert dict(state(ledger))["quota"] == [0, 0, 300]
        assert len(removed) > 200
        continues(ledger, removed)


def test_a_reader_is_told_when_the_next_entries_are_removed(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads on where nothing is missing, and never skips; an entry taken by a hand is no such case."""
    monkeypatch.setattr("sluicegate.ledger.redis_journal.PAGE", 4)
    for _ in range(20):
        ledger.perform(noting())
    before = list(ledger.entries())
    behind, ahead, torn = (iter(ledger.entries()) for _ in range(3))
    read = [next(behind) for _ in range(8)]
    assert next(ahead) == next(torn) == before[0]
    ledger.trim(upto(before[:8]), [])
    assert read + list(behind) == before
    assert [next(ahead) for _ in range(3)] == before[1:4]
    with pytest.raises(LedgerError, match="were removed while they were read; read it again"):
        next(ahead)
    torn = iter(ledger.entries())
    assert [next(torn) for _ in range(4)] == before[8:12]
    with Redis.from_url(shared()) as client:
        client.xdel(f"{{sluicegate:{repr(ledger).split(chr(39))[1]}}}:journal", "13-0")
    assert list(torn) == before[13:]


def test_an_entry_that_leaves_the_journal_while_it_is_read_is_found(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between asking for its place and reading it there, another process may have kept it."""
    outcome = paid(ledger, "k")
    ledger.perform(noting())
    told = list(ledger.entries())
    journal = ledger._committer.store.journal
    read = journal._read

    def overtaken(command: str, *rest: object) -> object:
        found = read(command, *rest)
        if command == "HGET" and found:
            monkeypatch.undo()
            ledger.trim(upto(told[:2]), [outcome])
        return found

    monkeypatch.setattr(journal, "_read", overtaken)
    assert ledger.body(outcome) == told[1].body
    assert [found for found, _ in ledger.kept()] == [outcome]


# --- copies -------------------------------------------------------------------------------------


def test_a_shortened_ledger_can_be_copied(space: str) -> None:
    """Kept entries, places and chains go along; also of a writer who has no entry left."""
    with closing(on_server(space)) as one, closing(on_server(space)) as two:
        one.perform(noting())
        outcome = paid(two, "k")
        paid(two, "l")
        before = list(one.entries())
        one.trim(upto(before[:3]), [outcome])
        with closing(on_server(namespace())) as copy:
            copy.restore(holdings(one))
            for what in (RedisLedger.heads, RedisLedger.head, RedisLedger.writers, RedisLedger.out):
                assert what(copy) == what(one)
            assert list(copy.kept()) == list(one.kept())
            assert list(copy.entries()) == before[3:]
            assert list(copy.entries(4)) == before[4:]
            assert state(copy) == state(one)
            assert isinstance(copy.perform(claiming("again", once("k"))), Replayed)
            continues(copy, before[:3])
            copy.trim(upto(before[3:5]), [])
            assert copy.head()[0] == 6
            assert [entry["kind"] for entry in record(copy)] == ["decision"]
            copy.forget([outcome])
            assert list(copy.kept()) == []


def test_a_copy_that_is_unfinished_leaves_nothing_kept(ledger: RedisLedger) -> None:
    """The key of what is kept is removed like the others."""
    paid(ledger, "k")
    ledger.perform(noting())
    ledger.trim(upto(list(ledger.entries())[:2]), [2])

    def broken() -> Iterator[tuple[str, list[object]]]:
        yield "quota", [0, 0, 1]
        raise LedgerError("the disk is gone")

    space = namespace()
    with closing(on_server(space)) as copy:
        with pytest.raises(LedgerError, match="the disk is gone"):
            copy.restore(holdings(ledger)._replace(cells=broken()))
        assert not Redis.from_url(shared()).keys(f"*{space}*")


def test_the_key_of_what_is_kept_is_looked_at_too(space: str) -> None:
    """A namespace where something else is under it is refused."""
    with Redis.from_url(shared()) as client:
        client.set(f"{{sluicegate:{space}}}:kept", "sake")
        with pytest.raises(LedgerError, match="has a string under .*:kept, where a ledger has a"):
            on_server(space)
