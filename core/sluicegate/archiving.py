"""
Which old journal entries may leave, and the request that records it. Pure.

Entries leave from the beginning of the journal, in segments. Each is written to an archive
first (archive.py); then an entry of the kind "archived" says so in the chain, with the hash at
which the chain goes on; only then the ledger removes them. So a journal that begins late
still verifies, archive and journal together are the whole one, and nothing leaves unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from .claims import Cell
from .entries import amending_entry
from .ledger.base import Amending

__all__ = [
    "ARCHIVED",
    "Archived",
    "Segment",
    "archived_as_told",
    "archiving",
    "referred",
    "state_of",
]

ARCHIVED: Final = "archived"
"""The key of the cell that says up to where the journal was archived."""

Place: TypeAlias = tuple[int, str]
"""Number and hash of an entry."""


class Segment(NamedTuple):
    """
    Entries that were written to an archive: the how many-eth it is, counted from 1, how many
    they are, SHA-256 of the file, and the last entry of each writer in this or an earlier one.
    """

    number: int
    entries: int
    sha256: str
    upto: Mapping[str, Place]


class Archived(NamedTuple):
    """How many segments were archived so far, and up to which entry of each writer."""

    segments: int
    upto: Mapping[str, Place]


def state_of(cell: Cell) -> Archived:
    """What the cell under `ARCHIVED` says."""
    if cell is None:
        return Archived(0, {})
    return Archived(cell[0], {writer: (seq, last) for writer, seq, last in cell[1:]})


def archiving(now: int, segment: Segment) -> Amending:
    """
    Record that *segment* is in an archive.

    It is refused if it is not the one that follows: somebody else archived it meanwhile.
    """

    def amend(cells: tuple[Cell, ...], at: int) -> Sequence[Cell] | str:
        before = state_of(cells[0])
        if segment.number != before.segments + 1:
            return f"{before.segments} segments are archived, and {segment.number} is not the next"
        for writer, (seq, _) in before.upto.items():
            if segment.upto.get(writer, (0, ""))[0] < seq:
                return f"entries of {writer} up to {seq} are archived already"
        told = ((writer, *place) for writer, place in sorted(segment.upto.items()))
        return ((segment.number, *told),)

    upto = {writer: [*place] for writer, place in segment.upto.items()}
    entry = amending_entry(
        "archived",
        entries=segment.entries,
        segment=segment.number,
        sha256=segment.sha256,
        upto=upto,
    )
    return Amending(now, (ARCHIVED,), amend, entry)


def archived_as_told(entry: Mapping[str, Any]) -> Amending:
    """The request that a journal entry of the kind "archived" records."""
    upto = {writer: (place[0], place[1]) for writer, place in entry["upto"].items()}
    segment = Segment(entry["segment"], entry["entries"], entry["sha256"], upto)
    return archiving(entry["at"], segment)


# --- what is still needed -------------------------------------------------------------------------


def referred(key: str, cell: Sequence[Any]) -> int | None:
    """
    The number of the journal entry that the *cell* under *key* refers to.

    That entry is needed as long as the cell is there: an outcome that may be shown again, the
    call that a person is asked about, a policy and a schema that decisions name.
    """
    find = _REFERRED.get(key.partition("|")[0])
    try:
        number = None if find is None else find(cell)
    except (TypeError, IndexError):
        return None  # a plugin's own kind of cell, under a key that is none of its own
    return number if type(number) is int else None


def _done(cell: Sequence[Any]) -> Any:
    return cell[4] if cell[0] == "done" and len(cell) > 4 else None


_Find: TypeAlias = Callable[[Sequence[Any]], Any]

_REFERRED: Final[Mapping[str, _Find]] = {
    "once": _done,
    "seen": _done,
    "approval": lambda cell: cell[4] if len(cell) > 4 else None,
    "policy": lambda cell: cell[0],
    "schema": lambda cell: cell[0],
}
