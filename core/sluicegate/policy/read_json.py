"""JSON with the place of each value; the standard reader does not keep places."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from .fault import Fault, Path, shown
from .numbers import number
from .origin import Mark, Marks, Misplaced, Place, mark_at, starts_of_lines
from .read_yaml import DEEPEST

__all__ = ["read"]

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WORD: Final = re.compile(r"[-+.\w]+")
_WORDS: Final = {"null": None, "true": True, "false": False}


def read(text: str) -> tuple[Any, Marks]:
    """The document in *text* and the place of each value in it; raises Misplaced."""
    if not text.strip(" \t\r\n"):
        return None, {}
    reader = _Reader(text)
    mark = reader.mark(reader.skip(0))
    reader.marks[()] = Place(mark, mark)
    value, end = reader.value(reader.skip(0), ())
    if end != len(text):
        reader.refuse(end, f"{shown(text[end])} follows the end of the document", "remove it")
    return value, reader.marks


class _Reader:
    """Each method takes the offset where something begins and answers with where it ends."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = starts_of_lines(text)
        self.marks: Marks = {}

    def value(self, at: int, path: Path) -> tuple[Any, int]:
        if len(path) > DEEPEST:
            self.refuse(at, f"nests deeper than {DEEPEST} levels", "flatten it")
        char = self.text[at : at + 1]
        if char == "{":
            return self.object(at, path)
        if char == "[":
            return self.array(at, path)
        value, end = self.string(at) if char == '"' else self.word(at)
        return value, self.skip(end)

    def object(self, at: int, path: Path) -> tuple[dict[str, Any], int]:
        pairs: dict[str, Any] = {}
        at = self.skip(at + 1)
        while not self.closes(at, "}", bool(pairs)):
            at = self.skip(at + 1) if pairs else at
            if self.text[at : at + 1] != '"':
                self.refuse(at, 'a name in "double quotes" is due here', "remove a comma too many")
            key, end = self.string(at)
            here = (*path, key)
            if key in pairs:
                first = self.marks[here].key.line
                problem = f"{shown(key)} is here twice; the first is in line {first}"
                self.refuse(at, problem, "remove one of the two")
            colon = self.skip(end)
            if self.text[colon : colon + 1] != ":":
                self.refuse(colon, "a colon is due here", f"{json.dumps(key)}: …")
            start = self.skip(colon + 1)
            self.marks[here] = Place(self.mark(start), self.mark(at))
            pairs[key], at = self.value(start, here)
        return pairs, self.skip(at + 1)

    def array(self, at: int, path: Path) -> tuple[list[Any], int]:
        items: list[Any] = []
        at = self.skip(at + 1)
        while not self.closes(at, "]", bool(items)):
            at = self.skip(at + 1) if items else at
            here = (*path, len(items))
            self.marks[here] = Place(self.mark(at), self.mark(at))
            item, at = self.value(at, here)
            items.append(item)
        return items, self.skip(at + 1)

    def closes(self, at: int, bracket: str, begun: bool) -> bool:
        """Whether *bracket* is here; if not, and something came before, a comma must be."""
        char = self.text[at : at + 1]
        if not char or (begun and char not in (bracket, ",")):
            self.refuse(at, f"a comma or {bracket} is due here", "check the brackets up to here")
        return char == bracket

    def string(self, at: int) -> tuple[str, int]:
        found = _STRING.match(self.text, at)
        if found is None:
            self.refuse(at, "this text does not end on its line", 'close it with "')
        try:
            return str(json.loads(found[0])), found.end()
        except ValueError:
            accepted = r"accepted: \" \\ \/ \b \f \n \r \t \u0041"
            self.refuse(at, "this text has an unknown escape", accepted)

    def word(self, at: int) -> tuple[Any, int]:
        found = _WORD.match(self.text, at)
        word = found[0] if found else self.text[at : at + 1]
        if word in _WORDS:
            return _WORDS[word], at + len(word)
        try:
            return number(word), at + len(word)
        except Fault:
            problem = f"{shown(word)} is no JSON" if word else "the document ends too early"
            self.refuse(at, problem, 'accepted: "text", 5, 0.5, true, false, null, [ ] and { }')

    def skip(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        return found.end() if found else at

    def mark(self, at: int) -> Mark:
        return mark_at(self.starts, at)

    def refuse(self, at: int, problem: str, hint: str) -> NoReturn:
        raise Misplaced(self.mark(at), problem, hint)
