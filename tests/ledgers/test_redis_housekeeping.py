"""Housekeeping in a ledger on Redis or Valkey."""

from __future__ import annotations

from contextlib import closing

import pytest

pytest.importorskip("redis")

from redis_server import namespace, shared
from swept import assert_exact_while_swept, assert_swept

from sluicegate.ledger.redis import RedisLedger


def test_limits_are_exact_while_another_process_sweeps() -> None:
    """The script compares what was looked at: a cell that was taken again stays."""
    space = namespace()
    with (
        closing(RedisLedger(shared(), namespace=space)) as ledger,
        closing(RedisLedger(shared(), namespace=space)) as other,
    ):
        assert_exact_while_swept(ledger, other)


def test_what_is_over_goes_and_is_on_record() -> None:
    """Three months later, by the time that the requests say."""
    with closing(RedisLedger(shared(), namespace=namespace(), exact_time=True)) as ledger:
        assert_swept(ledger)


def test_cells_are_walked_page_by_page() -> None:
    """All of them come up, in whatever order."""
    with closing(RedisLedger(shared(), namespace=namespace(), exact_time=True)) as ledger:
        assert_swept(ledger)
        assert sorted(ledger.walk()) == ledger.cells("")
