"""
Statements as they are sent: text with literals, several in one message.

psycopg's own ways are slower by half a durable commit: parameters that the server binds
need a message for each statement, and parameters that psycopg binds are adapted one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from psycopg import DataError
from psycopg.pq import Escaping
from psycopg.pq.abc import PGconn

__all__ = ["Statement", "identifier"]

_QUOTED: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})


class Statement:
    """A text with `%s` for each value, and `{name}` for what is the same every time."""

    __slots__ = ("_parts",)

    def __init__(self, text: str, **constant: str) -> None:
        for name, value in constant.items():
            text = text.replace(f"{{{name}}}", value)
        self._parts = [part.encode() for part in text.split("%s")]

    def given(self, values: Sequence[Any], connection: PGconn) -> bytes:
        """The statement with *values* in it."""
        parts, escape = self._parts, Escaping(connection).escape_literal
        assert len(values) == len(parts) - 1  # noqa: S101 - a slip in this package
        said = [parts[0]]
        for value, part in zip(values, parts[1:], strict=True):
            said += (_literal(value, escape), part)
        return b"".join(said)


def identifier(name: str) -> str:
    """*name* as SQL names it."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any, escape: Callable[[bytes], Any]) -> bytes:
    if value is None:
        return b"NULL"
    if type(value) is bool:
        return b"true" if value else b"false"
    if type(value) is int:
        return b"%d" % value
    text = value if type(value) is str else _array(value)
    if "\0" in text:
        raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return bytes(escape(text.encode()))


def _array(values: Sequence[Any]) -> str:
    if not values or type(values[0]) is not str:
        return "{" + ",".join(map(str, values)) + "}"
    text = '","'.join(values)
    if "\\" in text or text.count('"') > 2 * len(values) - 2:
        text = '","'.join([value.translate(_QUOTED) for value in values])
    return f'{{"{text}"}}'
