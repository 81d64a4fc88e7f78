"""Windows: fixed, without gaps, aligned to the calendar in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.window import Window, window_of

WINDOWS = list(Window)
EACH = pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.name)
SECOND = 1_000_000
MOMENTS = st.one_of(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)),
    st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1)),
    st.dates(datetime(1970, 1, 1).date()).map(lambda d: datetime(min(d.year, 9000), d.month, 1)),
)


def micros(moment: datetime) -> int:
    """A moment in UTC as microseconds since 1970."""
    return (moment.replace(tzinfo=timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)) // (
        timedelta(microseconds=1)
    )


def start(window: Window, moment: datetime) -> datetime:
    """When the window of *moment* began, by the calendar of the standard library."""
    day = datetime(moment.year, moment.month, moment.day)
    return {
        "minute": moment.replace(second=0, microsecond=0),
        "hour": moment.replace(minute=0, second=0, microsecond=0),
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
    }[window.name]


def after(window: Window, begun: datetime) -> datetime:
    """When the window that began at *begun* ends, by the calendar of the standard library."""
    if window is Window.month:
        return (begun + timedelta(days=31)).replace(day=1)
    return begun + timedelta(**{f"{window.name}s": 1})


@EACH
@given(moment=MOMENTS)
@example(moment=datetime(1970, 1, 1))
@example(moment=datetime(1969, 12, 31, 23, 59, 59, 999_999))
@example(moment=datetime(2024, 2, 29, 23, 59, 59, 999_999))
@example(moment=datetime(2000, 2, 29))
@example(moment=datetime(2100, 2, 28, 23, 59, 59))
@example(moment=datetime(2026, 12, 31, 23, 59, 59, 999_999))
def test_a_window_is_that_of_the_calendar(window, moment):
    """All of a window has one number, it ends where the calendar says, and the next number begins there."""
    begun = start(window, moment)
    ended = after(window, begun)
    number = window.number(micros(moment))
    assert window.end(micros(moment)) == micros(ended)
    assert window.number(micros(begun)) == number
    assert window.number(micros(begun) - 1) == number - 1
    assert window.number(micros(ended) - 1) == number
    assert window.number(micros(ended)) == number + 1


@EACH
@given(one=MOMENTS, other=MOMENTS)
def test_numbers_follow_time(window, one, other):
    """A later moment never has a smaller number, and the same number only within the same window."""
    first, second = sorted((micros(one), micros(other)))
    assert window.number(first) <= window.number(second)
    assert (window.number(first) == window.number(second)) == (second < window.end(first))


@EACH
def test_numbers_count_from_1970(window):
    """The first moment of 1970 is in window 0, whatever the kind."""
    assert window.number(0) == window_of(0, window) == 0


@pytest.mark.parametrize(
    ("window", "moment", "end"),
    [
        ("week", "2026-01-04T23:59:59.999999", "2026-01-05T00:00"),
        ("week", "2026-01-05T00:00", "2026-01-12T00:00"),
        ("week", "1970-01-01T00:00", "1970-01-05T00:00"),
        ("month", "2024-02-29T12:00", "2024-03-01T00:00"),
        ("month", "2023-02-28T12:00", "2023-03-01T00:00"),
        ("month", "2100-02-28T12:00", "2100-03-01T00:00"),
        ("month", "2000-02-28T12:00", "2000-03-01T00:00"),
        ("month", "2025-12-31T23:59:59.999999", "2026-01-01T00:00"),
        ("day", "2024-02-28T10:00", "2024-02-29T00:00"),
        ("day", "2016-12-31T23:59:59", "2017-01-01T00:00"),
        ("hour", "2026-03-29T01:30", "2026-03-29T02:00"),
        ("minute", "2026-01-01T00:00:59.999999", "2026-01-01T00:01"),
    ],
)
def test_the_edges_of_weeks_months_and_leap_years(window, moment, end):
    """Weeks begin on Monday; months have their own lengths; there is no summer time in UTC."""
    now = micros(datetime.fromisoformat(moment))
    assert Window[window].end(now) == micros(datetime.fromisoformat(end))


@given(st.integers(0, 2**53))
def test_without_windows_there_is_one(now):
    """A budget without a window is one window for ever."""
    assert window_of(now, None) == 0


@pytest.mark.parametrize(
    ("window", "spoken", "shown"),
    [
        ("minute", "this minute", "23:59:00 UTC"),
        ("hour", "this hour", "23:59 UTC"),
        ("day", "today", "23:59 UTC"),
        ("week", "this week", "2026-02-01 23:59 UTC"),
        ("month", "this month", "2026-02-01 23:59 UTC"),
    ],
)
def test_a_window_in_words(window, spoken, shown):
    """A message says which window it means, and when it ends as short as is clear."""
    assert Window[window].spoken == spoken
    assert Window[window].shown(micros(datetime(2026, 2, 1, 23, 59))) == shown
