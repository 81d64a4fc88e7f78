"""What a ledger can do whose journal can be shortened."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, runtime_checkable

from ..journal import Entry

__all__ = ["Trimmable"]


@runtime_checkable
class Trimmable(Protocol):
    """
    A ledger whose oldest journal entries can be removed; `archive.py` knows when they may be.

    The number of an entry, as cells refer to it, is its writer's number × 2³² + its place in
    that writer's chain. All methods raise LedgerError, and then nothing has changed.
    """

    def trim(self, upto: Mapping[str, int], keep: Collection[int]) -> None:
        """
        Remove each writer's entries up to that number of its chain, by the writer's name, in
        one transaction.

        They must be the oldest of the journal, and not all of it. Those in *keep* leave the
        journal like the others, but `body` still finds them. What is removed already stays so.
        """
        ...

    def kept(self) -> Iterable[tuple[int, Entry]]:
        """The entries that `trim` has kept, with their numbers, in the order of these."""
        ...

    def forget(self, numbers: Collection[int]) -> None:
        """Remove these kept entries for good; other numbers are passed over."""
        ...
