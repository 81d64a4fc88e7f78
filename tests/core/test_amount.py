"""Amounts: exact, rounded up, never a float."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.amount import LARGEST, MICRO, micros, shown


class Coin(IntEnum):
    CENT = 1


WHOLE = LARGEST // MICRO
NUMBERS = st.one_of(
    st.floats(min_value=0, max_value=9e12, allow_subnormal=True),
    st.integers(0, WHOLE),
    st.decimals(min_value=0, max_value=9 * 10**12, allow_nan=False, places=9),
    st.decimals(min_value=0, max_value=9 * 10**12, allow_nan=False, places=60),
)


@given(NUMBERS)
def test_an_amount_is_the_exact_value_rounded_up(number):
    """The amount is the smallest whole number of millionths that is not below the value."""
    exact = Fraction(repr(number)) if isinstance(number, float) else Fraction(number)
    assert micros(number) == math.ceil(exact * MICRO)


@given(st.decimals(min_value=0, max_value=9 * 10**12, allow_nan=False))
def test_text_counts_like_the_number_it_shows(number):
    """A decimal and its text are the same amount."""
    assert micros(str(number)) == micros(number)


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        (0, 0),
        (-0.0, 0),
        ("-0", 0),
        (0.1, 100_000),
        (0.1 + 0.2, 300_001),
        (5e-324, 1),
        ("1e-2000000", 1),
        ("0e999", 0),
        (Decimal("0.000001"), 1),
        (Decimal("0.0000010000000000000000000000000000000001"), 2),
        (1e12, 10**18),
        ("9223372036854.775807", LARGEST),
        (" 7.5 ", 7_500_000),
    ],
)
def test_the_edges_of_what_is_accepted(value, amount):
    """Signed zeros are zero, dust becomes one millionth, and the largest amount is exact."""
    assert micros(value) == amount


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (-math.inf, "not finite"),
        ("NaN", "not finite"),
        ("Infinity", "not finite"),
        (Decimal("sNaN"), "not finite"),
        (-1, "0 or more"),
        (-1e-300, "0 or more"),
        (" -0.0000001", "0 or more"),
        (Decimal("-1e-50"), "0 or more"),
        ("-1e400", "0 or more"),
        (WHOLE + 1, "above the largest amount, 9223372036854.775807"),
        ("9223372036854.7758071", "above the largest"),
        (1e300, "above the largest"),
        ("1e99", "above the largest"),
        (True, "no number"),
        (Coin.CENT, "no number"),
        (None, "no number"),
        ("", "no number"),
        ("5 EUR", "no number"),
        ("0x10", "no number"),
        ([5], "no number"),
        (b"5", "no number"),
        (1j, "no number"),
    ],
)
def test_everything_else_is_refused_by_name(value, problem):
    """What is negative, endless, too large or no number raises ValueError, with its name."""
    with pytest.raises(ValueError) as caught:
        micros(value, "cost 'eur'")
    assert str(caught.value).startswith("cost 'eur' is ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: "x" * 1_000_000, "xxx, which is no number"),
        (lambda: 10**400, "an integer of 1329 bits, above the largest"),
        (lambda: -(10**5000), "an integer of 16610 bits; it must be 0 or more"),
    ],
    ids=["text", "401 digits", "5001 digits"],
)
def test_a_huge_value_gives_a_short_message(make, problem):
    """What was sent is quoted, but never at its full length, and never by failing to print it."""
    with pytest.raises(ValueError) as caught:
        micros(make())
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 200


@given(NUMBERS)
def test_the_programs_decimal_context_changes_nothing(number):
    """An amount does not depend on the precision, rounding or traps that a program has set."""
    expected = micros(number)
    with decimal.localcontext() as context:
        context.prec = 2
        context.rounding = decimal.ROUND_FLOOR
        context.traps[decimal.Inexact] = True
        assert micros(number) == expected


@given(st.integers(0, LARGEST))
def test_what_is_shown_reads_back_as_the_same_amount(amount):
    """People see every digit: the shown text is the amount."""
    assert micros(shown(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (50 * MICRO, "50"),
        (120_500_000, "120.50"),
        (120_050_000, "120.05"),
        (1, "0.000001"),
        (1_230_000, "1.23"),
        (1_234_000, "1.234"),
        (-2_500_000, "-2.50"),
    ],
)
def test_amounts_are_shown_as_people_write_them(amount, text):
    """Whole numbers have no decimals, others at least two."""
    assert shown(amount) == text
