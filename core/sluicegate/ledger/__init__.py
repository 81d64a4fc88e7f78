"""Ledgers: where claims, permits and the journal live. Backends are imported when used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import LedgerError
from .base import Ledger
from .memory import MemoryLedger

if TYPE_CHECKING:
    from .sqlite import SqliteLedger

__all__ = ["Ledger", "MemoryLedger", "SqliteLedger", "beside", "open_beside", "open_ledger"]


def open_ledger(url: str) -> Ledger:
    """
    The ledger that *url* names: `memory:` or `sqlite:///path/to/file.db`.

    A SQLite URL takes the options of `SqliteLedger` as a query, such as
    `?durability=process`. Raises LedgerError for anything else.
    """
    if url == "memory:":
        return MemoryLedger()
    if url.startswith("sqlite:"):
        from .sqlite import SqliteLedger

        return SqliteLedger.at(url)
    scheme = url.partition(":")[0]
    raise LedgerError(
        f"no ledger is known for {scheme!r}; write memory: or sqlite:///path/to/file.db"
    )


def beside(policy: Path | None) -> Path:
    """The file of the default ledger of a policy: in `.sluicegate` beside it, or where the program runs."""
    folder = policy.parent if policy is not None else Path()
    return (folder / ".sluicegate" / "ledger.db").resolve()


def open_beside(policy: Path | None) -> Ledger:
    """The default ledger of a policy. Raises LedgerError."""
    from .sqlite import SqliteLedger

    return SqliteLedger(beside(policy))


def __getattr__(name: str) -> object:
    if name == "SqliteLedger":
        from .sqlite import SqliteLedger

        return SqliteLedger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
