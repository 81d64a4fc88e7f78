"""A plan decides a whole sequence from here, does nothing, and says what it cannot know."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import (
    Deny,
    Gate,
    Permit,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    hookimpl,
)
from sluicegate.claims import Needs
from sluicegate.decision import Decision, Defer
from sluicegate.ledger.memory import MemoryLedger
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.plan import Plan
from sluicegate.testing import FakeClock, counted_ids

SUBJECT = Subject(tenant="acme")
TOOLS: dict[str, Any] = {
    "get_order": {"effect": "read"},
    "refund": {
        "cost": {"eur": "args.eur"},
        "requires": [{"tool": "get_order", "match": {"id": "id"}}],
        "origin": {"id": ["prompt", "get_order"]},
        "once": {"key": "refund:{id}"},
    },
    "tf_plan": {"effect": "read"},
    "ping": {"effect": "read"},
    "apply": {"requires": [{"tool": "tf_plan", "match": {"hash": "result.plan.hash"}}]},
    "close": {"approve": True},
    "archive": {"requires": [{"tool": "close"}]},
}
LIMITS: list[dict[str, Any]] = [
    {"budget": "eur", "limit": 100, "per": ["tenant"], "window": "day"},
    {"rate": "20/min"},
    {"repeat": 3, "per": ["run"]},
]


class Desk:
    """A gate, and plans from where it stands."""

    def __init__(
        self,
        tools: dict[str, Any] | None = None,
        limits: list[dict[str, Any]] | None = None,
        ledger: Any = None,
        plugins: dict[str, object] | None = None,
        **more: Any,
    ) -> None:
        self.clock, self.ledger = FakeClock(), ledger or MemoryLedger()
        policy = {"version": 1, "tools": tools or TOOLS, "limits": limits or [], **more}
        self.gate = Gate(
            policy, self.ledger, clock=self.clock, ids=counted_ids(), plugins=plugins or {}
        )

    def plan(self, *proposals: Proposal) -> Plan:
        return self.gate.plan(proposals)

    def do(self, proposal: Proposal, result: object = None) -> None:
        permit = self.gate.decide(proposal)
        assert isinstance(permit, Permit)
        self.gate.settle(permit, Succeeded(result))


def ask(tool: str, args: dict[str, Any] | None = None, **more: Any) -> Proposal:
    return Proposal(tool, args or {}, **{"subject": SUBJECT, "run": "r", **more})


def order(number: int, **more: Any) -> Proposal:
    return ask("get_order", {"id": f"A-{number}"}, **more)


def refund(number: int, eur: int, **more: Any) -> Proposal:
    more = {"prompt": f"refund A-{number}", **more}
    return ask("refund", {"id": f"A-{number}", "eur": eur}, **more)


def words(found: Plan) -> list[str]:
    return [type(step.decision).__name__ for step in found.steps]


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


# --- the sequence -------------------------------------------------------------------------------------


def test_each_step_is_decided_after_the_ones_before_it() -> None:
    """A step that is permitted counts as done: it can be required, and its cost is used."""
    found = Desk(limits=LIMITS).plan(
        refund(1, 40), order(1), refund(1, 40), order(2), refund(2, 70)
    )
    assert words(found) == ["Deny", "Permit", "Permit", "Permit", "Deny"]
    assert codes(found.steps[0].decision) == ["order"]
    assert codes(found.steps[4].decision) == ["budget"]
    assert "has 60 of 100 left today" in found.steps[4].decision.reasons[0].message  # type: ignore[union-attr]
    assert not found.passes
    assert found.stuck == found.steps[0]


def test_a_plan_that_passes_says_so() -> None:
    """And it has no step at which it would be stuck."""
    found = Desk(limits=LIMITS).plan(order(1), refund(1, 40))
    assert (found.passes, found.stuck, found.assumes) == (True, None, ())
    assert [step.number for step in found.steps] == [1, 2]


def test_an_empty_plan_passes() -> None:
    """Nothing to do is nothing to refuse."""
    assert Desk().plan().passes


def test_it_goes_on_from_what_has_happened() -> None:
    """What was used, done and recorded before counts."""
    desk = Desk(limits=LIMITS)
    desk.do(order(1))
    desk.do(refund(1, 70), "paid")
    found = desk.plan(order(2), refund(2, 40), refund(1, 70))
    assert words(found) == ["Permit", "Deny", "Recorded"]
    assert found.steps[2].decision.result == "paid"  # type: ignore[union-attr]
    assert found.steps[2].assumes == ()


def test_a_step_that_waits_for_a_person_is_not_done() -> None:
    """Nobody has said yes: what requires it is refused with `order`, and the plan does not pass."""
    found = Desk().plan(ask("close", {"id": 1}), ask("archive", {"id": 1}), order(1))
    assert words(found) == ["Defer", "Deny", "Permit"]
    assert codes(found.steps[1].decision) == ["order"]
    assert not found.passes
    assert found.stuck == found.steps[0]


def test_a_yes_that_was_given_is_spent_by_the_plan_alone() -> None:
    """The approved call passes once in the plan, and the yes is still there afterwards."""
    desk = Desk()
    call = ask("close", {"id": 1})
    deferred = desk.gate.decide(call)
    assert isinstance(deferred, Defer)
    desk.gate.approve(deferred.request_id, by="ann")
    assert words(desk.plan(call, call)) == ["Permit", "Defer"]
    assert isinstance(desk.gate.decide(call), Permit)


def test_a_run_that_a_step_would_halt_stays_halted_in_the_plan() -> None:
    """Too many repetitions end the run, for every later step too, and for nobody else."""
    desk = Desk(limits=[{"repeat": 1, "per": ["run"]}])
    found = desk.plan(order(1), order(1), order(2))
    assert words(found) == ["Permit", "Deny", "Deny"]
    assert codes(found.steps[2].decision) == ["halted"]
    assert isinstance(desk.gate.decide(order(2)), Permit)


def test_a_plan_can_be_of_several_runs_and_subjects() -> None:
    """Each step belongs to the run and the subject of its own proposal."""
    other = Subject(tenant="umbrella")
    found = Desk(limits=LIMITS).plan(
        order(1),
        refund(1, 90, run="r2"),
        order(1, run="r2", subject=other),
        refund(1, 90, run="r2", subject=other),
    )
    assert words(found) == ["Permit", "Deny", "Permit", "Permit"]


# --- what cannot be known -------------------------------------------------------------------------------


def test_a_value_from_a_planned_result_is_assumed_and_named() -> None:
    """The result is not known; the step passes if the value is in there, and says so."""
    desk = Desk()
    found = desk.plan(order(1), refund(1, 5, prompt="hello"))
    assert words(found) == ["Permit", "Permit"]
    said = "id 'A-1' comes up in the result of step 1 (get_order)"
    assert found.steps[1].assumes == (said,)
    assert found.assumes == (f"step 2: {said}",)
    assert found.passes


def test_a_value_that_no_planned_result_can_have_is_refused() -> None:
    """No step before it is a source, or the source is of the same turn of the model."""
    desk = Desk({"look": {"effect": "read"}, "pay": {"origin": {"to": ["look"]}}})
    call = ask("pay", {"to": "X-1"}, turn="t1")
    assert codes(desk.plan(call).steps[0].decision) == ["origin"]
    same = desk.plan(ask("look", turn="t1"), call)
    assert codes(same.steps[1].decision) == ["origin"]
    other_run = desk.plan(ask("look", run="r9"), call)
    assert codes(other_run.steps[1].decision) == ["origin"]
    assert desk.plan(ask("look", turn="t0"), call).passes


def test_a_step_that_must_have_had_a_certain_result_is_assumed_and_named() -> None:
    """`apply` of a plan hash that only the planned `tf_plan` could have given."""
    desk = Desk()
    found = desk.plan(ask("tf_plan"), ask("apply", {"hash": "abc"}))
    assert words(found) == ["Permit", "Permit"]
    assert found.steps[1].assumes == (
        'step 1 (tf_plan) turns out to be tf_plan with result.plan.hash "abc"',
    )
    assert codes(desk.plan(ask("apply", {"hash": "abc"})).steps[0].decision) == ["order"]


def test_arguments_that_differ_are_known_and_not_assumed() -> None:
    """Only results are unknown: an order that was not looked up stays refused."""
    found = Desk().plan(order(1), refund(2, 5))
    assert codes(found.steps[1].decision) == ["order"]
    assert found.steps[1].assumes == ()


def test_a_whole_result_can_be_what_is_matched() -> None:
    """`result` alone stands for the result itself."""
    require = {"tool": "make", "match": {"id": "result", "kind": "kind"}}
    desk = Desk({"make": {"effect": "read"}, "use": {"requires": [require]}})
    use = ask("use", {"id": "n-1", "kind": "a"})
    assert desk.plan(ask("make", {"kind": "a"}), use).passes
    assert codes(desk.plan(ask("make", {"kind": "b"}), use).steps[1].decision) == ["order"]


def test_results_that_cannot_be_are_not_assumed() -> None:
    """No result is a text and has parts, so the step stays refused."""
    require = {"tool": "make", "match": {"id": "result", "part": "result.part"}}
    desk = Desk({"make": {"effect": "read"}, "use": {"requires": [require]}})
    found = desk.plan(ask("make"), ask("use", {"id": "n-1", "part": "p"}))
    assert codes(found.steps[1].decision) == ["order"]
    deeper = {"tool": "make", "match": {"id": "result.a", "part": "result.a.b"}}
    desk = Desk({"make": {"effect": "read"}, "use": {"requires": [deeper]}})
    found = desk.plan(ask("make"), ask("use", {"id": "n-1", "part": "p"}))
    assert codes(found.steps[1].decision) == ["order"]


def test_only_a_step_that_could_be_meant_is_assumed() -> None:
    """Steps of other tools between the two change nothing."""
    found = Desk().plan(ask("tf_plan"), order(1), ask("ping"), ask("apply", {"hash": "abc"}))
    assert found.passes
    assert "step 1 (tf_plan)" in found.steps[3].assumes[0]


def test_a_refusal_that_no_result_could_change_stands_beside_the_assumption() -> None:
    """What is assumed can only take reasons away, never a limit."""
    found = Desk(limits=LIMITS).plan(order(1), refund(1, 500, prompt="hello"))
    assert codes(found.steps[1].decision) == ["budget"]
    assert found.steps[1].assumes != ()


def test_a_reason_names_the_step_that_it_is_about() -> None:
    """A step has its number for an id, so a message that names a permit says which step it was."""
    found = Desk().plan(order(1), refund(1, 5), refund(1, 6))
    assert "by permit step-2, with other arguments" in found.steps[2].decision.reasons[0].message  # type: ignore[union-attr]


def test_the_result_of_a_repeated_step_is_not_made_up() -> None:
    """The second call would get the first one's result, which nobody has yet."""
    found = Desk().plan(order(1), refund(1, 5), refund(1, 5))
    again = found.steps[2].decision
    assert isinstance(again, Recorded)
    assert (again.result, again.complete) == (None, False)
    assert found.steps[2].assumes == (
        "its result is that of step 2 (refund), which is not known yet",
    )


def test_a_repeated_call_of_another_run_brings_its_result_there() -> None:
    """The result would be shown to that run too, so a value may come from it, as far as one knows."""
    tools = {"make": {"once": {"key": "make"}}, "use": {"origin": {"id": ["make"]}}}
    found = Desk(tools).plan(
        ask("make"), ask("make", run="r2"), ask("use", {"id": "X-1"}, run="r2")
    )
    assert words(found) == ["Permit", "Recorded", "Permit"]
    assert found.steps[2].assumes == ("id 'X-1' comes up in the result of step 2 (make)",)


def test_a_slot_that_is_taken_now_is_assumed_to_stay_taken() -> None:
    """A gate would wait for it; a plan refuses at once and says what would change that."""
    desk = Desk({"t": {}}, limits=[{"concurrency": 1, "wait": "2s"}])
    desk.gate.decide(ask("t", {"n": 1}))
    found = desk.plan(ask("t", {"n": 2}))
    assert codes(found.steps[0].decision) == ["concurrency"]
    assert found.steps[0].assumes == (
        "the calls that are under way do not end within the 2 s that it would wait",
    )


# --- what it would use ----------------------------------------------------------------------------------


def test_what_would_be_used_is_told_before_and_after() -> None:
    """One row for each limit and scope that the plan touches, in millionths."""
    desk = Desk(limits=[*LIMITS, {"budget": "calls", "limit": 9, "per": ["run"]}])
    desk.do(order(7))
    desk.do(refund(7, 10))
    found = desk.plan(order(1), refund(1, 40), order(2, run="r2"))
    told = {
        (use.after.rule, *use.after.scope.values()): (use.before.used, use.after.used)
        for use in found.uses
    }
    assert told == {
        ("limits[0]", "acme"): (10_000_000, 50_000_000),
        ("limits[1]",): (2_000_000, 5_000_000),
        ("limits[3]", "r"): (2_000_000, 4_000_000),
        ("limits[3]", "r2"): (0, 1_000_000),
    }
    [eur] = [use for use in found.uses if use.after.name == "eur"]
    assert (eur.before.left, eur.after.left, eur.after.limit) == (
        90_000_000,
        50_000_000,
        100_000_000,
    )


def test_a_plan_that_is_refused_uses_nothing() -> None:
    """A refused call spends nothing, in a plan as anywhere."""
    assert Desk(limits=LIMITS).plan(refund(1, 500)).uses == ()


# --- nothing happens -------------------------------------------------------------------------------------


class Bank:
    """A plugin that knows a rate, minds one order, and counts what it is asked and told."""

    def __init__(self) -> None:
        self.asked = self.told = 0

    @hookimpl
    def sluicegate_facts(self) -> dict[str, Any]:
        self.asked += 1
        return {"open": True}

    @hookimpl
    def sluicegate_object(self, proposal: Proposal) -> str | None:
        return "not this one" if proposal.args.get("id") == "A-3" else None

    @hookimpl
    def sluicegate_record(self) -> None:
        self.told += 1


def test_plugins_are_asked_and_not_told() -> None:
    """Facts and objections count; what did not happen is recorded nowhere."""
    bank = Bank()
    desk = Desk(plugins={"bank": bank})
    found = desk.plan(order(1), order(3))
    assert codes(found.steps[1].decision) == ["objection"]
    assert (bank.asked, bank.told) == (2, 0)


def test_what_a_plugin_requires_is_never_assumed() -> None:
    """Nobody here knows what its claim stands for."""

    class Limits:
        @hookimpl
        def sluicegate_claims(self) -> list[object]:
            return [Needs("plugin|limits|step", "plugin.step", "get_order", "a greeting")]

    found = Desk(plugins={"limits": Limits()}).plan(order(1))
    assert (codes(found.steps[0].decision), found.steps[0].assumes) == (["order"], ())


STEPS = st.lists(
    st.one_of(
        st.builds(order, st.integers(1, 3), run=st.sampled_from(["r", "r2"])),
        st.builds(refund, st.integers(1, 3), st.sampled_from([0, 30, 70])),
        st.sampled_from([ask("close", {"id": 1}), ask("archive"), ask("nothing"), order(1, run=None)]),
    ),
    max_size=12,
)  # fmt: skip


def anonymous(decision: Decision) -> list[str]:
    """The reasons, without the ids of permits, which are other ones in a plan."""
    reasons = decision.reasons if isinstance(decision, (Deny, Defer)) else ()
    return [re.sub(r"permit (step|permit)-\d+", "permit X", repr(reason)) for reason in reasons]


@given(before=STEPS, steps=STEPS)
def test_a_plan_is_what_then_happens_and_changes_nothing(
    before: list[Proposal], steps: list[Proposal]
) -> None:
    """The ledger is as it was; and carrying it out gives the same decisions, if its assumptions hold."""
    desk = Desk(limits=LIMITS)
    for proposal in before:
        made = desk.gate.decide(proposal)
        if isinstance(made, Permit):
            desk.gate.settle(made, Succeeded(dict(proposal.args)))
    state = desk.ledger.head(), desk.ledger.cells(""), desk.ledger.out(), desk.ledger.floor
    found = desk.plan(*steps)
    assert (
        desk.ledger.head(),
        desk.ledger.cells(""),
        desk.ledger.out(),
        desk.ledger.floor,
    ) == state
    for step, proposal in zip(found.steps, steps, strict=True):
        decision = desk.gate.decide(proposal)
        assert type(step.decision) is type(decision)
        assert anonymous(step.decision) == anonymous(decision)
        if isinstance(decision, Permit):
            assert step.decision.args == decision.args  # type: ignore[union-attr]
            desk.gate.settle(decision, Succeeded(dict(proposal.args)))


def test_a_sqlite_ledger_is_not_written(tmp_path: Any) -> None:
    """Not a byte of the file changes."""
    path = tmp_path / "ledger.db"
    desk = Desk(limits=LIMITS, ledger=SqliteLedger(path))
    desk.do(order(1))
    head = desk.ledger.head()
    changed = [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())]
    assert desk.plan(order(2), refund(1, 40), ask("close", {"id": 1})).steps[1].passes
    assert desk.ledger.head() == head
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())] == changed
    desk.gate.close()


def test_a_plan_has_no_truth_value() -> None:
    """`if gate.plan(…)` would take every plan for one that passes."""
    with pytest.raises(TypeError, match=r"ask plan\.passes"):
        bool(Desk().plan())
