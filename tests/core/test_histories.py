"""
Random histories through a real gate, with a second opinion on what may have happened.

Proposals, settlements, crashes, approvals, halts, people who find out later, and clocks
that step in both directions. After every step: no limit is exceeded, no key was carried
out twice, refusals have spent nothing, and the journal derives itself again.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluicegate import (
    Defer,
    Deny,
    Failed,
    Gate,
    MemoryLedger,
    Permit,
    PermitError,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
)
from sluicegate.canonical import freeze
from sluicegate.replay import replay
from sluicegate.testing import FakeClock, counted_ids

SECOND = 1_000_000
LIMIT, SLOTS, CALLS, REPEAT = 100, 3, 14, 3

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {
        "look": {"effect": "read", "repeat": False},
        "browse": {"effect": "read", "labels": ["untrusted"]},
        "pay": {
            "requires": [{"tool": "look", "match": {"order": "order"}}],
            "once": {"key": "pay:{order}"},
            "cost": {"eur": "args.eur"},
            "approve": {"when": "args.large", "within": "10m"},
            "lease": "1m",
        },
        "wire": {"approve": True, "cost": {"eur": "args.eur"}, "lease": "1m"},
        "post": {
            "labels": ["external"],
            "on_error": "failed",
            "breaker": {"failures": 3, "cooldown": "2m"},
            "lease": "1m",
        },
    },
    "limits": [
        {"budget": "eur", "limit": LIMIT, "per": ["tenant"]},
        {"budget": "calls", "limit": CALLS, "per": ["run"]},
        {"concurrency": SLOTS, "per": ["tenant"]},
        {"repeat": REPEAT, "per": ["run"]},
    ],
    "flows": [{"name": "f", "after": ["untrusted"], "deny": ["external"]}],
}
SPENDING = ("quota|", "slot|", "once|", "seen|", "unsettled|", "labels|", "breaker|", "step|")
"""Where a refusal must not have left anything."""

orders, runs = st.sampled_from(["A1", "A2"]), st.sampled_from(["r1", "r2"])
payments = st.builds(
    lambda order, eur, large: ("pay", {"order": order, "eur": eur, "large": large}),
    orders,
    st.sampled_from([1, 60]),
    st.booleans(),
)
wires = st.builds(lambda eur: ("wire", {"eur": eur, "large": True}), st.integers(1, 2))
proposals = st.one_of(
    payments,
    payments,
    wires,
    wires,
    st.builds(lambda page: ("browse", {"page": page}), st.integers(1, 9)),
    st.builds(lambda text: ("post", {"text": text}), st.integers(1, 9)),
    st.builds(lambda n: ("nothing", {"n": n}), st.integers(1, 3)),
)
outcomes = st.sampled_from([Succeeded({"ok": 1}), Failed("no"), Unknown("lost")])


class Call:
    """A call that was permitted, and what became of it as far as anybody knows."""

    def __init__(self, permit: Permit, proposal: Proposal) -> None:
        self.permit, self.proposal = permit, proposal
        self.fate = "held"

    @property
    def eur(self) -> int:
        return self.proposal.args.get("eur", 0) if self.fate != "failed" else 0


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = MemoryLedger()
        self.gate = Gate(POLICY, self.ledger, clock=self.clock, ids=counted_ids())
        self.calls: list[Call] = []
        self.asked: list[str] = []
        self.yes: dict[str, str] = {}
        self.latest = 0

    # --- what happens ---------------------------------------------------------------------------

    @initialize()
    def look(self) -> None:
        """Most payments should get further than to the rule that wants an order to be read first."""
        for run, order in (("r1", "A1"), ("r1", "A2"), ("r2", "A1")):
            read = Proposal("look", {"order": order}, subject=Subject(tenant="acme"), run=run)
            permit = self.gate.decide(read)
            assert isinstance(permit, Permit)
            self.calls.append(Call(permit, read))
            self.gate.settle(permit, Succeeded({"ok": 1}))
            self.calls[-1].fate = "succeeded"

    @rule(what=proposals, run=runs, call_id=st.sampled_from([None, "c1", "c2"]))
    def propose(self, what: tuple[str, dict[str, Any]], run: str, call_id: str | None) -> None:
        proposal = Proposal(
            what[0], what[1], subject=Subject(tenant="acme"), run=run, call_id=call_id
        )
        before = self.spent()
        decision = self.gate.decide(proposal)
        assert not isinstance(decision, Deny) or decision.reasons[0].code != "internal_error"
        if isinstance(decision, Permit):
            self.permitted(decision, proposal)
            return
        if isinstance(decision, Recorded):
            assert any(
                call.permit.id == decision.permit_id and call.fate == "succeeded"
                for call in self.calls
            )
            return  # it sets the labels and steps of the run it is shown to
        if isinstance(decision, Defer):
            self.asked.append(decision.request_id)
        assert self.spent() == before

    @rule(what=payments | wires, run=runs, outcome=outcomes, call_id=st.sampled_from([None, "c1"]))
    def carry_out(self, what: Any, run: str, outcome: Any, call_id: str | None) -> None:
        """A payment as it should go: proposed, answered by a person, proposed again, settled."""
        self.propose(what, run, call_id)
        if self.asked and self.asked[-1] not in self.yes:
            self.answer("approve", len(self.asked) - 1)
            self.propose(what, run, call_id)
        if self.calls[-1].fate == "held":
            self.settle(outcome, [c.fate for c in self.calls].count("held") - 1)

    def permitted(self, permit: Permit, proposal: Proposal) -> None:
        key = permit.key
        for call in self.calls:
            if key is not None and call.permit.key == key:
                assert call.fate == "failed", "a key was carried out twice"
        if proposal.args.get("large"):
            action = proposal.action.removeprefix("sha256:")[:16]
            request = next(
                r for r in reversed(self.asked) if r.startswith(action) and r in self.yes
            )
            assert self.yes.pop(request) == "approve", "a call ran without a person's yes"
        self.calls.append(Call(permit, proposal))

    @precondition(lambda self: any(call.fate == "held" for call in self.calls))
    @rule(outcome=outcomes, which=st.integers(0, 9))
    def settle(self, outcome: Any, which: int) -> None:
        held = [call for call in self.calls if call.fate == "held"]
        call = held[which % len(held)]
        try:
            self.gate.settle(call.permit, outcome)
        except PermitError:
            call.fate = (
                "lost" if self.now() >= call.permit.expires_at else "refused although it lives"
            )
            assert call.fate == "lost"
            return
        call.fate = type(outcome).__name__.lower()
        if call.proposal.args.get("large") and call.fate == "failed":
            self.yes[next(c for c in reversed(self.asked) if self.same(c, call))] = "approve"

    def same(self, request: str, call: Call) -> bool:
        return request.startswith(call.proposal.action.removeprefix("sha256:")[:16])

    @precondition(lambda self: any(call.fate == "held" for call in self.calls))
    @rule(which=st.integers(0, 9))
    def crash(self, which: int) -> None:
        """The process dies between the decision and the settlement: nobody will settle this call."""
        held = [call for call in self.calls if call.fate == "held"]
        held[which % len(held)].fate = "lost"

    @precondition(lambda self: self.asked)
    @rule(word=st.sampled_from(["approve", "reject"]), which=st.integers(0, 9))
    def answer(self, word: str, which: int) -> None:
        request = self.asked[which % len(self.asked)]
        try:
            getattr(self.gate, word)(request, by="ada")
        except PermitError:
            return
        self.yes[request] = word

    @rule(outcome=st.sampled_from([Succeeded(2), Failed("no")]), which=st.integers(0, 9))
    def reconcile(self, outcome: Any, which: int) -> None:
        unknown = self.gate.unknowns()
        if not unknown:
            return
        permit = unknown[which % len(unknown)].permit_id
        self.gate.reconcile(permit, outcome, by="ada")
        call = next(call for call in self.calls if call.permit.id == permit)
        call.fate = type(outcome).__name__.lower()
        if call.proposal.args.get("large") and call.fate == "failed":
            self.yes[next(c for c in reversed(self.asked) if self.same(c, call))] = "approve"

    @rule(scope=st.sampled_from([{}, {"run": "r1"}, {"tenant": "acme"}, {"tenant": "other"}]))
    def halt(self, scope: dict[str, str]) -> None:
        """Halted is halted, for whom it is meant, until it is taken back."""
        self.gate.halt(by="ada", reason="x", **scope)
        number = self.ledger.head()[0]
        probe = Proposal("pay", {"n": number}, subject=Subject(tenant="acme"), run="r1")
        told = [reason.code for reason in self.gate.decide(probe).reasons]
        assert ("halted" in told) or scope == {"tenant": "other"}
        self.gate.resume(by="ada", **scope)

    @rule(seconds=st.sampled_from([1, 30, 61, 700, -5, -3600]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # --- what must hold ---------------------------------------------------------------------------

    def now(self) -> int:
        return max(self.clock.now(), self.ledger.floor)

    def spent(self) -> dict[str, Any]:
        return {key: cell for key, cell in self.ledger.cells("") if key.startswith(SPENDING)}

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        assert sum(call.eur for call in self.calls) <= LIMIT
        for run in ("r1", "r2"):
            mine = [c for c in self.calls if c.proposal.run == run and c.fate != "failed"]
            assert len(mine) <= CALLS
        now = self.now()
        under_way = [c for c in self.calls if c.fate == "held" and c.permit.expires_at > now]
        assert len(under_way) <= SLOTS

    @invariant()
    def time_does_not_go_back(self) -> None:
        assert self.ledger.floor >= self.latest
        self.latest = self.ledger.floor

    @invariant()
    def the_journal_derives_itself(self) -> None:
        found = replay(self.gate.journal)
        assert found.difference is None
        assert not found.skipped

    def teardown(self) -> None:
        assert self.gate.journal.verify() is None
        for entry in self.gate.journal:
            assert entry.body == freeze(entry.content)[1], "an entry is not in its canonical form"


Histories.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestHistories = Histories.TestCase
TestHistories.__doc__ = "No random history breaks a promise (see the invariants above)."
