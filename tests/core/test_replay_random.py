"""Whatever happened: a replay of the journal gives the same decisions, and the same state."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate import (
    Failed,
    Gate,
    MemoryLedger,
    Permit,
    PermitError,
    Policy,
    Proposal,
    Subject,
    Succeeded,
    Unknown,
    hookimpl,
)
from sluicegate.backtest import backtest
from sluicegate.claims import Quota
from sluicegate.replay import Course, replay
from sluicegate.testing import FakeClock, counted_ids

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {
        "look": {"effect": "read", "labels": ["untrusted"], "rate": "6/min"},
        "find_*": {"effect": "read", "labels": ["sensitive"], "concurrency": 2, "lease": "20s"},
        "pay": {
            "once": {"key": "{to}", "within": "2h"},
            "cost": {"eur": "args.n"},
            "breaker": {"failures": 2, "cooldown": "30s"},
            "requires": [{"tool": "find_payee", "match": {"to": "result.to"}}],
            "origin": {"to": {"from": ["prompt", "look", "find_payee"], "otherwise": "approve"}},
        },
        "mail": {"labels": ["out"], "approve": True, "lease": "1min"},
        "set": {"effect": "idempotent", "once": {"key": "set"}, "repeat": False},
    },
    "grants": [{"agent": "desk", "tools": ["*"]}, {"role": "guest", "tools": ["look", "find_*"]}],
    "flows": [{"name": "leak", "after": ["untrusted", "sensitive"], "deny": ["out"]}],
    "limits": [
        {"budget": "eur", "limit": 12, "per": ["tenant"], "window": "hour"},
        {"budget": "calls", "limit": 9, "per": ["run"]},
        {"repeat": 2, "per": ["run"], "oscillation": True},
        {"depth": 1},
    ],
}


class Plugin:
    """Facts, objections and claims, as the arguments say."""

    @hookimpl
    def sluicegate_facts(self, proposal: Proposal) -> dict[str, Any] | None:
        return {"n": proposal.args.get("n", 0)}

    @hookimpl
    def sluicegate_object(self, proposal: Proposal) -> str | None:
        return "six" if proposal.args.get("n") == 6 else None

    @hookimpl
    def sluicegate_claims(self, proposal: Proposal) -> list[Quota]:
        key = f"plugin|p|{proposal.tool}"
        return [Quota(key, "plugin p", "x", 1_000_000, 8_000_000, None, "")]


TOOLS = st.sampled_from("look find_payee find_payee find_payee pay pay pay mail set nope".split())
RUNS = st.sampled_from([*"r1 r1 r1 r1 r1 r1 r2 r2 r2".split(), None])
ODD = [{}, {"n": float("nan")}, {"to": "\ud800"}, {"to": "x", "n": 1e300}, {"n": "1"}]
EVEN = [
    {"to": to, "n": n} for to in ("ann@a.eu", "ann@a.eu", "bob@b.eu") for n in (1, 1, 1, 3, 0, 6)
]
ARGS = st.sampled_from(EVEN + ODD)
WORDS_OF_THE_USER = {"prompt": "pay bob@b.eu", "turn": "1"}
RARELY = [
    *({"turn": "1"}, {"turn": "2"}, WORDS_OF_THE_USER, {"call_id": "c1"}, {"call_id": "c2"}),
    *({"call_id": ""}, {"depth": 1}, {"depth": 2}, {"tools": [["look", "pay", "find_*"]]}),
]
MORE = st.sampled_from([{}] * 20 + RARELY)
RESULTS = st.sampled_from(
    [{"to": "ann@a.eu"}, [{"to": "bob@b.eu"}], '{"to": "ann@a.eu"}', "ann@a.eu, surely", None, 1.0]
)
OUTCOMES = st.one_of(
    RESULTS.map(Succeeded),
    RESULTS.map(Succeeded),
    st.builds(Succeeded, RESULTS, st.just({"eur": 1})),
    st.sampled_from([Failed("no"), Unknown("?")]),
)
SCOPES = st.sampled_from([{"run": "r2"}, {"run": "r2"}, {"run": "r1"}, {"tenant": "acme"}, {}])
STEPS = {
    "ask": st.tuples(TOOLS, ARGS, RUNS, MORE),
    "settle": st.tuples(st.integers(0, 5), OUTCOMES),
    "wait": st.tuples(st.sampled_from([0.5, 15, 45, 700, 4000, 90_000, -30, -5000])),
    "answer": st.tuples(st.integers(0, 3), st.sampled_from(["approve", "approve", "reject"])),
    "reconcile": st.tuples(st.integers(0, 3), OUTCOMES),
    "halt": st.tuples(SCOPES),
    "resume": st.tuples(SCOPES),
}
WEIGHTS = {"ask": 12, "settle": 7, "wait": 3, "answer": 2, "reconcile": 2, "halt": 1, "resume": 4}
WORDS = st.sampled_from([word for word, weight in WEIGHTS.items() for _ in range(weight)])
HISTORIES = st.lists(
    WORDS.flatmap(lambda word: STEPS[word].map(lambda how: (word, *how))), min_size=20, max_size=70
)


class World:
    """A gate to which things happen."""

    def __init__(self, observe: bool) -> None:
        self.clock, self.ledger = FakeClock(), MemoryLedger()
        self.gate = Gate(
            POLICY, self.ledger, clock=self.clock, ids=counted_ids(), observe=observe,
            plugins={"p": Plugin()},
        )  # fmt: skip
        self.out: list[Permit] = []

    def do(self, what: str, *how: Any) -> None:
        """Let it happen, as far as it can."""
        with suppress(PermitError):
            getattr(self, what)(*how)

    def ask(self, tool: str, args: dict[str, Any], run: str | None, more: dict[str, Any]) -> None:
        subject = Subject(tenant="acme", agent="desk")
        decision = self.gate.decide(Proposal(tool, args, subject=subject, run=run, **more))
        if isinstance(decision, Permit):
            self.out.append(decision)

    def settle(self, index: int, outcome: Any) -> None:
        if self.out:
            self.gate.settle(self.out.pop(index % len(self.out)), outcome)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def answer(self, index: int, word: str) -> None:
        if pending := self.gate.pending():
            getattr(self.gate, word)(pending[index % len(pending)].id, by="ann")

    def reconcile(self, index: int, outcome: Any) -> None:
        if (unknown := self.gate.unknowns()) and not isinstance(outcome, Unknown):
            self.gate.reconcile(unknown[index % len(unknown)].permit_id, outcome, by="bob")

    def halt(self, scope: dict[str, str]) -> None:
        self.gate.halt(by="ann", reason="to be safe", **scope)

    def resume(self, scope: dict[str, str]) -> None:
        self.gate.resume(by="ann", **scope)


def lived(history: list[Any], observe: bool = False) -> World:
    """A world to which *history* has happened."""
    world = World(observe)
    for what, *how in history:
        world.do(what, *how)
    return world


def state(cells: Any) -> Any:
    """Cells as JSON, without those that only say what the journal has been told."""
    marks = ("policy|", "schema|", "prompt|")
    return json.loads(json.dumps({k: v for k, v in cells if not k.startswith(marks)}))


@given(HISTORIES)
@settings(max_examples=60)
def test_any_history_replays_equal(history):
    """Every decision byte for byte, and at the end the same cells and permits."""
    world = lived(history)
    entries = list(world.gate.journal)
    found = replay(entries)
    assert found.difference is None
    assert found.skipped == ()
    course = Course()
    for number, entry in enumerate(entries, 1):
        course.follow(number, entry)
    assert state(course.books.cells.items()) == state(world.ledger.cells(""))
    assert {(p, *out) for p, out in course.books.permits.items()} == set(world.ledger.out())


@given(HISTORIES)
@settings(max_examples=25)
def test_any_history_that_was_only_observed_replays_equal(history):
    """What cannot be derived is skipped for want of an outcome, and nothing is different."""
    entries = list(lived(history, observe=True).gate.journal)
    found = replay(entries)
    assert found.difference is None
    assert all("only watched" in skipped.why for skipped in found.skipped)


@given(HISTORIES)
@settings(max_examples=25)
def test_the_same_policy_changes_nothing(history):
    """A backtest by the policy that decided has no change to tell, and assumes nothing."""
    entries = list(lived(history).gate.journal)
    found = backtest(entries, Policy.of(POLICY))
    assert found.examples == ()
    assert (found.total.changes, found.assumed) == (0, 0)
    decided = sum(entry.content["kind"] == "decision" for entry in entries)
    assert found.decisions + sum(skipped.decisions for skipped in found.skipped) == decided
