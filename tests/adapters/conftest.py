"""What the tests of adapters share: a place for effects, a gate on each kind of ledger."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Gate

# In pytest's importlib mode a test's own folder is not on the path, and the scenes are there.
sys.path.insert(0, str(Path(__file__).parent))


class Effects:
    """What tools really did: rows of a SQLite database, each written by a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._do("CREATE TABLE effects (what TEXT)")

    def _do(self, sql: str, *values: object) -> list[Any]:
        database = sqlite3.connect(self._path, timeout=30)
        try:
            with database:
                return database.execute(sql, values).fetchall()
        finally:
            database.close()

    def add(self, *what: object) -> str:
        text = " ".join(map(str, what))
        self._do("INSERT INTO effects VALUES (?)", text)
        return text

    @property
    def all(self) -> list[str]:
        return [what for (what,) in self._do("SELECT what FROM effects ORDER BY rowid")]


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects.db")


@pytest.fixture
def make_gate(tmp_path: Path) -> Iterator[Callable[..., Gate]]:
    """Make a gate; those on SQLite are closed afterwards."""
    made: list[Gate] = []

    def make(policy: dict[str, Any], ledger: Any = "memory:", **options: Any) -> Gate:
        if ledger == "sqlite":
            ledger = f"sqlite:///{tmp_path / f'ledger-{len(made)}.db'}"
        made.append(Gate({"version": 1, **policy}, ledger, **options))
        return made[-1]

    yield make
    for gate in made:
        gate.close()
