"""Housekeeping in a ledger in PostgreSQL."""

from __future__ import annotations

from contextlib import closing

import pytest

pytest.importorskip("psycopg")

from pg_ledgers import again, opened
from swept import assert_exact_while_swept, assert_swept


def test_limits_are_exact_while_another_process_sweeps() -> None:
    """All keys of a batch are locked before any is looked at: a cell that was taken again stays."""
    with opened() as ledger, closing(again(ledger)) as other:
        assert_exact_while_swept(ledger, other)


def test_what_is_over_goes_and_is_on_record() -> None:
    """Three months later, by the time that the requests say."""
    with opened("&clock=caller") as ledger:
        assert_swept(ledger)
