"""
TOML. The reader of the standard library keeps no places, so they are found again.

The search is a reading of headers and `key =` lines, not of the whole grammar: a
value inside an inline table gets the place of the line that it is on.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import Any, Final

from .fault import Fault, Path
from .numbers import number
from .origin import Mark, Marks, Misplaced, Place

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same reader under its old name
    import tomli as tomllib

__all__ = ["read"]

_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_NAMES: Final = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_HEADER: Final = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_NAMES})[ \t]*\]")
_ENTRY: Final = re.compile(rf"[ \t]*({_NAMES})[ \t]*=[ \t]*")
_WIDEST: Final = 20_000
"""The longest line: the time that the reader takes for a dotted key is quadratic."""
_WHERE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read(text: str) -> tuple[Any, Marks]:
    """The document in *text* and the place of each named value; raises Misplaced."""
    for row, line in enumerate(text.splitlines(), 1):
        if len(line) > _WIDEST:
            raise Misplaced(Mark(row, 1), f"a line of {len(line):,} characters", "break it up")
    try:
        document = tomllib.loads(text, parse_float=_float)
    except Fault as fault:
        raise Misplaced(None, f"a number {fault.problem}", fault.hint) from None
    except RecursionError:
        raise Misplaced(None, "nests too deeply", "flatten it") from None
    except ValueError as error:
        found = _WHERE.search(str(error))
        mark = Mark(int(found[1]), int(found[2])) if found and found[1] else None
        problem = f"this is no TOML: {_WHERE.sub('', str(error))}"
        raise Misplaced(mark, problem, "check the quotes and the brackets") from None
    return document or None, _marks(text)


def _float(text: str) -> float:
    return float(number(text.replace("_", "").removeprefix("+")))


def _marks(text: str) -> Marks:
    start = Mark(1, 1)
    marks: Marks = {(): Place(start, start)}
    table: Path = ()
    counts: Counter[Path] = Counter()
    for row, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            table = _within(_names(header[2]), counts)
            if header[1] == "[[":
                counts[table] += 1
                table = (*table, counts[table] - 1)
            mark = Mark(row, header.start(1) + 1)
            marks.setdefault(table, Place(mark, mark))
            continue
        entry = _ENTRY.match(line)
        if entry:
            key, value = Mark(row, entry.start(1) + 1), Mark(row, entry.end() + 1)
            marks.setdefault((*table, *_names(entry[1])), Place(value, key))
    return marks


def _within(names: tuple[str, ...], counts: Counter[Path]) -> Path:
    """*names* of a header, with the position of the last element of each array of tables."""
    path: Path = ()
    for i, name in enumerate(names):
        path = (*path, name)
        if counts[path] and i < len(names) - 1:
            path = (*path, counts[path] - 1)
    return path


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in re.findall(_NAME, text))
