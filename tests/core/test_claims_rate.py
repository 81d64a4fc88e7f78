"""Rates: the generic cell rate algorithm, exact to the fraction of a microsecond."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.claims import Ending, Hold, Rate, Refusal

SECOND = 1_000_000


def rate(calls: int, period: int, burst: int) -> Rate:
    """A claim on the calls of one tenant."""
    return Rate("k", "limits[0]", calls, period, burst, " for tenant acme")


def hold(at: int) -> Hold:
    """A permit that takes a claim at this time."""
    return Hold("p", at, at + SECOND, "b")


def as_it_is(cell: Any) -> Any:
    """A ledger in memory keeps the very object."""
    return cell


def through_json(cell: Any) -> Any:
    """A ledger on disk keeps JSON: a list comes back."""
    return json.loads(json.dumps(cell))


KEPT = pytest.mark.parametrize("kept", [as_it_is, through_json])
RATES = st.builds(
    rate,
    st.integers(1, 9),
    st.integers(1, 60) | st.sampled_from([SECOND, 60 * SECOND, 86_400 * SECOND]),
    st.integers(1, 5),
)
STEPS = st.lists(st.fractions(0, 2, max_denominator=12), max_size=40)


def times(claim: Rate, steps: list[Fraction]) -> list[int]:
    """Moments that are some fractions of the time between two calls apart."""
    return list(accumulate(int(step * claim.period / claim.calls) for step in steps))


@KEPT
@given(RATES, STEPS, st.integers(0, 10**15))
def test_a_rate_is_a_bucket_of_tokens(kept, claim, steps, start):
    """A call is permitted exactly if the bucket, refilled to the exact fraction, has a whole token."""
    tokens, last, cell = Fraction(claim.burst), start, None
    for now in (start + later for later in times(claim, steps)):
        tokens = min(
            Fraction(claim.burst), tokens + Fraction((now - last) * claim.calls, claim.period)
        )
        last = now
        before = json.dumps(cell)
        result = claim.take(cell, hold(now))
        assert json.dumps(cell) == before
        assert (type(result) is not Refusal) is (tokens >= 1)
        if tokens >= 1:
            tokens -= 1
            cell = kept(result)
            full = cell[0] + Fraction(cell[1], claim.calls)
            assert full - now == (claim.burst - tokens) * Fraction(claim.period, claim.calls)


@given(RATES, STEPS)
def test_no_stretch_of_time_has_too_many_calls(claim, steps):
    """Between any two moments t apart there are at most burst + t × calls / period calls."""
    cell, granted = None, []
    for now in times(claim, steps):
        result = claim.take(cell, hold(now))
        if type(result) is not Refusal:
            cell = result
            granted.append(now)
    for first, begun in enumerate(granted):
        for count, now in enumerate(granted[first:], 1):
            assert count <= claim.burst + Fraction((now - begun) * claim.calls, claim.period)


@KEPT
@pytest.mark.parametrize(
    "claim",
    [
        rate(3, SECOND, 2),
        rate(7, 10, 4),
        rate(7, 60 * SECOND, 7),
        rate(1, SECOND, 1),
        rate(9, 7, 4),
    ],
    ids=lambda claim: f"{claim.calls} per {claim.period} µs, {claim.burst} at once",
)
def test_a_rate_never_drifts(kept, claim):
    """Call n is possible at the microsecond where it is due and not before, after thousands of calls."""
    cell, begun = None, 1_700_000_000_000_007
    for number in range(1, 3001):
        due = begun + max(0, -(-(number - claim.burst) * claim.period // claim.calls))
        if due > begun:
            assert type(claim.take(cell, hold(due - 1))) is Refusal
        cell = claim.take(cell, hold(due))
        assert type(cell) is not Refusal
        cell = kept(cell)


@given(RATES, STEPS, st.integers(0, 10**6))
def test_the_retry_of_a_refusal_is_exact(claim, steps, later):
    """After `retry` seconds the call is permitted; a millisecond earlier it is refused."""
    cell = None
    for now in times(claim, steps):
        result = claim.take(cell, hold(now))
        if type(result) is not Refusal:
            cell = result
            continue
        wait = round(result.reason.retry * SECOND)
        assert wait % 1000 == 0
        assert wait >= 1000
        assert type(claim.take(cell, hold(now + wait))) is not Refusal
        assert type(claim.take(cell, hold(now + wait + later))) is not Refusal
        assert type(claim.take(cell, hold(now + wait - 1000))) is Refusal


@given(RATES, STEPS, st.lists(st.integers(0, 100), min_size=1, max_size=5))
def test_a_clock_that_steps_back_permits_nothing_more(claim, steps, back):
    """What is refused now is refused at any earlier time."""
    cell, now = None, 0
    for now in times(claim, steps):
        result = claim.take(cell, hold(now))
        cell = cell if type(result) is Refusal else result
    if type(claim.take(cell, hold(now))) is Refusal:
        for earlier in back:
            assert type(claim.take(cell, hold(now - earlier))) is Refusal


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
@given(claim=RATES)
def test_a_rate_counts_attempts(outcome, claim):
    """Nothing is given back, whatever became of the call."""
    cell = claim.take(None, hold(5))
    assert claim.settle(cell, hold(5), Ending(outcome, {}, 9, 1)) is cell


@pytest.mark.parametrize(
    ("claim", "seconds", "message"),
    [
        (
            rate(10, 60 * SECOND, 1),
            6.0,
            "10 calls per minute for tenant acme (at most 1 at once) are used up;"
            " the next one is possible in 6 s",
        ),
        (
            rate(20, SECOND, 1),
            0.05,
            "20 calls per second for tenant acme (at most 1 at once) are used up;"
            " the next one is possible in 0.05 s",
        ),
        (
            rate(3, SECOND, 1),
            0.334,
            "3 calls per second for tenant acme (at most 1 at once) are used up;"
            " the next one is possible in 0.334 s",
        ),
        (
            rate(2, 1, 1),
            0.001,
            "2 calls per 0.000001 s for tenant acme (at most 1 at once) are used up;"
            " the next one is possible in 0.001 s",
        ),
        (
            rate(1, 3600 * SECOND, 1),
            3600.0,
            "1 calls per hour for tenant acme (at most 1 at once) are used up;"
            " the next one is possible in 3600 s",
        ),
        (
            rate(1, 86_400 * SECOND, 1),
            86_400.0,
            "1 calls per day for tenant acme (at most 1 at once) are used up;"
            " the next one is possible in 86400 s",
        ),
        (
            rate(1, 30 * 86_400 * SECOND + 500_000, 1),
            2_592_000.5,
            "1 calls per 2592000.50 s for tenant acme (at most 1 at once) are used up;"
            " the next one is possible in 2592000.50 s",
        ),
    ],
)
def test_the_refusal_has_number_name_and_way_out(claim, seconds, message):
    """How many calls in which time for whom, and when the next one is possible."""
    refusal = claim.take(claim.take(None, hold(0)), hold(0))
    assert type(refusal) is Refusal
    assert refusal.reason.message == message
    assert refusal.reason.retry == seconds
    assert (refusal.reason.code, refusal.reason.rule, refusal.wait) == ("rate", "limits[0]", 0)


def test_a_burst_is_there_at_once_and_comes_back_in_full():
    """A fresh bucket and one that has rested long enough both hold the burst and no more."""
    claim, cell = rate(1, SECOND, 3), None
    for begun in (0, 1000 * SECOND):
        for _ in range(3):
            cell = claim.take(cell, hold(begun))
            assert type(cell) is not Refusal
        assert type(claim.take(cell, hold(begun))) is Refusal
