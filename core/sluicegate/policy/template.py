"""Keys with placeholders: "refund:{order_id}", "{customer.id}/{month}"."""

from __future__ import annotations

import re
from typing import Final

from .fault import Fault, shown

__all__ = ["parts", "template"]

_LONGEST: Final = 500
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")


def parts(text: str) -> tuple[str | tuple[str, ...], ...]:
    """
    *text* in pieces: str for what stands for itself, a tuple for the path of an argument.

    `{{` and `}}` stand for one brace. Raises Fault.
    """
    found: list[str | tuple[str, ...]] = []
    for token in _TOKEN.finditer(text):
        piece = token[0]
        if piece in ("{{", "}}"):
            found.append(piece[0])
        elif token[1] is not None:
            found.append(_placeholder(token[1]))
        elif piece in ("{", "}"):
            raise Fault(
                f"is {shown(text)}, with a single {piece}",
                "placeholders look like {order_id}; write {{ and }} for braces",
            )
        else:
            found.append(piece)
    return tuple(found)


def template(text: str) -> str:
    """*text* if it is a usable template; raises Fault."""
    if not text.strip():
        raise Fault("is empty", 'write what the action is about: "refund:{order_id}"')
    if len(text) > _LONGEST:
        raise Fault(f"has {len(text)} characters", f"at most {_LONGEST}")
    parts(text)
    return text


def _placeholder(inner: str) -> tuple[str, ...]:
    path = tuple(inner.split("."))
    if not all(path) or inner != "".join(inner.split()):
        raise Fault(f"has the placeholder {{{inner}}}", "name an argument: {order_id}")
    if path[0] == "args" and len(path) > 1:
        name = ".".join(path[1:])
        raise Fault(f"has the placeholder {{{inner}}}", f"placeholders are arguments: {{{name}}}")
    return path
