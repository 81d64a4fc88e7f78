"""Plugins can only narrow, and whatever they raise or return is a refusal that is on record."""

from __future__ import annotations

import json
from collections import UserDict
from types import SimpleNamespace

import pytest

from sluicegate import Defer, Deny, Gate, Objection, Permit, Proposal, Recorded, Succeeded, hookimpl
from sluicegate.canonical import freeze
from sluicegate.claims import Barrier, Labels, Needs, Once, Quota, Rate, Slot, Traced
from sluicegate.replay import replay
from sluicegate.testing import FakeClock


def made(tool=None, limits=(), **hooks):
    """A gate with the plugin `p`, whose hooks are *hooks*."""
    named = {f"sluicegate_{name}": hookimpl(hook) for name, hook in hooks.items()}
    policy = {"version": 1, "tools": {"t": tool or {}}, "limits": list(limits)}
    return Gate(policy, "memory:", plugins={"p": SimpleNamespace(**named)}, clock=FakeClock())


def ask(gate, n=0):
    return gate.decide(Proposal("t", {"n": n}, run="r1", prompt="hello"))


def codes(decision):
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


def sound(gate):
    for entry in gate.journal:
        assert freeze(json.loads(entry.body))[1] == entry.body
    return replay(gate.journal).difference is None


class Speechless(Exception):
    """An error whose text cannot be had."""

    def __str__(self):
        raise RuntimeError("no text")


class Torn(UserDict):
    """A mapping that cannot be read."""

    def __iter__(self):
        raise RuntimeError("the connection is closed")


def raises():
    raise Speechless


@pytest.mark.parametrize("hook", ["facts", "object", "claims"])
def test_an_error_without_a_text_is_a_refusal(hook):
    """A plugin that raises what cannot be printed is refused for, by its name, and on record."""
    gate = made(**{hook: raises})
    (reason,) = ask(gate).reasons
    assert (reason.code, "p: sluicegate_" in reason.message) == ("plugin_error", True)
    assert "Speechless" in reason.message
    assert sound(gate)


def test_an_error_without_a_text_loses_no_permit():
    """A plugin that fails to take note of a decision does not take it back."""
    gate = made(record=raises)
    permit = ask(gate)
    assert isinstance(permit, Permit)
    gate.settle(permit, Succeeded())
    assert not list(gate.ledger.out())


def test_facts_that_cannot_be_read_are_a_refusal():
    """A mapping of the plugin's own making may fail only when it is read."""
    gate = made(facts=lambda: Torn(a=1))
    (reason,) = ask(gate).reasons
    assert reason.code == "plugin_error"
    assert "the connection is closed" in reason.message
    assert sound(gate)


@pytest.mark.parametrize(
    "retry", ["later", "", -1, float("nan"), float("inf"), 10**400, None, [], {}, object()]
)
def test_an_objection_is_a_no_whatever_it_says_of_asking_again(retry):
    """A retry that is no number of seconds is left out, and the objection stands, on record."""
    gate = made(object=lambda: Objection(message="no", retry=retry, final=True))
    decision = ask(gate)
    assert (codes(decision), decision.retry, decision.final) == (["objection"], "never", True)
    assert sound(gate)


@pytest.mark.parametrize("message", ["x" * 2_000_000, "\ud800", 5, None, b"no"])
def test_an_objection_is_a_no_whatever_its_words(message):
    """A message of any length and kind becomes one that the journal can keep."""
    gate = made(object=lambda: Objection(message=message))
    (reason,) = ask(gate).reasons
    assert reason.code == "objection"
    assert len(reason.message) < 11_000
    assert sound(gate)


def quota(key="plugin|p|x", amount=1, limit=10, name="x", window=None):
    return Quota(key, "plugin p", name, amount, limit, window, "")


class Lenient(Quota):
    """A claim of a plugin's own kind, which nobody could replay."""

    def take(self, cell, hold):
        return None


@pytest.mark.parametrize(
    "claim",
    [
        quota(key='quota|calls|None|"*"', amount=0),
        quota(key="plugin|other|x"),
        quota(key="plugin|p"),
        quota(key=5),
        quota(amount=-5),
        quota(amount=1.5),
        quota(amount=True),
        quota(limit="10"),
        quota(window="fortnight"),
        quota(limit=float("nan")),
        Once("halts", "p", "k", None, False),
        Once("plugin|p|\ud800", "p", "k", None, False),
        Slot("plugin|p|s", "p", "x", 0, ""),
        Slot("plugin|p|s", "p", 0, 0, ""),
        Rate("plugin|p|r", "p", 0, 0, 0, ""),
        Labels("plugin|p|l", 5, "t"),
        Labels("labels|r1", ("calm",), "t"),
        Barrier("labels|r1", "p", "b", "t", (), "x"),
        Traced(("came|r1|aa",), "p", "x", ("aa",), ("prompt",), None, "the user", False),
        Traced(("plugin|p|aa",), "p", "x", (), ("prompt",), None, "the user", False),
        Lenient("plugin|p|x", "p", "x", 1, 10, None, ""),
    ],
)
def test_a_claim_that_could_do_more_than_narrow_is_a_refusal(claim):
    """Plugins count apart from the policy, forwards only, and in a form that can be replayed."""
    gate = made(claims=lambda: [claim], limits=[{"budget": "calls", "limit": 1}])
    (reason,) = ask(gate).reasons
    assert reason.code == "plugin_error"
    assert "p: sluicegate_claims gave a" in reason.message
    assert [key for key, _ in gate.ledger.cells("") if key[:6] not in ("policy", "run|r1")] == []
    assert sound(gate)


@pytest.mark.parametrize(
    "claim",
    [
        quota(),
        Needs("plugin|p|step", "p", "t", "a greeting"),
        Barrier("plugin|p|labels", "p", "b", "t", ("calm",), "x"),
        Traced(("plugin|p|aa",), "p", "x", ("aa",), ("prompt",), None, "the user", False),
        Slot("plugin|p|s", "p", 1, 0, ""),
    ],
)
def test_each_kind_of_claim_is_taken_from_a_plugin(claim):
    """A claim of a plugin that is fit is granted or refused, and never a fault of the plugin."""
    gate = made(claims=lambda: [claim])
    assert "plugin_error" not in codes(ask(gate))
    assert sound(gate)


def test_a_plugin_may_ask_a_person():
    """A value that a plugin's claim asks about is asked about, also of a tool without rules on origins."""
    asks = Traced(("plugin|p|aa",), "p", "x 1", ("aa",), ("prompt",), None, "the user", True)
    gate = made(claims=lambda: [asks])
    asked = ask(gate)
    assert isinstance(asked, Defer)
    gate.approve(asked.request_id, by="ada")
    gate.settle(ask(gate), Succeeded())
    assert sound(gate)


def test_a_yes_repeats_no_call_that_a_plugins_key_remembers():
    """Once done is done: where a person said yes to the origin, the recorded result is the answer."""
    asking = {"origin": {"x": {"from": ["prompt"], "otherwise": "approve"}}}
    gate = made(asking, claims=lambda: [Once("plugin|p|k", "p", "k", None, False)])
    call = Proposal("t", {"x": "abc"}, run="r1", prompt="hello")
    asked = gate.decide(call)
    assert isinstance(asked, Defer)
    gate.approve(asked.request_id, by="ada")
    gate.settle(gate.decide(call), Succeeded("paid"))
    again = gate.decide(call)
    assert isinstance(again, Recorded)
    assert again.result == "paid"
    assert sound(gate)
    assert "recorded" in str(gate.explain(call)).lower()


def test_values_may_come_from_facts():
    """A list that a plugin found out is a source of values; a missing one is none, and is named."""
    rule = {"origin": {"to": ["facts.p.payees"]}}
    known = {"payees": ["bob@example.com", {"iban": "DE89370400440532013000"}]}

    def pay(found, to):
        gate = made(rule, facts=lambda: found)
        decision = gate.decide(Proposal("t", {"to": to}, run="r1"))
        assert sound(gate)
        return decision

    assert isinstance(pay(known, "Bob@Example.com"), Permit)
    assert isinstance(pay(known, ["bob@example.com", "DE89 3704 0044 0532 0130 00"]), Permit)
    for found in (known, {}, {"payees": None}, None):
        (reason,) = pay(found, "eve@example.com").reasons
        assert reason.code == "origin"
        assert "did not come from facts.p.payees" in reason.message
    assert codes(pay({}, "bob@example.com")) == ["origin"]
