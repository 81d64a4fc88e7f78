"""Keys and call ids: at most one success each, bound to tool and arguments, doubt included."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.claims import ENDINGS, ONCE, Ending, Hold, Once, Refusal, Replay, Seen

RULE = "tools.refund.once"
LEASE = 10
WITHIN = 100


def once(*, repeatable: bool = False, within: int | None = None) -> Once:
    """A claim on the key `refund:7`."""
    return Once("k", RULE, "refund:7", within, repeatable)


def seen(*, repeatable: bool = False, within: int | None = None) -> Seen:
    """A claim on the call id `c1`."""
    return Seen("k", RULE, "c1", repeatable, within)


def hold(permit: object, at: int = 0, binding: str = "b", lease: int = LEASE) -> Hold:
    """A permit that takes a claim at this time, for these arguments."""
    return Hold(f"{permit}", at, at + lease, binding)


def ending(outcome: str, entry: int = 1) -> Ending:
    """The end of a permit, with the place of its outcome in the journal."""
    return Ending(outcome, {}, 0, entry)  # type: ignore[arg-type]


def as_it_is(cell: Any) -> Any:
    """A ledger in memory keeps the very object."""
    return cell


def through_json(cell: Any) -> Any:
    """A ledger on disk keeps JSON: a list comes back."""
    return json.loads(json.dumps(cell))


KEPT = pytest.mark.parametrize("kept", [as_it_is, through_json])
BOTH = pytest.mark.parametrize("make", [once, seen])


def answer(result: object) -> str:
    """What a claim was answered, in one word."""
    if type(result) is Refusal:
        return result.reason.code
    return "replay" if type(result) is Replay else "hold"


# --- each state, each call: the table ---------------------------------------------------------

FIRST = hold("p1", at=5)


def cell_in(state: str, claim: Once | Seen) -> Any:
    """The cell of a key in this state, reached the way it is reached in life."""
    if state == "absent":
        return claim.settle(claim.take(None, FIRST), FIRST, ending("failed"))
    taken = claim.take(None, FIRST)
    outcome = {"done": "succeeded", "unknown": "unknown"}.get(state)
    return claim.settle(taken, FIRST, ending(outcome, 42)) if outcome else taken


TABLE = {
    # (state, same tool and arguments) → Once, Seen; the two that may be repeated are marked
    ("absent", True): ("hold", "hold"),
    ("absent", False): ("hold", "hold"),
    ("held", True): ("in_progress", "duplicate_call"),
    ("held", False): ("key_conflict", "duplicate_call"),
    ("done", True): ("replay", "replay"),
    ("done", False): ("key_conflict", "duplicate_call"),
    ("unknown", True): ("outcome_unknown*", "outcome_unknown*"),
    ("unknown", False): ("key_conflict", "duplicate_call"),
    ("expired", True): ("outcome_unknown*", "outcome_unknown*"),
    ("expired", False): ("key_conflict", "duplicate_call"),
}


@KEPT
@BOTH
@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize(("state", "same"), TABLE)
def test_every_state_answers_every_call(state, same, repeatable, make, kept):
    """A new call is told the same for each combination of state, arguments and kind of tool."""
    claim = make(repeatable=repeatable)
    cell = kept(cell_in("held" if state == "expired" else state, claim))
    before = json.dumps(cell)
    at = FIRST.expires if state == "expired" else FIRST.expires - 1
    by = hold("p2", at, "b" if same else "other")
    result = claim.take(cell, by)
    expected = TABLE[state, same][0 if make is once else 1]
    doubtful = expected.endswith("*")
    expected = "hold" if doubtful and repeatable else expected.removesuffix("*")
    assert answer(result) == expected
    assert json.dumps(cell) == before
    if expected == "hold":
        assert list(result[1:5]) == [by.binding, by.at, by.permit, by.expires]
    if expected == "replay":
        assert result == Replay(42)


def test_the_tables_have_every_combination():
    """No state, no outcome and no kind of arguments is left to a default."""
    assert set(ONCE) == {("absent", True)} | set(
        product(("held", "done", "unknown"), (True, False))
    )
    endings = set(product(("held", "again"), ("succeeded", "failed", "unknown")))
    assert set(ENDINGS) == endings | set(product(("unknown",), ("succeeded", "failed")))


@pytest.mark.parametrize(
    ("make", "state", "same", "message", "retry"),
    [
        (
            once,
            "held",
            True,
            "key 'refund:7' is being carried out right now under permit p1; wait for its result",
            1.0,
        ),
        (
            seen,
            "held",
            True,
            "call id 'c1' is being carried out right now under permit p1; wait for its result",
            1.0,
        ),
        (
            once,
            "done",
            False,
            "key 'refund:7' was used before, by permit p1, with other arguments;"
            " repeat the call with the same arguments, or use another key",
            "never",
        ),
        (
            once,
            "unknown",
            True,
            "key 'refund:7' ran under permit p1 and its outcome is unknown;"
            " find out what happened and have a person reconcile it before it is tried again",
            "never",
        ),
    ],
)
def test_the_refusal_has_number_name_and_way_out(make, state, same, message, retry):
    """Which key, under which permit, and what to do about it."""
    claim = make()
    refusal = claim.take(cell_in(state, claim), hold("p2", 6, "b" if same else "other"))
    assert type(refusal) is Refusal
    assert (refusal.reason.message, refusal.reason.retry) == (message, retry)
    assert (refusal.reason.rule, refusal.wait) == (RULE, 0)


@BOTH
def test_a_long_key_is_shown_short(make):
    """A key from the model's arguments is quoted, but never at its full length."""
    claim = make()._replace(name="\x1b" + "x" * 5000)
    refusal = claim.take(claim.take(None, FIRST), hold("p2", 6))
    assert "'\\x1bxxx" in refusal.reason.message
    assert len(refusal.reason.message) < 300


# --- any history ------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "succeeded", "failed", "unknown"]),
        st.sampled_from([0, 1, 1, LEASE - 1, LEASE, WITHIN - 1]),
        st.sampled_from(["b", "b", "b", "other"]),
        st.booleans(),
    ),
    max_size=25,
)


class Attempt:
    """The model: one call that was permitted, and what became of it."""

    def __init__(self, by: Hold) -> None:
        self.by = by
        self.outcome: str | None = None
        self.entry = 0

    def state(self, now: int, within: int | None) -> str:
        """What this attempt alone makes of its key."""
        if self.outcome is None:
            return "held" if now < self.by.expires else "unknown"
        over = within is not None and now >= self.by.at + within
        return "absent" if self.outcome == "succeeded" and over else self.outcome


def told(attempts: list[Attempt], by: Hold, within: int | None, *, repeatable: bool) -> str:
    """What the table says to a new call: failed attempts never were, the last of the others counts."""
    standing = [attempt for attempt in attempts if attempt.outcome != "failed"]
    state = standing[-1].state(by.at, within) if standing else "absent"
    if state == "absent":
        return "hold"
    if standing[-1].by.binding != by.binding:
        return "key_conflict"
    if state == "unknown" and repeatable:
        return "hold"
    return {"held": "in_progress", "succeeded": "replay", "unknown": "outcome_unknown"}[state]


@KEPT
@BOTH
@given(repeatable=st.booleans(), within=st.sampled_from([None, WITHIN]), steps=STEPS)
def test_a_key_is_what_its_attempts_make_of_it(make, kept, repeatable, within, steps):
    """Whatever happens in whatever order, each call is told what the attempts that stand say."""
    claim = make(repeatable=repeatable, within=within)
    attempts: list[Attempt] = []
    now, cell = 1000, None
    for number, (step, later, binding, last) in enumerate(steps):
        now += later
        before, previous = json.dumps(cell), cell
        out = [a for a in attempts if a.outcome is None and now < a.by.expires]
        if step == "take":
            by = hold(number, now, binding)
            expected = told(attempts, by, within, repeatable=repeatable)
            if make is seen and expected in ("in_progress", "key_conflict"):
                expected = "duplicate_call"
            result = claim.take(cell, by)
            assert answer(result) == expected
            standing = [a for a in attempts if a.outcome != "failed"]
            if expected == "hold":
                attempts.append(Attempt(by))
                cell = kept(result)
            elif expected == "replay":
                assert result == Replay(standing[-1].entry)
            else:
                assert f"permit {standing[-1].by.permit}" in result.reason.message
        elif out:
            attempt = out[-1] if last else out[0]
            cell = kept(claim.settle(cell, attempt.by, ending(step, number)))
            attempt.outcome, attempt.entry = step, number
        assert json.dumps(previous) == before


@KEPT
@BOTH
@given(repeatable=st.booleans(), steps=STEPS)
def test_no_key_succeeds_twice(make, kept, repeatable, steps):
    """Without an end of `within`, and without doubt, a second call never runs after a success."""
    claim = make(repeatable=repeatable)
    now, cell, done = 0, None, 0
    out: list[Hold] = []
    for number, (step, later, binding, _) in enumerate(steps):
        now += later
        out = [by for by in out if now < by.expires]
        if step == "take":
            result = claim.take(cell, hold(number, now, binding))
            if answer(result) == "hold":
                assert done == 0
                assert not out
                cell = kept(result)
                out.append(hold(number, now, binding))
        elif out:
            cell = kept(claim.settle(cell, out.pop(), ending(step)))
            done += step == "succeeded"
    assert done <= 1


# --- single laws ------------------------------------------------------------------------------


@KEPT
@BOTH
def test_within_ends_to_the_microsecond(make, kept):
    """A success is remembered for `within` from when it was permitted, and not a moment longer."""
    claim = make(within=WITHIN)
    cell = kept(cell_in("done", claim))
    for binding in ("b", "other"):
        last = claim.take(cell, hold("p2", FIRST.at + WITHIN - 1, binding))
        assert answer(last) in ("replay", "key_conflict", "duplicate_call")
        assert answer(claim.take(cell, hold("p2", FIRST.at + WITHIN, binding))) == "hold"
    assert answer(make().take(cell, hold("p2", 10**15))) == "replay"


@KEPT
@BOTH
@pytest.mark.parametrize("state", ["unknown", "held"])
def test_within_ends_no_doubt(make, kept, state):
    """An unknown outcome does not become known by waiting."""
    claim = make(within=WITHIN)
    cell = kept(cell_in(state, claim))
    assert answer(claim.take(cell, hold("p2", 10**15))) == "outcome_unknown"


@KEPT
@BOTH
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
@pytest.mark.parametrize("state", ["absent", "held", "done", "unknown"])
def test_a_permit_that_does_not_hold_the_key_changes_nothing(make, kept, state, outcome):
    """The end of a call that lost the key, or never had it, leaves the cell alone."""
    claim = make()
    cell = kept(cell_in(state, claim))
    assert claim.settle(cell, hold("p0"), ending(outcome)) is cell


@KEPT
@BOTH
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
@pytest.mark.parametrize("state", ["done", "unknown"])
def test_a_key_that_is_settled_is_settled(make, kept, state, outcome):
    """The same permit cannot end twice."""
    claim = make()
    cell = kept(cell_in(state, claim))
    assert claim.settle(cell, FIRST, ending(outcome)) is cell


@KEPT
@BOTH
def test_a_second_failure_does_not_clear_the_first_doubt(make, kept):
    """
    A call that may be repeated runs again after an unknown outcome. If that one fails
    for certain, the first is as unknown as before: the key stays bound, to the first permit.
    """
    claim = make(repeatable=True)
    again = hold("p2", at=6)
    cell = kept(claim.take(kept(cell_in("unknown", claim)), again))
    assert answer(claim.take(cell, hold("p3", at=7))) in ("in_progress", "duplicate_call")
    cell = kept(claim.settle(cell, again, ending("failed")))
    assert answer(claim.take(cell, hold("p3", at=8, binding="other"))) != "hold"
    refusal = make(repeatable=False).take(cell, hold("p3", at=8))
    assert answer(refusal) == "outcome_unknown"
    assert "permit p1 " in refusal.reason.message
    assert answer(claim.take(cell, hold("p3", at=8))) == "hold"


@KEPT
@BOTH
@pytest.mark.parametrize(
    ("outcome", "then"), [("succeeded", "replay"), ("unknown", "outcome_unknown")]
)
def test_a_second_attempt_ends_like_a_first(make, kept, outcome, then):
    """A repeated call that succeeds ends the doubt; one that is unknown keeps it, in its own name."""
    claim = make(repeatable=True)
    again = hold("p2", at=6)
    cell = kept(claim.take(kept(cell_in("unknown", claim)), again))
    cell = kept(claim.settle(cell, again, ending(outcome, 77)))
    result = make(repeatable=False).take(cell, hold("p3", at=7))
    assert answer(result) == then
    assert result == Replay(77) or "permit p2 " in result.reason.message


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_a_doubt_that_is_settled_while_the_call_runs_again(outcome):
    """The call that runs goes on with the key, and ends it as if there had been no doubt."""
    claim = once(repeatable=True)
    cell = claim.settle(claim.take(None, hold("p")), hold("p"), ending("unknown"))
    again = claim.take(cell, hold("q", 20))
    found = claim.settle(again, hold("p"), ending(outcome)._replace(late=True))
    assert found == ("held", "b", 20, "q", 30)
    assert claim.settle(found, hold("q", 20), ending("failed")) is None
    done = claim.settle(found, hold("q", 20), ending("succeeded", 9))
    assert claim.take(done, hold("r", 40)) == Replay(9)
