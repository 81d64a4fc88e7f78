"""What the value of an argument is made of, and which forms would trace each part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple, cast

from ..canonical import NotCanonical, is_object, loads
from .address import email, iban, phone, url
from .number import number, readings
from .words import COMMA, bounded, phrase

__all__ = ["MOST_ATOMS", "Sought", "sought", "sought_in_text"]

MOST_ATOMS: Final = 4_096
"""How many parts of one value are looked for; no run knows more of them."""
_MOST_NODES: Final = 100_000
_MOST_ELEMENTS: Final = 256
"""How many elements a list inside a string may have."""
_SHOWN: Final = 60
_SEPARATOR: Final = re.compile(rf"[;\n\r]|{COMMA}")
_LIST_OF_DIGITS: Final = re.compile(r"[0-9]+(?:,[0-9]+){2,}")
_NAME: Final = re.compile(r"[^\W\d][\w$.-]{0,63}")
_DIGITS: Final = re.compile(r"[0-9]{7,15}")


class Sought(NamedTuple):
    """One part of a value. Any one of its forms traces it; without forms nothing can."""

    shown: str
    """For messages: printable, at most 60 characters."""
    forms: tuple[str, ...]


def sought(value: object) -> tuple[Sought, ...]:
    """
    The parts of an argument's value, each of which must be traced.

    Elements of lists, leaves of objects, elements of a list inside a string;
    also keys of objects, unless they are written like names (a letter, then
    letters, digits, `_`, `$`, `.` and `-`): those are for the argument's schema
    to list. A value that cannot be traced at all (NaN, more than 4,096 parts,
    what is no JSON) gives a part without forms. Never raises.
    """
    atoms: dict[tuple[str, ...], Sought] = {}
    stack: list[object] = [value]
    nodes = 0
    while stack:
        item = stack.pop()
        nodes += 1
        if is_object(item):
            stack.extend(list(item.values())[::-1])
            found = [atom for key in item for atom in _key(key)]
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(cast("Sequence[object]", item)))
            found = []
        else:
            found = _leaf(item)
        for atom in found:
            atoms.setdefault(atom.forms, atom)
        if len(atoms) > MOST_ATOMS or nodes + len(stack) > _MOST_NODES:
            return (Sought(f"more than {MOST_ATOMS:,} values", ()),)
    return tuple(atoms.values())


def _leaf(value: object) -> list[Sought]:
    # True, False and null need no origin: they choose between what the policy's author
    # has listed, and no user says them in words that could be compared.
    if value is None or isinstance(value, bool):
        return []
    if isinstance(value, str):
        return sought_in_text(value)
    if isinstance(value, (int, float, Decimal)):
        form = number(value)
        shown = form[2:] if form else "a number that nothing can be compared with"
        return [Sought(_printable(shown), (form,) if form else ())]
    return [Sought(_printable(f"a value of type {type(value).__name__}"), ())]


def _key(key: object) -> list[Sought]:
    """A key that is not written like a name is data, as in {"ada@example.com": true}."""
    if not isinstance(key, str) or (_NAME.fullmatch(key) and not iban(key)):
        return []
    return sought_in_text(key)


def sought_in_text(text: str) -> list[Sought]:
    """
    The parts of a string: the string itself if it is one value, else the elements of its list.

    An empty string, like null and an empty list, seeks nothing: it says
    nothing that could have come from elsewhere, and whether it will do is for
    the argument's schema (`minLength`).
    """
    bare = text.strip()
    if not bare:
        return []
    forms = _typed(bare)
    if forms:  # never split: the commas of a URL or of 1,500 are a part of it
        return [Sought(_printable(bare), forms)]
    whole = phrase(bare)
    elements = _elements(bare)
    if not elements:
        return [Sought(_printable(bare), (whole,))]
    # The whole is a form of each element: traced is the whole string or every element.
    return [Sought(atom.shown, (*atom.forms, whole)) for atom in elements]


def _typed(text: str) -> tuple[str, ...]:
    """The forms of a string that is one typed value; it may match as that and not otherwise."""
    exact = email(text) or url(text) or iban(text)
    if exact:
        return (bounded(exact),)
    number_of = phone(text)
    if number_of and text[0] == "+":
        return (number_of,)
    if number_of:
        return (number_of, phrase(text))
    meant = readings(text)
    if not meant:
        return ()
    # With two readings (1,000) nobody knows what the tool will take it for: only
    # what was written so traces it.
    forms = (*(meant if len(meant) == 1 else ()), phrase(text))
    return (*forms, f"p:{text}") if _DIGITS.fullmatch(text) else forms


def _elements(text: str) -> list[Sought]:
    """The parts of a list (or of "Name <address>") inside a string; none if it is no list."""
    named = _mailbox(text)
    if named:
        return named
    listed = _json_elements(text)
    if listed is not None:
        return [atom for element in listed for atom in _leaf(element)]
    pieces = _pieces(text)
    usable = len(pieces) <= _MOST_ELEMENTS and _of_one_kind(pieces)
    return [atom for piece in pieces for atom in _element(piece)] if usable else []


def _pieces(text: str) -> list[str]:
    most = _MOST_ELEMENTS + 1
    if _LIST_OF_DIGITS.fullmatch(text):  # 11,12,13 is a list; 11,12 may be a number
        return text.split(",", most)
    pieces = _SEPARATOR.split(text, maxsplit=most) if _SEPARATOR.search(text) else []
    return [piece.strip() for piece in pieces if piece.strip()]


def _element(piece: str) -> list[Sought]:
    forms = _typed(piece)
    return [Sought(_printable(piece), forms)] if forms else _mailbox(piece) or [_plain(piece)]


def _plain(piece: str) -> Sought:
    return Sought(_printable(piece), (phrase(piece),))


def _of_one_kind(pieces: list[str]) -> bool:
    """Either all elements are addresses or none: some tools drop the break in `https://x/\\nleak`."""
    return all(len({mark in piece for piece in pieces}) == 1 for mark in ("@", "://"))


def _mailbox(text: str) -> list[Sought]:
    """The name and the address of "Ada Lovelace <ada@example.com>"; both must be traced."""
    name, bracket, address = text.partition("<")
    form = email(address[:-1]) if bracket and address.endswith(">") else None
    name = name.strip()
    if form is None or "@" in name:
        return []
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1].strip()
    atom = Sought(_printable(address[:-1]), (form,))
    return [_plain(name), atom] if name else [atom]


def _json_elements(text: str) -> list[str | int | float] | None:
    """The elements of a JSON array of strings and numbers that was sent as a string."""
    if not (text[0] == "[" and text[-1] == "]"):
        return None
    try:
        read = loads(text)
    except NotCanonical:
        return None
    if not isinstance(read, list) or len(read) > _MOST_ELEMENTS:
        return None
    plain = [e for e in read if isinstance(e, (str, int, float)) and not isinstance(e, bool)]
    # Something must be left to trace: `[""]` is a string too, and not nothing.
    usable = len(plain) == len(read) and any(not isinstance(e, str) or e.strip() for e in plain)
    return plain if usable else None


def _printable(text: str) -> str:
    safe = "".join(_escaped(text[: _SHOWN + 1]))
    return safe if len(safe) <= _SHOWN else f"{safe[: _SHOWN - 1]}…"


def _escaped(text: str) -> Iterator[str]:
    """Characters, with those spelled out that would hide or turn the text around them."""
    for character in text:
        yield character if character.isprintable() else ascii(character)[1:-1]
