"""The PostgreSQL ledger and its server: tables, roles, settings, processes, poolers."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import pg_server
import psycopg
import pytest
from pg_ledgers import again, opened
from pg_pooler import Pooler
from requested import claiming, granted, noting, once, quota, settling, slot, state

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted, Refused, Settled
from sluicegate.ledger.postgres import PostgresLedger

# --- tables and roles -----------------------------------------------------------------------------


def test_many_ledgers_may_make_the_tables_at_once() -> None:
    """Who comes second finds them made."""
    url = pg_server.fresh()
    made: list[PostgresLedger] = []
    threads = [
        threading.Thread(target=lambda: made.append(PostgresLedger.at(url))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    for ledger in made:
        ledger.close()
    pg_server.drop(url)


def test_tables_of_another_version_are_left_alone() -> None:
    """A newer sluicegate's tables are refused, and so are tables that are somebody else's."""
    with opened() as ledger:
        name = ledger.address.namespace
        pg_server.execute(pg_server.shared(), f"INSERT INTO {name}.versions VALUES (99)")
        with pytest.raises(LedgerError, match="has schema version 99, and this sluicegate knows 1"):
            again(ledger)
        pg_server.execute(pg_server.shared(), f"DELETE FROM {name}.versions WHERE version = 99")


def grants() -> str:
    """The SQL for a role at run time, as the documentation has it."""
    page = (Path(__file__).parents[2] / "docs" / "postgres.md").read_text("utf-8")
    return page.partition("<!-- grants -->\n```sql\n")[2].partition("```")[0]


def test_a_role_with_the_documented_grants_is_enough_and_can_make_no_tables() -> None:
    """It decides, settles and reads; it can neither change the journal nor create anything."""
    owner = pg_server.fresh()
    role = owner.partition("namespace=")[2] + "_worker"
    parts = pg_server.parameters(owner)
    worker = f"postgresql://{role}:pw@{parts['host']}:{parts['port']}/{parts['dbname']}?{owner.partition('?')[2]}"
    pg_server.execute(owner, f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        with pytest.raises(LedgerError, match="has no tables; open it once without migrate=no"):
            PostgresLedger.at(worker + "&migrate=no")
        with pytest.raises(LedgerError, match="this role may not create them"):
            PostgresLedger.at(worker)
        PostgresLedger.at(owner).close()
        with pytest.raises(LedgerError, match="grant the role what docs/postgres.md lists"):
            PostgresLedger.at(worker)
        sql = (
            grants()
            .replace("sluicegate_worker", role)
            .replace("acme", role.removesuffix("_worker"))
        )
        pg_server.execute(owner, sql)
        with closing(PostgresLedger.at(worker + "&migrate=no")) as ledger:
            request, answer = granted(ledger, "p", quota(9), once(), slot(2))
            assert isinstance(ledger.perform(settling(request, answer)), Settled)
            assert len(list(ledger.entries())) == 2
            assert ledger.out() == []
        for statement in ("UPDATE {}.journal SET body = ''", "DELETE FROM {}.journal", "TRUNCATE {}.journal",
                          "CREATE TABLE {}.mine ()", "DROP TABLE {}.cells"):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                pg_server.execute(worker, statement.format(role.removesuffix("_worker")))
    finally:
        pg_server.drop(owner)
        pg_server.execute(owner, f"DROP ROLE {role}")


def test_a_server_that_does_not_write_through_is_refused() -> None:
    """With fsync off a crash takes decisions back: only who says so may use it."""
    server = pg_server.Server(fsync="off").start()
    try:
        with pytest.raises(LedgerError, match="runs with fsync = off"):
            PostgresLedger.at(server.url())
        with closing(PostgresLedger.at(server.url() + "?durability=process")) as ledger:
            ledger.perform(noting())
    finally:
        server.remove()


def test_a_session_that_does_not_wait_for_the_disk_is_made_to() -> None:
    """synchronous_commit = off, set for the role or the database, does not weaken an answer."""
    with opened("&options=-csynchronous_commit%3Doff") as ledger:
        said: list[object] = []
        request = claiming("p", Watching(ledger, said))  # type: ignore[arg-type]
        granted_or_not = ledger.perform(request)
        assert isinstance(granted_or_not, Granted)
        before, after = said
        assert (before, after) == ("off", "on")


def test_plans_are_made_in_the_same_way_whatever_the_session_is_set_to() -> None:
    """
    Inside a transaction of ours the server goes by indexes and compiles nothing (before
    PostgreSQL 18 it would, for the scan of a sequence); behind it all is as it was.
    """
    settings = ("enable_seqscan", "enable_bitmapscan", "jit", "plan_cache_mode")
    with opened() as ledger, closing(psycopg.connect(pg_server.shared(), autocommit=True)) as own:
        own.execute("SET jit = on")

        def shown() -> list[object]:
            return [own.execute(f"SHOW {name}").fetchone() for name in settings]

        before = shown()
        own.execute("BEGIN")
        own.execute(
            f"SELECT {ledger.address.namespace}.hold(1000, 1000, true, '{{}}', '{{}}', '{{}}', '{{}}')"
        )
        assert shown() == [("off",), ("off",), ("off",), ("force_generic_plan",)]
        own.execute("ROLLBACK")
        assert shown() == before != [("off",), ("off",), ("off",), ("force_generic_plan",)]


class Watching:
    """A claim that asks its own transaction's connection how it will commit."""

    key = "watching"

    def __init__(self, ledger: PostgresLedger, said: list[object]) -> None:
        self._ledger, self._said = ledger, said

    def take(self, cell: object, hold: object) -> tuple[int]:
        (lane,) = self._ledger._lanes._lanes
        line = lane._line
        assert line is not None
        query = b"SELECT reset_val, setting FROM pg_settings WHERE name = 'synchronous_commit'"
        found = line.cursor().execute(query).fetchone()
        assert found is not None
        self._said += found
        return (1,)


# --- processes ------------------------------------------------------------------------------------

CHILD = """
import sys, threading
sys.path[:0] = sys.argv[2].split(";")
from requested import claiming, quota
from sluicegate.ledger.base import Granted
from sluicegate.ledger.postgres import PostgresLedger
ledger = PostgresLedger.at(sys.argv[1])
yes = []
def take(thread):
    for number in range(30):
        answer = ledger.perform(claiming(f"{sys.argv[3]}.{thread}.{number}", quota(50)))
        if isinstance(answer, Granted):
            yes.append(number)
threads = [threading.Thread(target=take, args=(n,)) for n in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ledger.close()
print(len(yes))
"""


def test_processes_take_exactly_what_there_is() -> None:
    """However three processes of three threads collide, a budget for 50 calls grants 50."""
    with opened() as ledger:
        url = f"{pg_server.shared()}?namespace={ledger.address.namespace}&timeout=20"
        path = f"{Path(__file__).parent};{Path(__file__).parents[2] / 'core'}"
        children = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, url, path, str(number)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(3)
        ]
        assert sum(int(child.communicate(timeout=60)[0]) for child in children) == 50
        assert state(ledger) == [("quota", [0, 0, 50])]
        assert len(list(ledger.entries())) == 270


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_parent_and_child_of_a_fork_each_connect_anew() -> None:
    """Neither takes the other's connection, nor its chain, nor closes it."""
    with opened() as ledger:
        granted(ledger, "before", quota(9))
        assert ledger.head()[0] == 1
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # there are threads: that is the point
            child = os.fork()
        if child == 0:
            code = 1
            try:
                granted(ledger, "child", quota(9))
                assert ledger.cell("quota") == (0, 0, 2)
                gc.collect()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        granted(ledger, "parent", quota(9))
        assert state(ledger) == [("quota", [0, 0, 3])]
        assert len(ledger.heads()) == 2


def test_a_ledger_that_is_forgotten_disconnects() -> None:
    """Nobody has to close a ledger for its connections to go, without a word from psycopg."""
    with opened() as ledger:
        other = again(ledger)
        granted(other, "p", quota(9))
        other.head()
        name = f"forgotten_{ledger.address.namespace}"
        parts = {**ledger.address.parts, "application_name": name}
        forgotten = PostgresLedger(ledger.address._replace(parts=parts))
        granted(forgotten, "q", quota(9))
        assert forgotten.head()[0] == 2
        count = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"
        assert pg_server.execute(pg_server.shared(), count) == [(2,)]
        del forgotten
        gc.collect()
        deadline = time.monotonic() + 10
        while pg_server.execute(pg_server.shared(), count) != [(0,)]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        other.close()


def test_a_closed_ledger_is_an_error() -> None:
    """For requests and for reading; closing twice is fine."""
    with opened() as ledger:
        other = again(ledger)
        other.perform(noting())
        other.close()
        other.close()
        for use in (lambda: other.perform(noting()), other.head, lambda: other.cell("k")):
            with pytest.raises(LedgerError, match="is closed; open it again"):
                use()


# --- a pooler -------------------------------------------------------------------------------------


def test_a_transaction_pooler_is_no_obstacle() -> None:
    """Each transaction may get another connection that was wiped before: nothing relies on a session."""
    with opened("&timeout=20") as ledger:
        parts = pg_server.parameters(pg_server.shared())
        where = (
            str(parts["host"]),
            int(str(parts["port"])),
            str(parts["user"]),
            str(parts["dbname"]),
        )
        pooler = Pooler(*where)
        through = {**ledger.address.parts, "host": "127.0.0.1", "port": pooler.port}
        with closing(PostgresLedger(ledger.address._replace(parts=through))) as pooled:

            def take(thread: int) -> None:
                for number in range(15):
                    request = claiming(f"{thread}.{number}", quota(40), slot(10**6))
                    answer = pooled.perform(request)
                    if isinstance(answer, Granted):
                        assert isinstance(pooled.perform(settling(request, answer)), Settled)
                    else:
                        assert isinstance(answer, Refused)

            threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert state(pooled) == [("quota", [0, 40, 0])]
            assert len(list(pooled.entries())) == 100
        assert len(set(pooler.used)) == 3
        pooler.close()
