"""Reading what a run did from a ledger, and no more of its journal than that takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..archiving import ARCHIVED, Archived, state_of
from ..claims.standing import run_key
from ..errors import LedgerError
from ..housekeeping import MARGIN
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
    What *run* has done and owes at *now* (µs since 1970 UTC).

    The ledger knows when the run began; what is before in the journal is not read. A report
    that begins at another time has missed something, and is made anew from the whole journal.

    Raises LedgerError, also for a run of which entries may have been moved to an archive: what
    it owes is not known without them. A report with `began` None says that nothing is known of
    the run. Then it has not acted; or all of its entries are in the archive, and so is that the
    ledger has forgotten the run since.
    """
    cell, moved = ledger.cell(run_key(run)), state_of(ledger.cell(ARCHIVED))
    if cell is not None:
        try:
            found = report(run, policy, entries_since(ledger, cell[0], moved), now)
        except _Unnumbered:
            found = None
        if found is not None and found.began == cell[0]:
            return found
    seen = _Beginning(run, moved)
    found = report(run, policy, seen.all(ledger.entries()), now)
    known = cell is not None or found.began is not None or seen.forgotten
    if known and not seen.all_since(None if cell is None else cell[0]):
        raise LedgerError(seen.doubt())
    return found


class _Beginning:
    """Where a journal that was read begins, and whether that is early enough for a run."""

    def __init__(self, run: str, moved: Archived) -> None:
        self._run = run
        self._moved = moved
        self._first: Entry | None = None
        self._last: dict[str, int] = {}
        self._late = self._gap = False
        self.forgotten = False
        """Whether an entry says that housekeeping has forgotten the run."""

    def all(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, each looked at."""
        for entry in entries:
            self._first = self._first or entry
            known = self._last.get(entry.writer)
            self._late = self._late or (known is None and entry.seq > 1)
            self._gap = self._gap or (known is not None and entry.seq != known + 1)
            self._last[entry.writer] = entry.seq
            if '"kind":"swept"' in entry.body:
                self.forgotten = self.forgotten or self._names_it(entry)
            yield entry

    def all_since(self, began: int | None) -> bool:
        """Whether all entries since *began*, in µs, were read; None is the beginning of all."""
        writers = self._moved.upto.keys() | self._last.keys()
        if self._gap:
            return False
        if not self._late and writers == self._last.keys():
            return True
        if self._first is None or began is None:
            return False
        margin = MARGIN if len(writers) > 1 else 1  # the clocks of several writers are not one
        return self._first.at + margin <= began

    def doubt(self) -> str:
        """Why there is no report."""
        if self._gap or not self._moved.segments:
            return "entries of the journal are missing; `sluicegate journal verify` says which"
        return (
            f"what run {self._run!r:.120} has done may not all be in the journal any more: old entries "
            "were moved to an archive; `sluicegate run-report --archive DIR` reads them, too"
        )

    def _names_it(self, entry: Entry) -> bool:
        content = entry.content
        return content["kind"] == "swept" and run_key(self._run) in content["keys"]


def entries_since(ledger: Ledger, at: int, moved: Archived) -> Iterator[Entry]:
    """
    The entries of the time *at* and later, found by halving.

    That takes a journal of one writer, in which an entry's number is its place and times do
    not fall. An entry whose number is its place shows that nobody else has written before it,
    since each writer counts its own; so what was skipped is known to be earlier. In any other
    journal it raises _Unnumbered as soon as that shows, and the caller has to read all of it;
    where there is no entry at all nothing can show. It does so, too, where entries were *moved*
    to an archive, and none of those that are left is earlier than *at*.
    """
    if len(moved.upto) > 1:
        raise _Unnumbered
    gone = max((seq for seq, _ in moved.upto.values()), default=0)
    place = _last_before(ledger, at, gone)
    if 0 < place == gone:
        raise _Unnumbered
    for entry in ledger.entries(place):
        place += 1
        if entry.seq != place:
            raise _Unnumbered
        yield entry


def _last_before(ledger: Ledger, at: int, low: int) -> int:
    """The number of the last entry behind *low* that is older than *at*; *low* if there is none."""
    high = ledger.head()[0]
    while low < high:
        middle = (low + high + 1) // 2
        try:
            content = json.loads(ledger.body(middle))
        except (LedgerError, LookupError):  # a ledger that is down will say so again
            raise _Unnumbered from None
        low, high = (middle, high) if content["at"] < at else (low, middle - 1)
    return low
