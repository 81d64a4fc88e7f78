"""Shortening a journal in PostgreSQL while the server dies, replies get lost, and others write."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pg_server
import pytest
from pg_ledgers import opened
from pg_pooler import Pooler
from pg_proxy import Proxy
from requested import claiming, granted, noting, once, quota, settling, state

from sluicegate.errors import LedgerError
from sluicegate.journal import Entry, verify
from sluicegate.ledger.base import Replayed
from sluicegate.ledger.postgres import PostgresLedger


def upto(entries: Sequence[Entry]) -> dict[str, int]:
    """The last of these entries by each writer."""
    return {entry.writer: entry.seq for entry in entries}


def continues(ledger: PostgresLedger, before: Sequence[Entry]) -> None:
    """What is left of the journal goes on from *before*, to the heads that the ledger keeps."""
    assert verify([*before, *ledger.entries()], ledger.heads()) is None


@pytest.fixture
def elsewhere() -> dict[str, object]:
    """Where the shared server is."""
    return pg_server.parameters(pg_server.shared())


# --- the server and the network -----------------------------------------------------------------


def test_a_server_killed_while_entries_are_removed_has_removed_all_or_none() -> None:
    """
    Killed four times at any moment: each attempt left everything or nothing, none of what is to be
    kept is lost, and the next attempt goes on without a hand.
    """
    server = pg_server.Server().start()
    ledger = PostgresLedger.at(pg_server.fresh(server.url()) + "&timeout=2")
    for turn in range(150):
        request, answer = granted(ledger, f"p{turn}", quota(10**6), once(f"k{turn}"))
        ledger.perform(settling(request, answer))
    before = list(ledger.entries())
    (writer,) = ledger.writers()
    keep = [entry.seq for entry in before if entry.seq % 3 == 0]
    begun, killed = 0, 0
    while begun < len(before) - 20:
        begun += 20
        delay = (0.0, 0.004, 0.008, 0.012)[killed] if killed < 4 else None
        if delay is not None and begun % 60 == 0:
            timer = threading.Timer(delay, server.kill)
            timer.start()
            attempt(ledger, writer, begun, keep)
            timer.join()
            server.start()
            killed += 1
            left = [entry.seq for entry in ledger.entries()]
            assert left == list(range(left[0], 301))
            assert left[0] in (begun - 19, begun + 1)
        attempt(ledger, writer, begun, keep, sure=True)
        assert next(iter(ledger.entries())).seq == begun + 1
        found = [number for number, _ in ledger.kept()]
        assert found == [number for number in keep if number <= begun]
    assert killed == 4
    continues(ledger, before[:begun])
    for turn in range(140):
        if 2 * turn + 2 in keep or 2 * turn + 2 > begun:
            assert isinstance(ledger.perform(claiming(f"a{turn}", once(f"k{turn}"))), Replayed)
    ledger.close()
    server.remove()


def attempt(
    ledger: PostgresLedger, writer: str, end: int, keep: Sequence[int], *, sure: bool = False
) -> None:
    """Try to remove entries; the server may be gone."""
    try:
        ledger.trim({writer: end}, keep)
    except LedgerError:
        assert not sure


@pytest.mark.parametrize("fault", ["before commit", "after commit"])
def test_a_lost_reply_is_nobodys_trouble(fault: str, elsewhere: dict[str, object]) -> None:
    """Sent again on another connection it means the same, for removing and for forgetting."""
    proxy = Proxy(str(elsewhere["host"]), int(str(elsewhere["port"])))
    with opened("&timeout=2", whole=False) as ledger:
        parts = {**ledger.address.parts, "host": "127.0.0.1", "port": proxy.port}
        with closing(PostgresLedger(ledger.address._replace(parts=parts))) as far:
            for _ in range(6):
                far.perform(noting())
            before = list(far.entries())
            proxy.fault, proxy.faults = fault, 1  # type: ignore[assignment]
            far.trim(upto(before[:4]), [2, 3])
            assert proxy.faults == 0
            assert list(ledger.entries()) == before[4:]
            assert list(ledger.kept()) == [(2, before[1]), (3, before[2])]
            proxy.faults = 1
            far.forget([2])
            assert proxy.faults == 0
            assert list(ledger.kept()) == [(3, before[2])]
            continues(far, before[:4])
    proxy.close()


# --- others -------------------------------------------------------------------------------------

CHILD = """
import sys, threading
sys.path[:0] = sys.argv[2].split(";")
from requested import claiming, once, quota, settling
from sluicegate.ledger.base import Granted
from sluicegate.ledger.postgres import PostgresLedger
ledger = PostgresLedger.at(sys.argv[1])
yes = []
def take(thread):
    for number in range(40):
        request = claiming(f"{sys.argv[3]}.{thread}.{number}", quota(120), once(f"k{number}"))
        answer = ledger.perform(request)
        if isinstance(answer, Granted):
            yes.append(number)
            ledger.perform(settling(request, answer))
threads = [threading.Thread(target=take, args=(n,)) for n in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ledger.close()
print(len(yes))
"""


def test_limits_keys_and_chains_are_exact_while_another_process_shortens() -> None:
    """
    Three processes of three threads want the same forty keys while entries are removed as soon
    as they can be: each key runs once, and what went and what is left is one journal.
    """
    with opened("&timeout=20", whole=False) as ledger:
        name = ledger.address.namespace
        url = f"{pg_server.shared()}?namespace={name}&timeout=20"
        path = f"{Path(__file__).parent};{Path(__file__).parents[2] / 'core'}"
        children = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, url, path, str(number)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(3)
        ]
        removed: list[Entry] = []
        while any(child.poll() is None for child in children):
            some = list(ledger.entries())[:-3][:50]
            if some:
                numbers = ledger.writers()
                ledger.trim(
                    upto(some), [(numbers[entry.writer] << 32) + entry.seq for entry in some]
                )
                removed += some
            time.sleep(0.01)
        assert sum(int(child.communicate(timeout=60)[0]) for child in children) == 40
        assert dict(state(ledger))["quota"] == [0, 40, 0]
        assert len(removed) > 100
        assert len(list(ledger.kept())) == len(removed)
        continues(ledger, removed)


def test_a_transaction_pooler_is_no_obstacle(elsewhere: dict[str, object]) -> None:
    """All that removes is one message: behind a pooler each gets one connection to the end."""
    pooler = Pooler(
        str(elsewhere["host"]),
        int(str(elsewhere["port"])),
        str(elsewhere["user"]),
        str(elsewhere["dbname"]),
    )
    with opened("&timeout=20", whole=False) as ledger:
        parts = {**ledger.address.parts, "host": "127.0.0.1", "port": pooler.port}
        with closing(PostgresLedger(ledger.address._replace(parts=parts))) as pooled:
            for _ in range(30):
                pooled.perform(noting())
            before = list(pooled.entries())
            for end in range(5, 30, 5):
                pooled.trim(upto(before[:end]), [end, end - 1])
                pooled.forget([end])
                assert list(pooled.entries()) == before[end:]
            assert [number for number, _ in pooled.kept()] == [4, 9, 14, 19, 24]
            assert len(set(pooler.used)) == 3
    pooler.close()


# --- roles --------------------------------------------------------------------------------------


def grants(which: str) -> str:
    """SQL of the documentation."""
    page = (Path(__file__).parents[2] / "docs" / "postgres.md").read_text("utf-8")
    return page.partition(f"<!-- {which} -->\n```sql\n")[2].partition("```")[0]


def test_a_role_that_may_decide_may_not_shorten_before_it_is_granted() -> None:
    """The grants of a worker are not enough, and the error names the one that is missing."""
    with opened(whole=False) as ledger:
        name = ledger.address.namespace
        role = f"{name}_worker"
        for _ in range(4):
            ledger.perform(noting())
        before = list(ledger.entries())

        def grant(which: str) -> None:
            sql = grants(which).replace("sluicegate_worker", role).replace("acme", name)
            assert "GRANT" in sql
            pg_server.execute(pg_server.shared(), sql)

        pg_server.execute(pg_server.shared(), f"CREATE ROLE {role} LOGIN")
        grant("grants")
        parts = {**ledger.address.parts, "user": role}
        with closing(PostgresLedger(ledger.address._replace(parts=parts))) as worker:
            missing = f"GRANT DELETE ON {name}.journal to it"
            for use in (
                lambda: worker.trim(upto(before[:2]), [1]),
                lambda: worker.trim({}, []),
                lambda: worker.forget([1]),
            ):
                with pytest.raises(LedgerError, match=missing):
                    use()
            assert list(ledger.entries()) == before
            grant("grants to archive")
            worker.trim(upto(before[:2]), [1])
            assert list(worker.entries()) == before[2:]
            assert list(worker.kept()) == [(1, before[0])]
            worker.forget([1])
            assert list(worker.kept()) == []
        pg_server.execute(pg_server.shared(), f"DROP OWNED BY {role}; DROP ROLE {role}")
