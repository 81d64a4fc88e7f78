"""
Reading prose: the words of a text and the values that stand in it.

Every pattern here is bounded, so the work grows with the text and no faster. A
value is read from the longest run of characters that it could be, and never
from a part: `ada@example.com.evil.com` holds no `ada@example.com`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final
from unicodedata import normalize

from .address import Span, email, phone, url
from .number import numbers_written
from .words import COMMA, bounded, folded, phrase

__all__ = ["lines_of", "runs_of", "tokens_of", "typed_in", "words_in"]

_OPENING: Final = "\"'`“”‘’«»‹›„‚([{<*¿¡:"
_CLOSING: Final = "\"'`“”‘’«»‹›)]}>*.,;:!?…"
_CELL: Final = re.compile(r"[\t|]|[,;:] | = ")
_CELL_OR_COMMA: Final = re.compile(rf"[\t|;]|: | = |{COMMA}")
_QUOTED: Final = re.compile(
    r"\"([^\"\n]{1,200})\"|`([^`\n]{1,200})`|“([^“”\n]{1,200})”|«([^«»\n]{1,200})»"
    r"|(?<!\w)'([^'\n]{1,200})'(?!\w)"
)
_LONGEST_LINE: Final = 1_000
"""Characters of a line that may be a row of cells; a longer one is a paragraph."""
_PIECES: Final = re.compile(r"[=|;\"`<>()\[\]{}“”«»]+")
_COMMA: Final = re.compile(COMMA)
_MOST_PIECES: Final = 64
_NAMED: Final = re.compile(r"[A-Za-z_-]{1,40}:([^:/].*)", re.DOTALL)
_BETWEEN_EMAILS: Final = re.compile(r"[<>()\[\]{}\",;|`“”«»]+")
_BEFORE_EMAIL: Final = re.compile(r"['‘*]*(?:[A-Za-z_-]{1,40}[:=]){0,2}['‘*]*")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}\Z")
_NEXT_URL: Final = re.compile(
    r"['\")\]}]{0,4}[,;]['\"(\[{]{0,4}(?=[A-Za-z][A-Za-z0-9+.-]{0,31}://)"
)
_END_OF_URL: Final = re.compile(r"[\s<>\"`|“”„«»]")
_AFTER_URL: Final = frozenset(".,;:!?…'’*")
_MOST_PUNCTUATION: Final = 16
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
_GROUPED: Final = re.compile(r"(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_GAP: Final = "\0"
"""Stands where an address with spaces was: its parts are no values, and no phrase leads over it."""


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text (but not a text of one line), their cells, and what is in quotes."""
    for line in text.splitlines():
        if len(line) < len(text):
            yield line
        if len(line) <= _LONGEST_LINE:
            # a URL may have commas of its own, and a part of it is another URL
            cells = (_CELL if "://" in line else _CELL_OR_COMMA).split(line)
            if len(cells) > 1:
                yield from (cell.strip().strip("\"'`") for cell in cells)
    for match in _QUOTED.finditer(text):
        yield next(filter(None, match.groups()))


def tokens_of(text: str, addresses: Iterable[Span]) -> list[str]:
    """The runs between spaces, in order; an address that has spaces is none of them."""
    rest: list[str] = []
    at = 0
    for start, end, _ in sorted(addresses):
        if start >= at and len(text[start:end].split()) > 1:
            rest += (text[at:start], f" {_GAP} ")
            at = end
    rest.append(text[at:])
    return _GROUPED.sub("'", "".join(rest)).split()


def typed_in(token: str) -> Iterator[str]:
    """The addresses and numbers in one token."""
    if "://" in token:
        yield from _urls(token)
        return
    if "@" in token:
        for piece in _BETWEEN_EMAILS.split(token):
            form = email(_BEFORE_EMAIL.sub("", piece, 1).rstrip("'’*.:!?…"))
            if form:
                yield form
    for part in _parts(token):
        called = phone(part) if part[0] == "+" else None
        yield from (called,) if called else numbers_written(part)  # +4930123456 is no amount


def words_in(token: str) -> Iterator[str]:
    """The forms of one token as a word, and of the words that it holds."""
    if token == _GAP or "://" in token:
        return
    for part in _parts(token):
        for word in (part, *_variants(part)):
            yield phrase(word)
    for word in _endings(token.lstrip(_OPENING), _bare(token)):
        yield phrase(word)


def runs_of(tokens: list[str]) -> Iterator[str]:
    """The forms of each two and each three adjacent words."""
    words = [folded(normalize("NFC", token)) for token in tokens]
    for at in range(len(words)):
        first = words[at].lstrip(_OPENING)
        for length in (2, 3):
            run = words[at : at + length]
            if len(run) < length or _GAP in run or not first:
                break
            last = run[-1].rstrip(_CLOSING)
            for end in (last, *_endings(run[-1], last)):
                if end:
                    yield bounded("s:" + " ".join((folded(first), *run[1:-1], folded(end))))


def _parts(token: str) -> Iterator[str]:
    """*token* without the punctuation around it, and then what it joins."""
    core = _bare(token)
    if not core:
        return
    yield core
    if core[0] in "#@" and len(core) > 1:
        yield core[1:]
    pieces = _PIECES.split(core, _MOST_PIECES)
    for piece in filter(None, map(_bare, pieces[:_MOST_PIECES])):
        named = _NAMED.fullmatch(piece)
        value = _bare(named[1]) if named else piece
        yield from (piece, value) if value else (piece,)
        listed = _COMMA.split(value, _MOST_PIECES)[:_MOST_PIECES]
        if len(listed) > 1:
            yield from filter(None, map(_bare, listed))


def _bare(token: str) -> str:
    return token.lstrip(_OPENING).rstrip(_CLOSING)


def _variants(word: str) -> Iterator[str]:
    if word.endswith(("'s", "’s")) and len(word) > 2:
        yield word[:-2]


def _endings(raw: str, bare: str) -> Iterator[str]:
    """Other ways to end a phrase: "Acme Inc." with its point, "John Smith's" without its s."""
    if raw[len(bare) : len(bare) + 1] in (".", "!", "?"):
        yield raw[: len(bare) + 1]
    yield from _variants(bare)


def _urls(token: str) -> Iterator[str]:
    """The URLs in one token; those inside another's path or query are a part of that one."""
    for piece in _END_OF_URL.split(token):
        for one in _NEXT_URL.split(piece):
            before, mark, after = one.partition("://")
            scheme = _SCHEME.search(before[-33:])
            if mark and scheme:
                form = url(_unpunctuated(f"{scheme[0]}://{after}"))
                if form:
                    yield bounded(form)


def _unpunctuated(text: str) -> str:
    """*text* without the punctuation of the prose around it; a bracket stays if it was opened."""
    for _ in range(_MOST_PUNCTUATION):
        last = text[-1:]
        unopened = last in _PAIRS and text.count(last) > text.count(_PAIRS[last])
        if last not in _AFTER_URL and not unopened:
            return text
        text = text[:-1]
    return ""
