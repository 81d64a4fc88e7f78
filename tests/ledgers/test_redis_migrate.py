"""Copying ledgers into and out of Redis and Valkey: numbers, chains and all that is alive."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("redis")

from lived import POLICY, call, in_json, lived
from redis import Redis
from redis_server import namespace, shared

from sluicegate import (
    Deny,
    Gate,
    LedgerError,
    MemoryLedger,
    Recorded,
    Succeeded,
)
from sluicegate.ledger import Ledger
from sluicegate.ledger.redis import RedisLedger
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.migrate import Copied, migrate
from sluicegate.replay import replay


@pytest.fixture
def space() -> str:
    """A namespace on a real server."""
    shared()
    return namespace()


def on_server(space: str) -> RedisLedger:
    """The ledger in a namespace, as another process would have it."""
    return RedisLedger(shared(), namespace=space)


def assert_equal(one: Ledger, other: Ledger) -> None:
    """The same cells, permits, heads and entries, and the same replay."""
    assert dict(in_json(one)) == dict(in_json(other))
    assert sorted(one.out()) == sorted(other.out())
    assert one.heads() == other.heads()
    assert one.head() == other.head()
    assert list(one.entries()) == list(other.entries())
    assert replay(one.entries()) == replay(other.entries())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_ledger_of_one_machine_moves_to_a_server(kind: str, space: str, tmp_path: Path) -> None:
    """Its chain is that of writer 0 there and keeps its name; who writes next begins another."""
    old = MemoryLedger() if kind == "memory" else SqliteLedger(tmp_path / "old.db")
    lived(old)
    with closing(on_server(space)) as new:
        cells = len(list(old.cells("")))
        assert migrate(old, new) == Copied(7, cells, 2, 1)
        assert_equal(old, new)
        with closing(SqliteLedger(tmp_path / "back.db")) as back:
            migrate(new, back)
            assert_equal(old, back)
        gate = Gate(POLICY, new)
        assert isinstance(gate.decide(call("a0")), Recorded)
        assert [unknown.permit_id for unknown in gate.unknowns()] == ["a-2"]
        gate.reconcile("a-2", Succeeded("it went through"), by="ada")
        lived(new, "b")
        assert len(new.heads()) == 2
        assert gate.journal.verify() is None
        assert replay(new.entries()).difference is None
    old.close()


def test_a_fleets_ledger_moves_to_another_namespace(space: str) -> None:
    """Several chains keep their writers' names and numbers, and new ones do not mix with them."""
    with closing(on_server(space)) as old, closing(on_server(space)) as second:
        lived(old, "a")
        lived(second, "b")
        with closing(on_server(namespace())) as new:
            assert migrate(old, new).writers == 2
            assert_equal(old, new)
            assert new.writers() == old.writers()
            for prefix in ("a", "b"):
                assert isinstance(Gate(POLICY, new).decide(call(f"{prefix}0")), Recorded)
            lived(new, "c")
            assert sorted(new.writers().values()) == [0, 1, 2]
            assert Gate(POLICY, new).journal.verify() is None
            assert replay(new.entries()).difference is None


def test_a_namespace_that_has_a_ledger_is_not_written_to(space: str) -> None:
    """Refused, and as it was; also where a process has registered and written nothing yet."""
    old = lived(MemoryLedger())
    with closing(on_server(space)) as new:
        lived(new, "b")
        before = list(new.entries())
        with pytest.raises(LedgerError, match="is not empty"):
            migrate(old, new)
        with pytest.raises(LedgerError, match="is not empty"):
            new.restore(None)  # type: ignore[arg-type]
        assert list(new.entries()) == before


class Torn(MemoryLedger):
    """A source that cannot be read to its end."""

    def cells(self, prefix: str) -> Any:
        yield from super().cells(prefix)[:3]
        if not prefix:
            raise LedgerError("the disk is gone")


def test_what_breaks_on_the_way_leaves_nothing(space: str) -> None:
    """A source that cannot be read to its end: no key is left, and the next attempt works."""
    torn = Torn()
    lived(torn)
    with closing(on_server(space)) as new:
        with pytest.raises(LedgerError, match="the disk is gone"):
            migrate(torn, new)
        assert not Redis.from_url(shared()).keys(f"*{space}*")
        migrate(lived(MemoryLedger()), new)
        assert isinstance(Gate(POLICY, new).decide(call("a0")), Recorded)


def test_an_unfinished_copy_is_used_by_nobody(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who copies dies on the way: gates refuse every call there, and so does another copy."""
    torn = Torn()
    lived(torn)
    with closing(on_server(space)) as new:
        read = new._committer.store._read

        def dying(*command: Any) -> Any:
            if command[0] == "UNLINK":
                raise LedgerError("the connection is gone")
            return read(*command)

        monkeypatch.setattr(new._committer.store, "_read", dying)
        with pytest.raises(LedgerError, match="the disk is gone"):
            migrate(torn, new)
    with closing(on_server(space)) as left:
        decision = Gate(POLICY, left).decide(call("a0"))
        assert isinstance(decision, Deny)
        assert "unfinished-copy" in decision.reasons[0].message
        with pytest.raises(LedgerError, match="is not empty"):
            migrate(lived(MemoryLedger()), left)
