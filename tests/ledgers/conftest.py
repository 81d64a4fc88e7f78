"""What the tests of ledgers share: one ledger of each kind, and clean ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluicegate.journal import verify
from sluicegate.ledger import Ledger, MemoryLedger
from sluicegate.ledger.sqlite import SqliteLedger

# In pytest's importlib mode a test's own folder is not on the path, and `requested` is there.
sys.path.insert(0, str(Path(__file__).parent))

LEDGERS: dict[str, Callable[[Path], Ledger]] = {
    "memory": lambda folder: MemoryLedger(),
    "sqlite": lambda folder: SqliteLedger(folder / "ledger.db"),
    "sqlite-process": lambda folder: SqliteLedger(folder / "ledger.db", durability="process"),
}


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger of each kind. Whatever a test did to it, its journal holds together."""
    made = LEDGERS[request.param](tmp_path)
    yield made
    assert verify(made.entries(), made.head()) is None
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a SQLite ledger may be made."""
    return tmp_path / "ledger.db"


@pytest.fixture
def sqlite_ledger(path: Path) -> Iterator[SqliteLedger]:
    """A new SQLite ledger with a short timeout."""
    made = SqliteLedger(path, timeout=0.5)
    yield made
    made.close()
