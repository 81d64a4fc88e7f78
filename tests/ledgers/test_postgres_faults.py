"""A PostgreSQL ledger when the network, the server or a neighbour fails."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pg_server
import pytest
from held_up import Gated
from pg_ledgers import again, kept_lock, opened
from pg_proxy import Proxy
from requested import SECOND, claiming, granted, noting, once, quota, record, settling, slot, state

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted, Refused, Rejected, Replayed, Settled
from sluicegate.ledger.postgres import PostgresLedger
from sluicegate.ledger.ticket import Batch, Ticket

CANCELLED = {"error": "cancelled before dispatch", "kind": "outcome", "outcome": "failed"}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before the shared server."""
    parts = pg_server.parameters(pg_server.shared())
    made = Proxy(str(parts["host"]), int(str(parts["port"])))
    yield made
    made.close()


@pytest.fixture
def ledger() -> Iterator[PostgresLedger]:
    """A new ledger, reached without a proxy."""
    with opened("&timeout=2") as made:
        yield made


@pytest.fixture
def far(ledger: PostgresLedger, proxy: Proxy) -> Iterator[PostgresLedger]:
    """The same ledger through the proxy."""
    parts = {**ledger.address.parts, "host": "127.0.0.1", "port": proxy.port}
    made = PostgresLedger(ledger.address._replace(parts=parts, connections=2))
    yield made
    proxy.fault = ""
    made.close()


def wait_until(reached: object) -> None:
    """Until it is so, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def without_time(ledger: PostgresLedger) -> list[dict[str, object]]:
    """What the journal says, but for when."""
    return [{key: value for key, value in entry.items() if key != "at"} for entry in record(ledger)]


# --- the reply to a commit --------------------------------------------------------------------


def test_a_claim_whose_commit_was_not_sent_took_nothing(
    ledger: PostgresLedger, far: PostgresLedger, proxy: Proxy
) -> None:
    """The connection is cut before the server hears of the commit: an error, and no trace."""
    granted(far, "before", quota(9))
    proxy.fault = "before commit"
    with pytest.raises(LedgerError, match="cannot be used"):
        far.perform(claiming("p", quota(9)))
    proxy.fault = ""
    assert dict(state(ledger))["quota"] == [0, 0, 1]
    assert [entry["permit"] for entry in record(ledger)] == ["before"]
    granted(far, "q", quota(9))


def test_a_claim_whose_reply_was_lost_is_found_on_the_next_connection(
    ledger: PostgresLedger, far: PostgresLedger, proxy: Proxy
) -> None:
    """The commit is on record, so the caller gets the permit that it holds; nothing is done twice."""
    proxy.fault, proxy.faults = "after commit", 1
    request, answer = granted(far, "p", quota(9), once())
    assert without_time(ledger) == [{"kind": "decision", "permit": "p"}]
    proxy.faults = 1
    assert isinstance(far.perform(settling(request, answer)), Settled)
    assert dict(state(ledger))["quota"] == [0, 1, 0]
    assert len(record(ledger)) == 2
    assert isinstance(far.perform(settling(request, answer)), Rejected)
    assert isinstance(far.perform(claiming("q", once())), Replayed)


def test_a_claim_that_cannot_be_asked_about_is_undone_when_it_can(
    ledger: PostgresLedger, far: PostgresLedger, proxy: Proxy
) -> None:
    """The server is out of reach for longer than the timeout: an error in time, then all is given back."""
    granted(far, "before", quota(9))
    begun = time.monotonic()
    threading.Timer(0.3, lambda: setattr(proxy, "fault", "refuse")).start()
    proxy.fault, proxy.faults = "silent commit", 1
    with pytest.raises(LedgerError):
        far.perform(claiming("p", quota(9), slot(9), once()))
    assert time.monotonic() - begun < 2.5
    assert dict(state(ledger))["quota"] == [0, 0, 2], "it was committed"
    proxy.fault = ""
    wait_until(lambda: len(record(ledger)) == 3)  # though nobody asks for anything
    assert state(ledger) == [("quota", [0, 0, 1])]
    assert {"permit": "p", **CANCELLED} in without_time(ledger)


def test_a_commit_that_comes_late_holds_nothing(
    ledger: PostgresLedger, far: PostgresLedger, proxy: Proxy
) -> None:
    """The network kept it until its caller was told that it had failed: what it claims is given back."""
    granted(far, "before", quota(9))
    proxy.fault, proxy.faults = "late commit", 1
    with pytest.raises(LedgerError, match="cannot be used"):
        far.perform(claiming("p", quota(9), slot(9)))
    assert len(record(ledger)) == 1
    proxy.release.set()
    wait_until(lambda: len(record(ledger)) == 3)
    assert {"permit": "p", **CANCELLED} in without_time(ledger)
    assert state(ledger) == [("quota", [0, 0, 1])]


def test_a_settlement_whose_reply_was_lost_is_on_record_once(
    ledger: PostgresLedger, far: PostgresLedger, proxy: Proxy
) -> None:
    """Who gets no answer in time may ask again: the outcome is neither lost nor counted twice."""
    request, answer = granted(far, "p", quota(9))
    proxy.fault, proxy.faults = "silent commit", 1
    with pytest.raises(LedgerError, match="the journal tells"):
        far.perform(settling(request, answer))
    proxy.fault = ""
    again_asked = far.perform(settling(request, answer))
    assert isinstance(again_asked, Rejected)
    assert "was settled before" in again_asked.problem
    assert dict(state(ledger))["quota"] == [0, 1, 0]


def test_connections_that_died_in_their_sleep_are_nobodys_trouble(
    far: PostgresLedger, proxy: Proxy
) -> None:
    """Nothing can have happened on a connection that was cut at rest: another one is used at once."""
    granted(far, "p", quota(9))
    assert far.head()[0] == 1
    proxy.cut()
    granted(far, "q", quota(9))
    assert far.head()[0] == 2


# --- time-outs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["silent", "refuse"])
def test_a_server_out_of_reach_is_an_error_within_the_timeout(
    far: PostgresLedger, proxy: Proxy, fault: str
) -> None:
    """For threads and for tasks, whether connections are open or not; afterwards all goes on by itself."""
    granted(far, "p", quota(9))
    proxy.fault = fault  # type: ignore[assignment]
    if fault == "refuse":
        proxy.cut()
    for number in range(2):
        begun = time.monotonic()
        with pytest.raises(LedgerError, match="cannot be used"):
            far.perform(claiming(f"q{number}", quota(9)))
        with pytest.raises(LedgerError, match="cannot be used"):
            asyncio.run(far.aperform(claiming(f"r{number}", quota(9))))
        assert time.monotonic() - begun < 4.5
    proxy.fault = ""
    proxy.cut()
    granted(far, "s", quota(9))
    wait_until(lambda: dict(state(far))["quota"] == [0, 0, 2])


def test_no_caller_waits_for_a_connection_beyond_the_timeout(
    far: PostgresLedger, proxy: Proxy
) -> None:
    """A server that takes connections and says nothing: libpq would wait for two seconds at least."""
    with closing(PostgresLedger(far.address._replace(timeout=0.4))) as hasty:
        proxy.fault = "silent"
        begun = time.monotonic()
        with pytest.raises(LedgerError, match="no connection in time"):
            hasty.perform(claiming("p", quota(9)))
        assert time.monotonic() - begun < 1.2
        proxy.fault = ""
        granted(hasty, "q", quota(1))


def test_a_lock_that_is_kept_is_an_error_within_the_timeout(ledger: PostgresLedger) -> None:
    """A neighbour keeps what a request needs: it is told so in time, and others are served meanwhile."""
    with kept_lock(ledger, "quota", 20):
        begun = time.monotonic()
        with pytest.raises(LedgerError, match="another transaction kept what the request needs"):
            ledger.perform(claiming("q", quota(9)))
        assert time.monotonic() - begun < 2.2
        granted(ledger, "r", quota(9, key="another"))
    granted(ledger, "s", quota(1))


def test_a_client_that_dies_in_a_transaction_lets_go(ledger: PostgresLedger) -> None:
    """Its locks end with the time that its transaction may be idle, whatever became of its host."""
    with kept_lock(ledger, "quota", 1):
        begun = time.monotonic()
        granted(ledger, "p", quota(9))
        assert time.monotonic() - begun < 1.8


def test_who_has_waited_for_nearly_all_its_time_uses_what_is_left(ledger: PostgresLedger) -> None:
    """A lane that is free in the last moment is used, and its connection is not thrown away."""
    granted(ledger, "p", quota(9))
    (lane,) = ledger._lanes._lanes
    line = lane._line
    ticket = Ticket(claiming("q", quota(9)), time.monotonic() + 0.19)  # of two seconds
    batch = Batch(lambda: [ticket], hurried=True)
    ledger._lanes._carry(lane, batch)
    assert [type(answer) for answer in batch.answers] == [Granted]
    assert lane._line is line


def test_too_few_connections_are_an_error_with_the_number(ledger: PostgresLedger) -> None:
    """All connections are busy for longer than the timeout: what waits is withdrawn, and told why."""
    gate = Gated()
    with closing(PostgresLedger(ledger.address._replace(connections=1, timeout=0.5))) as tiny:

        def keep_busy() -> None:
            with pytest.raises(LedgerError, match="the server gave no answer within 0.5 s"):
                asyncio.run(tiny.aperform(claiming("held", gate)))  # type: ignore[arg-type]

        busy = threading.Thread(target=keep_busy)
        busy.start()
        assert gate.reached.wait(10)
        with pytest.raises(LedgerError, match="all 1 connections were busy for 0.5 s"):
            tiny.perform(noting())
        gate.go_on.set()
        busy.join()
        granted(tiny, "p", quota(9))
    assert [entry["kind"] for entry in record(ledger)] == ["decision"]


def test_a_request_that_the_server_cannot_keep_spoils_no_other(ledger: PostgresLedger) -> None:
    """A number beyond all bounds is an error of its own request; those of the same batch go through."""
    with closing(PostgresLedger(ledger.address._replace(connections=1))) as tiny:

        async def ask(permit: str, lease: int) -> object:
            return await tiny.aperform(claiming(permit, quota(9), lease=lease))

        async def ask_all() -> list[object]:
            asked = [ask("a", SECOND), ask("b", 10**20), ask("c", SECOND)]
            return await asyncio.gather(*asked, return_exceptions=True)

        with kept_lock(ledger, "quota", 0.3):
            first = threading.Thread(target=tiny.perform, args=(claiming("first", quota(9)),))
            first.start()
            answers = asyncio.run(ask_all())
        first.join()
    assert [type(answer) for answer in answers] == [Granted, LedgerError, Granted]
    assert "out of range" in str(answers[1])
    assert dict(state(ledger))["quota"] == [0, 0, 3]


# --- cancelled ------------------------------------------------------------------------------------


def test_a_task_cancelled_in_the_transaction_claims_nothing(ledger: PostgresLedger) -> None:
    """What nobody waits for any more is not committed."""
    gate = Gated()

    async def cancel() -> None:
        request = claiming("p", quota(5), gate)  # type: ignore[arg-type]
        task = asyncio.ensure_future(ledger.aperform(request))
        await asyncio.to_thread(gate.reached.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.go_on.set()

    asyncio.run(cancel())
    granted(ledger, "q", quota(5))
    assert [entry["permit"] for entry in record(ledger)] == ["q"]


def test_tasks_cancelled_at_any_time_claim_nothing(ledger: PostgresLedger) -> None:
    """Whenever a claim is cancelled, its budget and its slot are free afterwards."""
    chance = random.Random(7)

    async def ask(number: int) -> bool:
        request = claiming(f"p{number}", quota(10**6), slot(10**6))
        task = asyncio.ensure_future(ledger.aperform(request))
        await asyncio.sleep(chance.random() / 3)
        task.cancel()
        try:
            await ledger.aperform(settling(request, await task, "failed"))
        except asyncio.CancelledError:
            return True
        return False

    async def ask_all() -> list[bool]:
        return await asyncio.gather(*(ask(number) for number in range(150)))

    cancelled = asyncio.run(ask_all())
    wait_until(lambda: not state(ledger))
    outcomes = [entry for entry in record(ledger) if entry["kind"] == "outcome"]
    assert len([entry for entry in outcomes if "error" not in entry]) == cancelled.count(False)
    assert len(record(ledger)) == 2 * len(outcomes)


# --- the server says no ----------------------------------------------------------------------------


def test_a_server_that_refuses_to_write_is_an_error_and_recovers(ledger: PostgresLedger) -> None:
    """Read-only, as a standby or a full quota makes it: nothing is granted, and the way out is named."""
    role = f"{ledger.address.namespace}_reader"
    pg_server.execute(pg_server.shared(), f"CREATE ROLE {role} LOGIN SUPERUSER")
    alter = f"ALTER ROLE {role} {{}} default_transaction_read_only"
    pg_server.execute(pg_server.shared(), alter.format("SET") + " = on")
    parts = {**ledger.address.parts, "user": role}
    with closing(PostgresLedger(ledger.address._replace(parts=parts))) as refused:
        with pytest.raises(LedgerError, match="point the URL at the primary"):
            refused.perform(claiming("q", quota(9)))
        pg_server.execute(pg_server.shared(), alter.format("RESET"))
        granted(refused, "r", quota(9))
    pg_server.execute(pg_server.shared(), f"DROP ROLE {role}")
    assert [entry["permit"] for entry in record(ledger)] == ["r"]


def test_a_worker_whose_clock_is_wrong_does_no_harm(ledger: PostgresLedger) -> None:
    """The server's time counts: an hour ahead ends no lease early, an hour behind makes none longer."""
    hour = 3600 * SECOND
    now = time.time_ns() // 1000
    request, answer = granted(ledger, "p", slot(1), now=now - hour)
    assert abs(answer.at - now) < 60 * SECOND
    ahead = ledger.perform(claiming("q", slot(1), now=now + hour))
    assert isinstance(ahead, Refused)
    assert ahead.at < now + 60 * SECOND
    assert isinstance(ledger.perform(settling(request, answer, now=now + hour)), Settled)
    assert ledger.floor < now + 60 * SECOND


def test_a_server_clock_that_steps_back_frees_nothing(ledger: PostgresLedger) -> None:
    """No time is earlier than any that a cell or this process has seen."""
    late = time.time_ns() // 1000 + 3600 * SECOND
    with closing(PostgresLedger(ledger.address._replace(clock="caller"))) as ahead:
        request, answer = granted(ahead, "p", slot(1), now=late, lease=10 * SECOND)
    got = ledger.perform(claiming("q", slot(1)))
    assert isinstance(got, Refused)
    assert got.at == late
    assert isinstance(ledger.perform(settling(request, answer)), Settled)
    with closing(again(ledger)) as anew:
        assert anew.floor == late
        assert isinstance(anew.perform(claiming("r", slot(1))), Granted)
