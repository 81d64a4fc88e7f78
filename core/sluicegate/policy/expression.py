"""
Expressions in a policy: a plain path, a number, or CEL.

`args.amount` and `5` need no CEL, and CEL takes 170 ms to import; so it is
imported only for what really is an expression.
"""

from __future__ import annotations

import re
from typing import Final

from ..amount import micros
from .fault import Fault, accepted, shown
from .numbers import NUMBER, number

__all__ = ["ROOTS", "condition", "cost", "number_of", "path_of"]

ROOTS: Final = ("args", "subject", "facts", "run", "now")
"""The names that an expression can begin with."""
SUBJECT: Final = ("tenant", "user", "agent", "roles")

_LONGEST: Final = 1_000
_DEEPEST: Final = 24
"""
Bounds of an expression. The CEL parser and evaluator recurse natively: a longer
chain or a deeper nesting overflows the stack of a 512 KB thread and takes the
process with it (measured with common-expression-language 0.10).
"""

_RESERVED: Final = frozenset({"true", "false", "null", "in"})
_TYPES: Final = frozenset(
    ("bool bytes double duration dyn int list map null_type string timestamp type uint").split()
)
_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_BOUND: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_MESSAGE: Final = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


def path_of(text: str) -> tuple[str, ...] | None:
    """The parts of *text* if it is a plain path such as args.amount, else None."""
    if _PATH.fullmatch(text) and text not in _RESERVED:
        return tuple(text.split("."))
    return None


def number_of(text: str) -> str | None:
    """*text* if it is a number, else None."""
    return text if NUMBER.fullmatch(text) else None


def condition(value: str) -> str:
    """*value* if it can be a condition; raises Fault."""
    text = value.strip()
    if number_of(text) is not None:
        raise Fault(
            f"is {text}, which is no condition", "write what must be true: args.amount < 100"
        )
    _check(text)
    return text


def cost(value: object) -> str:
    """*value*, a number or an expression, as the text of an expression; raises Fault."""
    if type(value) is int or type(value) is float:
        value = repr(value)
    if not isinstance(value, str):
        raise Fault(f"is {shown(value)}", "write a number or an expression: 0.05, args.amount")
    text = value.strip()
    if number_of(text) is None:
        _check(text)
        return text
    try:
        number(text)
        micros(text, "it")
    except Fault:
        raise
    except ValueError as error:
        raise Fault(str(error).removeprefix("it "), "write 0 or more") from None
    return text


def _check(text: str) -> None:
    if not text:
        raise Fault("is empty", "write an expression: args.amount, subject.tenant == 'acme'")
    path = path_of(text)
    if path is None:
        _check_cel(text)
    elif path[0] not in ROOTS:
        raise Fault(f"has the unknown name {path[0]}", accepted(path[0], ROOTS))
    elif path[0] == "subject" and len(path) > 1 and path[1] not in SUBJECT:
        raise Fault(f"asks for subject.{path[1]}, which nobody has", accepted(path[1], SUBJECT))


def _check_cel(text: str) -> None:
    if len(text) > _LONGEST:
        raise Fault(f"has {len(text)} characters", f"at most {_LONGEST}; split it up")
    if _nesting(text) > _DEEPEST:
        raise Fault("nests too deeply", f"at most {_DEEPEST} brackets in each other")
    try:
        import cel
    except ImportError:
        raise Fault(
            f"is {shown(text)}, which needs CEL",
            "pip install common-expression-language (it needs Python 3.11), "
            "or use a plain path such as args.amount",
        ) from None
    try:
        used = set(cel.compile(text).variables())
    except ValueError as error:
        raise _no_cel(text, str(error)) from None
    unknown = sorted(used - {*ROOTS} - _TYPES - {*_BOUND.findall(text)})
    if unknown:
        raise Fault(
            f"is {shown(text)}, which has the unknown name {unknown[0]}",
            accepted(unknown[0], ROOTS),
        )


def _no_cel(text: str, message: str) -> Fault:
    found = _MESSAGE.search(message)
    why = f"{found[3][:200]} at character {found[2]}" if found else message[:200]
    return Fault(
        f"is {shown(text)}, which is no expression: {why}",
        "CEL compares with == and joins with &&, || and !; text is in 'quotes'",
    )


def _nesting(text: str) -> int:
    deepest = depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
