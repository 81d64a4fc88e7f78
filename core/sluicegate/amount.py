"""Amounts of money and of other metered things: integers of 10⁻⁶, never floats."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import TypeAlias

__all__ = ["MICRO", "Micros", "micros", "shown"]

Micros: TypeAlias = int
"""An amount in millionths of its unit."""

MICRO = 1_000_000
LARGEST: Micros = 2**63 - 1
"""What SQLite, PostgreSQL and Redis can all hold exactly."""


def micros(value: object, what: str = "an amount") -> Micros:
    """
    *value* in millionths, rounded up: a budget is never overrun by rounding.

    A float counts as the decimal that it prints as, so 0.1 is a tenth. Raises
    ValueError for anything that is not a number, is negative, not finite, or
    above 9,223,372,036,854.775807.
    """
    kind = type(value)
    if kind is int:
        scaled = value * MICRO  # type: ignore[operator]
    elif kind is float or kind is str or kind is Decimal:
        try:
            exact = Decimal(repr(value) if kind is float else value)  # type: ignore[arg-type]
        except InvalidOperation:
            raise ValueError(f"{what} is {value!r:.80}, which is no number") from None
        if not exact.is_finite():
            raise ValueError(f"{what} is {value!r:.80}, which is not finite")
        if exact.adjusted() > 13:
            raise ValueError(f"{what} is {value!r:.80}, above the largest amount, {shown(LARGEST)}")
        scaled = int(exact.scaleb(6).to_integral_value(ROUND_CEILING))
    else:
        raise ValueError(f"{what} is {value!r:.80}, which is no number")
    if scaled < 0 or (scaled == 0 and str(value).startswith("-") and Decimal(str(value)) < 0):
        raise ValueError(f"{what} is {value!r:.80}; it must be 0 or more")
    if scaled > LARGEST:
        raise ValueError(f"{what} is {value!r:.80}, above the largest amount, {shown(LARGEST)}")
    return scaled  # type: ignore[no-any-return]


def shown(amount: Micros) -> str:
    """*amount* for people: 120.00, 0.000001, and 50 without decimals for whole numbers."""
    whole, rest = divmod(abs(amount), MICRO)
    sign = "-" if amount < 0 else ""
    if not rest:
        return f"{sign}{whole}"
    digits = f"{rest:06d}".rstrip("0")
    return f"{sign}{whole}.{digits:<02}" if len(digits) > 1 else f"{sign}{whole}.{digits}0"
