"""What values a content has: the user's words, a tool's result, or facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Final, NamedTuple, TypeVar, cast

from ..canonical import Json, NotCanonical, is_object, loads
from .address import spans
from .number import number
from .prose import lines_of, runs_of, tokens_of, typed_in, words_in
from .seek import sought_in_text

_T = TypeVar("_T")

__all__ = ["MOST_CHARACTERS", "MOST_TOKENS", "MOST_VALUES", "Found", "found"]

MOST_VALUES: Final = 4_096
"""How many values one content can give."""
MOST_CHARACTERS: Final = 1_048_576
"""How many characters of one content are read; those of JSON inside a string count twice."""
MOST_TOKENS: Final = 32_768
"""How many words, and how many lines, cells and quotations, of one content are looked at."""
_MOST_NODES: Final = 100_000
_DEEPEST_TEXT: Final = 3
"""JSON in a string in JSON in a string …: how often it is read as JSON."""


class Found(NamedTuple):
    """The canonical values of a content."""

    values: frozenset[str]
    complete: bool
    """False if a limit was met, so that the content may hold values that are not here."""


def found(content: object, *, phrases: bool = False) -> Found:
    """
    The canonical values in *content*: JSON, frozen or not, or text.

    Text is searched for addresses and numbers, and each of its words, lines and
    cells is a value; with *phrases* also each two and three adjacent words.
    A string that is a JSON object or array is read as JSON. If there are too
    many values, addresses and numbers are kept first, then whole strings, then
    words, then phrases. What is no JSON has no values. Never raises.
    """
    haul = _Haul(phrases)
    stack: list[tuple[object, int]] = [(content, 0)]
    nodes = 0
    while stack:
        item, inside = stack.pop()
        nodes += 1
        room = max(0, _MOST_NODES - nodes - len(stack))
        inner: Sequence[object] = ()
        if isinstance(item, str):
            read = haul.json(item) if inside < _DEEPEST_TEXT else None
            if read is None:
                haul.read(item)
            else:
                haul.take(item)
                inner, inside = [read], inside + 1
        elif is_object(item):
            inner = list(item.values())
            haul.keys(islice(item, room))
        elif isinstance(item, (list, tuple)):
            inner = list(cast("Sequence[object]", item))
        elif isinstance(item, (int, float, Decimal)) and not isinstance(item, bool):
            haul.count(number(item))
        haul.complete = haul.complete and len(inner) <= room
        stack.extend([(value, inside) for value in inner[:room]][::-1])
    return haul.found()


class _Haul:
    """What was found so far, the surest kind first; each kind and all work is bounded."""

    __slots__ = (
        "characters",
        "complete",
        "exact",
        "phrases",
        "runs",
        "seen",
        "tokens",
        "whole",
        "words",
    )

    def __init__(self, phrases: bool) -> None:
        self.exact: dict[str, None] = {}
        self.whole: dict[str, None] = {}
        self.words: dict[str, None] = {}
        self.runs: dict[str, None] = {}
        self.seen: set[tuple[str, str]] = set()
        self.phrases = phrases
        self.complete = True
        self.characters = MOST_CHARACTERS
        self.tokens = MOST_TOKENS

    def found(self) -> Found:
        merged = list(dict.fromkeys((*self.exact, *self.whole, *self.words, *self.runs)))
        complete = self.complete and len(merged) <= MOST_VALUES
        return Found(frozenset(merged[:MOST_VALUES]), complete)

    def count(self, form: str | None) -> None:
        self._add(self.exact, (form,) if form else ())

    def json(self, text: str) -> Json:
        """*text* as JSON if it is an object or an array, else None."""
        bare = text.strip()
        if bare[:1] + bare[-1:] not in ("{}", "[]"):
            return None
        if len(text) > self.characters:
            self.complete = False
            return None
        self.characters -= len(text)
        try:
            return loads(bare)
        except NotCanonical:
            return None

    def keys(self, keys: Iterable[object]) -> None:
        """Take the keys of an object: a result may be a table by id or by address."""
        for key in keys:
            if isinstance(key, str) and self._new("key", key):
                self.take(self._within_limit(key))

    def take(self, text: str) -> None:
        """Take *text* as one value or one list of values, as an argument with it would be."""
        for atom in sought_in_text(text):
            self._add(self.whole, atom.forms)

    def read(self, text: str) -> None:
        """Take *text* whole, and then everything that stands in it."""
        text = self._within_limit(text) if self._new("leaf", text) else ""
        if not text:
            return
        self.take(text)
        for line in dict.fromkeys(self._some(lines_of(text), MOST_TOKENS)):
            if self._full(self.whole):
                break
            self.take(line)
        kept = [span for span in self._some(spans(text), MOST_TOKENS) if span.form]
        self._add(self.exact, (span.form for span in kept))
        tokens = tokens_of(text, kept)
        self._read_tokens(list(dict.fromkeys(tokens)))
        if self.phrases:
            self._add(self.runs, runs_of(self._some(tokens, MOST_TOKENS)))

    def _read_tokens(self, tokens: list[str]) -> None:
        for token in self._some(tokens, self.tokens):
            self.tokens -= 1
            if self._full(self.exact):
                break
            self._add(self.exact, typed_in(token))
            if not self._full(self.words):
                self._add(self.words, words_in(token))

    def _some(self, items: Iterable[_T], most: int) -> list[_T]:
        some = list(islice(items, most + 1))
        self.complete = self.complete and len(some) <= most
        return some[:most]

    def _new(self, place: str, text: str) -> bool:
        """Whether *text* is not yet read: the rows of a result repeat themselves."""
        known = (place, text) in self.seen
        self.seen.add((place, text))
        return not known

    def _within_limit(self, text: str) -> str:
        """What may still be read of *text*; cut at a line, since a value cut short is another."""
        if len(text) > self.characters:
            self.complete = False
            text = text[: text.rfind("\n", 0, self.characters) + 1]
        self.characters -= len(text)
        return text

    def _full(self, kind: dict[str, None]) -> bool:
        return len(kind) > MOST_VALUES

    def _add(self, kind: dict[str, None], forms: Iterable[str]) -> None:
        for form in forms:
            if self._full(kind):
                self.complete = False
                return
            kind[form] = None
