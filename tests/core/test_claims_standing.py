"""What is looked at for every proposal: halts, the run, repetitions, taking turns."""

from __future__ import annotations

import pytest

from sluicegate.claims import HALTS, Halts, Repeat, Run, Turns

TENANT_HALT = ("acme", None, None, None, "ada", "fraud", 1)


def told(refusal: object) -> str:
    """The message of a refusal."""
    return refusal.reason.message  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("halt", "hit"),
    [
        ((None, None, None, None, "ada", "fire", 1), True),
        (TENANT_HALT, True),
        (("acme", None, "a1", None, "ada", "x", 1), True),
        ((None, "u1", None, None, "ada", "x", 1), True),
        ((None, None, None, "root", "ada", "x", 1), True),
        (("acme", None, "other", None, "ada", "x", 1), False),
        (("other", None, None, None, "ada", "x", 1), False),
        ((None, None, None, "elsewhere", "ada", "x", 1), False),
    ],
)
def test_a_halt_is_about_calls_with_all_its_parts(halt, hit):
    """Parts that are left out fit every call; a run's halt holds for the runs inside of it."""
    claim = Halts(HALTS, "acme", "u1", "a1", ("child", "root"))
    cell, refusal = claim.meet((halt,), 5)
    assert cell == (halt,)
    assert (refusal is not None) is hit


def test_a_halt_says_who_and_why():
    """The refusal ends the run, and names what is halted, by whom and why."""
    _, refusal = Halts(HALTS, "acme", None, None, ()).meet((TENANT_HALT,), 5)
    assert refusal is not None
    assert refusal.final
    assert told(refusal) == (
        "tenant acme is halted (by ada: fraud); nothing more runs until a person resumes it"
    )


def test_a_missing_part_is_not_halted_by_name():
    """A call without a tenant is no call of that tenant."""
    assert Halts(HALTS, None, None, None, ()).meet((TENANT_HALT,), 5)[1] is None


def run(*tools: tuple[str, ...], tool: str = "get", own: bool = True) -> Run:
    """What stands for a run that is narrowed to these lists."""
    return Run("run|r", "r", tool, tools, own)


def test_a_run_begins_once():
    """Its first proposal notes the time, a later one changes nothing."""
    cell, _ = run().meet(None, 7)
    assert cell == (7, (), None)
    assert run().meet(cell, 9) == (cell, None)


def test_a_run_around_begins_with_its_inner_runs():
    """What a sub-agent does first is the first thing that happens; its narrowing is its own."""
    assert run(("get",), own=False).meet(None, 7) == ((7, (), None), None)


def test_a_run_is_narrowed_and_never_widened():
    """Each list that comes up stays, also for proposals that no longer bring it."""
    cell, _ = run(("get", "send")).meet(None, 7)
    cell, _ = run(("get*",)).meet(cell, 8)
    assert cell == (7, (("get", "send"), ("get*",)), None)
    assert run(tool="get").meet(cell, 9) == (cell, None)
    _, refusal = run(tool="send").meet(cell, 9)
    assert told(refusal) == (
        "the task of run r was narrowed to get*, and send is not among them; "
        "a run cannot be widened again: begin a new one"
    )


def test_an_inner_run_does_not_narrow_the_one_around():
    """A sub-agent's own narrowing is its own."""
    cell, _ = run().meet(None, 7)
    assert run(("get",), own=False).meet(cell, 8) == (cell, None)


def test_a_halted_run_is_over():
    """It keeps when it began and what it was narrowed to."""
    cell, _ = run(("get",)).meet(None, 7)
    over = run().halt(cell, 9, "too often")
    assert over == (7, (("get",),), "too often")
    _, refusal = run().meet(over, 10)
    assert refusal is not None
    assert refusal.final
    assert run(("get",)).halt(None, 9, "x") == (9, (("get",),), "x")


def test_repetitions_are_refused_and_then_end_the_run():
    """Three are fine, the fourth and fifth are refused, the sixth ends the run."""
    claim, cell, answers = Repeat("k", "limits[0]", "get", 3, " for run r"), None, []
    for _ in range(7):
        cell, refusal = claim.meet(cell, 1)
        answers.append(None if refusal is None else refusal.final)
    assert answers == [None, None, None, False, False, True, True]
    assert cell == (7,)
    _, refusal = claim.meet((3,), 1)
    assert told(refusal) == (
        "get was proposed 4 times with the same arguments for run r, of 3 allowed; use the results "
        "that you have, or do something else (at 6 times the run is halted)"
    )


def turns(*tools: str) -> list[bool | None]:
    """What proposals of these tools are told, with two rounds allowed: None, refused, or final."""
    cell, answers = None, []
    for tool in tools:
        cell, refusal = Turns("k", "limits[0]", tool, 2, "").meet(cell, 1)
        answers.append(None if refusal is None else refusal.final)
    return answers


def test_two_tools_may_take_turns_for_a_while():
    """Two rounds are four calls; the fifth is refused, the eighth ends the run."""
    assert turns(*"abababab") == [None, None, None, None, False, False, False, True]


@pytest.mark.parametrize("tools", ["abababba", "aaaaaaaa", "abcabcabc", "ababcabab"])
def test_anything_else_in_between_begins_anew(tools):
    """A third tool, or the same one twice, is no oscillation (a fifth in a row would be)."""
    assert True not in turns(*tools)
    assert turns(*tools)[-1] is None


def test_the_same_call_once_more_is_no_repetition():
    """A framework that comes back with the call it has proposed already counts it once, in both ways."""
    repeat = Repeat("k", "limits[0]", "get", 1, "", "turn|c1")
    cell, _ = repeat.meet(None, 0)
    assert repeat.meet(cell, 1) == (cell, None)
    assert repeat._replace(call="turn|c2").meet(cell, 1)[1] is not None
    turns = Turns("k", "limits[0]", "get", 1, "", "turn|c1")
    cell, _ = turns.meet(None, 0)
    cell, _ = turns._replace(tool="put", call="turn|c2").meet(cell, 1)
    assert turns._replace(tool="put", call="turn|c2").meet(cell, 2) == (cell, None)
    assert turns.meet(cell, 3) == (cell, None)
    cell, refusal = turns._replace(call="turn|c3").meet(cell, 4)
    assert (cell[2], refusal is not None) == (3, True)
