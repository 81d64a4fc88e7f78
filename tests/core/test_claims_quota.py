"""Quotas: what was taken and used never passes the limit, in any order of things."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.claims import Ending, Hold, Quota, Refusal
from sluicegate.window import Window

SECOND = 1_000_000
DAY = 86_400 * SECOND
LEASE = 300 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
WINDOWS = st.sampled_from([None, *Window])


def quota(amount: int = 1, limit: int = 10, window: Window | None = Window.day) -> Quota:
    """A claim on the budget `eur` of one tenant."""
    return Quota("k", "limits[0]", "eur", amount, limit, window, " for tenant acme")


def hold(permit: object = "p", at: int = 0) -> Hold:
    """A permit that takes a claim at this time."""
    return Hold(f"{permit}", at, at + LEASE, "b")


def ending(outcome: str, **used: int) -> Ending:
    """The end of a permit, with what it used."""
    return Ending(outcome, used, 0, 1)  # type: ignore[arg-type]


def as_it_is(cell: Any) -> Any:
    """A ledger in memory keeps the very object."""
    return cell


def through_json(cell: Any) -> Any:
    """A ledger on disk keeps JSON: a list comes back."""
    return json.loads(json.dumps(cell))


KEPT = pytest.mark.parametrize("kept", [as_it_is, through_json])


def calendar(window: Window | None, now: int) -> object:
    """What distinguishes the window of *now*, by the calendar of the standard library."""
    if window is None:
        return "ever"
    moment = EPOCH + timedelta(microseconds=now)
    pattern = {
        "minute": "%Y%j%H%M",
        "hour": "%Y%j%H",
        "day": "%Y%j",
        "week": "%G%V",
        "month": "%Y%m",
    }
    return moment.strftime(pattern[window.name])


class Account:
    """The model: a list of who took what when, added up anew for each question."""

    def __init__(self, window: Window | None) -> None:
        self.window = window
        self.lines: list[list[Any]] = []

    def spent(self, now: int) -> int:
        """All that counts against the limit in the window of *now*."""
        current = calendar(self.window, now)
        return sum(amount for when, amount in self.lines if when == current)

    def take(self, now: int, amount: int) -> list[Any]:
        """Note an amount; the line may be changed when the call ends."""
        self.lines.append([calendar(self.window, now), amount])
        return self.lines[-1]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "succeeded", "failed", "unknown"]),
        st.sampled_from([0, 1, SECOND, 40 * SECOND, 3600 * SECOND, DAY, 6 * DAY, 31 * DAY]),
        st.integers(0, 6),
        st.none() | st.integers(0, 6),
        st.integers(0, 9),
    ),
    max_size=40,
)


@KEPT
@given(window=WINDOWS, limit=st.integers(0, 12), steps=STEPS, start=st.integers(0, 2 * 10**15))
def test_a_quota_counts_like_an_account(kept, window, limit, steps, start):
    """A call is permitted exactly if used and held leave room, under any interleaving."""
    account, now, cell = Account(window), start, None
    out: list[tuple[Quota, Hold, list[Any]]] = []
    for number, (step, later, amount, used, which) in enumerate(steps):
        now += later
        before = json.dumps(cell)
        previous = cell
        if step == "take":
            claim, by = quota(amount, limit, window), hold(number, now)
            result = claim.take(cell, by)
            room = account.spent(now) + amount <= limit
            assert (type(result) is not Refusal) is room
            if room:
                out.append((claim, by, account.take(now, amount)))
                cell = kept(result)
        elif out:
            claim, by, line = out.pop(which % len(out))
            told = {} if used is None else {"eur": used}
            cell = kept(claim.settle(cell, by, ending(step, **told)))
            if step == "failed":
                line[1] = 0
            elif step == "succeeded" and used is not None:
                line[1] = used
        assert json.dumps(previous) == before
        current = quota(0, limit, window).take(cell, hold("probe", now))
        if type(current) is not Refusal:
            assert current[1] + current[2] == account.spent(now)
        else:
            assert account.spent(now) > limit


@KEPT
@given(limit=st.integers(0, 30), amounts=st.lists(st.integers(1, 9), max_size=30), data=st.data())
def test_no_interleaving_passes_the_limit(kept, limit, amounts, data):
    """Whatever ends in whatever way, what is held and used at no time passes the limit."""
    cell, out = None, []
    for number, amount in enumerate(amounts):
        result = quota(amount, limit).take(cell, hold(number))
        if type(result) is not Refusal:
            out.append((quota(amount, limit), hold(number)))
            cell = kept(result)
        while out and data.draw(st.booleans()):
            claim, by = out.pop(data.draw(st.integers(0, len(out) - 1)))
            outcome = data.draw(st.sampled_from(["succeeded", "failed", "unknown"]))
            used = data.draw(st.integers(0, claim.amount))
            cell = kept(claim.settle(cell, by, ending(outcome, eur=used)))
            assert cell is None or 0 <= cell[1] + cell[2] <= limit
        assert cell is None or (cell[2] >= 0 and cell[1] + cell[2] <= limit)


@KEPT
@given(
    cell=st.none() | st.tuples(st.just(0), st.integers(0, 9), st.integers(1, 9)),
    amount=st.integers(0, 9),
    now=st.integers(0, DAY - 1),
)
def test_a_failure_gives_back_exactly(kept, cell, amount, now):
    """Taking and failing leaves the very cell that was there before, or none if there was none."""
    claim, by = quota(amount, 100), hold("p", now)
    taken = kept(claim.take(kept(cell), by))
    back = claim.settle(taken, by, ending("failed", eur=5))
    assert kept(back) == kept(cell)


@pytest.mark.parametrize(
    ("outcome", "used", "left"),
    [
        ("succeeded", {}, 6),
        ("succeeded", {"eur": 1}, 9),
        ("succeeded", {"eur": 0}, 10),
        ("succeeded", {"eur": 7}, 3),
        ("succeeded", {"usd": 1}, 6),
        ("failed", {}, 10),
        ("failed", {"eur": 4}, 10),
        ("unknown", {}, 6),
        ("unknown", {"eur": 0}, 6),
    ],
)
def test_what_each_outcome_costs(outcome, used, left):
    """A success costs what was used, a failure nothing, and an unknown outcome all that was held."""
    claim = quota(amount=4)
    cell = claim.settle(claim.take(None, hold()), hold(), ending(outcome, **used))
    assert type(quota(amount=left).take(cell, hold("q"))) is not Refusal
    assert type(quota(amount=left + 1).take(cell, hold("q"))) is Refusal


def test_an_overrun_is_counted_as_it_was():
    """If a call used more than it held, the rest is negative and nothing more is permitted."""
    claim = quota(amount=4)
    cell = claim.settle(claim.take(None, hold()), hold(), ending("succeeded", eur=15))
    refusal = quota(amount=1).take(cell, hold("q"))
    assert type(refusal) is Refusal
    assert "eur for tenant acme has 0 of 0.00001 left today" in refusal.reason.message


@KEPT
def test_a_window_that_ends_while_a_call_is_held(kept):
    """The call's end changes nothing in the window that has begun since."""
    early, late = hold("p1", DAY - 1), hold("p2", DAY)
    claim = quota(amount=6)
    cell = kept(claim.take(None, early))
    assert type(claim.take(cell, hold("p3", DAY - 1))) is Refusal
    cell = kept(claim.take(cell, late))
    assert list(cell) == [1, 0, 6]
    for outcome in ("succeeded", "failed", "unknown"):
        assert claim.settle(cell, early, ending(outcome)) is cell
    assert list(claim.settle(cell, late, ending("succeeded"))) == [1, 6, 0]


def test_a_call_that_ends_after_its_window_belongs_to_its_window():
    """Nothing began a new window: the old one still gets what the call used."""
    early = hold("p1", DAY - 1)
    cell = quota(amount=6).settle(
        quota(amount=6).take(None, early), early, Ending("succeeded", {}, DAY + 5, 1)
    )
    assert cell == (0, 6, 0)


def test_a_failure_where_nothing_is_left_changes_nothing():
    """A cell that is gone stays gone if there is nothing to count."""
    assert quota().settle(None, hold(), ending("failed")) is None


# --- what a refusal says ------------------------------------------------------------------------


@given(st.sampled_from(list(Window)), st.integers(0, 2 * 10**15), st.integers(1, 9))
def test_a_refused_call_fits_after_its_retry(window, now, amount):
    """After the seconds of `retry` the call is permitted, and a second earlier it is not."""
    full = quota(9, 9, window).take(None, hold("p", now))
    refusal = quota(amount, 9, window).take(full, hold("q", now))
    assert type(refusal) is Refusal
    again = now + refusal.reason.retry * SECOND
    assert type(quota(amount, 9, window).take(full, hold("q", again))) is not Refusal
    early = max(now, again - SECOND)
    if early < window.end(now):
        assert type(quota(amount, 9, window).take(full, hold("q", early))) is Refusal
    assert window.end(now) <= again < window.end(now) + SECOND


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("claim", "taken", "message", "retry"),
    [
        (
            quota(480 * MILLION, 1000 * MILLION),
            880 * MILLION,
            "eur for tenant acme has 120 of 1000 left today, this call needs 480; resets 00:00 UTC",
            86_390,
        ),
        (
            quota(2_500_000, 10 * MILLION, Window.month),
            7_600_000,
            "eur for tenant acme has 2.40 of 10 left this month, this call needs 2.50;"
            " resets 1970-02-01 00:00 UTC",
            31 * 86_400 - 10,
        ),
        (
            quota(11 * MILLION, 10 * MILLION, Window.hour),
            0,
            "eur for tenant acme has 10 of 10 left this hour, this call needs 11; resets 01:00 UTC;"
            " no single call may need more than the whole limit",
            "never",
        ),
        (
            quota(10 * MILLION, 10 * MILLION, Window.hour),
            MILLION,
            "eur for tenant acme has 9 of 10 left this hour, this call needs 10; resets 01:00 UTC",
            3590,
        ),
        (
            quota(2 * MILLION, 10 * MILLION, None),
            9 * MILLION,
            "eur for tenant acme has 1 of 10 left, this call needs 2",
            "never",
        ),
        (
            quota(MILLION, 0, None),
            0,
            "eur for tenant acme has 0 of 0 left, this call needs 1;"
            " no single call may need more than the whole limit",
            "never",
        ),
    ],
)
@KEPT
def test_the_refusal_has_number_name_and_way_out(kept, claim, taken, message, retry):
    """What is left, of what, for whom, what the call needs, and when there is more."""
    cell = kept((0, taken, 0)) if taken else None
    refusal = claim.take(cell, hold("p", 10 * SECOND))
    assert type(refusal) is Refusal
    assert refusal.reason.message == message
    assert refusal.reason.retry == retry
    assert (refusal.reason.code, refusal.reason.rule, refusal.wait) == ("budget", "limits[0]", 0)


@pytest.mark.parametrize("first", ["succeeded", "failed"])
def test_what_was_used_counts_although_nothing_was_held(first):
    """A call that was thought to be free and was not is counted, whoever ended before it."""
    claim, cell = quota(0, 5), None
    for number in (1, 2):
        cell = claim.take(cell, hold(number))
    cell = claim.settle(cell, hold(1), ending(first))
    assert cell is None
    cell = claim.settle(cell, hold(2), ending("succeeded", eur=4))
    assert cell is not None
    assert (cell[1], cell[2]) == (4, 0)
    assert type(quota(2, 5).take(cell, hold(3))) is Refusal
    assert claim.settle(None, hold(2), ending("unknown")) is None


@pytest.mark.parametrize("late", [False, True])
def test_a_cell_that_is_gone_owes_nothing(late):
    """What ends after its cell was forgotten counts what it used, and gives back nothing beyond."""
    found = quota(3, 5).settle(None, hold(1), ending("succeeded", eur=4)._replace(late=late))
    assert found is not None
    assert (found[1], found[2]) == (4, 0)
    assert quota(3, 5).settle(None, hold(1), ending("failed")._replace(late=late)) is None
