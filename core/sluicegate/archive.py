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
        done: set[Path] = set()
        for entry in self._all(seen, done):
            if entry.seq > seen.get(entry.writer, 0):  # it may be in both places for a moment
                seen[entry.writer] = entry.seq
                yield entry
        # Of a writer who was silent after entries of his were moved no gap has told.
        for entry in _unread(self._folder, done):
            if entry.seq > seen.get(entry.writer, 0):
                raise LedgerError(
                    "entries were moved to the archive while the journal was read; read it again"
                )

    def _all(self, seen: Mapping[str, int], done: set[Path]) -> Iterator[Entry]:
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


class _Round:
    """
    What a round over the cells has shown: up to where the journal went when it began, and which
    entries up to there are referred to. Of any later entry it says nothing.
    """

    def __init__(self, heads: Mapping[str, tuple[int, str]]) -> None:
        self.heads = heads
        self.referred: set[int] = set()
        self.kept: Iterator[tuple[int, Entry]] | None = None
        """What is still to be tidied up; None as long as entries are moved."""

    def knows(self, entry: Entry) -> bool:
        return entry.seq <= self.heads.get(entry.writer, (0, ""))[0]


class Archiver:
    """
    Moves old entries of *ledger* to *archive*, as soon as all cells have been looked at once.

    `begin`, `note` for each cell there is, `end`; then `step`, as long as it is `ready`.
    All methods but `note` and `end` raise LedgerError. Safe for threads, if those that begin,
    note and end a round take turns; a step may go on meanwhile by what the last one has shown.
    """

    def __init__(self, ledger: Ledger, archive: Archive) -> None:
        if archive.keep < 0:
            raise ValueError(
                f"{archive.keep} µs is less than 0; give the age from which entries go"
            )
        if not all(hasattr(ledger, name) for name in ("trim", "kept", "forget", "writers")):
            raise LedgerError(
                f"a {type(ledger).__name__} has no `trim`, so its journal cannot be archived"
            )
        self._ledger = cast("_Archivable", ledger)
        self._archive = archive
        self._guard = Lock()
        self._going = _Round({})
        self._round: _Round | None = None

    @property
    def ready(self) -> bool:
        """Whether all that is referred to is known, so that there may be something to do."""
        return self._round is not None

    def begin(self) -> None:
        """Go by what is in the journal now: what refers to these entries is there already."""
        self._going = _Round(self._ledger.heads())

    def note(self, key: str, cell: Sequence[Any]) -> None:
        """Look at one cell."""
        number = referred(key, cell)
        if number is not None:
            self._going.referred.add(number)

    def end(self) -> None:
        """All cells have been looked at."""
        self._round = self._going

    def step(self, now: int, *, partial: bool) -> int:
        """
        Move one segment, also a smaller one if *partial* is true; then tidy up what was kept.

        How many entries left the journal or the kept ones. With nothing left to do, `ready`
        becomes false.
        """
        if not self._guard.acquire(blocking=False):
            return 0
        known = self._round
        try:
            if known is None:
                return 0
            moved = self._move(now, known, partial=partial) if known.kept is None else 0
            return moved or self._tidy(known)
        except BaseException:
            self._round = None  # the next round begins anew
            raise
        finally:
            self._guard.release()

    # --- moving -------------------------------------------------------------------------------------

    def _move(self, now: int, known: _Round, *, partial: bool) -> int:
        state = state_of(self._ledger.cell(ARCHIVED))
        page = list(islice(self._ledger.entries(), SEGMENT))
        left = [entry for entry in page if entry.seq <= state.upto.get(entry.writer, (0, ""))[0]]
        if left:  # somebody has recorded it, and then came to its end
            if not all(map(known.knows, left)):
                return 0  # or is at it: what refers to the newest of them, only a later round shows
            self._trim(state.upto, left, known)
            return len(left)
        ripe = list(takewhile(lambda entry: self._is_ripe(entry, now, known), page))
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
            return 0  # somebody else was at it; what they have recorded may be this very file
        self._trim(segment.upto, ripe, known)
        _set_aside(file, segment.number, ripe[0])
        return len(ripe)

    def _is_ripe(self, entry: Entry, now: int, known: _Round) -> bool:
        return known.knows(entry) and entry.at + self._archive.keep <= now

    def _trim(
        self, upto: Mapping[str, tuple[int, str]], entries: Sequence[Entry], known: _Round
    ) -> None:
        writers = self._ledger.writers()
        numbers = ((writers[entry.writer] << _WRITER) + entry.seq for entry in entries)
        needed = known.referred | {out.entry for out in self._ledger.out()}
        keep = needed.intersection(numbers)
        self._ledger.trim({writer: seq for writer, (seq, _) in upto.items()}, keep)

    def _tidy(self, known: _Round) -> int:
        """Forget what was kept and is not referred to any more, page by page."""
        if known.kept is None:
            known.kept = iter(self._ledger.kept())
            known.referred |= {out.entry for out in self._ledger.out()}
        page = list(islice(known.kept, PAGE))
        if not page and self._round is known:
            self._round = None
        gone = [
            number for number, entry in page if number not in known.referred and known.knows(entry)
        ]
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
            if not state.segments:
                folder.mkdir(parents=True, exist_ok=True)
            _refuse_other(folder, state, entries[0])
            _save(file, content)  # also if it is there: nobody knows whether it is safe on the disk
        except OSError as error:
            raise LedgerError(
                f"the archive {folder} cannot be written: {error.strerror}; nothing was removed from "
                "the journal"
            ) from error
        return Segment(number, len(entries), digest, upto), file


def _refuse_other(folder: Path, state: Archived, first: Entry) -> None:
    """Raise LedgerError if the archive in *folder* is not the one that *first* comes next in."""
    latest: list[Path] = []
    for file in segments(folder):
        number = _number(file)
        if number == state.segments:
            latest.append(file)
        elif number > state.segments + 1 or (number > state.segments and not _begins(file, first)):
            raise _other(file, state)
    # Beside the one on record there may be one of somebody who was late, or was restored.
    ends = {hashed for _, hashed in state.upto.values()}
    if latest and not any(_last_hash(file) in ends for file in latest):
        raise _other(latest[0], state)
    if state.segments and not latest:  # it is another folder, or on a disk that is not there
        raise LedgerError(
            f"the archive {folder} has not got segment {state.segments}, the latest of this ledger, so "
            "nothing more is moved there; see that its disk is mounted, or put that segment into it"
        )


def _other(file: Path, state: Archived) -> LedgerError:
    return LedgerError(
        f"{file} is no segment of this ledger, of which {state.segments} are archived; give "
        "each ledger a folder of its own"
    )


def _number(file: Path) -> int:
    return int(file.name.split("-")[1])


def _begins(file: Path, first: Entry) -> bool:
    """Whether somebody wrote the segment that *first* is in, and came to an end too early."""
    return next(_read(file), None) == first


def _last_hash(file: Path) -> str:
    last = file.read_text("utf-8", "replace").rstrip().rpartition("\n")[2]
    return next(imported([last], str(file))).hash


def _set_aside(file: Path, number: int, first: Entry) -> None:
    """Give other files of this *number* another name: *file* is the one on record."""
    with suppress(LedgerError, OSError):  # everything that matters is done
        for other in segments(file.parent):
            if _number(other) == number and other != file and _begins(other, first):
                other.rename(other.with_name(f"{other.name}.aside"))


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
