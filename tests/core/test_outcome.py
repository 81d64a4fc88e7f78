"""Outcomes: what a call used, in exact amounts."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal

import pytest

from sluicegate.outcome import Failed, Succeeded, Unknown


def test_costs_are_amounts_in_millionths():
    """Numbers, decimals and texts count alike, rounded up, under their own names."""
    succeeded = Succeeded(
        "ok", cost={"eur": 1.1, "tokens": 7, "usd": "0.0000001", "gbp": Decimal(2)}
    )
    assert succeeded.used == {
        "eur": 1_100_000,
        "tokens": 7_000_000,
        "usd": 1,
        "gbp": 2_000_000,
    }


def test_a_success_without_costs_uses_what_was_held():
    """A name that is left out is not in `used`, so that it is settled as it was held."""
    assert Succeeded().used == {}
    assert Succeeded().result is None


@pytest.mark.parametrize(
    ("cost", "problem"),
    [
        ({"eur": -1}, "cost 'eur' is -1; it must be 0 or more"),
        ({"ok": 1, "eur": math.nan}, "cost 'eur' is nan, which is not finite"),
        ({"eur": True}, "cost 'eur' is True, which is no number"),
        ({"eur": None}, "cost 'eur' is None, which is no number"),
        ({"eur": 10**13}, "above the largest amount"),
    ],
)
def test_a_cost_that_is_no_amount_is_refused_at_once(cost, problem):
    """An outcome with a wrong cost does not exist: it fails where it is made, not when it is settled."""
    with pytest.raises(ValueError) as caught:
        Succeeded(cost=cost)
    assert problem in str(caught.value)


@pytest.mark.parametrize("outcome", [Succeeded(1), Failed("no"), Unknown("who knows")])
def test_an_outcome_is_frozen(outcome):
    """No field can be replaced and none added."""
    for field in dataclasses.fields(outcome):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(outcome, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        outcome.extra = 1


def test_outcomes_of_different_kinds_differ():
    """A failure is not an unknown outcome, whatever the error."""
    error = TimeoutError()
    assert Failed(error) != Unknown(error)
    assert Failed(error) == Failed(error)
    assert Failed().error == "failed"
    assert "not known" in Unknown().error
