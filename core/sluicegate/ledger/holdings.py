"""All that a ledger has, as it is handed to an empty one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..errors import LedgerError
from ..journal import GENESIS, Entry, link
from .base import Ledger, Out

__all__ = ["Holdings", "Restorable", "chained", "refuse_used", "sole_writer"]


class Holdings(NamedTuple):
    """
    *writers* are the names of those who wrote the journal, with the numbers that cells refer to
    them by: entry *seq* of writer *n* is n × 2³² + seq there. *floor* is the latest time seen.
    """

    writers: Mapping[str, int]
    floor: int
    entries: Iterable[Entry]
    cells: Iterable[tuple[str, Sequence[Any]]]
    permits: Iterable[Out]


@runtime_checkable
class Restorable(Protocol):
    """A ledger that can take over what another one has, and hand on its own."""

    def writers(self) -> Mapping[str, int]:
        """The number of each writer of the journal, by name."""
        ...

    def restore(self, holdings: Holdings) -> None:
        """
        Have exactly *holdings*, all of it or none; the chain of each writer goes on from there.

        Raises LedgerError if this ledger is not empty, or cannot keep what it is given.
        """
        ...


def refuse_used(ledger: Ledger) -> None:
    """Raise LedgerError if there is anything in *ledger*."""
    if any(seq for seq, _ in ledger.heads().values()) or next(iter(ledger.cells("")), None):
        raise LedgerError("the ledger to copy to is not empty; name one that is new")


def sole_writer(holdings: Holdings, what: str) -> str:
    """The only writer's name, for ledgers that have one chain. Raises LedgerError."""
    if len(holdings.writers) != 1:
        raise LedgerError(
            f"the journal has {len(holdings.writers)} writers, each with a chain of its own, and {what} has "
            "one; copy it to PostgreSQL or Redis"
        )
    ((name, number),) = holdings.writers.items()
    if number:
        raise LedgerError(
            f"the only writer of the journal has the number {number}, and entries in {what} are those of "
            "number 0, which the journal refers to; copy it to PostgreSQL or Redis"
        )
    return name


def chained(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries, each compared with the one before it by its writer. Raises LedgerError."""
    known: dict[str, tuple[int, str]] = {}
    for entry in entries:
        seq, last = known.get(entry.writer, (0, GENESIS))
        hashed = link(last, entry.writer, seq + 1, entry.body)
        if (entry.seq, entry.prev, entry.hash) != (seq + 1, last, hashed):
            raise LedgerError(
                f"entry {entry.seq} of writer {entry.writer} does not follow entry {seq}; "
                "see `sluicegate journal verify`"
            )
        known[entry.writer] = (entry.seq, entry.hash)
        yield entry
