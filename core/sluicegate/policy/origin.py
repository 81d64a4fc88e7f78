"""Where a policy came from: its file, its text, and the place of each value in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final, NamedTuple

from ..errors import PolicyError
from .fault import Fault, Path, spoken

__all__ = ["Mark", "Marks", "Misplaced", "Origin", "Place", "mark_at", "starts_of_lines"]

_WIDEST: Final = 120
_MOST: Final = 10
_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line, as YAML counts them."""


class Mark(NamedTuple):
    """A place in a text; both numbers count from 1."""

    line: int
    column: int


class Place(NamedTuple):
    """Where a value begins, and where its name does."""

    value: Mark
    key: Mark


Marks = dict[Path, Place]


class Misplaced(Exception):
    """The text cannot be read on from *mark* (None: nobody knows where)."""

    def __init__(self, mark: Mark | None, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.mark = mark
        self.problem = problem
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Origin:
    """The file and the text of a policy; both may be missing."""

    file: str = ""
    path: FilePath | None = None
    text: str = field(default="", repr=False)
    marks: Mapping[Path, Place] = field(default_factory=dict[Path, Place], repr=False)

    def mark(self, path: Path, *, on_key: bool = False) -> Mark | None:
        """The place of the value at *path*, or of the nearest value around it that has one."""
        place = self.marks.get(path)
        if place is not None:
            return place.key if on_key else place.value
        # what is missing or has no place of its own belongs to the name that it is under
        return self.mark(path[:-1], on_key=True) if path else None

    def error(self, faults: Iterable[Fault]) -> PolicyError:
        """One error for all *faults*: the first in the file, the others in its hint."""
        found = [(self.mark(f.at, on_key=f.on_key), f) for f in faults]
        found.sort(key=lambda pair: pair[0] or (0, 0))
        mark, first = found[0]
        hint = [first.hint] if first.hint else []
        for place, fault in found[1:_MOST]:
            where = f"line {place.line}: " if place else ""
            hint.append(f"also {where}{_sentence(fault)}")
        if len(found) > _MOST:
            hint.append(f"and {len(found) - _MOST} more")
        return self._error(mark, _sentence(first), "\n  ".join(hint))

    def misplaced(self, trouble: Misplaced) -> PolicyError:
        """The error for a text that cannot be read."""
        return self._error(trouble.mark, trouble.problem, trouble.hint)

    def _error(self, mark: Mark | None, problem: str, hint: str) -> PolicyError:
        line, column = mark or (0, 0)
        return PolicyError(
            problem,
            file=self.file or "<policy>",
            line=line,
            column=column,
            text=self._line(line, column),
            hint=hint,
        )

    def _line(self, line: int, column: int) -> str:
        lines = _BREAK.split(self.text)
        if not 1 <= line <= len(lines):
            return ""
        start = 0 if column <= _WIDEST // 2 else column - _WIDEST // 2
        return lines[line - 1][start : start + _WIDEST].strip()


def starts_of_lines(text: str) -> list[int]:
    """Where each line of *text* begins, for `mark_at`."""
    return [0, *(found.end() for found in _BREAK.finditer(text))]


def mark_at(starts: list[int], offset: int) -> Mark:
    """The line and column of the character at *offset*."""
    line = bisect_right(starts, offset)
    return Mark(line, offset - starts[line - 1] + 1)


def _sentence(fault: Fault) -> str:
    return f"{spoken(fault.at)} {fault.problem}"
