"""What holds for every kind of claim, and for calls whose outcome nobody knows."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.claims import (
    Approval,
    Barrier,
    Breaker,
    Claim,
    Ending,
    Hold,
    Labels,
    Needs,
    Once,
    Quota,
    Rate,
    Refusal,
    Replay,
    Seen,
    Slot,
    Traced,
    Unsettled,
)
from sluicegate.window import Window

SECOND = 1_000_000
OUTCOMES = ("succeeded", "failed", "unknown")
CLAIMS: dict[str, Claim] = {
    "quota": Quota("k", "r", "eur", 2, 5, Window.minute, ""),
    "quota for ever": Quota("k", "r", "eur", 1, 3, None, ""),
    "rate": Rate("k", "r", 3, 7 * SECOND, 2, ""),
    "slot": Slot("k", "r", 2, 0, ""),
    "once": Once("k", "r", "key", None, False),
    "once within": Once("k", "r", "key", 60 * SECOND, False),
    "once, repeatable": Once("k", "r", "key", None, True),
    "seen": Seen("k", "r", "call", False),
    "seen, repeatable": Seen("k", "r", "call", True),
    "unsettled": Unsettled("k", "r"),
    "breaker": Breaker("k", "r", "t", 2, 20 * SECOND),
    "needs": Needs("k", "r", "t", "get_order"),
    "labels": Labels("k", ("untrusted", "sensitive"), "t"),
    "barrier": Barrier("k", "r", "flow", "t", ("untrusted",), "external"),
}
APART = {Traced, Approval}
"""Kinds that are not simply taken: one looks at several cells, the other can be asked for."""

COUNTS = (Rate, Breaker, Labels)
"""Kinds that keep what happened whatever became of it: attempts, failures, what was shown."""
ANY = st.sampled_from(list(CLAIMS.values()))
LAW = settings(max_examples=300)  # all kinds share them
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", *OUTCOMES]),
        st.sampled_from([0, 1, SECOND, 9 * SECOND, 10 * SECOND, 50 * SECOND]),
        st.sampled_from(["b", "b", "other"]),
        st.integers(0, 9),
    ),
    max_size=20,
)


def hold(permit: object, at: int, binding: str = "b") -> Hold:
    """A permit that takes a claim at this time, for ten seconds."""
    return Hold(f"{permit}", at, at + 10 * SECOND, binding)


def ending(outcome: str, entry: int = 1) -> Ending:
    """The end of a permit, with the place of its outcome in the journal."""
    return Ending(outcome, {}, 0, entry)  # type: ignore[arg-type]


def granted(result: object) -> bool:
    """Whether the call may run."""
    return type(result) not in (Refusal, Replay)


def after(result: Any, cell: Any) -> Any:
    """The cell after a claim was granted: None says that it stays as it is."""
    return cell if result is None else result


def through_json(cell: Any) -> Any:
    """What a ledger on disk gives back."""
    return json.loads(json.dumps(cell))


def lived(
    claim: Claim, steps: list[Any], kept: Any = lambda cell: cell
) -> tuple[Any, int, list[Any]]:
    """The cell and the time after a history as a ledger allows it, and every answer in it."""
    cell, now = None, 1_700_000_000 * SECOND
    out: list[Hold] = []
    answers: list[Any] = []
    for number, (step, later, binding, which) in enumerate(steps):
        now += later
        out = [by for by in out if now < by.expires]
        if step == "take":
            result = claim.take(cell, hold(number, now, binding))
            answers.append(result if not granted(result) else through_json(result))
            if granted(result):
                cell = kept(after(result, cell))
                out.append(hold(number, now, binding))
        elif out:
            cell = kept(claim.settle(cell, out.pop(which % len(out)), ending(step, number)))
            answers.append(through_json(cell))
    return cell, now, answers


def test_every_kind_is_held_to_the_laws():
    """A new kind of claim has to be added to the list above."""
    assert {type(claim) for claim in CLAIMS.values()} | APART == set(get_args(Claim))


@LAW
@given(claim=ANY, steps=STEPS)
def test_a_cell_means_the_same_after_json(claim, steps):
    """Every answer of a history is the same whether cells are kept as they are or as JSON."""
    assert lived(claim, steps)[2] == lived(claim, steps, through_json)[2]


@LAW
@given(claim=ANY, steps=STEPS, outcome=st.sampled_from(OUTCOMES))
def test_claims_change_nothing_in_place(claim, steps, outcome):
    """Neither a grant nor a refusal nor an end touches the cell that it was given."""
    cell, now, _ = lived(claim, steps, through_json)
    before = json.dumps(cell)
    taken = claim.take(cell, hold("p", now))
    assert json.dumps(cell) == before
    if granted(taken):
        stored = through_json(after(taken, cell))
        claim.settle(stored, hold("p", now), ending(outcome))
        assert stored == through_json(after(taken, cell))


def probed(claim: Claim, cell: Any, now: int) -> list[Any]:
    """All that anybody could be told from now on: at many times, with the same and other arguments."""
    return [
        through_json(result) if granted(result) else result
        for later in (0, 1, SECOND, 10 * SECOND, 59 * SECOND, 61 * SECOND)
        for binding in ("b", "other")
        for result in [claim.take(cell, hold("probe", now + later, binding))]
    ]


@LAW
@given(
    claim=ANY.filter(lambda claim: type(claim) not in COUNTS),
    steps=STEPS,
    binding=st.sampled_from(["b", "other"]),
    later=st.integers(0, 10 * SECOND - 1),
)
def test_a_failure_gives_back_exactly(claim, steps, binding, later):
    """After a call that failed everybody is told what they would have been told without it."""
    cell, now, _ = lived(claim, steps)
    by = hold("p", now, binding)
    taken = claim.take(cell, by)
    if granted(taken):
        back = claim.settle(after(taken, cell), by, ending("failed"))
        assert probed(claim, back, now + later) == probed(claim, cell, now + later)


@LAW
@given(
    claim=ANY,
    steps=STEPS,
    later=st.integers(0, 10 * SECOND - 1),
    binding=st.sampled_from(["b", "other"]),
)
def test_an_unknown_outcome_frees_nothing(claim, steps, later, binding):
    """Whoever is refused while a call is under way is refused after its outcome became unknown."""
    if getattr(claim, "repeatable", False):
        claim = claim._replace(repeatable=False)
    cell, now, _ = lived(claim, steps)
    by = hold("p", now)
    taken = claim.take(cell, by)
    if granted(taken):
        taken = after(taken, cell)
        unknown = claim.settle(taken, by, ending("unknown")._replace(at=now + later))
        other = hold("q", now + later, binding)
        assert granted(claim.take(taken, other)) >= granted(claim.take(unknown, other))


@LAW
@given(
    claim=ANY.filter(lambda claim: type(claim) is not Breaker),
    steps=STEPS,
    later=st.integers(0, 90 * SECOND),
    binding=st.sampled_from(["b", "other"]),
)
def test_an_expired_lease_is_an_unknown_outcome(claim, steps, later, binding):
    """A call whose process died, and one that ended as unknown, are the same once the lease is over."""
    cell, now, _ = lived(claim, steps)
    by = hold("p", now)
    taken = claim.take(cell, by)
    if granted(taken):
        taken = after(taken, cell)
        unknown = claim.settle(taken, by, ending("unknown"))
        other = hold("q", by.expires + later, binding)
        died, doubted = claim.take(taken, other), claim.take(unknown, other)
        assert granted(died) == granted(doubted)
        if not granted(died):
            assert died == doubted


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_claims_are_values(claim):
    """Equal claims are equal, can be kept in sets, and cannot be changed."""
    twin = type(claim)(*claim)
    assert twin == claim
    assert hash(twin) == hash(claim)
    with pytest.raises(AttributeError):
        claim.key = "other"


# --- identical calls under way ----------------------------------------------------------------

KEPT = pytest.mark.parametrize("kept", [lambda cell: cell, through_json], ids=["as it is", "JSON"])
UNSETTLED = Unsettled("k", "tools.refund.effect")


@KEPT
@given(steps=STEPS)
def test_only_doubt_refuses_an_identical_call(kept, steps):
    """Identical calls run side by side, until one of them ended as unknown or never ended."""
    now, cell = 0, None
    calls: dict[str, tuple[Hold, str | None]] = {}  # the model: what became of each call
    for number, (step, later, binding, which) in enumerate(steps):
        now += later
        out = [by for by, outcome in calls.values() if outcome is None and now < by.expires]
        if step == "take":
            by = hold(number, now, binding)
            result = UNSETTLED.take(cell, by)
            doubt = [
                permit
                for permit, (other, outcome) in calls.items()
                if outcome == "unknown" or (outcome is None and other.expires <= now)
            ]
            assert granted(result) is (not doubt)
            if granted(result):
                cell = kept(result)
                calls[by.permit] = (by, None)
            else:
                assert result.reason.code == "outcome_unknown"
                assert any(f"permit {permit} " in result.reason.message for permit in doubt)
        elif out:
            by = out[which % len(out)]
            cell = kept(UNSETTLED.settle(cell, by, ending(step)))
            calls[by.permit] = (by, step)
    under_way = [by for by, outcome in calls.values() if outcome not in ("succeeded", "failed")]
    assert (cell is None) == (not under_way)


@KEPT
def test_a_call_that_was_never_settled_is_in_doubt_from_the_end_of_its_lease(kept):
    """Not before, and for ever after."""
    cell = kept(UNSETTLED.take(None, hold("dead", 0)))
    assert granted(UNSETTLED.take(cell, hold("p", 10 * SECOND - 1)))
    for later in (0, 1, 10**15):
        assert not granted(UNSETTLED.take(cell, hold("p", 10 * SECOND + later)))


@KEPT
def test_a_doubt_survives_the_end_of_the_others(kept):
    """Calls that ran side by side with an unknown one do not clear it."""
    cell = None
    for permit in ("p1", "p2", "p3"):
        cell = kept(UNSETTLED.take(cell, hold(permit, 0)))
    cell = kept(UNSETTLED.settle(cell, hold("p2", 0), ending("unknown")))
    for permit, outcome in (("p1", "succeeded"), ("p3", "failed")):
        cell = kept(UNSETTLED.settle(cell, hold(permit, 0), ending(outcome)))
    refusal = UNSETTLED.take(cell, hold("p4", 1))
    assert type(refusal) is Refusal
    assert refusal.reason.message == (
        "the identical call ran under permit p2 and its outcome is unknown;"
        " find out what happened and have a person reconcile it before it is tried again"
    )
    assert (refusal.reason.rule, refusal.reason.retry) == ("tools.refund.effect", "never")
    assert UNSETTLED.settle(None, hold("p1", 0), ending("failed")) is None
