"""Copying ledgers into and out of PostgreSQL: numbers, chains and all that is alive."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psycopg")

from lived import POLICY, call, in_json, lived
from pg_ledgers import again, assert_whole, opened

from sluicegate import (
    Gate,
    LedgerError,
    MemoryLedger,
    Recorded,
    Succeeded,
)
from sluicegate.ledger import Ledger
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.migrate import Copied, migrate
from sluicegate.replay import replay


def assert_equal(one: Ledger, other: Ledger) -> None:
    """The same cells, permits, heads and entries, and the same replay."""
    assert dict(in_json(one)) == dict(in_json(other))
    assert sorted(one.out()) == sorted(other.out())
    assert one.heads() == other.heads()
    assert list(one.entries()) == list(other.entries())
    assert replay(one.entries()) == replay(other.entries())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_ledger_of_one_machine_moves_to_a_server_and_back(kind: str, tmp_path: Path) -> None:
    """Its one chain is writer 0 there, so all numbers stay; the server goes on with that very chain."""
    old = MemoryLedger() if kind == "memory" else SqliteLedger(tmp_path / "old.db")
    lived(old)
    with opened() as new:
        cells = len(list(old.cells("")))
        assert migrate(old, new) == Copied(7, cells, 2, 1)
        assert_equal(old, new)
        gate = Gate(POLICY, new)
        assert isinstance(gate.decide(call("a0")), Recorded)
        assert [unknown.permit_id for unknown in gate.unknowns()] == ["a-2"]
        gate.reconcile("a-2", Succeeded("it went through"), by="ada")
        lived(new, "b")
        assert len(new.heads()) == 1
        assert gate.journal.verify() is None
        assert replay(new.entries()).difference is None
        with closing(SqliteLedger(tmp_path / "back.db")) as back:
            migrate(new, back)
            assert_equal(new, back)
            assert isinstance(Gate(POLICY, back).decide(call("b0")), Recorded)
            assert replay(back.entries()).difference is None
    old.close()


def test_a_fleets_ledger_moves_to_another_namespace() -> None:
    """Several chains keep their writers, and their numbers; workers there go on with them."""
    with opened() as old, opened() as new:
        lived(old, "a")
        with closing(again(old)) as second:
            lived(second, "b")
            assert len(old.heads()) == 2
        assert migrate(old, new).writers == 2
        assert_equal(old, new)
        assert new.writers() == old.writers()
        for prefix in ("a", "b"):
            assert isinstance(Gate(POLICY, new).decide(call(f"{prefix}0")), Recorded)
        lived(new, "c")
        with closing(again(new)) as second:
            lived(second, "d")
            assert len(new.heads()) == 2
        assert replay(new.entries()).difference is None
        assert_whole(new)


def test_chains_of_a_fleet_do_not_fit_into_a_file(tmp_path: Path) -> None:
    """Refused, and the file stays empty."""
    with opened() as old, closing(again(old)) as second:
        lived(old, "a")
        lived(second, "b")
        with closing(SqliteLedger(tmp_path / "new.db")) as new:
            with pytest.raises(LedgerError, match="has 2 writers"):
                migrate(old, new)
            assert list(new.cells("")) == []


def test_a_server_that_has_a_ledger_is_not_written_to() -> None:
    """Refused, and as it was; a neighbour that has only looked does not count."""
    old = lived(MemoryLedger())
    with opened() as new, closing(again(new)) as neighbour:
        assert neighbour.cell("run|r") is None
        lived(new, "b")
        before = list(new.entries())
        with pytest.raises(LedgerError, match="is not empty"):
            migrate(old, new)
        assert list(new.entries()) == before


def test_what_breaks_on_the_way_leaves_the_server_empty() -> None:
    """A source that cannot be read to its end: nothing is there, and the next attempt works."""

    class Torn(MemoryLedger):
        def cells(self, prefix: str) -> Any:
            yield from super().cells(prefix)[:3]
            if not prefix:
                raise LedgerError("the disk is gone")

    torn = Torn()
    lived(torn)
    with opened() as new:
        with pytest.raises(LedgerError, match="the disk is gone"):
            migrate(torn, new)
        assert (new.head()[0], list(new.cells("")), new.out()) == (0, [], [])
        migrate(lived(MemoryLedger()), new)
        assert isinstance(Gate(POLICY, new).decide(call("a0")), Recorded)
