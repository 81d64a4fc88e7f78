"""
Copying a ledger that nothing uses into an empty one, of whatever kind.

Everything goes along as it is: cells, permits that are out, the time, and the journal with
the chain of each writer, hash by hash. So a copy decides like its source would, `verify`
and `replay` say the same of both, and a head that was kept elsewhere still fits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple, TypeVar

from .archiving import ARCHIVED
from .errors import LedgerError
from .journal import Entry, Journal
from .ledger import Ledger
from .ledger.holdings import Holdings, Restorable, refuse_used
from .ledger.trimming import Trimmable
from .people import Scope, halting

__all__ = ["Copied", "NotEqual", "migrate"]

T = TypeVar("T")

_END: Final = object()


class Copied(NamedTuple):
    """What was copied, and is equal on both sides."""

    entries: int
    cells: int
    permits: int
    writers: int


class NotEqual(LedgerError):
    """The copy is not what its source is; it is halted and of no use."""


def migrate(
    source: Ledger, target: Ledger, tell: Callable[[str, int], None] = lambda what, count: None
) -> Copied:
    """
    Copy *source*, which nothing may use meanwhile, into *target*, which must be empty.

    *tell* is called now and then with what is being done, and how far it is. Raises LedgerError,
    and then the target is as empty as before; or NotEqual, and then everything in it is halted.
    Afterwards use the target only: the source would decide as if the target had not.
    """
    heads = _checked(source, target)
    holdings = Holdings(
        writers=_numbers(source, heads),
        heads=heads,
        floor=source.floor,
        entries=_counted(source.entries(), "entries copied", tell),
        kept=_kept(source),
        cells=_counted(source.cells(""), "cells copied", tell),
        permits=source.out(),
        gone=_gone(source, heads),
    )
    assert isinstance(target, Restorable)  # noqa: S101 - _checked has seen to it
    target.restore(holdings)
    try:
        if target.floor < holdings.floor:
            raise NotEqual("the copy does not know the latest time that its source has seen")
        return _compared(source, target, heads, tell)
    except NotEqual as unequal:
        _spoil(target, str(unequal))
        raise


def _checked(source: Ledger, target: Ledger) -> dict[str, tuple[int, str]]:
    """The heads of *source*, if it can be copied to *target*. Raises LedgerError."""
    if not isinstance(target, Restorable):
        raise LedgerError(
            f"a {type(target).__name__} has no `restore`, so it cannot take over another ledger"
        )
    heads = _written(source)
    if source is target or (heads and heads == _written(target)):
        raise LedgerError("both are the same ledger; name another one to copy to")
    if not heads:
        raise LedgerError("the ledger to copy from is empty: there is nothing to copy")
    refuse_used(target)
    broken = Journal(source).verify()
    if broken is not None:
        raise LedgerError(
            f"the journal to copy does not verify: {broken.problem}; see `sluicegate journal verify`"
        )
    return heads


def _numbers(ledger: Ledger, heads: Mapping[str, object]) -> dict[str, int]:
    """The numbers of those who have written."""
    if not isinstance(ledger, Restorable):
        raise LedgerError(
            f"a {type(ledger).__name__} has no `writers` and `restore`, so it cannot be copied"
        )
    return {name: number for name, number in ledger.writers().items() if name in heads}


def _written(ledger: Ledger) -> dict[str, tuple[int, str]]:
    return {writer: head for writer, head in ledger.heads().items() if head[0]}


# --- is it the same? ------------------------------------------------------------------------------


def _compared(
    source: Ledger,
    target: Ledger,
    heads: dict[str, tuple[int, str]],
    tell: Callable[[str, int], None],
) -> Copied:
    """What both have, if they have the same. Raises NotEqual."""
    if _written(source) != heads:
        raise NotEqual("the source has changed while it was copied; stop what uses it")
    if _written(target) != heads or _numbers(target, heads) != _numbers(source, heads):
        raise NotEqual("the journal of the copy does not end where its source does")
    entries = _equal(source.entries(), target.entries(), "entries compared", tell)
    cells = _equal(_cells(source), _cells(target), "cells compared", tell)
    _equal(_kept(source), _kept(target), "kept entries compared", tell)
    permits = _equal(sorted(source.out()), sorted(target.out()), "permits compared", tell)
    broken = Journal(target).verify()
    if broken is not None:
        raise NotEqual(f"the journal of the copy does not verify: {broken.problem}")
    return Copied(entries, cells, permits, len(heads))


def _gone(ledger: Ledger, heads: Mapping[str, tuple[int, str]]) -> int:
    """How many entries were archived: places in the journal are counted with them."""
    if ledger.cell(ARCHIVED) is None:
        return 0
    return sum(seq for seq, _ in heads.values()) - sum(1 for _ in ledger.entries())


def _kept(ledger: Ledger) -> Iterable[tuple[int, Entry]]:
    """What is left of entries that were archived."""
    return ledger.kept() if isinstance(ledger, Trimmable) else ()


def _cells(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """Cells as JSON: in memory they may hold tuples, and elsewhere lists."""
    return ((key, json.dumps(cell)) for key, cell in ledger.cells(""))


def _equal(
    one: Iterable[T], other: Iterable[T], what: str, tell: Callable[[str, int], None]
) -> int:
    count = 0
    pairs: Iterable[Sequence[Any]] = zip_longest(one, other, fillvalue=_END)
    for count, (a, b) in enumerate(_counted(pairs, what, tell), 1):
        if a != b:
            raise NotEqual(f"{what}: number {count} is not the same in the copy")
    return count


def _counted(items: Iterable[T], what: str, tell: Callable[[str, int], None]) -> Iterator[T]:
    for count, item in enumerate(items, 1):
        yield item
        if count % 1000 == 0:
            tell(what, count)


def _spoil(target: Ledger, problem: str) -> None:
    """Let nothing run by a copy that is not equal to its source."""
    reason = f"this copy of a ledger is not equal to its source ({problem}): remove it, copy anew"
    target.perform(halting(target.floor, Scope(), "sluicegate migrate", reason))
