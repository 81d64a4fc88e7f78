"""What `gate.usage` says of budgets, rates and slots."""

from __future__ import annotations

from sluicegate import Gate, Proposal, Subject, Succeeded
from sluicegate.testing import FakeClock

POLICY = {
    "version": 1,
    "tools": {"t": {"cost": {"eur": "args.n"}, "rate": "4/min"}, "u": {"concurrency": 2}},
    "limits": [
        {"budget": "eur", "limit": 10, "per": ["tenant"], "window": "day"},
        {"budget": "calls", "limit": 5, "per": ["run"]},
        {"budget": "calls", "limit": 50, "per": ["run"], "tools": ["u*"]},
        {"rate": "2/s", "burst": 4, "per": ["tenant"]},
        {"concurrency": 3, "per": ["tenant", "run"]},
    ],
}


def test_usage_is_exact():
    """Each limit tells what is used, held and left, per scope, in the order of the policy."""
    clock = FakeClock()
    gate = Gate(POLICY, "memory:", clock=clock)
    acme, other = Subject(tenant='a"|b'), Subject(tenant="other")
    gate.settle(gate.decide(Proposal("t", {"n": 2.5}, subject=acme, run="r1")), Succeeded())
    gate.decide(Proposal("t", {"n": 4}, subject=acme, run="r1"))
    gate.decide(Proposal("u", {}, subject=other, run="r2"))
    rows = {(row.rule, tuple(row.scope.values())): row for row in gate.usage()}
    eur = rows["limits[0]", ('a"|b',)]
    assert (eur.limit, eur.used, eur.held, eur.left) == (
        10_000_000,
        2_500_000,
        4_000_000,
        3_500_000,
    )
    assert eur.resets_at == clock.now() + 86_400_000_000
    assert rows["limits[1]", ("r1",)].left == 3_000_000
    assert rows["limits[2]", ("r2",)].held == 1_000_000
    assert rows["limits[3]", ('a"|b',)].used == 2_000_000
    assert rows["limits[4]", ('a"|b', "r1")].held == 1_000_000
    assert rows["tools.t.rate", ()].left == 2_000_000
    assert rows["tools.u.concurrency", ()].left == 1_000_000
    assert [row.rule for row in gate.usage()] == sorted(
        (row.rule for row in gate.usage()), key=order
    )
    assert {row.scope.get("tenant") for row in gate.usage(tenant="other")} == {"other"} | {
        None for row in gate.usage(tenant="other") if "tenant" not in row.scope
    }


def order(rule):
    return (rule.startswith("tools"), rule)


def test_usage_knows_the_time():
    """What a past window used, and slots and tokens that came back, do not count any more."""
    clock = FakeClock()
    gate = Gate(POLICY, "memory:", clock=clock)
    gate.decide(Proposal("t", {"n": 2}, subject=Subject(tenant="a"), run="r1"))
    clock.advance(86_400)
    rows = {row.rule: row for row in gate.usage()}
    assert rows["limits[0]"].left == 10_000_000
    assert rows["limits[3]"].used == 0
    assert rows["limits[4]"].held == 0
    assert rows["limits[1]"].left == 4_000_000, "a run has no window"


def test_usage_filters():
    """The parts given narrow the rows to those scopes that do not contradict them."""
    gate = Gate(POLICY, "memory:")
    for tenant in ("a", "b"):
        gate.decide(Proposal("u", {"n": tenant}, subject=Subject(tenant=tenant), run=tenant))
    assert {row.scope["tenant"] for row in gate.usage(tenant="a") if "tenant" in row.scope} == {"a"}
    assert not [row for row in gate.usage(run="nobody") if row.scope.get("run")]
