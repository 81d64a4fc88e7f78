"""Housekeeping: what is over goes, and nothing that a later decision could depend on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate import Deny, Gate, MemoryLedger, Permit, Proposal, Subject, Succeeded, Unknown
from sluicegate.canonical import quoted
from sluicegate.claims import Ending, Hold, Once, Quota
from sluicegate.housekeeping import MARGIN, Keep, over, run_of
from sluicegate.sweeper import Sweeper
from sluicegate.testing import FakeClock, counted_ids
from sluicegate.window import Window

SECOND = 1_000_000
DAY = 86_400 * SECOND
AT = 20_000 * DAY
"""A midnight."""
LATER = AT + MARGIN
KEEP = Keep(runs=30 * DAY, calls=30 * DAY)
SILENT = (AT - 90 * DAY, [], None, AT - 31 * DAY)
SPOKE = (AT - 90 * DAY, [], None, AT - 31 * DAY + 1)
HALTED = (AT - 90 * DAY, [], "repeated itself", AT - 80 * DAY)
A_DAY = 86_400
"""In seconds, as the clock is told."""
HOSTILE = 'a"|run="b'
PER_RUN = f'quota|calls|None|"*"|run={quoted("r")}'

CELLS: dict[str, tuple[str, Any, Any, bool]] = {
    "a budget of yesterday": ('quota|eur|day|"*"', (19_999, 5, 0), None, True),
    "a budget of today": ('quota|eur|day|"*"', (20_000, 5, 0), None, False),
    "a budget for ever": ('quota|eur|None|"*"', (0, 5, 0), None, False),
    "a budget of a silent run": (PER_RUN, (0, 5, 0), SILENT, True),
    "a budget of a run that spoke": (PER_RUN, (0, 5, 0), SPOKE, False),
    "a budget of a run that nobody knows": (PER_RUN, (0, 5, 0), None, False),
    "a rate that is full": ('rate|2/1000|"*"', (AT - 1, 0), None, True),
    "a rate that fills up": ('rate|2/1000|"*"', (AT, 1), None, False),
    "slots that lapsed": ('slot|"*"', ("p", AT, "q", AT - 1), None, True),
    "a slot that is leased": ('slot|"*"', ("p", AT - 1, "q", AT + 1), None, False),
    "a key for ever": ("once||k", ("done", "b", 5, "p", 7), None, False),
    "a key past its time": ("once||k", ("done", "b", 5, "p", 7, AT - 30 * DAY), None, True),
    "a key hardly past it": ("once||k", ("done", "b", 5, "p", 7, AT - 30 * DAY + 1), None, False),
    "a key in doubt": ("once||k", ("unknown", "b", 5, "p", 7), None, False),
    "a key in doubt once more": ("once||k", ("again", "b", 5, "q", 9, "p"), None, False),
    "a key that a dead call holds": ("once||k", ("held", "b", 5, "p", 6), None, False),
    "an old call id": ("seen|x", ("done", "b", AT - 30 * DAY, "p", 7), None, True),
    "a younger call id": ("seen|x", ("done", "b", AT - 30 * DAY + 1, "p", 7), None, False),
    "a call id in doubt": ("seen|x", ("unknown", "b", 5, "p", 7), None, False),
    "a call in doubt": ("unsettled|x", ("p", 0), None, False),
    "a spent yes": ("approval|x", ("spent", "r", 5, AT - 30 * DAY, 7, "p"), None, True),
    "a request that waits": ("approval|x", ("pending", "r", 5, AT + 1, 7, ""), None, False),
    "a breaker": ('breaker|"pay"', (2, 0, "", 0), None, False),
    "the halts": ("halts", ((None, None, None, None, "ada", "", 5),), None, False),
    "a policy on record": ("policy|sha256:1", (1,), None, False),
    "a plugin's own": ("plugin|crm|x", (5, 0), None, False),
    "a plugin's, misnamed": ('slot|"mine"', (0, 5), None, False),
    "another plugin's": ("approval|x", (1, 2), None, False),
    "labels of a silent run": ("labels|r", ("secret", "get", "p", 0), SILENT, True),
    "labels on their way": ("labels|r", ("secret", "get", "p", AT + 1), SILENT, False),
    "labels of a halted run": ("labels|r", ("secret", "get", "p", 0), HALTED, False),
    "values of a silent run": ("came|r|0f", (0, "f", "prompt", None), SILENT, True),
    "a step of a silent run": (f"step|r|{'0' * 20}|{'1' * 32}", (7,), SILENT, True),
    "the words of a silent run": (f"prompt|r|{'0' * 64}", (7,), SILENT, True),
    "repetitions of a silent run": ('repeat|"*"|run="r"|b', (2,), SILENT, True),
    "repetitions of a tenant": ('repeat|"*"|tenant="r"|b', (2,), None, False),
    "turns of a silent run": ('turnsrepeat|"*"|run="r"', ("a", "b", 2), SILENT, True),
    "a run that is silent": ("run|r", SILENT, None, False),
    "a run that is long silent": ("run|r", (AT - 61 * DAY, [], None), None, True),
    "a run that is halted": ("run|r", (AT - 90 * DAY, [], "why"), None, False),
}


@pytest.mark.parametrize("what", CELLS)
def test_only_what_is_over_is_over(what: str) -> None:
    """Each kind of cell, on both sides of its edge: doubt, halts and what has no end stay."""
    key, cell, run, expected = CELLS[what]
    assert over(key, cell, run, LATER, KEEP) is expected


@pytest.mark.parametrize(
    ("key", "run"),
    [
        ("labels|a|b", "a|b"),
        ("came|a|b|0f", "a|b"),
        (f"step|a|b|{'0' * 20}|{'1' * 32}", "a|b"),
        (f"prompt|a\nb|{'0' * 64}", "a\nb"),
        ('quota|calls|None|"*"|root="o"|run="r"', "r"),
        ('quota|calls|None|"*"|root="o"', "o"),
        (f"quota|calls|None|{quoted('*')}|tenant={quoted('x|run=')}|user={quoted('u')}", None),
        ('repeat|"*"|run=' + quoted(HOSTILE) + "|x", HOSTILE),
        (f"repeat|{quoted('*')}|args.x={quoted('|run=')}|run={quoted('ü')}|x", "ü"),
        ('quota|calls|day|"*"|run="r"', None),
        ("seen|r|x|c", None),
        ("came|r", None),
    ],
)
def test_a_cell_belongs_to_the_run_that_its_key_names(key: str, run: str | None) -> None:
    """Names hold anything; none of them can pass its cell off as that of another run."""
    assert run_of(key) == run


@given(st.text(), st.text(), st.sampled_from(["tenant", "args.x"]))
def test_no_name_can_be_taken_for_a_run(name: str, run: str, part: str) -> None:
    """Whatever a tenant or an argument is called, the run is the one that the limit counts by."""
    key = f"quota|calls|None|{quoted('*')}|{part}={quoted(name)}|run={quoted(run)}"
    assert run_of(key) == run


# --- nothing changes ------------------------------------------------------------------------------

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {
        "get": {"effect": "read", "rate": "3/min", "labels": ["secret"]},
        "pay": {
            "once": {"key": "pay:{order}", "within": "2h"},
            "cost": {"eur": 5},
            "concurrency": 2,
            "lease": "1m",
        },
        "send": {"labels": ["external"], "requires": [{"tool": "get"}], "lease": "5m"},
    },
    "limits": [
        {"budget": "eur", "limit": 20, "per": ["tenant"], "window": "hour"},
        {"budget": "calls", "limit": 40, "per": ["run"]},
        {"rate": "5/h", "burst": 2, "per": ["run"]},
        {"repeat": 6, "per": ["run"]},
    ],
    "flows": [{"name": "f", "after": ["secret"], "deny": ["external"]}],
}

calls = st.one_of(
    st.tuples(st.just("get"), st.just({})),
    st.tuples(st.just("send"), st.just({})),
    st.tuples(st.just("pay"), st.builds(lambda n: {"order": n}, st.integers(1, 3))),
)
moves = st.tuples(
    calls,
    st.sampled_from(["r1", "r2"]),
    st.sampled_from([Succeeded({"ok": 1}), Unknown("lost"), None]),
    st.sampled_from([0, 1, 61, 1200, 3 * 3600, 2 * A_DAY]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(moves, max_size=30))
def test_a_ledger_that_is_swept_decides_like_one_that_is_not(history: list[Any]) -> None:
    """With the same proposals at the same times; only what runs remember has an age of its own."""
    decided: list[list[str]] = []
    for swept in (False, True):
        clock = FakeClock()
        gate = Gate(POLICY, MemoryLedger(), clock=clock, ids=counted_ids())
        sweeper = Sweeper(gate.ledger, Keep(runs=10_000 * DAY, calls=0))
        found: list[str] = []
        for (tool, args), run, outcome, pause in history:
            if swept:
                for page in sweeper.pages(clock.now()):
                    sweeper.sweep(clock.now(), page)
            who = Subject(tenant="acme")
            decision = gate.decide(Proposal(tool, args, subject=who, run=run))
            if isinstance(decision, Permit) and outcome is not None:
                gate.settle(decision, outcome)
            found.append(repr(decision))
            clock.advance(pause)
        decided.append(found)
    assert decided[0] == decided[1]


def test_a_success_keeps_until_when_its_key_is_valid() -> None:
    """Counted from the decision, also for one that is found out later; without `within` there is no end."""
    hold = Hold("p", 100, 110, "b")
    for within, expected in ((50, (150,)), (None, ())):
        claim = Once("k", "r", "k", within, repeatable=False)
        taken = claim.take(None, hold)
        assert type(taken) is tuple
        done = claim.settle(taken, hold, Ending("succeeded", {}, 105, 9))
        doubt = claim.settle(taken, hold, Ending("unknown", {}, 105, 8))
        late = claim.settle(doubt, hold, Ending("succeeded", {}, 300, 9, late=True))
        assert done == late == ("done", "b", 100, "p", 9, *expected)


def test_a_window_that_is_read_from_a_key_is_the_one_that_counts() -> None:
    """At the very edge of each kind of window: the cell is over when a claim would begin it anew."""
    for window in Window:
        number = window.number(AT + 45 * DAY)
        end = window.end(AT + 45 * DAY)
        claim = Quota("k", "r", "eur", 1, 10, window, "")
        cell = (number, 10, 0)
        for at in (end - 1, end):
            fresh = type(claim.take(cell, Hold("p", at, at + 9, "b"))) is tuple
            key = f'quota|eur|{window.name}|"*"'
            assert over(key, cell, None, at + MARGIN, KEEP) is fresh


# --- runs -----------------------------------------------------------------------------------------


def agent() -> tuple[Gate, FakeClock, Sweeper]:
    """A gate with a ledger and a clock of its own, and who sweeps there."""
    clock = FakeClock()
    gate = Gate(POLICY, MemoryLedger(), clock=clock, ids=counted_ids())
    return gate, clock, Sweeper(gate.ledger, KEEP)


def say(gate: Gate, tool: str = "get", run: str = "r", parent: str | None = None) -> Any:
    """One call in a run, with its success."""
    who = Subject(tenant="acme")
    root = {"root": parent, "parent": parent, "depth": 1} if parent else {}
    decision = gate.decide(Proposal(tool, {}, subject=who, run=run, **root))
    if isinstance(decision, Permit):
        gate.settle(decision, Succeeded({"ok": 1}))
    return decision


def sweep(sweeper: Sweeper, clock: FakeClock) -> int:
    """Go round once; how many cells were removed."""
    now = clock.now()
    return sum(sweeper.sweep(now, page).total() for page in sweeper.pages(now))


def test_a_silent_run_is_forgotten_and_its_own_cell_last() -> None:
    """What it remembers after the time, its own cell after twice the time: nothing is left behind."""
    gate, clock, sweeper = agent()
    say(gate)
    clock.advance(30 * A_DAY)
    sweep(sweeper, clock)
    assert gate.ledger.cell("labels|r") is not None
    clock.advance(2 * A_DAY)
    sweep(sweeper, clock)
    left = {key for key, _ in gate.ledger.cells("") if not key.startswith("policy|")}
    assert left == {"run|r"}
    clock.advance(30 * A_DAY)
    sweep(sweeper, clock)
    assert gate.ledger.cell("run|r") is None


@pytest.mark.parametrize("parent", [None, "r"])
def test_a_run_that_speaks_now_and_then_forgets_nothing(parent: str | None) -> None:
    """However long ago it began, and also if only its sub-agents speak: its flows still hold."""
    gate, clock, sweeper = agent()
    say(gate)
    for _ in range(5):
        clock.advance(29 * A_DAY)
        sweep(sweeper, clock)
        say(gate, run="inner" if parent else "r", parent=parent)
    assert gate.ledger.cell("labels|r") is not None
    decision = say(gate, "send")
    assert isinstance(decision, Deny)
    assert decision.reasons[0].code == "flow"


def test_a_run_that_was_resumed_has_just_been_heard_of() -> None:
    """A halt keeps its memory however long it lasts, and so does the time after it."""
    gate, clock, sweeper = agent()
    for _ in range(13):
        gate.decide(Proposal("send", {}, subject=Subject(tenant="acme"), run="r"))
    assert [dict(halt.scope) for halt in gate.halts()] == [{"run": "r"}]
    clock.advance(300 * A_DAY)
    sweep(sweeper, clock)
    assert [dict(halt.scope) for halt in gate.halts()] == [{"run": "r"}]
    gate.resume(run="r", by="ada")
    clock.advance(29 * A_DAY)
    before = dict(gate.ledger.cells("repeat|"))
    sweep(sweeper, clock)
    assert before
    assert dict(gate.ledger.cells("repeat|")) == before
