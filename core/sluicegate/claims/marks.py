"""
Facts about a run: steps done, labels seen, values that came up. Claims that look at them.

What makes such a fact is a note: `write(cell, at, entry)` gives the cell afterwards. It
is written when a result can reach the model, in the transaction that records the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ..decision import Reason
from .base import Cell, Ending, Hold, Refusal, Taken

__all__ = [
    "BUCKET",
    "Barrier",
    "Came",
    "Done",
    "Labels",
    "Needs",
    "Note",
    "Shown",
    "Traced",
    "labels_key",
    "seen_labels",
]

BUCKET: Final = 64
"""So many values at most are kept in each of a run's 256 buckets."""


def labels_key(root: str) -> str:
    """The key of the cell that has the labels seen by a run and those inside of it."""
    return f"labels|{root}"


class Needs(NamedTuple):
    """
    Another call must have succeeded before in this run.

    The cell is that of `Done`. *wanted* says which call, in words.
    """

    key: str
    rule: str
    tool: str
    wanted: str

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Refuse until it has."""
        if cell is not None:
            return None
        message = (
            f"{self.tool} needs {self.wanted} to have succeeded earlier in this run; call it first"
        )
        return Refusal(Reason("order", self.rule, message, 0.0))

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        return cell


class Done(NamedTuple):
    """The note that a step has succeeded. The cell is (journal entry,)."""

    key: str

    def write(self, cell: Cell, at: int, entry: int) -> Cell:
        return cell or (entry,)


class Labels(NamedTuple):
    """
    The run has seen these labels, from the moment when a result that has them may come.

    The cell is (label, tool, permit, expires, …): expires 0 is a label that is set, and a
    call that was never settled sets it when its lease ends. Until one of the two the label is
    on its way. It is certain to be set, and it counts already: whether the result was handed
    on cannot be told from here. Only calls of the same *turn* were composed without it, so
    where there is a turn the cell has (tool, turn) in the place of the tool.
    """

    key: str
    labels: tuple[str, ...]
    tool: str
    turn: str | None = None

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Note that the labels are on their way."""
        known = _known(cell)
        new = [label for label in self.labels if label not in known]
        if not new:
            return None
        tool = self.tool if self.turn is None else (self.tool, self.turn)
        coming = (part for label in new for part in (label, tool, hold.permit, hold.expires))
        return (*(cell or ()), *coming)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        """Set them, whatever became of the call: the model is told of errors too."""
        known = _known(cell)
        kept: list[Any] = []
        for label, tool, permit, expires in _fours(cell):
            if permit != hold.permit or not expires:
                kept += (label, tool, permit, expires)
            elif label not in known:
                kept += (label, self.tool, permit, 0)
        return tuple(kept)


class Shown(NamedTuple):
    """The note that the run has seen these labels: an earlier result was shown to it again."""

    key: str
    labels: tuple[str, ...]
    tool: str
    permit: str

    def write(self, cell: Cell, at: int, entry: int) -> Cell:
        known = _known(cell)
        new = [label for label in self.labels if label not in known]
        return (
            *(cell or ()),
            *(part for label in new for part in (label, self.tool, self.permit, 0)),
        )


class Barrier(NamedTuple):
    """
    What a flow forbids: a call with one of the labels *denied*, once the run has seen all of *after*.

    Calls of the same *turn* that are under way have not shown anything to whoever proposed this one.
    """

    key: str
    rule: str
    name: str
    tool: str
    after: tuple[str, ...]
    denied: str
    turn: str | None = None

    def take(self, cell: Cell, hold: Hold) -> Taken:
        """Refuse if the run has seen them, and say from which calls."""
        seen = seen_labels(cell, hold.at, self.turn)
        if any(label not in seen for label in self.after):
            return None
        told = " and ".join(f"{label} (from {seen[label]})" for label in self.after)
        message = (
            f"flow {self.name}: this run has seen {told}, so nothing labelled {self.denied} "
            f"is permitted any more, and {self.tool} is; do it in a run that has not"
        )
        return Refusal(Reason("flow", self.rule, message))

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        return cell


class Traced(NamedTuple):
    """
    A value must have come up before: in one of *sources*, in any of its *forms*.

    Each of *keys* is the bucket of the form at the same place. A bucket's cell is
    (1 if it is full, form, source, turn, …). What came up in the call's own *turn* was not
    known when the call was proposed.
    """

    keys: tuple[str, ...]
    rule: str
    shown: str
    forms: tuple[str, ...]
    sources: tuple[str, ...]
    turn: str | None
    words: str
    ask: bool

    def trace(self, cells: Sequence[Cell]) -> Refusal | None:
        """Refuse a value of which nobody can tell where it came from."""
        for form, cell in zip(self.forms, cells, strict=True):
            for known, source, turn in _threes(cell):
                earlier = turn is None or turn != self.turn
                if known == form and source in self.sources and earlier:
                    return None
        message = f"{self.shown} did not come from {self.words}; use a value from there, or ask the user for it"
        if any(cell and cell[0] for cell in cells):
            message += (
                f" (this run's memory of values is full, {BUCKET} of {BUCKET} where this one "
                "would be: it may have come up and not be remembered; begin a new run)"
            )
        reason = Reason("origin", self.rule, message, "approval" if self.ask else "never")
        return Refusal(reason, ask=self.ask)


class Came(NamedTuple):
    """The note that values came up in *source*; all *forms* belong into this bucket."""

    key: str
    source: str
    turn: str | None
    forms: tuple[str, ...]

    def write(self, cell: Cell, at: int, entry: int) -> Cell:
        """Remember them as long as there is room, and where there is none say so."""
        full = cell[0] if cell else 0
        known = list(_threes(cell))
        for form in self.forms:
            value = (form, self.source, self.turn)
            if any(form == f and self.source == s and t in (None, self.turn) for f, s, t in known):
                continue
            if len(known) < BUCKET:
                known.append(value)
            else:
                full = 1
        return (full, *(part for value in known for part in value))


Note: TypeAlias = Done | Shown | Came


def _fours(cell: Cell) -> Iterator[tuple[Any, ...]]:
    parts = iter(cell or ())
    return zip(parts, parts, parts, parts, strict=True)


def _threes(cell: Cell) -> Iterator[tuple[Any, ...]]:
    parts = iter(cell[1:] if cell else ())
    return zip(parts, parts, parts, strict=True)


def _known(cell: Cell) -> set[str]:
    """The labels that are set for good."""
    return {label for label, _, _, expires in _fours(cell) if not expires}


def seen_labels(cell: Cell, now: int, turn: str | None) -> dict[str, str]:
    """The labels that count at *now* for a call of *turn*, each with the first call that it is from."""
    found: dict[str, str] = {}
    for label, source, permit, expires in _fours(cell):
        tool, its_turn = (source, None) if isinstance(source, str) else source
        coming = expires > now
        if not coming or turn is None or turn != its_turn:
            end = ", whose end is not on record" if coming else ""
            found.setdefault(label, f"{tool}, permit {permit}{end}")
    return found
