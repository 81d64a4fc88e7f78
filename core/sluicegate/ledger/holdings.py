"""All that a ledger has, as it is handed to an empty one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..errors import LedgerError
from ..journal import Entry, link
from .base import Ledger, Out

__all__ = ["Holdings", "Restorable", "chained", "refuse_used", "seq_of_sole", "sole_writer"]


class Holdings(NamedTuple):
    """
    *writers* are the names of those who wrote the journal, with the numbers that cells refer to
    them by: entry *seq* of writer *n* is n × 2³² + seq there. *heads* are number and hash of the
    last entry of each. The journal may begin later than its chains did (`Trimmable`); *kept* are
    those of the *gone* entries before that are still referred to. *floor* is the latest time seen.
    """

    writers: Mapping[str, int]
    heads: Mapping[str, tuple[int, str]]
    floor: int
    entries: Iterable[Entry]
    kept: Iterable[tuple[int, Entry]]
    cells: Iterable[tuple[str, Sequence[Any]]]
    permits: Iterable[Out]
    gone: int = 0


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


def seq_of_sole(upto: Mapping[str, int], writer: str, last: int) -> int:
    """
    Up to which entry to trim a journal that has one *writer*, and ends with entry *last*.

    Raises LedgerError for another writer, or if nothing would be left.
    """
    others = sorted(upto.keys() - {writer})
    if others:
        raise LedgerError(f"the journal has no writer {others[0]!r:.80}; its only one is {writer}")
    seq = upto.get(writer, 0)
    if seq >= last > 0:
        raise LedgerError(f"the journal ends with entry {last}: entries up to {seq} cannot all go")
    return seq


def chained(entries: Iterable[Entry]) -> Iterator[Entry]:
    """
    The entries, each compared with the one before it by its writer. Raises LedgerError.

    Where a chain begins is for `Journal.verify` to judge.
    """
    known: dict[str, tuple[int, str]] = {}
    for entry in entries:
        seq, last = known.get(entry.writer, (entry.seq - 1, entry.prev))
        hashed = link(last, entry.writer, seq + 1, entry.body)
        if (entry.seq, entry.prev, entry.hash) != (seq + 1, last, hashed):
            raise LedgerError(
                f"entry {entry.seq} of writer {entry.writer} does not follow entry {seq}; "
                "see `sluicegate journal verify`"
            )
        known[entry.writer] = (entry.seq, entry.hash)
        yield entry
