"""
Statements as they are sent: text with literals, several in one message.

psycopg's own ways are slower by half a durable commit: parameters that the server binds
need a message for each statement, and parameters that psycopg binds are adapted one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import DataError

__all__ = ["Statement", "identifier"]


class Statement:
    """A text with `%s` for each value, and `{name}` for what is the same every time."""

    __slots__ = ("_parts",)

    def __init__(self, text: str, **constant: str) -> None:
        for name, value in constant.items():
            text = text.replace(f"{{{name}}}", value)
        self._parts = text.split("%s")

    def given(self, values: Sequence[Any]) -> bytes:
        """The statement with *values* in it: None, bool, int, str, or a list of int, bool or str."""
        parts = self._parts
        assert len(values) == len(parts) - 1  # noqa: S101 - a slip in this package
        said = [parts[0]]
        for value, part in zip(values, parts[1:], strict=True):
            said += (_literal(value), part)
        text = "".join(said)
        if "\0" in text:
            raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return text.encode()


def identifier(name: str) -> str:
    """*name* as SQL names it."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    if type(value) is str:
        return _quoted(value)
    if type(value) is int:
        return str(value)
    if value is None:
        return "NULL"
    if type(value) is bool:
        return "true" if value else "false"
    return _array(value)


def _array(values: Sequence[Any]) -> str:
    if not values or type(values[0]) is not str:
        return f"'{{{','.join(map(str, values))}}}'"
    return f"ARRAY[{','.join(map(_quoted, values))}]"


def _quoted(text: str) -> str:
    """
    Text as SQL writes it, as libpq's own function does but faster. Backslashes mean themselves
    only by a setting of the session, so they are said in the form that has no such doubt.
    """
    text = text.replace("'", "''") if "'" in text else text
    if "\\" in text:
        return " E'" + text.replace("\\", "\\\\") + "'"
    return f"'{text}'"
