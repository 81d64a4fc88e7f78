"""Numbers as JSON writes them, kept exactly or refused."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Final

from .fault import Fault, shown

__all__ = ["NUMBER", "number"]

NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_LONGEST: Final = 40


def number(text: str) -> int | float:
    """
    The number that *text* says; raises Fault.

    A float is accepted only if it is that number: 0.1 prints as 0.1 again, but the
    last digits of 12345678901234.567 would be lost on the way.
    """
    hint = "put it in quotes to keep it as text"
    found = NUMBER.fullmatch(text)
    if found is None:
        raise Fault(f"is {shown(text)}, which is no number", "accepted: 5, -5, 0.5, 5e3")
    if len(text) > _LONGEST:
        raise Fault(f"is a number of {len(text)} characters", hint)
    if found[2] is None and found[3] is None:
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise Fault(f"is {text}, which is too large", hint)
    try:
        exact = Decimal(text) == Decimal(repr(value))
    except InvalidOperation:  # an exponent that even decimals cannot hold
        exact = False
    if not exact:
        raise Fault(f"is {text}, which has more digits than a number keeps", hint)
    return value
