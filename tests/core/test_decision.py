"""The four decisions: closed, frozen, without a truth value, and clear to the model."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import math
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.canonical import freeze
from sluicegate.decision import CODES, Decision, Defer, Deny, Permit, Reason, Recorded
from sluicegate.errors import NotExecuted
from sluicegate.outcome import Failed, Succeeded, Unknown


def a_reason(**changes: object) -> Reason:
    """A reason for a refusal, with some of its parts replaced."""
    parts = {"code": "budget", "rule": "limits[0]", "message": "eur has 1 of 9 left"}
    return Reason(**{**parts, **changes})


def a_permit(**changes: object) -> Permit:
    """A permit, with some of its parts replaced."""
    parts = {
        "id": "p1",
        "tool": "pay",
        "args": freeze({"n": 1})[0],
        "at": 5,
        "expires_at": 9,
        "claims": (),
        "revision": "sha256:0",
        "binding": "b",
    }
    return Permit(**{**parts, **changes})


DECISIONS = [
    a_permit(),
    Deny(tool="pay", reasons=(a_reason(),)),
    Defer(tool="pay", request_id="r1", reasons=(a_reason(code="approval_required"),), expires_at=9),
    Recorded(tool="pay", permit_id="p1", outcome=Succeeded({"id": 7}), at=5),
]
EACH = pytest.mark.parametrize("decision", DECISIONS, ids=lambda d: type(d).__name__)


@EACH
@pytest.mark.parametrize(
    "use",
    [bool, lambda d: 1 if d else 0, lambda d: not d, lambda d: d and 1, lambda d: all([d])],
    ids=["bool", "if", "not", "and", "all"],
)
def test_a_decision_has_no_truth_value(decision, use):
    """`if decision:` would be true for a refusal; it raises and says what to write instead."""
    with pytest.raises(TypeError, match="match on Permit, Deny, Defer and Recorded"):
        use(decision)


def test_the_decisions_are_a_closed_union():
    """There are four of them, and a `match` over the union has to name all."""
    assert set(typing.get_args(Decision)) == {type(decision) for decision in DECISIONS}


@EACH
def test_a_decision_is_frozen(decision):
    """No field can be replaced and none added: a refusal stays a refusal."""
    for field in dataclasses.fields(decision):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(decision, field.name, None)
    assert not hasattr(decision, "__dict__")
    assert decision == dataclasses.replace(decision)


@EACH
def test_a_decision_is_made_by_names(decision):
    """No field is given by its place: two texts cannot change places unseen."""
    parameters = inspect.signature(type(decision)).parameters.values()
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}


def test_nothing_is_only_observed_unless_it_says_so():
    """A permit and a refusal are in force by default."""
    assert a_permit().observed is False
    assert Deny(tool="pay", reasons=(a_reason(),)).final is False


# --- reasons ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_makes_a_reason(code):
    """The 29 codes of the contract are accepted."""
    assert a_reason(code=code).code == code
    assert len(CODES) == 29


@pytest.mark.parametrize("code", ["", "Budget", "denied", "budget ", None])
def test_no_other_code_does(code):
    """Programs switch on codes, so there is no reason with another one."""
    with pytest.raises(ValueError, match=r"is no reason code; see sluicegate\.decision\.CODES"):
        a_reason(code=code)


@pytest.mark.parametrize("retry", ["never", "approval", 0, 0.0, 0.001, 5, 1e9])
def test_when_to_retry(retry):
    """Never, after an approval, or after so many seconds."""
    assert a_reason(retry=retry).retry == retry


@pytest.mark.parametrize("retry", ["", "soon", "Never", "5", -1, -0.001, math.nan, math.inf])
def test_when_not_to_retry(retry):
    """Another word, a negative time and a time without end are no advice."""
    with pytest.raises(ValueError, match="it must be never, approval, or 0 seconds or more"):
        a_reason(retry=retry)


def test_a_reason_is_frozen():
    """What was said stays said, and it may not be retried unless it says so."""
    reason = a_reason()
    with pytest.raises(dataclasses.FrozenInstanceError):
        reason.retry = 0.0
    assert reason.retry == "never"


# --- refusals ---------------------------------------------------------------------------------


def test_a_deny_has_a_reason():
    """There is no refusal without a why."""
    with pytest.raises(ValueError, match="at least one reason"):
        Deny(tool="pay", reasons=())


@pytest.mark.parametrize(
    ("answers", "retry"),
    [
        (["never"], "never"),
        (["approval"], "approval"),
        ([5.0], 5.0),
        ([0.0], 0.0),
        ([1.0, 5.0, 2.0], 5.0),
        (["approval", 5.0], "approval"),
        ([5.0, "approval"], "approval"),
        (["never", 5.0], "never"),
        ([5.0, "never"], "never"),
        (["approval", "never"], "never"),
        (["never", "approval", 5.0], "never"),
    ],
)
def test_the_strictest_reason_says_when_to_retry(answers, retry):
    """Never beats approval, approval beats seconds, and the longest time beats a shorter one."""
    denied = Deny(tool="pay", reasons=tuple(a_reason(retry=answer) for answer in answers))
    assert denied.retry == retry


TWO = (
    a_reason(message="eur has 1 of 9 left, this call needs 2"),
    a_reason(code="concurrency", message="all slots are taken"),
)


def test_a_refusal_reads_as_one_text():
    """The model is told the tool, every code with its message, and what to do."""
    assert Deny(tool="pay", reasons=TWO).render() == (
        "REFUSED: pay was not run.\n"
        "- budget: eur has 1 of 9 left, this call needs 2\n"
        "- concurrency: all slots are taken\n"
        "Do not repeat this call unchanged."
    )


def test_a_brief_refusal_has_codes_alone():
    """`replies: short` keeps every message from the model and names each code once."""
    denied = Deny(tool="pay", reasons=(*TWO, a_reason(message="secret")), brief=True)
    assert denied.render() == (
        "REFUSED (budget, concurrency): pay was not run. Do not repeat this call unchanged."
    )


@pytest.mark.parametrize("brief", [True, False])
@pytest.mark.parametrize(
    ("retry", "final", "advice"),
    [
        ("never", False, "Do not repeat this call unchanged."),
        ("approval", False, "Do not repeat this call before a person has approved it."),
        (1.0, False, "The same call may be made again in 1 s."),
        (1.5, False, "The same call may be made again in 1.5 s."),
        (0.04, False, "The same call may be made again in 0.1 s."),
        (0.3, False, "The same call may be made again in 0.3 s."),
        (9.91, False, "The same call may be made again in 10 s."),
        (10.001, False, "The same call may be made again in 11 s."),
        (120, False, "The same call may be made again in 120 s."),
        (120.5, False, "The same call may be made again in 3 min."),
        (3600, False, "The same call may be made again in 60 min."),
        (7140, False, "The same call may be made again in 119 min."),
        (7141, False, "The same call may be made again in 2 h 0 min."),
        (54_673, False, "The same call may be made again in 15 h 12 min."),
        (0, False, "The same call may be made again after that."),
        ("never", True, "Stop here: no further call of this run will be permitted."),
        (5.0, True, "Stop here: no further call of this run will be permitted."),
    ],
)
def test_a_refusal_ends_with_advice(retry, final, advice, brief):
    """The last sentence says what to do; a time is rounded up, since who comes early is refused."""
    reasons = (a_reason(retry=retry),)
    assert Deny(tool="pay", reasons=reasons, final=final, brief=brief).render().endswith(advice)


@given(st.floats(0, 1e7, exclude_min=True))
def test_the_time_in_the_advice_is_never_too_early(seconds):
    """Whoever waits as long as the text says has waited long enough."""
    text = Deny(tool="pay", reasons=(a_reason(retry=seconds),)).render()
    words = text.rpartition(" in ")[2].removesuffix(".").split()
    units = {"s": 1, "min": 60, "h": 3600}
    told = sum(float(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert seconds - 1e-6 <= told <= seconds + (60 if seconds > 120 else 1)


def test_a_deferral_reads_as_a_request():
    """The model is told that a person has to say yes, and under which number."""
    waiting = Defer(
        tool="pay",
        request_id="r-17",
        reasons=(a_reason(code="approval_required", message="480 is above 200"),),
        expires_at=9,
    )
    assert waiting.render() == (
        "WAITING FOR APPROVAL: pay was not run (request r-17).\n"
        "- approval_required: 480 is above 200\n"
        "Do not repeat this call before it is approved."
    )


def test_a_recorded_decision_has_the_earlier_result():
    """The result is that of the call that did run."""
    recorded = Recorded(tool="pay", permit_id="p1", outcome=Succeeded({"id": 7}), at=5)
    assert recorded.result == {"id": 7}
    assert recorded.complete


# --- outcomes of exceptions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "error", "outcome"),
    [
        ("unknown", NotExecuted("refused by the bank"), Failed),
        ("unknown", ValueError("?"), Unknown),
        ("unknown", TimeoutError(), Unknown),
        ("unknown", asyncio.CancelledError(), Unknown),
        ("unknown", KeyboardInterrupt(), Unknown),
        ("unknown", GeneratorExit(), Unknown),
        ("failed", NotExecuted("refused by the bank"), Failed),
        ("failed", ValueError("?"), Failed),
        ("failed", TimeoutError(), Failed),
        ("failed", asyncio.CancelledError(), Unknown),
        ("failed", KeyboardInterrupt(), Unknown),
        ("failed", SystemExit(1), Unknown),
    ],
)
def test_what_an_exception_means(on_error, error, outcome):
    """NotExecuted is a failure, a cancellation is unknown, and the policy decides about the rest."""
    assert a_permit(on_error=on_error).outcome_of(error) == outcome(error)


def test_an_exception_means_unknown_unless_the_policy_says_otherwise():
    """Doubt is the default."""
    assert a_permit().outcome_of(ValueError()).__class__ is Unknown


def test_the_arguments_of_a_permit_are_frozen():
    """What was decided is what runs."""
    with pytest.raises(TypeError, match="frozen"):
        a_permit().args["n"] = 2
