"""Words and phrases: the forms of values that are no number and no address."""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from unicodedata import normalize

__all__ = ["COMMA", "bounded", "digest", "folded", "phrase"]

_LONGEST: Final = 256
"""Characters of a form; what is longer is kept as its hash."""
_EXACT: Final = 10_000
"""Characters from which a string is compared as it is, to the last space."""

COMMA: Final = r",(?![0-9])|(?<![0-9]),"
"""A pattern for the commas of a list; one between two digits is a part of a number."""


def folded(word: str) -> str:
    """
    *word* as it is compared: case counts as soon as a digit or a sign is in it.

    A user who writes `berlin` means Berlin; ids that differ in case are two
    ids. Nothing is dropped: an invisible character makes another word.
    """
    return word.lower() if _name(word) else word


def phrase(text: str) -> str:
    """
    The form of *text* as a whole; "" if there is nothing but space in it.

    Runs of spaces count as one. Line breaks stay, since a second line is a
    second command, header or address to many a tool.
    """
    text = normalize("NFC", text.strip())
    if not text:
        return ""
    if len(text) > _EXACT:
        return bounded(f"s:{text}")
    if len(text.split(None, 1)) == 1:
        return bounded(f"s:{text.lower()}" if _name(text) else f"w:{text}")
    lines = [" ".join(map(folded, line.split())) for line in text.splitlines()]
    return bounded("s:" + "\n".join(filter(None, lines)))


def bounded(form: str) -> str:
    """*form*, or its hash under a kind of its own (`l:`) if it is long."""
    return form if len(form) <= _LONGEST else f"l:{_sha256(form)}"


def digest(form: str) -> str:
    """What is stored instead of a canonical form: 20 hex digits of its SHA-256."""
    return _sha256(form)[:20]


def _name(word: str) -> bool:
    """Whether *word* has letters, hyphens and apostrophes only: Jean-Luc, O'Brien."""
    return word.isalpha() or word.translate(_NO_JOINTS).isalpha()


_NO_JOINTS: Final = dict.fromkeys(map(ord, "-'’"))


def _sha256(form: str) -> str:
    # a lone surrogate is no JSON, but a tool may have returned one
    return sha256(form.encode("utf-8", "surrogatepass")).hexdigest()
