"""A journal in PostgreSQL whose old entries leave."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("psycopg")

from archived import assert_archived, assert_archived_under_load, assert_copied
from pg_ledgers import again, opened

from sluicegate import MemoryLedger


def test_old_entries_of_all_writers_leave(tmp_path: Path) -> None:
    """Two processes write; archive and table are the whole journal in its one order."""
    with opened() as one, closing(again(one)) as two:
        assert_archived(one, two, tmp_path / "a")


def test_a_shortened_journal_can_be_copied(tmp_path: Path) -> None:
    """To another namespace, and from memory."""
    with opened() as one, opened() as two, opened() as three:
        assert_copied(one, two, tmp_path / "a")
        assert_copied(MemoryLedger(), three, tmp_path / "b")


def test_entries_leave_under_load(tmp_path: Path) -> None:
    """Removing takes no lock that a commit waits for."""
    with opened() as one, closing(again(one)) as two:
        assert_archived_under_load(one, two, tmp_path / "a")
