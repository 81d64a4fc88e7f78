"""
Housekeeping at a ledger: a bounded step now and then, or all of it at once.

What a cell has to be like to be removed is said in `housekeeping`. Each batch is one
request, which looks at its cells again inside the transaction: a cell that was taken
again after it was listed stays.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from .archive import Archive, Archiver
from .claims import Cell
from .claims.standing import run_key
from .drive import Inquire, Steps
from .errors import LedgerError
from .housekeeping import Keep, family, over, run_of, sweeping
from .ledger.base import Amended, Ledger

__all__ = ["Page", "Sweeper", "sweeper_given"]

_log: Final = logging.getLogger("sluicegate")

PAGE: Final = 256
"""A step looks at so many cells…"""

BATCH: Final = 128
"""…and removes so many at most in one transaction: PostgreSQL has room for some thousand locks…"""

PACES: Final = ((0.5, 16), (0.05, 64), (0.0, 256))
"""…after so many decisions, where at least that part of what was looked at was over. A call makes
two or three cells, seldom eight: so what is over is never much more than what is not."""

_RUNS: Final = 10_000
_TRIES: Final = 3


@runtime_checkable
class _Walkable(Protocol):
    """A ledger that would have to read all of its cells to give them in order."""

    def walk(self) -> Iterable[tuple[str, Sequence[Any]]]: ...


class Page(NamedTuple):
    """Some cells: how many were looked at, and which are over."""

    looked: int
    over: tuple[str, ...]


class Sweeper:
    """
    Goes round the cells of *ledger*, page after page, and begins again at the end. After each
    round old entries of the journal are moved to *archive*, if there is one.

    Safe for threads: while one looks, the others have nothing to do. Raises ValueError for a
    *keep* with a time below 0, and LedgerError for a ledger that cannot be archived.
    """

    def __init__(
        self, ledger: Ledger, keep: Keep | None = None, archive: Archive | None = None
    ) -> None:
        self.keep = keep if keep is not None else Keep()
        if min(self.keep) < 0:
            raise ValueError(f"{self.keep} has a time below 0; give µs, 0 or more")
        self._ledger = ledger
        self.archiver = None if archive is None else Archiver(ledger, archive)
        self._guard = Lock()
        self._cells: Iterator[tuple[str, Sequence[Any]]] | None = None
        self._left = self._pace = _pace(0, 0)
        self._round = [0, 0]
        """How many cells of this round were over, and how many were looked at."""
        self._runs: dict[str, Cell] = {}

    # --- on the way ---------------------------------------------------------------------------------

    def due(self) -> bool:
        """To be asked before each decision: whether it is time for a step."""
        self._left -= 1
        return self._left <= 0

    def stepping(self, now: int) -> Steps[None]:
        """
        A page is looked at, and what is over is removed; or a segment of the journal is moved.
        A ledger that fails here fails nobody: the decision will find out.
        """
        self._left = self._pace
        archiver = self.archiver
        try:
            if archiver is not None and archiver.ready:
                # Until it has finished nobody looks at cells: so it is not to take long.
                self._left = PACES[0][1]
                yield Inquire(partial(archiver.step, now, partial=False))
                return
            page = yield Inquire(partial(self.look, now))
            self._left = min(self._pace, _pace(len(page.over), page.looked))
            if archiver is not None and archiver.ready:
                self._left = PACES[0][1]
            for keys in _batches(page.over):
                yield sweeping(now, keys, self.keep)
        except LedgerError as error:
            _log.warning("housekeeping is put off: %s", error)

    # --- all of it --------------------------------------------------------------------------------

    def pages(self, now: int) -> Iterator[Page]:
        """All cells of the ledger once, as they are found at *now*. Raises LedgerError."""
        self._cells = None
        while (page := self.look(now)).looked:
            yield page
            if page.looked < PAGE:
                return

    def sweep(self, now: int, page: Page) -> Counter[str]:
        """Remove what is over on *page*; how many of each kind it was. Raises LedgerError."""
        removed = Counter[str]()
        for keys in _batches(page.over):
            removed += self._remove(now, keys)
        return removed

    def look(self, now: int) -> Page:
        """The next page; an empty one at the end, or while another thread looks. Raises LedgerError."""
        if not self._guard.acquire(blocking=False):
            return Page(0, ())
        try:
            if self._cells is None:
                self._runs.clear()
                self._round = [0, 0]
                if self.archiver is not None:
                    self.archiver.begin()
                self._cells = iter(_all_cells(self._ledger))
            cells = list(islice(self._cells, PAGE))
            if self.archiver is not None:
                for key, cell in cells:
                    self.archiver.note(key, cell)
            owners = [run_of(key) for key, _ in cells]
            self._learn({run for run in owners if run is not None})
            pairs = zip(cells, owners, strict=True)
            found = (key for (key, cell), run in pairs if self._over(key, cell, run, now))
            page = Page(len(cells), tuple(dict.fromkeys(found)))
            self._round[0] += len(page.over)
            self._round[1] += page.looked
            if page.looked < PAGE:
                self._end()
            return page
        except BaseException:
            self._cells = None  # a reading that failed does not go on
            raise
        finally:
            self._guard.release()

    # --- below --------------------------------------------------------------------------------------

    def _end(self) -> None:
        """All cells have been looked at: the next round is as fast as this one should have been."""
        self._cells = None
        self._pace = _pace(*self._round)
        if self.archiver is not None:
            self.archiver.end()

    def _remove(self, now: int, keys: tuple[str, ...]) -> Counter[str]:
        for _ in range(_TRIES):
            if not keys:
                break
            if type(self._ledger.perform(sweeping(now, keys, self.keep))) is Amended:
                return Counter(map(family, keys))
            self._runs.clear()
            known = ((key, self._ledger.cell(key)) for key in keys)  # something was taken again
            keys = tuple(
                key
                for key, cell in known
                if cell is not None and self._over(key, cell, run_of(key), now)
            )
        return Counter()

    def _over(self, key: str, cell: Sequence[Any], run: str | None, now: int) -> bool:
        return over(key, cell, None if run is None else self._run(run), now, self.keep)

    def _run(self, run: str) -> Cell:
        """The cell of a run, as it was at some time in this round: it only gets younger."""
        if run not in self._runs:
            self._runs[run] = self._ledger.cell(run_key(run))
        return self._runs[run]

    def _learn(self, runs: Collection[str]) -> None:
        """Look at all runs of a page at once."""
        if len(self._runs) >= _RUNS:
            self._runs.clear()
        new = sorted({*runs} - self._runs.keys())
        if new:
            cells = self._ledger.look([run_key(run) for run in new])
            self._runs.update(zip(new, cells, strict=True))


def sweeper_given(
    ledger: Ledger, housekeeping: bool | Keep, archive: str | Path | Archive | None
) -> Sweeper | None:
    """
    Who does the housekeeping on the way, if that is wanted.

    Raises ValueError for an archive without it, and LedgerError for a ledger that cannot be archived.
    """
    if housekeeping is False:
        if archive is not None:
            raise ValueError(
                "an archive is filled by housekeeping on the way, which is off; leave one of the two out, "
                "and use `sluicegate housekeep --archive` where it is the command's"
            )
        return None
    if archive is not None and not isinstance(archive, Archive):
        archive = Archive(Path(archive))
    return Sweeper(ledger, None if housekeeping is True else housekeeping, archive)


def _pace(over: int, looked: int) -> int:
    return next(count for part, count in PACES if over >= part * looked and (over or not part))


def _batches(keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (keys[first : first + BATCH] for first in range(0, len(keys), BATCH))


def _all_cells(ledger: Ledger) -> Iterable[tuple[str, Sequence[Any]]]:
    return ledger.walk() if isinstance(ledger, _Walkable) else ledger.cells("")
