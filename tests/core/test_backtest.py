"""What another policy would have said to the calls of a journal."""

from __future__ import annotations

import pytest

from sluicegate import (
    Defer,
    Deny,
    Failed,
    Gate,
    MemoryLedger,
    Permit,
    Policy,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
    hookimpl,
)
from sluicegate.backtest import Change, Tally, backtest
from sluicegate.claims import Quota
from sluicegate.errors import LedgerError, PolicyError
from sluicegate.testing import FakeClock, counted_ids

PAY = {"cost": {"eur": "args.eur"}}


class Desk:
    """A gate whose time and ids are told, in memory."""

    def __init__(self, tools, observe=False, plugins=(), **sections):
        policy = {"version": 1, "tools": tools, **sections}
        self.clock = FakeClock()
        self.gate = Gate(
            policy,
            MemoryLedger(),
            clock=self.clock,
            ids=counted_ids(),
            observe=observe,
            plugins=plugins,
        )

    def ask(self, tool, args=None, outcome=None, *, run="r", **more):
        """Propose a call, and settle it if there is an outcome."""
        subject = Subject(tenant="acme", agent="desk")
        decision = self.gate.decide(Proposal(tool, args or {}, run=run, subject=subject, **more))
        if outcome is not None:
            assert isinstance(decision, Permit), decision
            self.gate.settle(decision, outcome)
        return decision

    def under(self, tools, **sections):
        """The backtest by another policy."""
        return backtest(self.gate.journal, Policy.of({"version": 1, "tools": tools, **sections}))


def budget(limit, name="eur"):
    return {"limits": [{"budget": name, "limit": limit, "per": ["tenant"]}]}


def words(found):
    return [(change.entry, change.before, change.after) for change in found.examples]


# --- what changes ----------------------------------------------------------------------------------


def test_a_lower_limit_refuses_on_top_of_what_it_permits():
    """A call that the new policy refuses uses nothing of its budget: a later, smaller one still fits."""
    desk = Desk({"pay": PAY}, **budget(100))
    desk.ask("pay", {"eur": 40}, Succeeded())
    desk.ask("pay", {"eur": 30}, Succeeded())
    desk.ask("pay", {"eur": 10}, Succeeded())
    found = desk.under({"pay": PAY}, **budget(50))
    assert found.decisions == 3
    assert found.total == Tally(same=2, refused=1)
    assert found.by_rule == {"limits[0]": Tally(refused=1)}
    assert found.by_tool == {"pay": Tally(same=2, refused=1)}
    (change,) = found.examples
    assert change[:6] == (4, "pay", "refused", "permit", "deny", "limits[0]")
    assert change.reason.startswith("eur for tenant acme has 10 of 50 left, this call needs 30")
    assert (found.assumed, found.unheard, found.skipped) == (0, 0, ())


def test_a_higher_limit_permits_and_what_it_permits_is_used():
    """A call without an outcome counts as one that worked and cost what was expected."""
    desk = Desk({"pay": PAY}, **budget(50))
    desk.ask("pay", {"eur": 40}, Succeeded())
    desk.ask("pay", {"eur": 30})
    desk.ask("pay", {"eur": 10}, Succeeded())
    found = desk.under({"pay": PAY}, **budget(75))
    assert words(found) == [(4, "deny", "permit"), (5, "permit", "deny")]
    assert found.total == Tally(same=1, refused=1, permitted=1)
    assert found.assumed == 1
    assert found.examples[0].reason.startswith("eur for tenant acme has 10 of 50 left")


def test_recorded_outcomes_are_used():
    """What was given back, what was really used and what is unknown counts as it was."""
    desk = Desk({"pay": PAY}, **budget(200))
    desk.ask("pay", {"eur": 60}, Failed("no"))
    desk.ask("pay", {"eur": 50}, Succeeded(cost={"eur": 20}))
    desk.ask("pay", {"eur": 30}, Unknown("?"))
    desk.ask("pay", {"eur": 50}, Succeeded(), call_id="x")
    desk.ask("pay", {"eur": 1}, Succeeded())
    assert desk.under({"pay": PAY}, **budget(101)).total == Tally(same=5)
    assert words(desk.under({"pay": PAY}, **budget(100))) == [(10, "permit", "deny")]


def test_another_way_to_count_costs_counts():
    """An expected cost is that of the new policy; a cost that the tool told is the tool's."""
    desk = Desk({"pay": PAY}, **budget(1000))
    desk.ask("pay", {"eur": 10, "all": 100}, Succeeded())
    desk.ask("pay", {"eur": 10, "all": 50}, Succeeded(cost={"eur": 1}))
    desk.ask("pay", {"eur": 9, "all": 99}, Succeeded())
    assert words(desk.under({"pay": {"cost": {"eur": "args.all"}}}, **budget(200))) == []
    assert words(desk.under({"pay": {"cost": {"eur": "args.all"}}}, **budget(199))) == [
        (6, "permit", "deny")
    ]


def test_keys_steps_and_labels_follow_the_new_policy():
    """Rules that the old policy did not have look at the recorded results."""
    desk = Desk({"look": {"effect": "read"}, "pay": {}, "mail": {}})
    desk.ask("look", {"id": "A"}, Succeeded({"to": "ann@a.eu"}), turn="1")
    desk.ask("pay", {"id": "A", "to": "ann@a.eu"}, Succeeded("paid"), turn="2")
    desk.ask("pay", {"id": "A", "to": "ann@a.eu"}, Succeeded("paid"), turn="3")
    desk.ask("pay", {"id": "B", "to": "bob@b.eu"}, Succeeded("paid"), turn="4")
    desk.ask("mail", {"to": "ann@a.eu"}, Succeeded(), turn="5")
    pay = {
        "once": {"key": "{id}"},
        "requires": [{"tool": "look", "match": {"id": "id"}}],
        "origin": {"to": ["look"]},
    }
    flow = {"name": "f", "after": ["secret"], "deny": ["out"]}
    look = {"effect": "read", "labels": ["secret"]}
    found = desk.under({"look": look, "pay": pay, "mail": {"labels": ["out"]}}, flows=[flow])
    assert words(found) == [
        (6, "permit", "recorded"),
        (8, "permit", "deny"),
        (10, "permit", "deny"),
    ]
    rules = {"tools.pay.once", "tools.pay.requires[0]", "flows[0]"}
    assert set(found.by_rule) == rules
    assert found.total == Tally(same=2, refused=2, changed=1)


def test_a_recorded_result_is_shown_by_the_new_policy_too():
    """The run to which it is shown then knows what is in it."""
    desk = Desk({"look": {}, "pay": {}})
    desk.ask("look", {"id": 1}, Succeeded({"to": "ann@a.eu"}))
    desk.ask("look", {"id": 1}, Succeeded({"to": "other@a.eu"}), run="q")
    desk.ask("pay", {"to": "ann@a.eu"}, Succeeded(), run="q")
    desk.ask("pay", {"to": "other@a.eu"}, Succeeded(), run="q")
    tools = {"look": {"once": {"key": "{id}"}}, "pay": {"origin": {"to": ["look"]}}}
    found = desk.under(tools)
    assert words(found) == [(4, "permit", "recorded"), (8, "permit", "deny")]


def test_a_rule_that_is_gone_permits():
    """A repeated call that was answered with a recorded result would run again."""
    desk = Desk({"pay": {"once": {"key": "{id}"}}})
    desk.ask("pay", {"id": 1}, Succeeded())
    assert isinstance(desk.ask("pay", {"id": 1}), Recorded)
    found = desk.under({"pay": {}})
    assert found.examples == (
        Change(4, "pay", "changed", "recorded", "permit", "recorded", "it was answered with the outcome in entry 3"),
    )  # fmt: skip
    assert found.assumed == 1


def test_repetitions_halt_a_run_for_good():
    """What the new policy halts stays halted for the rest of the run, and no other run."""
    desk = Desk({"t": {"effect": "read"}, "u": {"effect": "read"}})
    for _ in range(4):
        desk.ask("t", {}, Succeeded())
    desk.ask("u", {}, Succeeded())
    desk.ask("u", {}, Succeeded(), run="q")
    tools = {"t": {"effect": "read"}, "u": {"effect": "read"}}
    found = desk.under(tools, limits=[{"repeat": 2, "per": ["run"]}])
    assert found.by_tool == {"t": Tally(same=2, refused=2), "u": Tally(same=1, refused=1)}
    assert found.by_rule == {"limits[0]": Tally(refused=2), "halt": Tally(refused=1)}


def test_unknown_tools_and_grants():
    """What is not listed, or not granted, is newly refused; by the rule that says so."""
    desk = Desk({"t": {}, "u": {}})
    desk.ask("t", {}, Succeeded())
    desk.ask("u", {}, Succeeded())
    found = desk.under({"t": {}}, grants=[{"agent": "other", "tools": ["*"]}])
    assert found.by_rule == {"grants": Tally(refused=1), "tools": Tally(refused=1)}


# --- people ------------------------------------------------------------------------------------------


def test_recorded_approvals_hold_for_the_same_action():
    """Where both policies ask, the recorded yes counts, also for a request of another name."""
    desk = Desk({"pay": {"approve": "args.big"}})
    desk.ask("pay", {"big": False, "n": 0}, Succeeded())
    asked = desk.ask("pay", {"big": True})
    desk.gate.approve(asked.request_id, by="ann")
    desk.ask("pay", {"big": True}, Succeeded())
    refused = desk.ask("pay", {"big": True, "n": 2})
    desk.gate.reject(refused.request_id, by="ann")
    assert isinstance(desk.ask("pay", {"big": True, "n": 2}), Deny)
    found = desk.under({"pay": {"approve": True}})
    assert words(found) == [(2, "permit", "defer")]
    assert found.total == Tally(same=4, changed=1)
    assert found.by_rule == {"tools.pay.approve": Tally(changed=1)}


def test_who_is_no_longer_asked():
    """A call that waited for a person is newly permitted, and its recorded yes has nothing to do."""
    desk = Desk({"pay": {"approve": True}})
    asked = desk.ask("pay", {"n": 1})
    assert isinstance(asked, Defer)
    desk.gate.approve(asked.request_id, by="ann")
    desk.ask("pay", {"n": 1}, Succeeded())
    found = desk.under({"pay": {}})
    assert words(found) == [(2, "defer", "permit")]
    assert found.total == Tally(same=1, permitted=1)


def test_halts_hold():
    """What a person halted is refused by every policy; a resume of what is not halted is nothing."""
    desk = Desk({"t": {"effect": "read"}}, limits=[{"repeat": 1, "per": ["run"]}])
    desk.ask("t", {}, Succeeded())
    assert desk.ask("t").final
    desk.gate.resume(run="r", by="ann")
    desk.gate.halt(tenant="acme", by="ann", reason="odd")
    desk.ask("t", {"n": 2})
    found = desk.under({"t": {"effect": "read"}})
    assert words(found) == [(4, "deny", "permit")]
    assert found.total == Tally(same=2, permitted=1)


# --- where it comes from ---------------------------------------------------------------------------


def test_a_week_of_watching():
    """A gate that only observed: its entries count by what they would have been."""
    limits = budget(50)["limits"]
    desk = Desk({"pay": PAY}, observe=True, limits=limits)
    for eur in (40, 20, 5):
        desk.ask("pay", {"eur": eur}, Succeeded())
    desk.ask("nope", {}, Succeeded())
    assert desk.under({"pay": PAY}, limits=limits).total == Tally(same=4)
    found = desk.under({"pay": PAY, "nope": {}}, **budget(60))
    assert words(found) == [(4, "deny", "permit"), (6, "permit", "deny"), (8, "deny", "permit")]
    assert found.assumed == 0, "what became of them is on record"


class Crm:
    """A plugin with facts, objections and claims."""

    @hookimpl
    def sluicegate_facts(self, proposal):
        return {"good": proposal.args.get("good", False)}

    @hookimpl
    def sluicegate_object(self, proposal):
        return "not on a Friday" if proposal.args.get("friday") else None

    @hookimpl
    def sluicegate_claims(self, proposal):
        return [Quota("plugin|crm|x", "plugin crm", "x", 1_000_000, 2_000_000, None, "")]


def test_facts_objections_and_claims_of_plugins():
    """Plugins are not asked again: the new policy is given what they said then."""
    desk = Desk({"t": {}}, plugins={"crm": Crm()})
    desk.ask("t", {"good": True}, Succeeded())
    desk.ask("t", {}, Succeeded())
    assert isinstance(desk.ask("t", {"friday": 1}), Deny)
    assert isinstance(desk.ask("t", {"n": 4}), Deny)
    found = desk.under({"t": {"when": "facts.crm.good"}})
    assert words(found) == [(4, "permit", "deny")]
    assert found.by_rule == {"tools.t.when": Tally(refused=1)}


def test_what_was_recorded_by_digest_is_left_out():
    """Its claims count, so that what it used is not there for others."""
    desk = Desk({"look": {**PAY, "record": "digest"}, "pay": PAY}, **budget(100))
    desk.ask("look", {"eur": 30}, Succeeded())
    desk.ask("look", {"eur": 90})
    desk.ask("pay", {"eur": 40}, Succeeded())
    found = desk.under({"look": PAY, "pay": PAY}, **budget(60))
    assert found.decisions == 1
    assert words(found) == [(5, "permit", "deny")]
    ((why, count, first),) = found.skipped
    assert why.startswith("look has `record: digest`")
    assert (count, first) == (2, 2)


def test_words_of_the_user_that_were_not_kept():
    """A gate keeps them only if its policy asks for them; a backtest says where they are missed."""
    desk = Desk({"pay": {}})
    desk.ask("pay", {"to": "ann@a.eu"}, Succeeded(), prompt="pay ann@a.eu")
    found = desk.under({"pay": {"origin": {"to": ["prompt"]}}})
    assert found.total == Tally(refused=1)
    assert found.unheard == 1
    kept = Desk({"pay": {"origin": {"to": ["prompt"]}}})
    kept.ask("pay", {"to": "ann@a.eu"}, Succeeded(), prompt="pay ann@a.eu")
    kept.ask("pay", {"to": "eve@e.eu"}, prompt="pay ann@a.eu")
    found = kept.under({"pay": {"origin": {"to": ["prompt"]}, "once": {"key": "{to}"}}})
    assert (found.total, found.unheard) == (Tally(same=2), 0)


def test_examples_are_few_and_of_every_kind():
    """Three of each kind by each rule, in the order of the journal; the rest is in the numbers."""
    desk = Desk({"t": {}, "u": {}})
    for n in range(9):
        desk.ask("t", {"n": n}, Succeeded())
        desk.ask("u", {"n": n}, Succeeded())
    found = desk.under({"t": {"args": {"maxProperties": 0}}, "u": {"approve": True}})
    assert [change.entry for change in found.examples] == [2, 4, 6, 8, 10, 12]
    assert found.total == Tally(refused=9, changed=9)
    assert found.by_rule == {"tools.t.args": Tally(refused=9), "tools.u.approve": Tally(changed=9)}


def test_the_journal_is_left_alone():
    """A backtest only reads."""
    desk = Desk({"pay": PAY}, **budget(100))
    desk.ask("pay", {"eur": 40}, Succeeded())
    before = (desk.gate.journal.head(), dict(desk.gate.ledger.cells("")))
    desk.under({"pay": PAY}, **budget(1))
    assert (desk.gate.journal.head(), dict(desk.gate.ledger.cells(""))) == before


def test_what_cannot_be_backtested():
    """A journal without its beginning, and a policy that cannot be compiled, are errors."""
    desk = Desk({"pay": PAY}, **budget(100))
    desk.ask("pay", {"eur": 40}, Succeeded())
    policy = Policy.of({"version": 1, "tools": {"pay": {}}})
    with pytest.raises(LedgerError, match="begins with entry 2"):
        backtest(desk.gate.journal.after(1), policy)
    twice = [*budget(1)["limits"], *budget(2)["limits"]]
    with pytest.raises(PolicyError):
        desk.under({"pay": PAY}, limits=twice)
