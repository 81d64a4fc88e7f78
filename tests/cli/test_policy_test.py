"""`sluicegate test`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

POLICY = """\
version: 1
tools:
  get_order: {effect: read}
  issue_refund:
    cost: {eur: args.eur}
    requires: [{tool: get_order, match: {order_id: order_id}}]
    once: {key: "refund:{order_id}"}
  close_account: {approve: true}
  ship: {breaker: {failures: 2, cooldown: 1m}, concurrency: 1}
  pay: {origin: {iban: [facts.crm.payees]}}
limits:
  - {budget: eur, limit: 100, per: [tenant], window: day}
  - {repeat: 3, per: [run]}
"""
ORDER = "{tool: get_order, args: {order_id: A-1}}"
REFUND = "{tool: issue_refund, args: {order_id: A-1, eur: 40}}"


OTHER = "{tool: get_order, args: {order_id: A-2}}"
HEAD = "subject: {tenant: acme}\n"


def refund(more: str, order: str = "A-1", eur: int = 40) -> str:
    """A call of issue_refund with more keys."""
    return f"{{tool: issue_refund, args: {{order_id: {order}, eur: {eur}}}, {more}}}"


@pytest.fixture
def suite(folder: Path) -> Callable[..., None]:
    """Write the policy and a file of tests with these entries."""
    (folder / "sluicegate.yaml").write_text(POLICY, encoding="utf-8")

    def write(*tests: str, head: str = HEAD, name: str = "policy_tests.yaml") -> None:
        lines = "".join(f"  - {test}\n" for test in tests)
        (folder / name).write_text(f"{head}tests:\n{lines}", encoding="utf-8")

    return write


def told(run: Run, *arguments: object) -> list[tuple[bool, str]]:
    document = json.loads(run("test", *arguments, "--json").stdout)
    return [(test["ok"], test["problem"]) for test in document["tests"]]


def test_tests_that_pass(run: Run, suite: Any) -> None:
    """One line for each, and exit code 0."""
    suite(f"{{name: an order may be read, proposal: {ORDER}, expect: permit}}")
    result = run("test")
    assert (result.exit_code, result.stdout) == (0, "passed  an order may be read\n1 passed\n")


def test_a_test_that_fails_says_what_came_instead(run: Run, suite: Any) -> None:
    """The decision, and the reasons that the gate gave; exit code 1."""
    suite(
        f"{{name: it is free, proposal: {REFUND}, expect: permit}}",
        f"{{name: fine, proposal: {ORDER}, expect: permit}}",
    )
    result = run("test")
    assert result.exit_code == 1
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[:2] == ["FAILED  it is free", "expected permit, got deny"]
    assert lines[2].startswith("order (tools.issue_refund.requires[0]): issue_refund needs")
    assert lines[-1] == "1 passed, 1 failed"


def test_the_results_as_json(run: Run, suite: Any) -> None:
    """What was expected, what came, and why."""
    suite(f"{{name: a, proposal: {REFUND}, expect: deny, codes: [budget]}}")
    result = run("test", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"]) == (1, False)
    [test] = document["tests"]
    message = test["reasons"][0].pop("message")
    assert "needs get_order" in message
    assert test == {
        "name": "a",
        "ok": False,
        "problem": "expected the codes budget, got order",
        "expected": "deny (budget)",
        "decision": "deny",
        "reasons": [{"code": "order", "rule": "tools.issue_refund.requires[0]"}],
    }


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("expect: deny, codes: [order]", ""),
        ("expect: deny, codes: []", "expected the codes none, got order"),
        ("expect: deny, codes: [order, budget]", "expected the codes budget, order, got order"),
        ('expect: deny, rules: ["tools.issue_refund.requires[0]"]', ""),
        ('expect: deny, rules: ["limits[0]"]', "expected the rules limits[0], got tools.issue_refund.requires[0]"),
        ("expect: defer", "expected defer, got deny"),
    ],
)  # fmt: skip
def test_codes_and_rules_must_be_exactly_those(
    run: Run, suite: Any, more: str, problem: str
) -> None:
    """A refusal for another reason is another refusal."""
    suite(f"{{name: a, proposal: {REFUND}, {more}}}")
    assert told(run) == [(not problem, problem)]


@pytest.mark.parametrize(
    ("given", "proposal", "expect"),
    [
        (f"[{ORDER}]", REFUND, "permit"),
        (f"[{ORDER}, {REFUND}]", REFUND, "recorded"),
        (f"[{ORDER}, {refund('outcome: failed')}]", REFUND, "permit"),
        (f"[{ORDER}, {refund('outcome: unknown')}]", REFUND, "deny, codes: [outcome_unknown]"),
        ("[{tool: ship, outcome: running}]", "{tool: ship, args: {n: 1}}", "deny, codes: [concurrency]"),
        ("[{tool: ship, times: 2, outcome: failed}]", "{tool: ship}", "deny, codes: [breaker]"),
        (f"[{ORDER}, {OTHER}, {refund('cost: {eur: 61}', 'A-2', 70)}]", REFUND, "deny, codes: [budget]"),
        (f"[{ORDER}, {OTHER}, {refund('cost: {eur: 60}', 'A-2', 70)}]", REFUND, "permit"),
        ("[{tool: close_account, approved_by: ann}]", "{tool: close_account}", "permit"),
        ("[{tool: close_account, rejected_by: ann}]", "{tool: close_account}", "deny"),
        ("[{tool: close_account, expect: defer}]", "{tool: close_account}", "defer"),
        ("[{tool: nothing, expect: deny, times: 6}]", "{tool: nothing}", "deny, codes: [halted, repeat, unknown_tool]"),
        ("[{tool: get_order, args: {order_id: A-1}, run: other}]", REFUND, "deny, codes: [order]"),
        ("[]", "{tool: get_order, run: null}", "deny, codes: [missing_subject]"),
    ],
)  # fmt: skip
def test_what_happened_before_counts(
    run: Run, suite: Any, given: str, proposal: str, expect: str
) -> None:
    """Outcomes, results, costs, people's answers and repetitions, as with a real gate."""
    suite(f"{{name: a, given: {given}, proposal: {proposal}, expect: {expect}}}")
    assert told(run) == [(True, "")]


def test_a_given_call_that_goes_otherwise_fails_the_test(run: Run, suite: Any) -> None:
    """The test would be about another situation than the one that it describes."""
    suite(
        f"{{name: a, given: [{REFUND}], proposal: {REFUND}, expect: deny}}",
        f"{{name: b, given: [{{tool: get_order, approved_by: ann}}], proposal: {ORDER}, expect: permit}}",
        f"{{name: c, given: [{{tool: get_order, cost: {{eur: -1}}}}], proposal: {ORDER}, expect: permit}}",
    )
    first, second, third = told(run)
    assert first[1].startswith("given[0] (issue_refund): expected permit, got deny; order: ")
    assert second[1] == "given[0] (get_order): expected defer, got permit"
    assert third[1].startswith("given[0] (get_order): cost 'eur'")


def test_time_passes_as_it_is_told(run: Run, suite: Any) -> None:
    """`now` is when a test begins, `after` how long after the call before it."""
    given = f"[{ORDER}, {OTHER}, {refund('after: 1h', 'A-2', 70)}]"
    suite(
        f"{{name: the same day, given: {given}, after: 10h, proposal: {REFUND}, expect: deny}}",
        f"{{name: the next day, given: {given}, after: 11h, proposal: {REFUND}, expect: permit}}",
        head="subject: {tenant: acme}\nnow: 2026-03-01T12:00:00Z\n",
    )
    assert told(run) == [(True, ""), (True, "")]


def test_facts_stand_in_for_those_of_plugins(run: Run, suite: Any) -> None:
    """By the plugin's name; a test's own come before those of the file."""
    call = "{tool: pay, args: {iban: DE89370400440532013000}}"
    suite(
        f"{{name: known, proposal: {call}, expect: permit}}",
        f"{{name: unknown, facts: {{crm: {{payees: []}}}}, proposal: {call}, expect: deny, codes: [origin]}}",
        head="subject: {tenant: acme}\nfacts: {crm: {payees: [DE89370400440532013000]}}\n",
    )
    assert told(run) == [(True, ""), (True, "")]


def test_a_test_and_a_call_may_have_a_subject_of_their_own(run: Run, suite: Any) -> None:
    """The nearest one counts: the call's, the test's, the file's."""
    given = f"[{ORDER}, {OTHER}, {refund('run: test', 'A-1', 90)}]"
    own, other = refund("run: test", "A-2"), refund("subject: {tenant: umbrella}", "A-2")
    nobody = "subject: {user: ada}"
    suite(
        f"{{name: a, given: {given}, proposal: {own}, expect: deny}}",
        f"{{name: b, given: {given}, proposal: {other}, expect: permit}}",
        f"{{name: c, {nobody}, given: [{OTHER}], proposal: {own}, expect: deny, codes: [missing_subject]}}",
    )
    assert told(run) == [(True, ""), (True, ""), (True, "")]


def test_each_test_begins_anew_and_leaves_nothing(run: Run, suite: Any, folder: Path) -> None:
    """The same test twice passes twice, and no ledger is made."""
    suite(*[f"{{name: a, given: [{ORDER}], proposal: {REFUND}, expect: permit}}"] * 2)
    before = sorted(folder.iterdir())
    assert told(run) == [(True, ""), (True, "")]
    assert sorted(folder.iterdir()) == before


def test_the_policy_is_the_one_that_the_tests_name(run: Run, suite: Any, folder: Path) -> None:
    """Seen from their file; an option counts more."""
    (folder / "more").mkdir()
    (folder / "more" / "strict.yaml").write_text("version: 1\ntools: {other: {}}\n")
    test = f"{{name: a, proposal: {ORDER}, expect: permit}}"
    suite(test, head="policy: strict.yaml\nsubject: {tenant: acme}\n", name="more/tests.yaml")
    assert [ok for ok, _ in told(run, "more/tests.yaml")] == [False]
    assert told(run, "more/tests.yaml", "--policy", "sluicegate.yaml") == [(True, "")]


A = "tests:\n  - {name: a"
P = "proposal: {tool: t}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests: []", "tests is empty no tests are no tests that passed"),
        (f"{A}, proposal: {{tool: t}}}}", "tests[0].expect is missing"),
        (f"{A}, {P}, expect: allow}}", "policy_tests.yaml:2:44: tests[0].expect is 'allow'"),
        (f"{A}, {P}, expect: deny, code: [x]}}", "tests[0].code is no key here"),
        (f"{A}, {P}, expect: deny, codes: [money]}}", "tests[0].codes[0] is 'money'"),
        (f"{A}, {P}, expect: deny, given: [{{tool: t, outcom: failed}}]}}", "did you mean outcome?"),
        (f"{A}, {P}, expect: deny, given: [{{tool: t, times: 0}}]}}", "write a number from 1 to 10,000"),
        (f"{A}, {P}, expect: deny, after: 5}}", "tests[0].after is 5, which is no duration"),
        (f"now: 2026-03-01T12:00:00\n{A}, {P}, expect: deny}}", "write 2026-03-01T12:00:00Z for UTC"),
        (f"now: noon\n{A}, {P}, expect: deny}}", "is 'noon', which is no time"),
        (f"now: 5\n{A}, {P}, expect: deny}}", "now is 5, which is no time"),
        (f"{A}, proposal: {{tool: t, depth: -1}}, expect: deny}}", "depth is -1"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_wrong_use(
    run: Run, suite: Any, folder: Path, text: str, said: str
) -> None:
    """A test that was misspelt must not pass for want of a wish."""
    suite(f"{{name: a, proposal: {ORDER}, expect: permit}}")
    (folder / "policy_tests.yaml").write_text(text, encoding="utf-8")
    result = run("test")
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_file_that_is_not_there_is_wrong_use(run: Run, folder: Path) -> None:
    """No tests are no tests that passed."""
    result = run("test")
    assert result.exit_code == 2
    assert "there is no file of tests at policy_tests.yaml" in result.output


def test_the_help_shows_a_file(run: Run) -> None:
    """The shape of a test is easier copied than derived."""
    assert "expect: recorded" in run("test", "--help").stdout


def test_the_tests_in_the_documentation_pass(run: Run, folder: Path) -> None:
    """docs/plan.md has a policy and its tests."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "plan.md").read_text("utf-8")
    for block in text.split("```yaml\n# ")[1:]:
        name, _, document = block.partition("```")[0].partition("\n")
        (folder / name).write_text(document, encoding="utf-8")
    result = run("test")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "6 passed"), result.output
