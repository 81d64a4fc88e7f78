"""
Numbers by value, whichever way their digits are written.

Nothing here calculates: a number's form is made by moving its point, so neither
floats nor long exponents can round it or blow it up.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

__all__ = ["number", "numbers_written", "readings"]

_LONGEST: Final = 64
"""Characters of a number in text; a longer run of digits is an id."""
_WIDEST_INTEGER: Final = 256
"""Bits of an integer; Python refuses to print very long ones, and JSON has none."""
_FURTHEST: Final = 40
"""How far the point may stand from the digits before the form is written with an exponent."""

_MACHINE: Final = re.compile(r"([+-]?)([0-9]{1,80})(?:\.([0-9]{1,80}))?(?:[eE]([+-]?[0-9]{1,20}))?")

# A number does not begin with a needless zero: 0042 is an id, and not the number 42.
_WHOLE: Final = r"(?:0|[1-9][0-9]*)"
_READINGS: Final = tuple(
    (re.compile(pattern), groups, point)
    for pattern, groups, point in [
        (_WHOLE, "", "."),
        (rf"{_WHOLE}\.[0-9]+(?:[eE][+-]?[0-9]{{1,6}})?", "", "."),
        (rf"{_WHOLE}[eE][+-][0-9]{{1,6}}", "", "."),  # 1e5 without a sign may be an id in hex
        (rf"{_WHOLE},[0-9]+", "", ","),
        (r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?", ",", "."),
        (r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?", ",", "."),  # as India groups
        (r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)?", ".", ","),
        (r"[1-9][0-9]{0,2}(?:['’][0-9]{3})+(?:\.[0-9]+)?", "'’", "."),
        (r"[1-9][0-9]{0,2}(?:['’][0-9]{3})+,[0-9]+", "'’", ","),
    ]
)

_CURRENCY: Final = r"(?:US\$|[$€£¥₹₩₽₺₴₫฿])"
# No single letter that can stand for a thousand, a million or a digit in hex: 5k is not 5,
# and 1042d may be an id.
_UNIT: Final = (
    r"(?:EUR|USD|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|"
    r"%|‰|°|°C|°F|kg|mg|km|cm|mm|ml|min|ms|h|s|kB|KB|MB|GB|TB|kW|kWh)"
)
_WRITTEN: Final = re.compile(
    rf"([-+−]?){_CURRENCY}?([-+−]?)([0-9][0-9.,'’eE+-]*?)(?:[.,][-–])?(?:{_CURRENCY}|{_UNIT})?"
)


def number(value: float | Decimal) -> str | None:
    """The form of a number that is no text: 480, 480.0 and Decimal("480.00") give `n:480`."""
    if isinstance(value, int) and value.bit_length() > _WIDEST_INTEGER:
        return None
    # repr: a float counts as the decimal that it prints as, as in amount.py
    return _machine(repr(value) if isinstance(value, float) else str(value))


def readings(text: str) -> tuple[str, ...]:
    """Every number that *text*, which is one number and nothing else, can mean: 1,000 has two."""
    if not text or len(text) > _LONGEST:
        return ()
    sign = "-" if text[0] in "-−" else ""
    body = text[1:] if text[0] in "+-−" else text
    if not "0" <= body[:1] <= "9":
        return ()
    found: dict[str, None] = {}
    for pattern, groups, point in _READINGS:
        if pattern.fullmatch(body):
            plain = body.translate({ord(mark): None for mark in groups}).replace(point, ".")
            form = _machine(sign + plain)
            if form is not None:
                found[form] = None
    return tuple(found)


def numbers_written(word: str) -> tuple[str, ...]:
    """Every number that a word of prose can mean: as `readings`, with a currency or a unit on it."""
    if len(word) > _LONGEST:
        return ()
    match = _WRITTEN.fullmatch(word)
    return readings(match[1] + match[2] + match[3]) if match else ()


def _machine(text: str) -> str | None:
    match = _MACHINE.fullmatch(text)
    if not match:  # NaN, an infinity, or more digits than anybody means
        return None
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits = (whole + fraction).lstrip("0")
    kept = digits.rstrip("0")
    if not kept:
        return "n:0"
    exponent += len(digits) - len(kept) - len(fraction)
    return f"n:{'-' if sign == '-' else ''}{_positional(kept, exponent)}"


def _positional(digits: str, exponent: int) -> str:
    point = len(digits) + exponent
    if abs(exponent) > _FURTHEST or abs(point) > _FURTHEST:
        return f"{digits}e{exponent}"
    if exponent >= 0:
        return digits + "0" * exponent
    if point > 0:
        return f"{digits[:point]}.{digits[point:]}"
    return f"0.{'0' * -point}{digits}"
