"""The breaker: closed, open, one probe, closed again."""

from __future__ import annotations

import pytest

from sluicegate.claims import Breaker, Ending, Hold, Refusal

SECOND = 1_000_000
BREAKER = Breaker("k", "tools.send.breaker", "send", 2, 30 * SECOND)


def hold(permit: str, at: int) -> Hold:
    """A permit that takes the claim at this second, for ten."""
    return Hold(permit, at * SECOND, (at + 10) * SECOND, "b")


def failed(cell: object, permit: str, at: int, outcome: str = "failed") -> object:
    """The cell after a call under *permit* ended so."""
    return BREAKER.settle(cell, hold(permit, at), Ending(outcome, {}, at * SECOND, 1))  # type: ignore[arg-type]


def opened() -> object:
    """The cell after two failures, at second 1."""
    return failed(failed(None, "a", 0), "b", 1)


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_failures_in_a_row_open_it(outcome):
    """The second failure opens it, and an unknown outcome is one."""
    cell = failed(failed(None, "a", 0), "b", 1, outcome)
    refused = BREAKER.take(cell, hold("c", 2))
    assert isinstance(refused, Refusal)
    assert refused.reason.message == (
        "the breaker of send is open: its last 2 calls failed (2 in a row open it for 30 s); "
        "one call may probe it in 29 s"
    )
    assert refused.reason.retry == 29


def test_a_success_in_between_closes_the_count():
    """Only failures in a row count."""
    cell = failed(failed(None, "a", 0), "b", 1, "succeeded")
    assert cell is None
    assert BREAKER.take(failed(cell, "c", 2), hold("d", 3)) is None


def test_one_call_probes_after_the_cool_down():
    """After thirty seconds one call may try, and others wait for its result."""
    cell = BREAKER.take(opened(), hold("p", 31))
    assert cell == (2, SECOND, "p", 41 * SECOND)
    refused = BREAKER.take(cell, hold("q", 32))
    assert isinstance(refused, Refusal)
    assert "a call is probing it now; wait for its result" in refused.reason.message
    assert refused.reason.retry == 1


@pytest.mark.parametrize(
    ("outcome", "free"), [("succeeded", True), ("failed", False), ("unknown", False)]
)
def test_the_probe_decides(outcome, free):
    """Its success closes the breaker, anything else opens it anew for the whole cool-down."""
    probing = BREAKER.take(opened(), hold("p", 31))
    after = failed(probing, "p", 33, outcome)
    assert (BREAKER.take(after, hold("q", 34)) is None) is free
    if not free:
        assert isinstance(BREAKER.take(after, hold("q", 62)), Refusal)
        assert isinstance(BREAKER.take(after, hold("q", 63)), tuple)


def test_a_probe_that_died_is_a_failure():
    """If nobody settles the probe, the cool-down begins at the end of its lease."""
    probing = BREAKER.take(opened(), hold("p", 31))
    assert isinstance(BREAKER.take(probing, hold("q", 70)), Refusal)
    assert isinstance(BREAKER.take(probing, hold("q", 71)), tuple)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
def test_calls_from_before_do_not_move_an_open_breaker(outcome):
    """Who was under way when it opened says nothing about now."""
    assert failed(opened(), "old", 5, outcome) == opened()


def test_what_is_found_out_late_does_not_count():
    """A reconciled outcome is about the past."""
    cell = failed(None, "a", 0)
    late = Ending("failed", {}, SECOND, 1, late=True)
    assert BREAKER.settle(cell, hold("b", 1), late) == cell
