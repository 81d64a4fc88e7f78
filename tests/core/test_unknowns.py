"""What nobody knows: finding out what became of a call, keys, and what the journal keeps."""

from __future__ import annotations

import threading
import time

import pytest

from sluicegate import (
    Defer,
    Deny,
    Failed,
    Gate,
    Permit,
    PermitError,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
    current_permit,
    hookimpl,
)
from sluicegate.replay import replay
from sluicegate.testing import FakeClock

HOUR = 3600
SECOND = 1_000_000


def made(tool=None, ledger="memory:", clock=None, **more):
    """A gate over one tool, `pay`."""
    sections = {key: more.pop(key) for key in ("limits", "flows") if key in more}
    policy = {
        "version": 1,
        "tools": {"pay": {"cost": {"eur": "args.eur"}, **(tool or {})}},
        **sections,
    }
    return Gate(policy, ledger, clock=clock or FakeClock(), **more)


def pay(eur=5, **more):
    return Proposal("pay", {"eur": eur}, subject=Subject(tenant="acme"), run="r1", **more)


def codes(decision):
    return (
        [reason.code for reason in decision.reasons] if isinstance(decision, (Deny, Defer)) else []
    )


# --- unknown outcomes ---------------------------------------------------------------------------

ONCE = {"once": {"key": "pay:{eur}"}, "lease": "1m"}
BUDGET = [{"budget": "eur", "limit": 10}]


def doubtful(gate, clock, expired):
    """A call whose outcome is unknown: settled so, or never settled."""
    permit = gate.decide(pay())
    if expired:
        clock.advance(60)
    else:
        gate.settle(permit, Unknown(TimeoutError("lost")))
    return permit


@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize(
    ("outcome", "left", "then"), [(Succeeded({"id": 7}), 5, Recorded), (Failed("no"), 10, Permit)]
)
def test_a_person_settles_what_is_unknown(expired, outcome, left, then):
    """What was found out is what counts: for the budget, for the key, and for the next call."""
    clock = FakeClock()
    gate = made(ONCE, clock=clock, limits=BUDGET)
    permit = doubtful(gate, clock, expired)
    assert codes(gate.decide(pay())) == ["outcome_unknown"]
    (unknown,) = gate.unknowns()
    assert (unknown.permit_id, unknown.tool, unknown.args, unknown.expired) == (
        permit.id,
        "pay",
        {"eur": 5},
        expired,
    )
    gate.reconcile(permit.id, outcome, by="ada")
    assert gate.unknowns() == []
    usage = gate.usage()
    assert [row.left for row in usage] == ([left * SECOND] if left < 10 else [])
    decision = gate.decide(pay())
    assert isinstance(decision, then)
    if isinstance(decision, Recorded):
        assert decision.result == {"id": 7}


def test_only_what_is_unknown_can_be_reconciled():
    """Neither a call under way, nor one that was settled, nor one of another ledger."""
    gate = made(ONCE)
    permit = gate.decide(pay())
    with pytest.raises(PermitError, match=r"is still held, for 60 s at most"):
        gate.reconcile(permit.id, Failed("no"), by="ada")
    gate.settle(permit, Succeeded())
    for other in (permit.id, "nothing"):
        with pytest.raises(PermitError, match="is not out"):
            gate.reconcile(other, Failed("no"), by="ada")
    lost = gate.decide(pay(6))
    gate.settle(lost, Unknown("x"))
    with pytest.raises(TypeError, match="settles nothing"):
        gate.reconcile(lost.id, Unknown("x"), by="ada")


def test_reconciling_costs_what_was_really_used():
    """A person can say what the provider charged."""
    gate = made(ONCE, limits=BUDGET)
    permit = gate.decide(pay())
    gate.settle(permit, Unknown("lost"))
    gate.reconcile(permit.id, Succeeded(cost={"eur": 2}), by="ada")
    assert [row.used for row in gate.usage()] == [2 * SECOND]


def test_reconciling_outlives_the_policy(tmp_path):
    """The claims are those of the policy that permitted the call, from the journal alone."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    gate = made(ONCE, url, limits=BUDGET)
    permit = gate.decide(
        Proposal(
            "pay",
            {"eur": 5},
            subject=Subject(tenant="acme"),
            run="r1",
            schema={"properties": {"eur": {}}},
        )
    )
    gate.settle(permit, Unknown("lost"))
    gate.close()
    later = Gate({"version": 1, "tools": {"other": {}}}, url, clock=FakeClock())
    later.reconcile(permit.id, Failed("no"), by="ada")
    assert list(later.ledger.cells("once|")) == []
    assert list(later.ledger.cells("quota|")) == []


class Provider:
    """A plugin that knows what became of calls, or does not, or fails."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    @hookimpl
    def sluicegate_reconcile(self, permit):
        self.asked.append((permit.key, dict(permit.args)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "settled"),
    [
        (Succeeded("ok"), True),
        (Failed("no"), True),
        (None, False),
        (Unknown("?"), False),
        (ValueError("x"), False),
        (7, False),
    ],
)
def test_hook_reconcile_asks_the_provider(answer, settled):
    """Its yes or no settles the call; anything else leaves it unknown."""
    provider = Provider(answer)
    gate = made(ONCE, plugins={"bank": provider})
    permit = gate.decide(pay())
    gate.settle(permit, Unknown("lost"))
    assert (gate.reconcile(permit.id) is not None) is settled
    assert provider.asked == [("pay:5", {"eur": 5})]
    assert (gate.unknowns() == []) is settled
    if settled:
        assert next(iter(gate.journal.tail(1))).content["by"] == "plugin bank"


def test_without_anybody_to_ask_an_outcome_is_needed():
    """The error says what to give."""
    gate = made(ONCE)
    permit = gate.decide(pay())
    gate.settle(permit, Unknown("lost"))
    with pytest.raises(PermitError, match="give an outcome, or load a plugin"):
        gate.reconcile(permit.id)


# --- keys -----------------------------------------------------------------------------------------


def test_a_call_can_wait_for_the_result_of_the_same_call():
    """With `wait` the second caller gets what the first one got."""
    gate = Gate({"version": 1, "tools": {"pay": {"once": {"key": "k", "wait": "5s"}}}}, "memory:")
    begun = threading.Event()

    def body(eur):
        begun.set()
        time.sleep(0.1)
        return {"paid": eur}

    first = threading.Thread(target=lambda: gate.call(pay(), body))
    first.start()
    begun.wait()
    assert gate.call(pay(), body) == {"paid": 5}
    first.join()
    assert [e.content["decision"] for e in gate.journal if e.content["kind"] == "decision"] == [
        "permit",
        "recorded",
    ]


def test_the_key_is_offered_to_the_tool():
    """So that it can be handed on to the provider; outside of a call there is none."""
    gate = made(ONCE)
    assert gate.call(pay(), lambda eur: (current_permit().key, current_permit().tool)) == (
        "pay:5",
        "pay",
    )
    with pytest.raises(PermitError, match="no permitted call is running here"):
        current_permit()


def test_a_large_result_is_kept_by_its_digest():
    """The repeated call does not run, and says that the result is not on record."""
    gate = made(ONCE)
    assert gate.call(pay(), lambda eur: "x" * 100_000) == "x" * 100_000
    recorded = gate.decide(pay())
    assert isinstance(recorded, Recorded)
    assert not recorded.complete
    assert recorded.result is None


# --- what the journal keeps ---------------------------------------------------------------------

DIGEST = {"record": "digest", **ONCE}


def test_digests_keep_words_out_of_the_journal():
    """Neither arguments nor results nor the texts of errors are in it."""
    gate = made({"record": "digest", "cost": {}})
    for outcome in (
        Succeeded("top secret"),
        Failed(ValueError("top secret")),
        Unknown("top secret"),
    ):
        permit = gate.decide(Proposal("pay", {"to": "top secret"}, run="r1"))
        gate.settle(permit, outcome)
    text = "\n".join(entry.body for entry in gate.journal)
    assert "top secret" not in text
    assert '"args_digest":"sha256:' in text
    assert "ValueError" in text


def test_digests_keep_words_out_of_every_kind_of_entry():
    """Not in the words of claims, reasons and results that are shown again either."""
    secret = {"to": "top secret", "n": 1}
    tool = {
        "record": "digest",
        "cost": {},
        "labels": ["sensitive"],
        "once": {"key": "mail:{n}"},
        "requires": [{"tool": "look", "match": {"to": "to"}}],
        "origin": {"to": ["look"]},
        "args": {"properties": {"to": {"maxLength": 12}}},
    }
    flows = [{"name": "f", "after": ["sensitive"], "deny": ["sensitive"]}]
    gate = Gate(
        {"version": 1, "tools": {"pay": tool, "look": {"record": "digest"}}, "flows": flows},
        "memory:",
    )
    assert codes(gate.decide(Proposal("pay", {"to": "top secret, and long"}, run="r1"))) == [
        "args_invalid"
    ]
    assert codes(gate.decide(Proposal("pay", secret, run="r1"))) == ["order", "origin"]
    for run in ("r1", "r2"):
        gate.settle(gate.decide(Proposal("look", secret, run=run)), Succeeded("top secret"))
    gate.settle(gate.decide(Proposal("pay", secret, run="r1")), Succeeded("top secret"))
    assert isinstance(gate.decide(Proposal("pay", secret, run="r2")), Recorded)
    assert codes(gate.decide(Proposal("pay", {**secret, "n": 2}, run="r2"))) == ["flow"]
    text = "\n".join(entry.body for entry in gate.journal)
    assert "top secret" not in text
    assert text.count("(kept as a digest)") == 4


def test_what_is_remembered_is_what_the_permitting_policy_wanted(tmp_path):
    """A gate with another policy on the same ledger settles a call: its run has done the step all the same."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    tools = {"look": {}, "act": {"requires": [{"tool": "look"}]}}
    mine, other = (
        Gate({"version": 1, "tools": tools}, url),
        Gate({"version": 1, "tools": {"x": {}}}, url),
    )
    permit = mine.decide(Proposal("look", {}, run="r1"))
    mine.settle(permit, Unknown("lost"))
    other.reconcile(permit.id, Succeeded(), by="ada")
    assert isinstance(mine.decide(Proposal("act", {}, run="r1")), Permit)
    assert replay(mine.journal).difference is None


def test_a_call_kept_by_digest_can_be_reconciled():
    """Its claims are on record, since they cannot be derived again."""
    gate = made(DIGEST, limits=BUDGET)
    permit = gate.decide(pay())
    gate.settle(permit, Unknown("lost"))
    (unknown,) = gate.unknowns()
    assert unknown.args is None
    gate.reconcile(permit.id, Failed("no"), by="ada")
    assert gate.usage() == []
    assert isinstance(gate.decide(pay()), Permit)
