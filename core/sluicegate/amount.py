"""Amounts of money and of other metered things: integers of 10⁻⁶, never floats."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Final, TypeAlias, cast

__all__ = ["MICRO", "Micros", "micros", "shown"]

Micros: TypeAlias = int
"""An amount in millionths of its unit."""

MICRO = 1_000_000
LARGEST: Micros = 2**63 - 1
"""What SQLite, PostgreSQL and Redis can all hold exactly."""

_UNIT: Final = Decimal("0.000001")
_OURS: Final = Context(prec=40)
"""Wide enough to be exact: the program's own decimal context must not change an amount."""


def micros(value: object, what: str = "an amount") -> Micros:
    """
    *value* in millionths, rounded up: a budget is never overrun by rounding.

    A float counts as the decimal that it prints as, so 0.1 is a tenth. Raises
    ValueError for anything that is not a number, is negative, not finite, or
    above 9,223,372,036,854.775807.
    """
    kind = type(value)
    if kind is int:
        scaled = cast("int", value) * MICRO
    elif kind is float or kind is str or kind is Decimal:
        try:
            exact = Decimal(repr(value) if kind is float else value)  # type: ignore[arg-type]
        except InvalidOperation:
            raise _fault(what, value, ", which is no number") from None
        if not exact.is_finite():
            raise _fault(what, value, ", which is not finite")
        if exact < 0:
            raise _fault(what, value, _NEGATIVE)
        if exact and exact.adjusted() > 13:
            raise _fault(what, value, _TOO_LARGE)
        scaled = int(exact.quantize(_UNIT, ROUND_CEILING, _OURS).scaleb(6, _OURS))
    else:
        raise _fault(what, value, ", which is no number")
    if scaled < 0:
        raise _fault(what, value, _NEGATIVE)
    if scaled > LARGEST:
        raise _fault(what, value, _TOO_LARGE)
    return scaled


def _fault(what: str, value: object, problem: str) -> ValueError:
    if type(value) is int and value.bit_length() > 256:  # Python refuses to print very long ones
        return ValueError(f"{what} is an integer of {value.bit_length()} bits{problem}")
    return ValueError(f"{what} is {value!r:.80}{problem}")


def shown(amount: Micros) -> str:
    """*amount* for people: 120.50, 0.000001, and 50 without decimals for whole numbers."""
    whole, rest = divmod(abs(amount), MICRO)
    sign = "-" if amount < 0 else ""
    if not rest:
        return f"{sign}{whole}"
    digits = f"{rest:06d}".rstrip("0")
    return f"{sign}{whole}.{digits:<02}" if len(digits) > 1 else f"{sign}{whole}.{digits}0"


_NEGATIVE: Final = "; it must be 0 or more"
_TOO_LARGE: Final = f", above the largest amount, {shown(LARGEST)}"
