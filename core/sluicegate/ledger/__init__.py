"""Ledgers: where claims, permits and the journal live. Backends are imported when used."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import LedgerError
from .base import Ledger
from .memory import MemoryLedger

if TYPE_CHECKING:
    from .sqlite import SqliteLedger

__all__ = ["Ledger", "MemoryLedger", "SqliteLedger", "beside", "open_beside", "open_ledger"]


_REDIS: Final = frozenset({"redis", "rediss", "unix"})
_POSTGRES: Final = frozenset({"postgresql", "postgres"})


def open_ledger(url: str) -> Ledger:
    """
    The ledger that *url* names: `memory:`, `sqlite:///path/to/file.db`,
    `redis://host:6379/0` (`rediss://`, `unix://`) or `postgresql://host/database`.

    URLs take the options of their ledger as a query, such as `?durability=process` or
    `?namespace=acme`. Raises LedgerError for anything else, and never repeats a password.
    """
    scheme = url.partition(":")[0]
    if url == "memory:":
        return MemoryLedger()
    if scheme == "sqlite":
        from .sqlite import SqliteLedger

        return SqliteLedger.at(url)
    if scheme in _REDIS:
        _installed("redis", "redis")
        from .redis import RedisLedger

        return RedisLedger.at(url)
    if scheme in _POSTGRES:
        _installed("psycopg", "postgres")
        from .postgres import PostgresLedger

        return PostgresLedger.at(url)
    named = f" for {scheme!r:.20}" if url.startswith(f"{scheme}://") else ""
    raise LedgerError(
        f"no ledger is known{named}; write memory:, sqlite:///path/to/file.db, "
        "redis://host:6379/0 or postgresql://host/database"
    )


def _installed(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise LedgerError(
            f"this ledger needs {module}, which is not installed; pip install 'sluicegate[{extra}]'"
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
