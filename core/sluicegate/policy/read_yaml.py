"""
YAML, restricted to what JSON can say, with the place of each value.

Read from the parser's events: nothing is constructed that is not wanted, nesting
is bounded before it can hurt, and an alias is seen before it can multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import yaml

from .fault import Fault, Path, shown
from .numbers import NUMBER, number
from .origin import Mark, Marks, Misplaced, Place, mark_at, starts_of_lines

__all__ = ["DEEPEST", "read"]

DEEPEST: Final = 60
"""How deep a policy may nest."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: Final = {"": None, "~": None, "null": None, "true": True, "false": False}
_UNCLEAR: Final = re.compile(
    r"[-+]?(0[0-9_]+|0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
    r"|[0-9][0-9_]*\.?[0-9_]*([eE][-+]?[0-9_]+)?|\.[0-9_]+([eE][-+]?[0-9]+)?"
    r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)|True|TRUE|False|FALSE|Null|NULL",
    re.ASCII,
)
"""
Plain text that some YAML readers take for a number, a boolean or null and others
do not, or for another number. yes, no, on, off, dates and 1:30 are text here, as
YAML 1.2 says.
"""


def read(text: str, loader: Any = None) -> tuple[Any, Marks]:
    """The document in *text* and the place of each value in it; raises Misplaced."""
    try:
        return _Reader(text, loader or _LOADER).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark and error.context_mark and mark.line > text.rstrip().count("\n"):
            mark = error.context_mark  # what never ends is shown where it begins
        place = None if mark is None else _mark(mark)
        problem = error.problem or error.context or "cannot be read"
        raise Misplaced(place, f"this is no YAML: {problem}", _advice(problem)) from None
    except yaml.reader.ReaderError as error:
        place = mark_at(starts_of_lines(text), error.position)
        raise Misplaced(place, f"this is no YAML: {error.reason}", "remove the character") from None


class _Reader:
    def __init__(self, text: str, loader: Any) -> None:
        self.events: Iterator[Any] = yaml.parse(text, loader)  # pyright: ignore[reportUnknownMemberType] - untyped there
        self.marks: Marks = {}

    def document(self) -> tuple[Any, Marks]:
        next(self.events)  # the start of the stream
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None, {}
        event = next(self.events)
        start = _mark(event.start_mark)
        self.marks[()] = Place(start, start)
        value = self.node(event, ())
        next(self.events)  # the end of the document
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            _refuse(event, "a second document begins here", "one file has one policy")
        return value, self.marks

    def node(self, event: Any, path: Path) -> Any:
        _plain_json(event)
        if len(path) > DEEPEST:
            _refuse(event, f"nests deeper than {DEEPEST} levels", "flatten it")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(path)
        return self.mapping(path)

    def sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            here = (*path, len(items))
            mark = _mark(event.start_mark)
            self.marks[here] = Place(mark, mark)
            items.append(self.node(event, here))
        return items

    def mapping(self, path: Path) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = _key(event)
            here = (*path, key)
            if key in pairs:
                first = self.marks[here].key.line
                _refuse(
                    event,
                    f"{shown(key)} is here twice; the first is in line {first}",
                    "remove one of the two",
                )
            value = next(self.events)
            self.marks[here] = Place(_mark(value.start_mark), _mark(event.start_mark))
            pairs[key] = self.node(value, here)
        return pairs


def _key(event: Any) -> str:
    _plain_json(event)
    if not isinstance(event, yaml.ScalarEvent):
        _refuse(event, "this name is a list or a mapping", "names are text")
    if event.value == "<<" and event.implicit[0]:
        _refuse(event, "merge keys are not accepted", "write the keys out")
    key = _scalar(event)
    if not isinstance(key, str):
        _refuse(event, f"this name is {event.value or 'empty'}, not text", "put it in quotes")
    return key


def _scalar(event: Any) -> Any:
    text = event.value
    if not event.implicit[0]:  # quoted or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if NUMBER.fullmatch(text):
        try:
            return number(text)
        except Fault as fault:
            _refuse(event, f"this {fault.problem}", fault.hint)
    if _UNCLEAR.fullmatch(text):
        _refuse(
            event,
            f"YAML readers do not agree on what {shown(text)} is",
            "put it in quotes if it is text; numbers are written as in JSON, and true, false, null",
        )
    return text


def _plain_json(event: Any) -> None:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        _refuse(event, "anchors and aliases are not accepted", "write the value out")
    if event.tag is not None:
        _refuse(event, f"the tag {event.tag} is not accepted", "quote text, and use no tags")


def _refuse(event: Any, problem: str, hint: str) -> NoReturn:
    raise Misplaced(_mark(event.start_mark), problem, hint)


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _advice(problem: str) -> str:
    if "tab character" in problem or "'\\t'" in problem:
        return "indent with spaces"
    if "cannot start any token" in problem:
        return "put text that begins with @, % or ` in quotes, and indent with spaces"
    if "mapping values are not allowed" in problem:
        return "put text with a colon in it in quotes"
    return "check the indentation, the quotes and the brackets up to here"
