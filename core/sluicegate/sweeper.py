"""
Housekeeping at a ledger: a bounded step now and then, or all of it at once.

What a cell has to be like to be removed is said in `housekeeping`. Each batch is one
request, which looks at its cells again inside the transaction: a cell that was taken
again after it was listed stays.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from .claims import Cell
from .claims.standing import run_key
from .drive import Inquire, Steps
from .errors import LedgerError
from .housekeeping import Keep, family, over, run_of, sweeping
from .ledger.base import Amended, Ledger

__all__ = ["Page", "Sweeper"]

_log: Final = logging.getLogger("sluicegate")

PAGE: Final = 256
"""A step looks at so many cells…"""

BATCH: Final = 128
"""…and removes so many at most in one transaction: PostgreSQL has room for some thousand locks…"""

EVERY: Final = 64
"""…after so many decisions…"""

SOONER: Final = 16
"""…or after so many, where half of the last page was over. A call makes two or three cells,
seldom eight: so what is over is never much more than what is not."""

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
    Goes round the cells of *ledger*, page after page, and begins again at the end.

    Safe for threads: while one looks, the others have nothing to do. Raises ValueError for a
    *keep* with a time below 0.
    """

    def __init__(self, ledger: Ledger, keep: Keep | None = None) -> None:
        self.keep = keep if keep is not None else Keep()
        if min(self.keep) < 0:
            raise ValueError(f"{self.keep} has a time below 0; give µs, 0 or more")
        self._ledger = ledger
        self._guard = Lock()
        self._cells: Iterator[tuple[str, Sequence[Any]]] | None = None
        self._left = EVERY
        self._runs: dict[str, Cell] = {}

    # --- on the way ---------------------------------------------------------------------------------

    def stepping(self, now: int) -> Steps[None]:
        """
        To be gone through before each decision: every now and then a page is looked at, and what
        is over is removed. A ledger that fails here fails nobody: the decision will find out.
        """
        self._left -= 1
        if self._left > 0:
            return
        self._left = EVERY
        try:
            page = yield Inquire(partial(self.look, now))
            if 2 * len(page.over) > page.looked:
                self._left = SOONER
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
                self._cells = iter(_all_cells(self._ledger))
            cells = list(islice(self._cells, PAGE))
            if not cells:
                self._cells = None
            found = tuple(dict.fromkeys(k for k, cell in cells if self._over(k, cell, now)))
            return Page(len(cells), found)
        except BaseException:
            self._cells = None  # a reading that failed does not go on
            raise
        finally:
            self._guard.release()

    # --- below --------------------------------------------------------------------------------------

    def _remove(self, now: int, keys: tuple[str, ...]) -> Counter[str]:
        for _ in range(_TRIES):
            if not keys:
                break
            if type(self._ledger.perform(sweeping(now, keys, self.keep))) is Amended:
                return Counter(map(family, keys))
            self._runs.clear()
            known = ((key, self._ledger.cell(key)) for key in keys)  # something was taken again
            keys = tuple(
                key for key, cell in known if cell is not None and self._over(key, cell, now)
            )
        return Counter()

    def _over(self, key: str, cell: Sequence[Any], now: int) -> bool:
        run = run_of(key)
        return over(key, cell, None if run is None else self._run(run), now, self.keep)

    def _run(self, run: str) -> Cell:
        """The cell of a run, as it was at some time in this round: it only gets younger."""
        if run not in self._runs:
            if len(self._runs) >= _RUNS:
                self._runs.clear()
            self._runs[run] = self._ledger.cell(run_key(run))
        return self._runs[run]


def _batches(keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (keys[first : first + BATCH] for first in range(0, len(keys), BATCH))


def _all_cells(ledger: Ledger) -> Iterable[tuple[str, Sequence[Any]]]:
    return ledger.walk() if isinstance(ledger, _Walkable) else ledger.cells("")
