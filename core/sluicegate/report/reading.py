"""Reading what a run did from a ledger, and no more of its journal than that takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..claims.standing import run_key
from ..errors import LedgerError
from ..journal import Entry
from .account import report
from .value import Report

if TYPE_CHECKING:
    from ..ledger.base import Ledger
    from ..policy.compile import CompiledPolicy

__all__ = ["entries_since", "report_of"]


class _Unnumbered(Exception):
    """The numbers of this journal's entries are not their places in it."""


def report_of(ledger: Ledger, policy: CompiledPolicy, run: str, now: int) -> Report:
    """
    What *run* has done and owes at *now* (µs since 1970 UTC). Raises LedgerError.

    The ledger knows when the run began; what is before in the journal is not read. A report
    that begins at another time has missed something, and is made anew from the whole journal.
    """
    cell = ledger.cell(run_key(run))
    if cell is not None:
        try:
            found = report(run, policy, entries_since(ledger, cell[0]), now)
        except _Unnumbered:
            found = None
        if found is not None and found.began == cell[0]:
            return found
    return report(run, policy, ledger.entries(), now)


def entries_since(ledger: Ledger, at: int) -> Iterator[Entry]:
    """
    The entries of the time *at* and later, found by halving.

    That takes a journal of one writer, in which an entry's number is its place and times do
    not fall. An entry whose number is its place shows that nobody else has written before it,
    since each writer counts its own; so what was skipped is known to be earlier. In any other
    journal it raises _Unnumbered as soon as that shows, and the caller has to read all of it;
    where there is no entry at all nothing can show.
    """
    place = _last_before(ledger, at)
    for entry in ledger.entries(place):
        place += 1
        if entry.seq != place:
            raise _Unnumbered
        yield entry


def _last_before(ledger: Ledger, at: int) -> int:
    """The number of the last entry that is older than *at*; 0 if there is none."""
    low, high = 0, ledger.head()[0]
    while low < high:
        middle = (low + high + 1) // 2
        try:
            content = json.loads(ledger.body(middle))
        except (LedgerError, LookupError):  # a ledger that is down will say so again
            raise _Unnumbered from None
        low, high = (middle, high) if content["at"] < at else (low, middle - 1)
    return low
