"""A person's yes: asked for, given, spent, taken back, lapsed."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from sluicegate.claims import Approval, Asked, Ending, Hold, Refusal
from sluicegate.claims.approval import ANSWERS, VERDICTS, State, state_of, verdict

SECOND = 1_000_000
APPROVAL = Approval("approval|a", "tools.pay.approve", "a.new", 100 * SECOND)
HOLD = Hold("p1", 50 * SECOND, 60 * SECOND, "b")
CELLS: dict[str, Any] = {
    "absent": None,
    "pending": ("pending", "a.old", 0, 90 * SECOND, 7, ""),
    "approved": ("approved", "a.old", 0, 90 * SECOND, 7, "ada"),
    "rejected": ("rejected", "a.old", 0, 90 * SECOND, 7, "ada"),
    "spent": ("spent", "a.old", 0, 90 * SECOND, 7, "p0"),
    "expired": ("approved", "a.old", 0, 40 * SECOND, 7, "ada"),
}


def test_the_tables_have_every_state():
    """No state is left to a default."""
    assert set(ANSWERS) == set(get_args(State)) == set(CELLS)
    assert set(VERDICTS) <= set(product(get_args(State), ("approve", "reject")))


@pytest.mark.parametrize("state", CELLS)
def test_every_cell_is_in_the_state_that_it_says(state):
    """Time makes of a yes that nobody used an expired one."""
    assert state_of(CELLS[state], 50 * SECOND) == state


def test_a_yes_is_spent_by_the_permit_that_uses_it():
    """It keeps its request."""
    assert APPROVAL.take(CELLS["approved"], HOLD) == ("spent", "a.old", 0, 90 * SECOND, 7, "p1")
    assert APPROVAL.granted(CELLS["approved"], 50 * SECOND)


@pytest.mark.parametrize("state", ["absent", "spent", "expired"])
def test_without_a_yes_a_person_is_asked(state):
    """A new request is made; if the last one lapsed, that is said."""
    asked = APPROVAL.take(CELLS[state], HOLD)
    assert isinstance(asked, Asked)
    assert asked.new
    assert (asked.request, asked.expires) == ("a.new", 150 * SECOND)
    assert asked.lapsed == ("a.old" if state == "expired" else None)
    assert not APPROVAL.granted(CELLS[state], 50 * SECOND)


def test_a_request_is_made_once():
    """The same call waits for the request that is there."""
    asked = APPROVAL.take(CELLS["pending"], HOLD)
    assert isinstance(asked, Asked)
    assert not asked.new
    assert asked.request == "a.old"


def test_a_no_is_told():
    """With the name of who said it; it lapses as a yes would."""
    refused = APPROVAL.take(CELLS["rejected"], HOLD)
    assert isinstance(refused, Refusal)
    assert refused.reason.code == "approval_rejected"
    assert "ada has rejected request a.old" in refused.reason.message
    assert state_of(CELLS["rejected"], 90 * SECOND) == "absent"


@pytest.mark.parametrize(
    ("outcome", "back"), [("failed", True), ("succeeded", False), ("unknown", False)]
)
def test_a_yes_comes_back_only_if_nothing_happened(outcome, back):
    """After a failure exactly this call may be tried again."""
    spent = APPROVAL.take(CELLS["approved"], HOLD)
    after = APPROVAL.settle(spent, HOLD, Ending(outcome, {}, 0, 1))  # type: ignore[arg-type]
    assert (state_of(after, 50 * SECOND) == "approved") is back
    assert APPROVAL.settle(CELLS["spent"], HOLD, Ending("failed", {}, 0, 1)) == CELLS["spent"]
    assert APPROVAL.settle(None, HOLD, Ending("failed", {}, 0, 1)) is None


@pytest.mark.parametrize(("state", "word"), [*product(CELLS, ("approve", "reject"))])
def test_a_person_decides_by_the_table(state, word):
    """What is not in it changes nothing, and says in which state the request is."""
    after = verdict(CELLS[state], 50 * SECOND, word, "bob")
    if (state, word) in VERDICTS:
        assert after == (VERDICTS[state, word], "a.old", 0, 90 * SECOND, 7, "bob")
    else:
        assert after == ("there is no such request" if state == "absent" else f"it is {state}")
