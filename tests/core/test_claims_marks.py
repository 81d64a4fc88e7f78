"""What is remembered of a run: steps, labels, values; and the claims that look at it."""

from __future__ import annotations

import json

import pytest

from sluicegate.claims import (
    Barrier,
    Came,
    Done,
    Ending,
    Hold,
    Labels,
    Needs,
    Refusal,
    Shown,
    Traced,
)
from sluicegate.claims.marks import BUCKET

SECOND = 1_000_000
HOLD = Hold("p1", 0, 10 * SECOND, "b")
LATER = Hold("p2", SECOND, 11 * SECOND, "b")
LABELS = Labels("k", ("untrusted",), "search")
BARRIER = Barrier(
    "k", "flows[0]", "no-exfiltration", "send", ("untrusted", "sensitive"), "external"
)


def test_a_step_that_is_needed_is_looked_for():
    """Without it the call is refused, with the step in the message; with it nothing changes."""
    needs = Needs("k", "tools.refund.requires[0]", "refund", 'get_order with order_id "A1"')
    refused = needs.take(None, HOLD)
    assert isinstance(refused, Refusal)
    assert refused.reason.code == "order"
    assert refused.reason.message == (
        'refund needs get_order with order_id "A1" to have succeeded earlier in this run; call it first'
    )
    assert needs.take(Done("k").write(None, 0, 4), HOLD) is None
    assert needs.settle((4,), HOLD, Ending("failed", {}, 0, 1)) == (4,)


def test_the_first_time_that_a_step_was_done_is_kept():
    """A step that is done again keeps its entry."""
    assert Done("k").write((4,), 0, 9) == (4,)


def barrier(turn: str | None = None) -> Barrier:
    """What keeps a call of *turn* from being made after `untrusted`."""
    return Barrier("k", "flows[0]", "f", "send", ("untrusted",), "external", turn)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
@pytest.mark.parametrize("turn", [None, "t1"])
def test_a_label_is_set_when_the_call_ends(outcome, turn):
    """Whatever became of it, the model can be told something, and the call's turn is over."""
    labels = LABELS._replace(turn=turn)
    after = labels.settle(labels.take(None, HOLD), HOLD, Ending(outcome, {}, 0, 1))
    assert after == ("untrusted", "search", "p1", 0)
    assert isinstance(barrier("t1").take(after, LATER), Refusal)


@pytest.mark.parametrize(
    ("bringing", "own", "counts"),
    [
        (None, None, True),
        (None, "t1", True),
        ("t1", None, True),
        ("t1", "t2", True),
        ("t1", "t1", False),
    ],
)
def test_a_label_on_its_way_counts_for_whoever_may_have_seen_the_result(bringing, own, counts):
    """Only a call of the same turn was certainly composed without it: nobody knows when the result comes."""
    taken = LABELS._replace(turn=bringing).take(None, HOLD)
    for cell in (taken, json.loads(json.dumps(taken))):
        refused = barrier(own).take(cell, LATER)
        assert isinstance(refused, Refusal) is counts
        if isinstance(refused, Refusal):
            assert (
                "has seen untrusted (from search, permit p1, whose end is not on record), so"
                in refused.reason.message
            )


@pytest.mark.parametrize("turn", [None, "t1"])
def test_a_label_of_a_call_that_died_is_set_when_its_lease_ends(turn):
    """Nobody knows what was shown to the model, also in its own turn."""
    taken = LABELS._replace(turn=turn).take(None, HOLD)
    refused = barrier(turn).take(taken, Hold("p2", 10 * SECOND, 11 * SECOND, "b"))
    assert isinstance(refused, Refusal)
    assert "(from search, permit p1), so" in refused.reason.message


def test_a_label_is_set_once():
    """The first call that set it is the one that is named, and the cell does not grow."""
    both = LABELS.take(LABELS.take(None, HOLD), LATER)
    first = LABELS.settle(both, LATER, Ending("succeeded", {}, 0, 1))
    second = LABELS.settle(first, HOLD, Ending("succeeded", {}, 0, 2))
    assert second == ("untrusted", "search", "p2", 0)
    assert LABELS.take(second, HOLD) is None
    assert Shown("k", ("untrusted",), "search", "p3").write(second, 0, 1) == second


def test_a_result_that_is_shown_again_sets_its_labels():
    """A recorded answer is as untrusted as it was."""
    cell = Shown("k", ("untrusted", "sensitive"), "search", "p0").write(None, 0, 1)
    refused = BARRIER.take(cell, HOLD)
    assert isinstance(refused, Refusal)
    assert refused.reason.message == (
        "flow no-exfiltration: this run has seen untrusted (from search, permit p0) and sensitive "
        "(from search, permit p0), so nothing labelled external is permitted any more, and send is; "
        "do it in a run that has not"
    )


def test_a_flow_needs_all_its_labels():
    """One of two is not enough."""
    cell = Shown("k", ("untrusted",), "search", "p0").write(None, 0, 1)
    assert BARRIER.take(cell, HOLD) is None
    assert BARRIER.settle(cell, HOLD, Ending("failed", {}, 0, 1)) == cell


def traced(turn: str | None = None, ask: bool = False, forms: tuple[str, ...] = ("f1",)) -> Traced:
    """A claim on a value from the user or from get_order."""
    words = "the user's words or an earlier result of get_order"
    keys = tuple("k" for _ in forms)
    return Traced(
        keys,
        "tools.pay.origin.iban",
        "iban 'DE1'",
        forms,
        ("prompt", "get_order"),
        turn,
        words,
        ask,
    )


@pytest.mark.parametrize(
    ("source", "then", "now", "found"),
    [
        ("prompt", None, None, True),
        ("prompt", None, "t1", True),
        ("get_order", "t1", "t2", True),
        ("get_order", "t1", "t1", False),
        ("get_order", None, "t1", True),
        ("web", "t1", "t2", False),
    ],
)
def test_a_value_is_traced_to_its_sources(source, then, now, found):
    """It must have come up in one of them, and not in the turn of the call itself."""
    cell = Came("k", source, then, ("f0", "f1")).write(None, 0, 1)
    assert (traced(now).trace([cell]) is None) is found


def test_any_form_of_a_value_will_do():
    """A number may have been written in several ways."""
    cell = Came("k", "prompt", None, ("f2",)).write(None, 0, 1)
    assert traced(forms=("f1", "f2")).trace([None, cell]) is None


@pytest.mark.parametrize(("ask", "retry"), [(False, "never"), (True, "approval")])
def test_an_invented_value_is_refused_or_asked_for(ask, retry):
    """The message names the value and where it could come from."""
    refused = traced(ask=ask).trace([None])
    assert refused is not None
    assert refused.ask is ask
    assert refused.reason.retry == retry
    assert refused.reason.message == (
        "iban 'DE1' did not come from the user's words or an earlier result of get_order; "
        "use a value from there, or ask the user for it"
    )


def test_a_bucket_has_a_bound_and_says_when_it_is_full():
    """What does not fit is not remembered, and a refusal says that this may be why."""
    many = tuple(f"f{n:03}" for n in range(BUCKET))
    cell = Came("k", "prompt", None, many).write(None, 0, 1)
    assert cell is not None
    assert cell[0] == 0
    cell = Came("k", "prompt", None, ("one more",)).write(cell, 0, 1)
    assert cell is not None
    assert cell[0] == 1
    assert len(cell) == 1 + 3 * BUCKET
    refused = traced(forms=("one more",)).trace([cell])
    assert refused is not None
    assert "memory of values is full, 64 of 64" in refused.reason.message


def test_a_value_that_is_known_is_not_kept_twice():
    """The same value from the same source in the same or in an earlier turn without a name is known."""
    cell = Came("k", "prompt", None, ("f1", "f1")).write(None, 0, 1)
    assert Came("k", "prompt", "t2", ("f1",)).write(cell, 0, 1) == cell == (0, "f1", "prompt", None)
