"""An explanation has every rule, and the decision that the gate gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import (
    Deny,
    Failed,
    Gate,
    LedgerError,
    Permit,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
    hookimpl,
)
from sluicegate.claims import Approval, Needs, Slot
from sluicegate.decision import Decision, Defer
from sluicegate.explain import Considered, Explanation, explain_entry
from sluicegate.ledger.memory import MemoryLedger
from sluicegate.past import NotKept
from sluicegate.testing import FakeClock, counted_ids

SUBJECT = Subject(tenant="acme", agent="desk")
TOOLS: dict[str, Any] = {
    "get_order": {"effect": "read", "labels": ["untrusted"], "rate": "6/min"},
    "issue_refund": {
        "args": {"properties": {"eur": {"maximum": 500}}},
        "cost": {"eur": "args.eur"},
        "requires": [{"tool": "get_order", "match": {"id": "id"}}],
        "origin": {"id": ["prompt", "get_order"]},
        "once": {"key": "refund:{id}", "within": "1h"},
        "concurrency": 1,
        "breaker": {"failures": 2, "cooldown": "5s"},
        "approve": "args.big",
        "lease": "20s",
    },
    "pay": {
        "origin": {"iban": {"from": ["get_order"], "otherwise": "approve"}},
        "approve": {"within": "1m"},
    },
    "send": {"labels": ["external"], "repeat": 2},
    "gated": {"when": "args.ok", "lease": "5s"},
    "look_*": {"effect": "idempotent", "repeat": False, "concurrency": 2},
}
POLICY: dict[str, Any] = {
    "version": 1,
    "tools": TOOLS,
    "grants": [{"agent": "desk", "tools": ["*"]}, {"role": "auditor", "tools": ["get_*"]}],
    "limits": [
        {"budget": "eur", "limit": 100, "per": ["tenant"], "window": "day"},
        {"budget": "calls", "limit": 9, "per": ["run"]},
        {"rate": "20/min", "burst": 5},
        {"concurrency": 2, "per": ["tenant"]},
        {"repeat": 4, "per": ["run"], "oscillation": True},
        {"depth": 1},
    ],
    "flows": [{"name": "no-leak", "after": ["untrusted"], "deny": ["external"]}],
}


class Bank:
    """A plugin that knows the payees and minds one word."""

    def __init__(self) -> None:
        self.told = 0

    @hookimpl
    def sluicegate_facts(self) -> dict[str, Any]:
        return {"payees": ["DE89370400440532013000"]}

    @hookimpl
    def sluicegate_object(self, proposal: Proposal) -> str | None:
        return "mind the word" if proposal.args.get("id") == "bad" else None

    @hookimpl
    def sluicegate_record(self) -> None:
        self.told += 1


class Desk:
    """A gate and what explains it."""

    def __init__(self, policy: dict[str, Any] = POLICY, plugin: object | None = None) -> None:
        self.clock, self.ledger = FakeClock(), MemoryLedger()
        plugins = {} if plugin is None else {"bank": plugin}
        self.gate = Gate(policy, self.ledger, clock=self.clock, ids=counted_ids(), plugins=plugins)

    def explain(self, proposal: Proposal) -> Explanation:
        return self.gate.explain(proposal)


def ask(tool: str, args: dict[str, Any] | None = None, **more: Any) -> Proposal:
    return Proposal(tool, args or {}, **{"subject": SUBJECT, "run": "r1", **more})


def row(explanation: Explanation, rule: str) -> Considered:
    [found] = [each for each in explanation.rules if each.rule == rule]
    return found


def essence(decision: Decision) -> object:
    """A decision without the ids that only a real one has."""
    if isinstance(decision, Permit):
        claims = [claim for claim in decision.claims if not isinstance(claim, Approval)]
        costs = dict(decision.costs)
        return decision.tool, decision.args, decision.expires_at, claims, costs, decision.key
    if isinstance(decision, Defer):
        return decision.tool, decision.reasons, decision.expires_at
    return decision


def covered(explanation: Explanation) -> None:
    """Every reason is a row that is against the call, and every such row is a reason."""
    decision = explanation.decision
    reasons = decision.reasons if isinstance(decision, (Deny, Defer)) else ()
    against = {(each.rule, each.message) for each in explanation.against}
    assert against == {(reason.rule, reason.message) for reason in reasons}


# --- it agrees with the gate ------------------------------------------------------------------------

CALLS = [
    ask("get_order", {"id": "A-1"}),
    ask("get_order", {"id": "A-2", "pay": "DE89370400440532013000"}),
    ask("issue_refund", {"id": "A-1", "eur": 60, "big": False}, prompt="refund A-1 and A-9"),
    ask("issue_refund", {"id": "A-1", "eur": 60, "big": True}, prompt="refund A-1 and A-9"),
    ask("issue_refund", {"id": "A-2", "eur": 60, "big": False}, call_id="c1"),
    ask("issue_refund", {"id": "A-2", "eur": 900, "big": False}),
    ask("issue_refund", {"id": "A-2", "eur": 1}),
    ask("pay", {"iban": "DE89370400440532013000"}),
    ask("pay", {"iban": "GB33BUKB20201555555555"}),
    ask("send", {"text": "hello"}),
    ask("look_up", {"id": "A-1"}),
    ask("look_up", {"id": "bad"}, call_id="c2"),
    ask("get_order", {"id": "A-1"}, call_id=""),
    ask("get_order", {"id": float("nan")}),
    ask("get_order", {"id": "A-1"}, subject=Subject(tenant="acme", roles=("auditor",))),
    ask("get_order", {"id": "A-1"}, subject=Subject(agent="desk")),
    ask("get_order", {"id": "A-1"}, subject=Subject(tenant="acme")),
    ask("get_order", {"id": "A-1"}, run=None),
    ask("get_order", {"id": "A-1"}, run=None, tools=[["look_*"]]),
    ask("get_order", {"id": "A-1"}, run="r2", parent="r1", depth=2, tools=[["look_*"]]),
    ask("get_order", {"id": "A-1", "x": 1}, schema={"properties": {"id": {"type": "string"}}}),
    ask("nothing", {}),
    ask("gated", {"ok": True}),
    ask("gated", {"ok": False}),
    ask("gated", {"ok": "yes"}),
]
OUTCOMES = [Succeeded({"id": "A-1"}), Failed("no"), Unknown("?"), None]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from(CALLS), st.sampled_from(OUTCOMES)),
        st.tuples(st.just("wait"), st.sampled_from([1, 10, 3600, -5])),
        st.tuples(st.just("answer"), st.sampled_from(["approve", "reject"])),
        st.tuples(st.just("halt"), st.sampled_from(["r1", "r9"])),
    ),
    min_size=4,
    max_size=25,
)


def follow(desk: Desk, steps: list[Any]) -> None:
    for step in steps:
        if step[0] == "call":
            explained = desk.explain(step[1])
            decided = desk.gate.decide(step[1])
            assert type(explained.decision) is type(decided)
            assert essence(explained.decision) == essence(decided)
            covered(explained)
            if isinstance(decided, Permit) and step[2] is not None:
                desk.gate.settle(decided, step[2])
        elif step[0] == "wait":
            desk.clock.advance(step[1])
        elif step[0] == "answer":
            for asking in desk.gate.pending():
                getattr(desk.gate, step[1])(asking.id, by="ann")
        else:
            desk.gate.halt(by="ann", run=step[1])


@given(STEPS)
def test_the_explained_decision_is_the_one_that_is_made(steps: list[Any]) -> None:
    """Whatever happened before, explain and then decide agree, reason for reason."""
    follow(Desk(plugin=Bank()), steps)


@given(STEPS)
def test_every_recorded_decision_is_explained_as_it_was(steps: list[Any]) -> None:
    """From the journal alone, with the state as it was then: the same decision, ids and all."""
    desk = Desk(plugin=Bank())
    follow(desk, steps)
    entries = list(desk.ledger.entries())
    for entry in entries:
        content = entry.content
        if content["kind"] != "decision":
            continue
        explained = explain_entry(entries, entry.seq)
        assert type(explained.decision).__name__.lower() == content["decision"]
        assert (explained.at, explained.entry) == (content["at"], entry.seq)
        covered(explained)
        if isinstance(explained.decision, (Deny, Defer)):
            told = [(r["code"], r["message"]) for r in content["reasons"]]
            assert [(r.code, r.message) for r in explained.decision.reasons] == told
        if isinstance(explained.decision, (Permit,)):
            assert explained.decision.id == content["permit"]
        if isinstance(explained.decision, Defer):
            assert explained.decision.request_id == content["request"]


def test_explaining_changes_nothing() -> None:
    """Neither the journal nor a cell, and no plugin is told of anything."""
    bank = Bank()
    desk = Desk(plugin=bank)
    permit = desk.gate.decide(ask("get_order", {"id": "A-1"}))
    assert isinstance(permit, Permit)
    desk.gate.settle(permit, Succeeded({"id": "A-1"}))
    before = desk.ledger.head(), desk.ledger.cells(""), desk.ledger.out(), bank.told
    for call in CALLS:
        desk.explain(call)
    assert (desk.ledger.head(), desk.ledger.cells(""), desk.ledger.out(), bank.told) == before


# --- what each rule says ------------------------------------------------------------------------------


def test_a_limit_has_its_numbers() -> None:
    """Used, held, limit and what is left, as they are before the call, and when it resets."""
    budget = {"budget": "calls", "limit": 3, "window": "day"}
    limits = [budget, {"concurrency": 2}, {"rate": "5/min"}]
    desk = Desk({"version": 1, "tools": {"t": {}}, "limits": limits})
    first = desk.gate.decide(ask("t", {"n": 1}))
    assert isinstance(first, Permit)
    desk.gate.settle(first, Succeeded())
    desk.gate.decide(ask("t", {"n": 2}))
    explained = desk.explain(ask("t", {"n": 3}))
    calls = row(explained, "limits[0]")
    assert calls.left is not None
    assert (calls.left.used, calls.left.held, calls.left.left) == (1_000_000,) * 3
    assert calls.left.resets_at == 1_767_312_000_000_000
    assert (calls.value, calls.limit) == ("2", "3")
    assert calls.message == (
        "calls: 1 used and 1 held of 3, 1 left, this call needs 1; resets 00:00 UTC"
    )
    slots, rate = row(explained, "limits[1]"), row(explained, "limits[2]")
    assert (slots.value, slots.limit, slots.message) == ("1", "2", "1 of 2 slots are taken")
    assert (rate.value, rate.limit) == ("2", "5")


def test_what_the_gate_does_not_get_to_is_skipped_with_the_cause() -> None:
    """A row for a rule that was not asked would claim to know what it had said."""
    desk = Desk()
    explained = desk.explain(ask("issue_refund", {"id": "A-1", "eur": 900, "big": False}))
    assert row(explained, "tools.issue_refund.args").verdict == "refuses"
    skipped = row(explained, "tools.issue_refund.once")
    assert skipped.verdict == "skipped"
    assert skipped.message == "not looked at: the arguments are refused"
    assert row(explained, "limits[5]").verdict == "skipped"


def test_every_rule_of_the_entry_has_a_row() -> None:
    """Also those that have nothing against the call: what is missing would be a guess."""
    desk = Desk()
    call = ask("issue_refund", {"id": "A-1", "eur": 9, "big": False}, call_id="c", prompt="A-1")
    rules = {each.rule for each in desk.explain(call).rules}
    own = ("args", "cost.eur", "requires[0]", "origin.id", "once", "concurrency", "breaker")
    assert rules >= {
        *(f"tools.issue_refund.{name}" for name in (*own, "approve")),
        *(f"limits[{index}]" for index in range(6)),
        *("halt", "task", "tools", "proposal", "grants", "call_id"),
    }


REFUND = "tools.issue_refund"
SOURCES = "the user's words or an earlier result of get_order"


@pytest.mark.parametrize(
    ("call", "rule", "value", "limit", "message"),
    [
        (CALLS[21], "tools", "nothing", None, "the policy has no entry for 'nothing'"),
        (CALLS[16], "grants", "tenant acme", "grants[0], grants[1]", "no grant lets tenant acme"),
        (CALLS[19], "limits[5]", "2", "1", "this run is 2 agents deep, of 1 allowed"),
        (CALLS[19], "task", "get_order", "look_*", "the task of run r2 was narrowed to look_*"),
        (CALLS[20], "tools.get_order.unknown_args", "id, x", "id", "get_order never declared 'x'"),
        (CALLS[0], "limits[0]", None, None, "this call costs no eur"),
        (CALLS[10], "limits[4]", None, None, "repetitions of this tool are not counted"),
        (CALLS[2], f"{REFUND}.requires[0]", None, 'get_order with id "A-1"', "issue_refund needs get_order"),
        (CALLS[2], f"{REFUND}.origin.id", "id 'A-1'", SOURCES, "id 'A-1' came from"),
        (CALLS[2], f"{REFUND}.breaker", "0", "2", "0 calls of issue_refund failed in a row"),
        (CALLS[22], "tools.gated.when", None, "args.ok", "`args.ok` is true"),
        (CALLS[23], "tools.gated.when", None, "args.ok", "`args.ok` must be true and is not"),
        (CALLS[24], "tools.gated.when", None, "args.ok", "`args.ok` cannot be decided"),
        (CALLS[22], "tools.gated.effect", "0", None, "no identical call of this run"),
        (CALLS[14], "grants", "tenant acme, role auditor", "grants[0], grants[1]", "granted by grants[1]"),
        (CALLS[0], "tools.get_order.labels", "none", None, "the result will mark the run"),
        (CALLS[12], "call_id", None, None, "the call has no id"),
        (CALLS[13], "tools.get_order.rate", None, None, "not looked at: the proposal itself"),
        (CALLS[9], "flows[0]", "none", "untrusted", "flow no-leak: this run has not seen untrusted"),
    ],
)  # fmt: skip
def test_a_row_says_what_was_found_and_what_is_allowed(
    call: Proposal, rule: str, value: str | None, limit: str | None, message: str
) -> None:
    """Each kind of rule in its own terms."""
    rows = [each for each in Desk().explain(call).rules if each.rule == rule]
    assert (value, limit) in [(each.value, each.limit) for each in rows]
    assert any(each.message.startswith(message) for each in rows)


def test_a_person_who_is_asked_shows_as_asking() -> None:
    """And once they have said yes or no, as passing or refusing."""
    desk = Desk({"version": 1, "tools": {"close": {"approve": True}}})
    call = ask("close", {"id": "C-1"})
    explained = desk.explain(call)
    assert row(explained, "tools.close.approve").verdict == "asks"
    assert desk.gate.pending() == []
    deferred = desk.gate.decide(call)
    assert isinstance(deferred, Defer)
    desk.gate.approve(deferred.request_id, by="ann")
    approved = row(desk.explain(call), "tools.close.approve")
    assert (approved.verdict, approved.value) == ("passes", "approved")
    desk.gate.reject(deferred.request_id, by="bob")
    rejected = desk.explain(call)
    assert isinstance(rejected.decision, Deny)
    assert "approval_rejected" in [reason.code for reason in rejected.decision.reasons]
    assert any(each.message.startswith("bob has rejected") for each in rejected.against)


def test_a_value_from_nowhere_asks_and_passes_once_a_person_agreed() -> None:
    """`otherwise: approve`: the rule still says what it found."""
    pay = {"origin": {"iban": {"from": ["look"], "otherwise": "approve"}}}
    desk = Desk({"version": 1, "tools": {"look": {"effect": "read"}, "pay": pay}})
    call = ask("pay", {"iban": "DE89370400440532013000"})
    assert row(desk.explain(call), "tools.pay.origin.iban").verdict == "asks"
    deferred = desk.gate.decide(call)
    assert isinstance(deferred, Defer)
    desk.gate.approve(deferred.request_id, by="ann")
    agreed = row(desk.explain(call), "tools.pay.origin.iban")
    assert agreed.verdict == "passes"
    assert agreed.message.startswith("a person has said yes, although iban 'DE89")


def test_a_repetition_that_a_person_agreed_to_passes() -> None:
    """Asking again until somebody has answered is no loop."""
    limits = [{"repeat": 1, "per": ["run"]}]
    desk = Desk({"version": 1, "tools": {"close": {"approve": True}}, "limits": limits})
    call = ask("close", {"id": "C-1"})
    deferred = desk.gate.decide(call)
    assert isinstance(deferred, Defer)
    assert row(desk.explain(call), "limits[0]").verdict == "refuses"
    desk.gate.approve(deferred.request_id, by="ann")
    agreed = row(desk.explain(call), "limits[0]")
    assert (agreed.verdict, agreed.message) == ("passes", "a person has said yes to this very call")


def test_a_key_may_be_used_again_after_its_time() -> None:
    """`within` has passed: the row says that it was used, and that this is over."""
    desk = Desk({"version": 1, "tools": {"pay": {"once": {"key": "{id}", "within": "1h"}}}})
    permit = desk.gate.decide(ask("pay", {"id": "1"}))
    assert isinstance(permit, Permit)
    desk.gate.settle(permit, Succeeded("paid"))
    desk.clock.advance(3600)
    found = row(desk.explain(ask("pay", {"id": "1"})), "tools.pay.once")
    assert (found.verdict, found.limit) == ("passes", "once in 3600 s")
    assert found.message == "key '1' may be used again"


def test_a_call_that_ran_before_passes_with_its_entry() -> None:
    """The row of the key says where the earlier result is."""
    desk = Desk({"version": 1, "tools": {"pay": {"once": {"key": "{id}"}}}})
    permit = desk.gate.decide(ask("pay", {"id": "1"}))
    assert isinstance(permit, Permit)
    desk.gate.settle(permit, Succeeded("paid"))
    explained = desk.explain(ask("pay", {"id": "1"}))
    assert isinstance(explained.decision, Recorded)
    assert explained.decision.result == "paid"
    assert "journal entry 3" in row(explained, "tools.pay.once").message


def test_an_earlier_result_ends_the_looking() -> None:
    """The call does not run again, so what is left of the budget does not matter to it."""
    pay = {"once": {"key": "{id}"}, "approve": "args.big"}
    limits = [{"budget": "calls", "limit": 1}]
    desk = Desk({"version": 1, "tools": {"pay": pay}, "limits": limits})
    call = ask("pay", {"id": "1", "big": False})
    permit = desk.gate.decide(call)
    assert isinstance(permit, Permit)
    desk.gate.settle(permit, Succeeded("paid"))
    explained = desk.explain(call)
    assert isinstance(explained.decision, Recorded)
    for rule in ("limits[0]", "tools.pay.approve"):
        assert row(explained, rule).verdict == "skipped"
        assert row(explained, rule).message.endswith("answered with an earlier result")


def test_a_plugin_that_fails_is_the_only_thing_looked_at() -> None:
    """The gate asks for facts first, and without them it decides nothing."""

    class Broken:
        @hookimpl
        def sluicegate_facts(self) -> None:
            raise OSError("no connection")

    explained = Desk(plugin=Broken()).explain(CALLS[0])
    covered(explained)
    assert [each.rule for each in explained.against] == ["plugins"]
    assert row(explained, "grants").message == "not looked at: a plugin failed before"


def test_a_plugin_without_an_objection_has_a_row() -> None:
    """Who was asked belongs to the explanation."""
    found = row(Desk(plugin=Bank()).explain(CALLS[0]), "plugins")
    assert (found.verdict, found.value, found.message) == ("passes", "bank", "no plugin objects")


def test_the_claims_of_a_plugin_have_rows_of_their_own() -> None:
    """They are no rules of the policy, and can refuse all the same."""

    class Limits:
        @hookimpl
        def sluicegate_claims(self) -> list[object]:
            return [
                Needs("plugin|bank|step", "plugin.step", "get_order", "a greeting"),
                Slot("plugin|bank|slot", "plugin.slots", 3, 0, " of the plugin"),
            ]

    explained = Desk(plugin=Limits()).explain(CALLS[0])
    covered(explained)
    assert row(explained, "plugin.step").verdict == "refuses"
    assert row(explained, "plugin.slots").message == "0 of 3 slots of the plugin are taken"


def test_a_ledger_that_is_down_is_the_reason() -> None:
    """As for the gate: nothing is looked at, and the call is refused."""

    class Down(MemoryLedger):
        def cell(self, key: str) -> None:
            raise LedgerError("the disk is gone")

    explained = Gate(POLICY, Down(), clock=FakeClock()).explain(CALLS[0])
    assert isinstance(explained.decision, Deny)
    assert [reason.code for reason in explained.decision.reasons] == ["ledger_unavailable"]
    covered(explained)


def test_an_explanation_has_no_truth_value() -> None:
    """`if gate.explain(…)` would take every refusal for a yes."""
    with pytest.raises(TypeError, match="no truth value"):
        bool(Desk().explain(CALLS[0]))


# --- journal entries ------------------------------------------------------------------------------------


def test_an_entry_that_is_no_decision_is_refused() -> None:
    """An outcome has no rules; a number too high has no entry."""
    desk = Desk()
    desk.gate.decide(CALLS[0])
    with pytest.raises(LedgerError, match="entry 1 is no decision: it is of the kind 'policy'"):
        explain_entry(desk.ledger.entries(), 1)
    with pytest.raises(LedgerError, match="no entry 9"):
        explain_entry(desk.ledger.entries(), 9)


def test_an_entry_by_its_digest_cannot_be_explained() -> None:
    """The journal has no arguments to look at, and says so."""
    desk = Desk({"version": 1, "tools": {"t": {"record": "digest"}}})
    desk.gate.decide(ask("t", {"n": 1}))
    with pytest.raises(NotKept, match="record: digest"):
        explain_entry(desk.ledger.entries(), 2)


def test_a_call_that_was_answered_with_an_earlier_result_is_explained() -> None:
    """The result is read from the journal again, whatever the entries come from."""
    desk = Desk({"version": 1, "tools": {"pay": {"once": {"key": "{id}"}}}})
    permit = desk.gate.decide(ask("pay", {"id": "1"}))
    assert isinstance(permit, Permit)
    desk.gate.settle(permit, Succeeded({"paid": True}))
    desk.gate.decide(ask("pay", {"id": "1"}, run="r2"))
    for entries in (desk.ledger.entries(), list(desk.ledger.entries()), desk.gate.journal):
        explained = explain_entry(entries, 4)
        assert isinstance(explained.decision, Recorded)
        assert explained.decision.result == {"paid": True}


def test_what_does_not_follow_from_the_journal_is_not_explained() -> None:
    """A journal that was written anew after a change is whole, and its decision is another one."""
    desk = Desk({"version": 1, "tools": {"t": {}}, "limits": [{"budget": "calls", "limit": 1}]})
    desk.gate.decide(ask("t", {"n": 1}))
    desk.gate.decide(ask("t", {"n": 2}))
    entries = list(desk.ledger.entries())
    forged = entries[2].body.replace('"code":"budget"', '"code":"rate"')
    entries[2] = entries[2]._replace(body=forged)
    with pytest.raises(
        NotKept, match=r"on record is deny \(rate\), and .* follows deny \(budget\)"
    ):
        explain_entry(entries, 3)


def test_an_observed_decision_is_explained_as_it_would_have_been() -> None:
    """What only was watched has the reasons for which it would have been refused."""
    ledger = MemoryLedger()
    policy = {"version": 1, "tools": {"t": {}}, "limits": [{"budget": "calls", "limit": 1}]}
    gate = Gate(policy, ledger, observe=True, clock=FakeClock(), ids=counted_ids())
    gate.decide(ask("t", {"n": 1}))
    gate.decide(ask("t", {"n": 2}))
    explained = explain_entry(ledger.entries(), 3)
    assert [each.rule for each in explained.against] == ["limits[0]"]


def test_a_changed_journal_explains_nothing() -> None:
    """What cannot be followed up to the entry gives no state to explain it from."""
    desk = Desk()
    desk.gate.decide(CALLS[0])
    desk.gate.decide(CALLS[1])
    entries = list(desk.ledger.entries())
    entries[1] = entries[1]._replace(body=entries[1].body.replace("A-1", "A-7"))
    with pytest.raises(
        LedgerError, match="cannot be followed up to entry 3: entry 2: it was changed"
    ):
        explain_entry(entries, 3)


def test_the_plugin_that_failed_then_is_what_is_explained() -> None:
    """On record is that there were no facts, and not what they would have been."""

    class Broken:
        @hookimpl
        def sluicegate_facts(self) -> None:
            raise OSError("no connection")

    desk = Desk(plugin=Broken())
    desk.gate.decide(CALLS[0])
    explained = explain_entry(desk.ledger.entries(), 2)
    covered(explained)
    assert [each.rule for each in explained.against] == ["plugins"]


def test_an_entry_is_explained_with_the_policy_of_then() -> None:
    """A policy that was changed since does not change why a call was refused."""
    ledger = MemoryLedger()
    for limit in (1, 5):
        policy = {"version": 1, "tools": {"t": {}}, "limits": [{"budget": "calls", "limit": limit}]}
        with Gate(policy, ledger, clock=FakeClock(), ids=counted_ids(f"p{limit}-")) as gate:
            gate.decide(ask("t", {"n": 1}))
            gate.decide(ask("t", {"n": 2}))
    explained = explain_entry(ledger.entries(), 3)
    assert isinstance(explained.decision, Deny)
    assert row(explained, "limits[0]").limit == "1"
