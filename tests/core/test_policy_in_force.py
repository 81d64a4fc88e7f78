"""Each key of the policy file does what it says: grants, conditions, costs, keys and limits."""

from __future__ import annotations

import sys

import pytest

from sluicegate import Deny, Gate, Permit, PolicyError, Proposal, Subject, Succeeded
from sluicegate.testing import FakeClock

CEL = pytest.mark.skipif(sys.version_info < (3, 11), reason="no CEL package supports Python 3.10")


def made(tools=None, clock=None, **sections):
    return Gate(
        {"version": 1, "tools": tools or {"t": {}}, **sections},
        "memory:",
        clock=clock or FakeClock(),
    )


def codes(decision):
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


def ask(gate, tool="t", args=None, **who):
    return gate.decide(Proposal(tool, args or {}, subject=Subject(**who), run="r1"))


# --- tools -------------------------------------------------------------------------------------


def test_the_most_specific_entry_wins():
    """An exact name comes before a glob, and a longer glob before a shorter one."""
    deny = {"args": {"maxProperties": 0}}
    gate = made({"*": deny, "get_*": {"effect": "read"}, "get_secret": deny})
    assert isinstance(ask(gate, "get_order", {"a": 1}), Permit)
    assert codes(ask(gate, "get_secret", {"a": 1})) == ["args_invalid"]
    assert codes(ask(gate, "other", {"a": 1})) == ["args_invalid"]


def test_a_tool_without_an_entry_cannot_run():
    """Default deny: the refusal lists what there is and what was probably meant."""
    (reason,) = ask(made({"refund": {}, "look": {}}), "refnd").reasons
    assert reason.code == "unknown_tool"
    assert (
        reason.message
        == "the policy has no entry for 'refnd'. Did you mean 'refund'? It has: look, refund"
    )


def test_the_policys_own_schema_holds_as_well():
    """`args` narrows what the tool's schema allows, and the message says whose rule it is."""
    gate = made({"t": {"args": {"properties": {"n": {"maximum": 5}}}}})
    (reason,) = ask(gate, args={"n": 6}).reasons
    assert (reason.code, reason.rule) == ("args_invalid", "tools.t.args")
    assert reason.message == "n: 6 is greater than the maximum of 5 (by the policy)"


def test_formats_of_the_policy_are_checked():
    """`format: email` in the policy's own schema is a rule and no remark."""
    gate = made({"t": {"args": {"properties": {"to": {"type": "string", "format": "email"}}}}})
    assert isinstance(ask(gate, args={"to": "ada@example.com"}), Permit)
    assert codes(ask(gate, args={"to": "nobody"})) == ["args_invalid"]


def test_a_path_is_a_condition():
    """A plain path must be exactly true; anything else is refused, and a missing one too."""
    gate = made({"t": {"when": "args.ok"}})
    assert isinstance(ask(gate, args={"ok": True}), Permit)
    assert codes(ask(gate, args={"ok": False})) == ["condition"]
    for wrong in ({"ok": 1}, {"ok": "true"}, {"ok": None}, {}):
        assert codes(ask(gate, args=wrong)) == ["condition_error"]


@CEL
@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("args.currency == 'EUR'", []),
        ("args.currency == 'USD'", ["condition"]),
        ("args.amount > 200 && subject.tenant == 'acme'", []),
        ("args.amount * 2 > 200", []),
        ("args.rate * 2 > 1", ["condition_error"]),
        ("args.missing == 1", ["condition_error"]),
        ("args.amount", ["condition_error"]),
        ("'ops' in subject.roles", []),
        ("run == 'r1'", []),
        ("now < timestamp('2026-01-02T00:00:00Z')", []),
        ("now > timestamp('2026-01-02T00:00:00Z')", ["condition"]),
        ("size(args.items) == 2 && args.items.all(i, i.n > 0)", []),
    ],
)
def test_conditions(when, expected):
    """A condition sees args, subject, facts, run and now; an error in it is a refusal."""
    args = {"currency": "EUR", "amount": 480, "rate": 0.5, "items": [{"n": 1}, {"n": 2}]}
    decision = ask(made({"t": {"when": when}}), args=args, tenant="acme", roles=("ops",))
    assert codes(decision) == expected


def test_costs_are_decimals_and_never_negative():
    """Costs add up exactly; a negative, missing or non-numeric cost is a refusal."""
    gate = made({"t": {"cost": {"eur": "args.amount"}}}, limits=[{"budget": "eur", "limit": 0.3}])
    for _ in range(3):
        assert isinstance(ask(gate, args={"amount": 0.1}), Permit)
    assert codes(ask(gate, args={"amount": 0.1})) == ["budget"]
    assert codes(ask(gate, args={"amount": -1})) == ["budget"]
    assert codes(ask(gate, args={"amount": "5"})) == ["condition_error"]
    assert codes(ask(gate, args={"amount": True})) == ["budget"]
    assert codes(ask(gate)) == ["condition_error"]


def test_a_key_needs_its_arguments():
    """A key whose argument is missing, a list or an object refuses, with the argument's name."""
    gate = made({"t": {"once": {"key": "k:{a.b}:{c}"}}})
    assert ask(gate, args={"a": {"b": 1}, "c": True}).key == "k:1:true"
    for wrong in (
        {"c": 1},
        {"a": {}, "c": 1},
        {"a": {"b": None}, "c": 1},
        {"a": {"b": []}, "c": 1},
    ):
        decision = ask(gate, args=wrong)
        assert codes(decision) == ["args_invalid"]
        assert "args.a.b" in decision.reasons[0].message


def test_a_key_without_a_text_is_the_whole_call():
    """`once: {}` means the tool with all its arguments."""
    gate = made({"t": {"once": {}}})
    gate.settle(ask(gate, args={"n": 1}), Succeeded("x"))
    assert ask(gate, args={"n": 1}).result == "x"
    assert isinstance(ask(gate, args={"n": 2}), Permit)


def test_a_tools_own_rate_and_concurrency():
    """`rate` and `concurrency` of a tool hold for all its callers together."""
    clock = FakeClock()
    gate = made({"t": {"rate": "2/min"}, "u": {"concurrency": 1}}, clock)
    assert [codes(ask(gate, args={"n": n}, tenant=str(n))) for n in range(3)] == [[], [], ["rate"]]
    clock.advance(30)
    assert isinstance(ask(gate, args={"n": 3}), Permit)
    first = ask(gate, "u", {"n": 1})
    assert codes(ask(gate, "u", {"n": 2})) == ["concurrency"]
    gate.settle(first, Succeeded())
    assert isinstance(ask(gate, "u", {"n": 3}), Permit)


def test_a_lease_gives_a_slot_back():
    """The slot of a call that was never settled comes back after the tool's lease."""
    clock = FakeClock()
    gate = made({"t": {"lease": "10s", "concurrency": 1}}, clock)
    ask(gate, args={"n": 1})
    clock.advance(9.999)
    assert codes(ask(gate, args={"n": 2})) == ["concurrency"]
    clock.advance(0.001)
    assert isinstance(ask(gate, args={"n": 2}), Permit)


# --- grants ------------------------------------------------------------------------------------

GRANTS = [
    {"agent": "support-*", "tools": ["get_*", "refund"]},
    {"role": "intern", "tools": ["get_*"]},
]


@pytest.mark.parametrize(
    ("tool", "who", "allowed"),
    [
        ("refund", {"agent": "support-7"}, True),
        ("refund", {"agent": "sales-7"}, False),
        ("refund", {"agent": "Support-7"}, False),
        ("refund", {"roles": ("intern",)}, False),
        ("get_order", {"roles": ("boss", "intern")}, True),
        ("get_order", {}, False),
        ("delete", {"agent": "support-7"}, False),
    ],
)
def test_grants(tool, who, allowed):
    """With grants, a subject may call what one of its grants names, and nothing else."""
    gate = made({"refund": {}, "get_order": {}, "delete": {}}, grants=GRANTS)
    assert codes(ask(gate, tool, **who)) == ([] if allowed else ["not_granted"])


@CEL
def test_a_grant_may_have_a_condition():
    """A grant whose condition fails or breaks does not help; another one still may."""
    grants = [
        {"agent": "a", "tools": ["t"], "when": "args.n < 5"},
        {"role": "boss", "tools": ["t"]},
    ]
    gate = made(grants=grants)
    assert isinstance(ask(gate, args={"n": 1}, agent="a"), Permit)
    assert codes(ask(gate, args={"n": 9}, agent="a")) == ["condition", "not_granted"]
    assert codes(ask(gate, args={}, agent="a")) == ["condition_error", "not_granted"]
    assert isinstance(ask(gate, args={"n": 9}, agent="a", roles=("boss",)), Permit)


# --- limits ------------------------------------------------------------------------------------


def test_every_limit_that_matches_applies():
    """A call has to fit into all limits, and all that refuse are told, in the policy's order."""
    gate = made(
        limits=[
            {"budget": "calls", "limit": 1, "per": ["tenant"]},
            {"budget": "calls", "limit": 1, "per": ["run"]},
            {"budget": "calls", "limit": 5},
            {"rate": "1/min", "per": ["tenant"], "tools": ["other"]},
        ],
    )
    assert isinstance(ask(gate, args={"n": 1}, tenant="a"), Permit)
    decision = ask(gate, args={"n": 2}, tenant="a")
    assert [reason.rule for reason in decision.reasons] == ["limits[0]", "limits[1]"]


@pytest.mark.parametrize("part", ["tenant", "user", "agent", "run", "root"])
def test_a_limit_whose_part_is_missing_refuses(part):
    """A call without the part that a limit counts by cannot be counted, so it is refused."""
    gate = made(limits=[{"budget": "calls", "limit": 5, "per": [part]}])
    decision = gate.decide(Proposal("t", {}))
    assert codes(decision) == ["missing_subject"]
    assert f"{part}=" in decision.reasons[0].message or "run=" in decision.reasons[0].message


def test_a_limit_per_argument():
    """`per: [args.x]` counts by the value of an argument, which has to be there."""
    gate = made(limits=[{"budget": "calls", "limit": 1, "per": ["args.to", "tool"]}])
    assert isinstance(ask(gate, args={"to": "a"}), Permit)
    assert isinstance(ask(gate, args={"to": "b"}), Permit)
    assert codes(ask(gate, args={"to": "a", "n": 2})) == ["budget"]
    assert codes(ask(gate, args={"n": 2})) == ["args_invalid"]


def test_children_share_the_roots_budget():
    """`per: [root]` counts all runs that came from one outermost run together."""
    gate = made(limits=[{"budget": "calls", "limit": 1, "per": ["root"]}])
    assert isinstance(gate.decide(Proposal("t", {"n": 1}, run="top")), Permit)
    assert codes(gate.decide(Proposal("t", {"n": 2}, run="child", parent="top", depth=1))) == [
        "budget"
    ]


def test_parts_cannot_be_confused():
    """Values that look like the separators of a key do not share a cell."""
    gate = made(limits=[{"budget": "calls", "limit": 1, "per": ["tenant", "user"]}])
    names = ['a"|user="b', "a", "a|user=b", "", "a\\"]
    pairs = [(t, u) for t in names for u in names if t and u]
    for number, (tenant, user) in enumerate(pairs):
        assert isinstance(ask(gate, args={"n": number}, tenant=tenant, user=user), Permit), (
            tenant,
            user,
        )


def test_windows_end_on_time():
    """A daily budget is whole again at midnight UTC, and what is held over midnight stays in its day."""
    clock = FakeClock()
    gate = made(limits=[{"budget": "calls", "limit": 1, "window": "day"}], clock=clock)
    permit = ask(gate, args={"n": 1})
    clock.advance(86_399)
    decision = ask(gate, args={"n": 2})
    assert codes(decision) == ["budget"]
    assert decision.retry == 1
    clock.advance(1)
    assert isinstance(ask(gate, args={"n": 3}), Permit)
    del permit


def test_a_budget_that_can_never_be_met_says_never():
    """A call that needs more than the whole limit is told that waiting will not help."""
    gate = made(
        {"t": {"cost": {"eur": "args.n"}}}, limits=[{"budget": "eur", "limit": 5, "window": "day"}]
    )
    decision = ask(gate, args={"n": 6})
    assert decision.retry == "never"
    assert "no single call may need more than the whole limit" in decision.reasons[0].message


def test_a_burst():
    """`burst` is how many calls may come at once; without it, as many as the rate counts."""
    gate = made(
        {"t": {}, "u": {}},
        limits=[{"rate": "1/h", "burst": 3, "tools": ["t"]}, {"rate": "2/h", "tools": ["u"]}],
    )
    assert [codes(ask(gate, args={"n": n})) for n in range(4)] == [[], [], [], ["rate"]]
    assert [codes(ask(gate, "u", {"n": n})) for n in range(3)] == [[], [], ["rate"]]


def test_two_limits_that_count_the_same_are_refused():
    """Limits that would share their cells would count each call twice: an error when the gate is made."""
    limits = [{"budget": "calls", "limit": 5}, {"budget": "calls", "limit": 6}]
    with pytest.raises(PolicyError, match=r"limits\[1\] counts the same as limits\[0\]"):
        made(limits=limits)


def test_a_changed_limit_goes_on_from_what_was_used():
    """Raising or lowering a limit does not forget what was spent under the old one."""
    first = made(limits=[{"budget": "calls", "limit": 1}])
    ask(first, args={"n": 1})
    lower = Gate(
        {"version": 1, "tools": {"t": {}}, "limits": [{"budget": "calls", "limit": 2}]},
        first.ledger,
    )
    assert isinstance(ask(lower, args={"n": 2}), Permit)
    assert codes(ask(lower, args={"n": 3})) == ["budget"]


def test_short_replies_keep_the_details():
    """`replies: short` tells the model the code and no numbers."""
    gate = made(replies="short", limits=[{"budget": "calls", "limit": 1}])
    ask(gate, args={"n": 1})
    text = ask(gate, args={"n": 2}).render()
    assert text == "REFUSED (budget): t was not run. Do not repeat this call unchanged."


def test_many_names_do_not_fill_the_memory():
    """Tool names come from the model: what is kept per name is bounded."""
    gate = made({"*": {}})
    for number in range(10_050):
        gate._compiled.rule(f"t{number}")
    assert len(gate._compiled._rules) <= 10_000
