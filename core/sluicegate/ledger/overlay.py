"""Books over a ledger that keep every change to themselves: for what only might happen."""

from __future__ import annotations

from typing import Protocol

from ..claims import Cell

__all__ = ["Below", "Overlay"]


class Below(Protocol):
    """What an overlay reads: any ledger will do."""

    @property
    def floor(self) -> int: ...
    def cell(self, key: str, /) -> Cell: ...
    def body(self, entry: int, /) -> str: ...


class Overlay:
    """
    `Books` that read from *below* and write nowhere else than into themselves.

    Each cell is read once, so that what others do in the meantime cannot be half seen.
    Entries are numbered down from -1: no ledger has such numbers, so an entry made here
    is never taken for one that happened. Permits are those made here; one that is
    out in the ledger cannot be settled through an overlay.
    """

    def __init__(self, below: Below) -> None:
        self._below = below
        self._read: dict[str, Cell] = {}
        self._bodies: list[str] = []
        self._permits: dict[str, tuple[int, int]] = {}
        self.changed: dict[str, Cell] = {}
        self.floor = below.floor

    def cell(self, key: str) -> Cell:
        return self.changed[key] if key in self.changed else self.before(key)

    def before(self, key: str) -> Cell:
        """The cell as it is below, whatever was put over it."""
        if key not in self._read:
            self._read[key] = self._below.cell(key)
        return self._read[key]

    def put(self, key: str, cell: Cell) -> None:
        self.before(key)  # what is below is read before it is covered
        self.changed[key] = cell

    @property
    def next(self) -> int:
        return -1 - len(self._bodies)

    def permit(self, permit: str) -> tuple[int, int] | None:
        return self._permits.get(permit)

    def put_permit(self, permit: str, out: tuple[int, int] | None) -> None:
        if out is None:
            self._permits.pop(permit, None)
        else:
            self._permits[permit] = out

    def append(self, at: int, rest: str) -> int:
        number = self.next
        self._bodies.append(f'{{"at":{at},{rest}')
        self.floor = at
        return number

    def body(self, entry: int) -> str:
        return self._bodies[-1 - entry] if entry < 0 else self._below.body(entry)
