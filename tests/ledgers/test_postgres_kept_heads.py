"""Heads that were kept elsewhere, of ledgers that are in PostgreSQL now."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psycopg")

import pg_server
import psycopg
from archived import move, pay
from typer.testing import CliRunner

from sluicegate import Gate
from sluicegate.cli.app import app
from sluicegate.ledger.postgres import PostgresLedger
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.migrate import migrate

POLICY: dict[str, Any] = {"version": 1, "tools": {"pay": {"once": {"key": "pay:{n}"}}}}


def verified(url: str, *options: str) -> int:
    """The exit code of `journal verify`."""
    result = CliRunner().invoke(app, ["journal", "verify", "--ledger", url, *options, "--json"])
    assert (result.exit_code == 0) == json.loads(result.stdout)["ok"], result.output
    return result.exit_code


def kept(head: tuple[int, str]) -> str:
    """A head as it is given to `--head`."""
    return f"{head[0]}:{head[1]}"


def test_a_kept_head_fits_the_copy_of_a_shortened_ledger(tmp_path: Path) -> None:
    """Places may begin anew there; the entry, and all before it, are the same."""
    url, folder = pg_server.fresh(None), tmp_path / "a"
    with (
        closing(SqliteLedger(tmp_path / "l.db", durability="process")) as source,
        closing(PostgresLedger.at(url)) as target,
    ):
        gate = Gate(POLICY, source)
        pay(gate, 1)
        old = source.head()
        move(source, folder)
        pay(gate, 2)
        head = source.head()
        migrate(source, target)
        pay(Gate(POLICY, target), 3)
    assert verified(url, "--head", kept(head)) == 0
    assert verified(url, "--head", f"{head[0]}:{'ab' * 32}") == 1
    for one in (old, head):
        assert verified(url, "--archive", str(folder), "--head", kept(one)) == 0
    assert verified(url, "--head", kept(old)) == 0, "it is the one that the journal begins behind"
    pg_server.drop(url)


def test_a_place_that_was_given_in_vain_breaks_no_head() -> None:
    """A transaction that was rolled back leaves a gap among places, and none in the chain."""
    url = pg_server.fresh(None)
    with closing(PostgresLedger.at(url)) as ledger:
        gate = Gate(POLICY, ledger)
        pay(gate, 1)
        with psycopg.connect(pg_server.shared()) as beside:
            table = f"{ledger.address.namespace}.journal"
            beside.execute("SELECT nextval(pg_get_serial_sequence(%s, 'position'))", (table,))
        pay(gate, 2)
        head = ledger.head()
        assert head[0] != ledger.heads().popitem()[1][0]
        pay(gate, 3)
    assert verified(url, "--head", kept(head)) == 0
    assert verified(url, "--head", f"{head[0]}:{'ab' * 32}") == 1
    pg_server.drop(url)
