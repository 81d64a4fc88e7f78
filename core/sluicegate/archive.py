"""
An archive: a folder with the oldest part of a ledger's journal, in files of JSON lines.

`Archiver` moves entries there, segment by segment, and `Whole` reads archive and journal as one.
Whatever ends a process on the way, no entry is lost: a segment is on the disk before the
journal says so, and the journal says so before anything is removed from it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple, Protocol, cast

from .archiving import ARCHIVED, Archived, Segment, archiving, referred, state_of
from .clock import random_id
from .errors import LedgerError
from .journal import GENESIS, Entry, exported, imported
from .ledger.base import Amended, Ledger
from .ledger.holdings import Restorable, chained
from .ledger.trimming import Trimmable

__all__ = ["SEGMENT", "Archive", "Archiver", "Whole", "segments"]

SEGMENT: Final = 1000
"""So many entries are in a segment: half a megabyte to two, some tens of ms to move."""

PAGE: Final = 256
"""So many kept entries are looked at in a step."""

_NAME: Final = re.compile(r"journal-([0-9]{8})-[0-9a-f]{12}\.jsonl")
_WRITER: Final = 32


class Archive(NamedTuple):
    """
    Journal entries that are older than *keep*, in µs, are moved to files in *folder*.

    A folder is for one ledger. Processes that share a ledger should share the folder, too.
    """

    folder: Path
    keep: int = 90 * 86_400_000_000


class Whole:
    """*ledger* with a journal that begins with what is in *folder*. Raises LedgerError."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        if not folder.is_dir():
            raise LedgerError(f"there is no archive at {folder}; name the folder of the segments")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The journal in order; behind a place in it only what is in the ledger."""
        if after > 0:
            yield from self._ledger.entries(after)
            return
        seen: dict[str, int] = {}
        for entry in self._all(seen):
            if entry.seq > seen.get(entry.writer, 0):  # it may be in both places for a moment
                seen[entry.writer] = entry.seq
                yield entry

    def _all(self, seen: Mapping[str, int]) -> Iterator[Entry]:
        done: set[Path] = set()
        yield from _unread(self._folder, done)
        for entry in self._ledger.entries():
            if entry.seq > seen.get(entry.writer, 0) + 1:
                yield from _unread(self._folder, done)  # they were moved while we were reading
            yield entry


def segments(folder: Path) -> list[Path]:
    """The segments in *folder*, the oldest first. Raises LedgerError."""
    try:
        return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except OSError as error:
        raise LedgerError(f"the archive {folder} cannot be read: {error.strerror}") from error


def _unread(folder: Path, done: set[Path]) -> Iterator[Entry]:
    for file in segments(folder):
        if file not in done:
            done.add(file)
            yield from _read(file)


def _read(file: Path) -> Iterator[Entry]:
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            yield from imported(lines, str(file))
    except (OSError, UnicodeError) as error:
        raise LedgerError(f"the segment {file} cannot be read: {error}") from error


class _Archivable(Ledger, Restorable, Trimmable, Protocol):
    """A ledger that has all it takes."""


class Archiver:
    """
    Moves old entries of *ledger* to *archive*, as soon as all cells have been looked at once.

    `begin`, `note` for each cell there is, `end`; then `step`, until it says that it has
    finished. All methods but `note` and `end` raise LedgerError. Safe for threads.
    """

    def __init__(self, ledger: Ledger, archive: Archive) -> None:
        if archive.keep < 0:
            raise ValueError(
                f"{archive.keep} µs is less than 0; give the age from which entries go"
            )
        if not (isinstance(ledger, Trimmable) and isinstance(ledger, Restorable)):
            raise LedgerError(
                f"a {type(ledger).__name__} has no `trim`, so its journal cannot be archived"
            )
        self._ledger = cast("_Archivable", ledger)
        self._archive = archive
        self._guard = Lock()
        self._upto: Mapping[str, tuple[int, str]] = {}
        self._referred: set[int] = set()
        self._kept: Iterator[tuple[int, Entry]] | None = None
        self.ready = False
        """Whether all that is referred to is known, so that there may be something to do."""

    def begin(self) -> None:
        """Go by what is in the journal now: what refers to these entries is there already."""
        self.ready = False
        self._kept = None
        self._referred = set()
        self._upto = self._ledger.heads()

    def note(self, key: str, cell: Sequence[Any]) -> None:
        """Look at one cell."""
        number = referred(key, cell)
        if number is not None:
            self._referred.add(number)

    def end(self) -> None:
        """All cells have been looked at."""
        self.ready = True

    def step(self, now: int, *, partial: bool) -> int:
        """
        Move one segment, also a smaller one if *partial* is true; then tidy up what was kept.

        How many entries left the journal or the kept ones. With nothing left to do, `ready`
        becomes false.
        """
        if not self.ready or not self._guard.acquire(blocking=False):
            return 0
        try:
            moved = self._move(now, partial=partial) if self._kept is None else 0
            return moved or self._tidy()
        except BaseException:
            self.ready = False  # the next round begins anew
            raise
        finally:
            self._guard.release()

    # --- moving -------------------------------------------------------------------------------------

    def _move(self, now: int, *, partial: bool) -> int:
        state = state_of(self._ledger.cell(ARCHIVED))
        page = list(islice(self._ledger.entries(), SEGMENT))
        left = [entry for entry in page if entry.seq <= state.upto.get(entry.writer, (0, ""))[0]]
        if left:  # somebody has recorded it, and then came to its end
            self._trim(state.upto, left)
            return len(left)
        ripe = list(takewhile(lambda entry: self._is_ripe(entry, now), page))
        if not ripe or (len(ripe) < SEGMENT and not partial):
            return 0
        self._ledger.trim({}, ())  # who may not remove entries hears of it before it is on record
        try:
            segment, file = self._write(ripe, state)
        except LedgerError:
            if state_of(self._ledger.cell(ARCHIVED)) == state:
                raise
            return 0  # somebody else was at it
        if type(self._ledger.perform(archiving(now, segment))) is not Amended:
            if state_of(self._ledger.cell(ARCHIVED)).upto != segment.upto:
                file.unlink(missing_ok=True)
            return 0  # somebody else was at it, and has done it
        self._trim(segment.upto, ripe)
        return len(ripe)

    def _is_ripe(self, entry: Entry, now: int) -> bool:
        known = entry.seq <= self._upto.get(entry.writer, (0, ""))[0]
        return known and entry.at + self._archive.keep <= now

    def _trim(self, upto: Mapping[str, tuple[int, str]], entries: Sequence[Entry]) -> None:
        writers = self._ledger.writers()
        numbers = ((writers[entry.writer] << _WRITER) + entry.seq for entry in entries)
        needed = self._referred | {out.entry for out in self._ledger.out()}
        keep = needed.intersection(numbers)
        self._ledger.trim({writer: seq for writer, (seq, _) in upto.items()}, keep)

    def _tidy(self) -> int:
        """Forget what was kept and is not referred to any more, page by page."""
        if self._kept is None:
            self._kept = iter(self._ledger.kept())
            self._referred |= {out.entry for out in self._ledger.out()}
        page = [number for number, _ in islice(self._kept, PAGE)]
        if not page:
            self.ready = False
        gone = [number for number in page if number not in self._referred]
        if gone:
            self._ledger.forget(gone)
        return len(gone)

    # --- writing ------------------------------------------------------------------------------------

    def _write(self, entries: Sequence[Entry], state: Archived) -> tuple[Segment, Path]:
        """The next segment, safe on the disk. Raises LedgerError."""
        upto, folder, number = dict(state.upto), self._archive.folder, state.segments + 1
        for entry in chained(entries):
            begin = upto.get(entry.writer, (0, GENESIS))
            if entry.seq != begin[0] + 1 or entry.prev != begin[1]:
                raise LedgerError(
                    f"entry {entry.seq} of writer {entry.writer} does not follow what was archived, so "
                    "nothing more is; see `sluicegate journal verify`"
                )
            upto[entry.writer] = (entry.seq, entry.hash)
        content = "".join(f"{line}\n" for line in exported(entries)).encode()
        digest = hashlib.sha256(content).hexdigest()
        file = folder / f"journal-{number:08}-{digest[:12]}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_other(folder, state, entries[0])
            if not file.exists():
                _save(file, content)
        except OSError as error:
            raise LedgerError(
                f"the archive {folder} cannot be written: {error.strerror}; nothing was removed from "
                "the journal"
            ) from error
        return Segment(number, len(entries), digest, upto), file


def _refuse_other(folder: Path, state: Archived, first: Entry) -> None:
    """Raise LedgerError if the archive in *folder* is not the one that *first* comes next in."""
    for file in segments(folder):
        number = int(file.name.split("-")[1])
        other = number > state.segments + 1
        if (
            number == state.segments + 1
        ):  # somebody wrote it, and came to an end before it was recorded
            other = next(_read(file), None) != first
        if number == state.segments and number:
            last = file.read_text("utf-8").rstrip().rpartition("\n")[2]
            hashes = {entry.hash for entry in imported([last], str(file))}
            other = not hashes <= {hashed for _, hashed in state.upto.values()}
        if other:
            raise LedgerError(
                f"{file} is no segment of this ledger, of which {state.segments} are archived; give "
                "each ledger a folder of its own"
            )


def _save(file: Path, content: bytes) -> None:
    """Write *file* whole, or not at all."""
    part = file.with_name(f"{file.name}.{random_id()[:8]}.part")
    try:
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
