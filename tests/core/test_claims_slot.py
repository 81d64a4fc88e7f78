"""Slots: never more calls at the same time than allowed, and none lost for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.claims import Ending, Hold, Refusal, Slot

SECOND = 1_000_000


def slot(limit: int, wait: int = 0) -> Slot:
    """A claim on one of so many slots of a tenant."""
    return Slot("k", "limits[0]", limit, wait, " for tenant acme")


def hold(permit: object, at: int = 0, lease: int = 10) -> Hold:
    """A permit that takes a claim at this time, for so long."""
    return Hold(f"{permit}", at, at + lease, "b")


def ending(outcome: str) -> Ending:
    """The end of a permit."""
    return Ending(outcome, {}, 0, 1)  # type: ignore[arg-type]


def as_it_is(cell: Any) -> Any:
    """A ledger in memory keeps the very object."""
    return cell


def through_json(cell: Any) -> Any:
    """A ledger on disk keeps JSON: a list comes back."""
    return json.loads(json.dumps(cell))


KEPT = pytest.mark.parametrize("kept", [as_it_is, through_json])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "succeeded", "failed", "unknown"]),
        st.integers(0, 8),
        st.integers(1, 20),
        st.integers(0, 9),
    ),
    max_size=40,
)


@KEPT
@given(st.integers(1, 4), STEPS)
def test_a_slot_is_free_or_leased(kept, limit, steps):
    """A call is permitted exactly if fewer leases than the limit are alive, under any interleaving."""
    claim, now, cell = slot(limit), 1000, None
    leases: dict[str, int] = {}  # the model: who is inside until when
    out: list[Hold] = []
    for number, (step, later, lease, which) in enumerate(steps):
        now += later
        before, previous = json.dumps(cell), cell
        inside = sum(1 for expires in leases.values() if expires > now)
        assert inside <= limit
        if step == "take":
            by = hold(number, now, lease)
            result = claim.take(cell, by)
            assert (type(result) is not Refusal) is (inside < limit)
            if inside < limit:
                cell = kept(result)
                leases[by.permit] = by.expires
                out.append(by)
        elif out:
            by = out.pop(which % len(out))
            cell = kept(claim.settle(cell, by, ending(step)))
            if step != "unknown":
                del leases[by.permit]
        assert json.dumps(previous) == before
        probe = slot(99).take(cell, hold("probe", now))
        alive = sum(1 for expires in leases.values() if expires > now)
        assert len(probe) == 2 * (alive + 1)


@KEPT
def test_a_lease_comes_back_when_it_expires_and_not_before(kept):
    """A process that died gives its slot back at the end of the lease, to the microsecond."""
    claim = slot(1)
    cell = kept(claim.take(None, hold("dead", at=100, lease=50)))
    assert type(claim.take(cell, hold("p", at=149))) is Refusal
    assert claim.take(cell, hold("p", at=150)) == ("p", 160)


@KEPT
@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_an_end_gives_the_slot_back_at_once(kept, outcome):
    """Taking and ending leaves the very cell that was there before."""
    claim = slot(3)
    for before in (None, ("p1", 50), ("p1", 50, "p2", 20)):
        taken = kept(claim.take(kept(before), hold("p", at=5)))
        assert kept(claim.settle(taken, hold("p", at=5), ending(outcome))) == kept(before)


@KEPT
def test_an_unknown_outcome_frees_nothing(kept):
    """The slot stays leased until the lease expires: the call may still be under way."""
    claim, by = slot(1), hold("p", at=0, lease=10)
    cell = kept(claim.take(None, by))
    cell = kept(claim.settle(cell, by, ending("unknown")))
    assert type(claim.take(cell, hold("q", at=9))) is Refusal
    assert type(claim.take(cell, hold("q", at=10))) is not Refusal


@KEPT
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
def test_a_permit_that_holds_no_slot_gives_none_back(kept, outcome):
    """A late end of a call whose lease expired does not free the slot of somebody else."""
    claim = slot(1)
    late = hold("late", at=0, lease=5)
    cell = kept(claim.take(claim.take(None, late), hold("next", at=5)))
    assert kept(claim.settle(cell, late, ending(outcome))) == kept(("next", 15))
    assert claim.settle(None, late, ending(outcome)) is None


@pytest.mark.parametrize(
    ("claim", "now", "message"),
    [
        (
            slot(1),
            0,
            "all slots for tenant acme are taken: 1 call is allowed at the same time;"
            " one is free when a call ends, in 30 s at the latest",
        ),
        (
            slot(2),
            29 * SECOND + 1,
            "all slots for tenant acme are taken: 2 calls are allowed at the same time;"
            " one is free when a call ends, in 1 s at the latest",
        ),
        (
            slot(2, wait=2_500_000),
            SECOND,
            "all slots for tenant acme are taken after waiting 2.50 s: 2 calls are allowed at the same"
            " time; one is free when a call ends, in 29 s at the latest",
        ),
    ],
)
@KEPT
def test_the_refusal_has_number_name_and_way_out(kept, claim, now, message):
    """How many slots, for whom, when one is free at the latest, and for how long one may wait."""
    cell = None
    for number in range(claim.limit):
        cell = kept(claim.take(cell, hold(number, lease=(30 + number) * SECOND)))
    refusal = claim.take(cell, hold("p", at=now))
    assert type(refusal) is Refusal
    assert refusal.reason.message == message
    assert refusal.reason.retry == 1.0
    assert refusal.wait == claim.wait
    assert (refusal.reason.code, refusal.reason.rule) == ("concurrency", "limits[0]")
