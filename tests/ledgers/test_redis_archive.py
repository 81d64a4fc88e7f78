"""A journal on Redis or Valkey whose old entries leave."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("redis")

from archived import assert_archived, assert_archived_under_load, assert_copied
from redis_server import namespace, shared

from sluicegate import MemoryLedger
from sluicegate.ledger.redis import RedisLedger


def test_old_entries_of_all_writers_leave(tmp_path: Path) -> None:
    """Two processes write; archive and stream are the whole journal in its one order."""
    space = namespace()
    with (
        closing(RedisLedger(shared(), namespace=space)) as one,
        closing(RedisLedger(shared(), namespace=space)) as two,
    ):
        assert_archived(one, two, tmp_path / "a")


def test_a_shortened_journal_can_be_copied(tmp_path: Path) -> None:
    """To another namespace, and from memory."""
    with (
        closing(RedisLedger(shared(), namespace=namespace())) as one,
        closing(RedisLedger(shared(), namespace=namespace())) as two,
        closing(RedisLedger(shared(), namespace=namespace())) as three,
    ):
        assert_copied(one, two, tmp_path / "a")
        assert_copied(MemoryLedger(), three, tmp_path / "b")


def test_entries_leave_under_load(tmp_path: Path) -> None:
    """The script removes a thousand at most at once, and commits go on in between."""
    space = namespace()
    with (
        closing(RedisLedger(shared(), namespace=space)) as one,
        closing(RedisLedger(shared(), namespace=space)) as two,
    ):
        assert_archived_under_load(one, two, tmp_path / "a")
