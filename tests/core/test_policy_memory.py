"""Rules that look at what happened before: how each is written, and what is wrong with it."""

from __future__ import annotations

import copy
import pickle
import time

import pytest

from sluicegate.errors import PolicyError
from sluicegate.policy.model import Policy

BASE = """\
version: 1
tools:
  get_order: {effect: read}
  issue_refund: {labels: [external_send]}
"""


def refusal(text: str) -> PolicyError:
    """The error for a policy, which has a place and a way out."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(text, file="p.yaml")
    assert caught.value.line, "an error in a file has a place"
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("entry", "problem", "hint"),
    [
        ("requires: get_order", "requires is 'get_order'; it must be a list", "[{tool: get_order"),
        (
            "requires: [get_order]",
            "requires[0] is 'get_order'; it must be a",
            "{tool: 'get_order'}",
        ),
        ("requires: [{match: {a: b}}]", "requires[0].tool is missing", "tool: …"),
        ("requires: [{tool: x, macth: {}}]", "macth is no key of requires", "did you mean match?"),
        (
            "requires: [{tool: x, match: [a]}]",
            "match is a list; it must be",
            "{order_id: order_id}",
        ),
        ("requires: [{tool: x, match: {args.a: b}}]", "match.args.a begins with args.", "alone: a"),
        ("requires: [{tool: x, match: {'': b}}]", "is '', which names no argument", "customer.id"),
        ("requires: [{tool: x, match: {a..b: b}}]", "is 'a..b', which names no", "customer.id"),
        ("requires: [{tool: x, match: {a: 'b c'}}]", "match.a is 'b c', which leads", "result.id"),
        ("requires: [{tool: x, match: {a: result.}}]", "'result.', which leads", "result.id"),
        ("requires: [{tool: x, match: {a: 5}}]", "match.a is 5; it must be text", "'5'"),
        (
            "requires: [{tool: x, match: {a: args.result.id}}]",
            "result.id is the result of the earlier call",
            "cannot be matched",
        ),
        ("breaker: true", "breaker is true; it must be a mapping", "{failures: 3, cooldown: 30s}"),
        ("breaker: {failures: 0}", "breaker.failures is 0", "1 or more"),
        ("breaker: {cooldown: 30}", "breaker.cooldown is 30", "30s"),
        ("breaker: {cooldown: 0s}", "breaker.cooldown is no time at all", "1ms"),
        ("breaker: {failure: 3}", "failure is no key of breaker", "did you mean failures?"),
        ("once: {wait: 5}", "once.wait is 5, which is no duration", "5s"),
        ("origin: [prompt]", "origin is a list; it must be a mapping", "{order_id: [prompt"),
        ("origin: {a: prompt}", "origin.a is 'prompt'; it must be a list", "['prompt'], or {from"),
        ("origin: {a: 5}", "origin.a is 5; it must be a list", "otherwise: approve"),
        ("origin: {a: []}", "origin.a is an empty list, so no value would do", "[prompt, get_or"),
        ("origin: {a: {from: []}}", "origin.a.from is an empty list", "[prompt, get_order]"),
        ("origin: {a: [prompt, prompt]}", "origin.a[1] is 'prompt' for the second", "remove"),
        ("origin: {a: [facts]}", "origin.a[0] is 'facts'", "facts.crm.payees"),
        ("origin: {a: {from: [facts..x]}}", "origin.a.from[0] is 'facts..x'", "facts.crm.payees"),
        ("origin: {a: [5]}", "origin.a[0] is 5; it must be text", "'5'"),
        ("origin: {a: ['']}", "origin.a[0] is '', which no name fits", "pattern"),
        ("origin: {a: {from: prompt}}", "a.from is 'prompt'; it must be a list", "['prompt']"),
        (
            "origin: {a: {form: [x]}}",
            "form is no key of origin",
            "did you mean from? accepted: from",
        ),
        ("origin: {a: {otherwise: deny}}", "origin.a.from is missing", "from: …"),
        (
            "origin: {a: {from: [prompt], otherwise: aprove}}",
            "is 'aprove'",
            "did you mean approve?",
        ),
        ("origin: {args.a: [prompt]}", "origin.args.a begins with args.", "alone: a"),
        ("approve: false", "approve is false; it must be true", "leave it out"),
        ("approve: 200", "approve is 200; it must be true, a condition or", "args.amount > 200"),
        ("approve: [args.a]", "approve is a list; it must be true", "{when: …, within: 2h}"),
        ("approve: ''", "approve is empty", "args.amount"),
        ("approve: arg.x", "approve has the unknown name arg", "did you mean args?"),
        ("approve: {when: arg.x}", "approve.when has the unknown name arg", "did you mean args?"),
        ("approve: {when: true}", "approve.when is true; it must be text", "leave it out"),
        ("approve: {within: 5}", "approve.within is 5, which is no duration", "5m"),
        ("approve: {whithin: 2h}", "whithin is no key of approve", "did you mean within?"),
        ("record: digset", "record is 'digset'", "did you mean digest?"),
        ("repeat: true", "repeat is true; it must be a whole number or false", "false for a tool"),
        ("repeat: 1.5", "repeat is 1.5; it must be a whole number or false", "false for a tool"),
        ("repeat: 0", "repeat is 0", "1 or more"),
    ],
)
def test_wrong_rules_of_a_tool(entry: str, problem: str, hint: str) -> None:
    """A mistake is named as it is written: a list stays a list in the path, and `from` is `from`."""
    error = refusal(BASE.replace("effect: read", entry))
    assert error.problem.startswith("tools.get_order.")
    assert problem in error.problem
    assert hint in error.hint
    assert (error.line, error.column >= 15) == (3, True)


@pytest.mark.parametrize(
    ("section", "problem", "hint"),
    [
        ("flows: {}", "flows is a mapping; it must be a list", "[{name: …"),
        ("flows: [no]", "flows[0] is 'no'; it must be a mapping", "mapping"),
        ("flows: [{name: f, after: [x]}]", "flows[0].deny is missing", "deny: …"),
        ("flows: [{name: f, afer: [x], deny: [x]}]", "afer is no key of a flow", "mean after?"),
        ("flows: [{name: f g, after: [x], deny: [x]}]", "flows[0].name is 'f g'", "letters"),
        ("flows: [{name: f, after: x, deny: [x]}]", "after is 'x'; it must be a list", "['x']"),
        ("flows: [{name: f, after: [], deny: [x]}]", "after is an empty list", "labels"),
        ("flows: [{name: f, after: [x], deny: []}]", "deny is an empty list", "labels"),
        ("contracts: [x]", "contracts[0] is 'x'; it must be a mapping", "mapping"),
        ("contracts: {when: a}", "contracts is a mapping; it must be a list", "[{when: …"),
        ("contracts: [{when: get_order}]", "contracts[0].then is missing", "then: …"),
        ("contracts: [{when: a, than: b}]", "than is no key of a contract", "did you mean then?"),
        ("contracts: [{when: a, then: b, match: {a: ''}}]", "match.a is ''", "result.id"),
    ],
)
def test_wrong_sections(section: str, problem: str, hint: str) -> None:
    """A mistake in a flow or in a contract is named."""
    error = refusal(f"{BASE}{section}\n")
    assert problem in error.problem
    assert hint in error.hint
    assert error.line == 5


@pytest.mark.parametrize(
    ("entry", "path", "column"),
    [
        ("requires: [{tool: refnd}]", "requires[0].tool", 33),
        ("requires: [{tool: get_order, match: {}}, {tool: 'put_*'}]", "requires[1].tool", 63),
        ("origin: {a: [prompt, refnd]}", "origin.a[1]", 36),
        ("origin: {a: {from: [facts.x, refnd]}}", "origin.a.from[1]", 44),
    ],
)
def test_a_rule_about_a_tool_that_nobody_lists(entry: str, path: str, column: int) -> None:
    """Such a rule could never be fulfilled; the error is at the name, in both spellings."""
    error = refusal(BASE.replace("effect: read", entry).replace("issue_refund", "refund"))
    assert f"tools.get_order.{path} is " in error.problem
    assert "which fits no listed tool" in error.problem
    assert "did you mean refund?" in error.hint or "list it under tools" in error.hint
    assert (error.line, error.column) == (3, column)


@pytest.mark.parametrize("key", ["when", "then"])
def test_a_contract_about_a_tool_that_nobody_lists(key: str) -> None:
    """A contract could not be asked for, or not be fulfilled."""
    other = "then" if key == "when" else "when"
    error = refusal(f"{BASE}contracts: [{{{key}: isue_refund, {other}: get_order}}]\n")
    assert error.problem == f"contracts[0].{key} is 'isue_refund', which fits no listed tool"
    assert error.hint == "did you mean issue_refund?"


def test_patterns_fit_listed_tools() -> None:
    """Rules may name patterns, and names that only a pattern under tools covers."""
    text = BASE.replace("effect: read", "requires: [{tool: 'issue_*'}], origin: {a: ['*_refund']}")
    policy = Policy.parse(text + "  put_*: {}\n  last: {requires: [{tool: put_x}]}\n")
    assert policy.tools["last"].requires[0].tool == "put_x"


@pytest.mark.parametrize(
    ("tools", "problem", "others"),
    [
        (
            "{a: {requires: [{tool: a}]}}",
            "tools.a.requires[0].tool is 'a', which is the tool its",
            0,
        ),
        ("{'a*': {requires: [{tool: 'a*'}]}}", "'a*', which is the tool itself, so a* could", 0),
        ("{'a*': {requires: [{tool: ab}]}}", "'ab', which has to wait as well, so a* could", 0),
        (
            "{a: {requires: [{tool: c}, {tool: b}]}, b: {requires: [{tool: 'a*'}]}, c: {}}",
            "tools.a.requires[1].tool is 'b', which has to wait as well, so a could never run",
            1,
        ),
        ("{a: {requires: [{tool: b}]}, b: {requires: [{tool: b}]}}", "'b', which has to wait", 1),
    ],
)
def test_tools_that_wait_for_one_another(tools: str, problem: str, others: int) -> None:
    """A tool that could only run after itself could never run, in a circle of any length."""
    error = refusal(f"version: 1\ntools: {tools}\n")
    assert problem in error.problem
    assert error.hint.count("could never run") == others


@pytest.mark.parametrize(
    "tools",
    [
        "{a: {requires: [{tool: '*'}]}, b: {}}",
        "{'a*': {requires: [{tool: 'a*'}]}, ab: {}}",
        "{a: {requires: [{tool: b}]}, b: {requires: [{tool: c}, {tool: d}]}, c: {}, d: {}}",
    ],
)
def test_tools_that_can_run_in_some_order(tools: str) -> None:
    """Chains are fine, and a pattern is fulfilled by any tool that fits it."""
    policy = Policy.parse(f"version: 1\ntools: {tools}\n")
    assert any(tool.requires for tool in policy.tools.values())


def test_a_long_chain_is_followed_once() -> None:
    """Thousands of steps, written last to first, take no more than a look at each."""
    steps = {f"s{i}": {"requires": [{"tool": f"s{i + 1}"}]} for i in range(5_000)}
    begun = time.perf_counter()
    Policy.of({"version": 1, "tools": {**steps, "s5000": {}}})
    assert time.perf_counter() - begun < 5


def test_a_flow_about_a_label_that_no_tool_has() -> None:
    """The flow would never apply; the error names the labels that there are."""
    error = refusal(f"{BASE}flows: [{{name: f, after: [external_sned], deny: [external_send]}}]\n")
    assert error.problem == (
        "flows[0].after[0] is 'external_sned', a label that no tool has, so this flow would never apply"
    )
    assert error.hint == "did you mean external_send? accepted: external_send"
    error = refusal(f"{BASE}flows: [{{name: f, after: [external_send], deny: [exfil]}}]\n")
    assert error.problem.startswith("flows[0].deny[0] is 'exfil', a label that no tool has")
    bare = BASE.replace("{labels: [external_send]}", "{}")
    assert "labels" in refusal(f"{bare}flows: [{{name: f, after: [x], deny: [x]}}]\n").hint


def test_flows_have_names_of_their_own() -> None:
    """A refusal names the flow, so two of one name are an error at the second."""
    flow = "  - {name: f, after: [external_send], deny: [external_send]}\n"
    error = refusal(f"{BASE}flows:\n{flow}{flow}")
    assert error.problem == "flows[1].name is 'f', as that of flows[0]"
    assert (error.line, error.column) == (7, 12)


def test_faults_of_one_kind_are_bounded() -> None:
    """A thousand misspelt names give one error that can be read."""
    tools = {f"t{i}": {"requires": [{"tool": "nobody"}]} for i in range(1_000)}
    with pytest.raises(PolicyError, match="nobody") as caught:
        Policy.of({"version": 1, "tools": tools})
    assert len(caught.value.hint.splitlines()) == 10


def test_too_many_patterns_in_rules() -> None:
    """Comparing what rules name with all entries is bounded, as for the entries themselves."""
    needs = [{"tool": f"a*{i}*"} for i in range(501)]
    with pytest.raises(PolicyError, match="tools name 501 different patterns") as caught:
        Policy.of({"version": 1, "tools": {"t": {"requires": needs}, "a*": {}}})
    assert "at most 500" in caught.value.hint
    assert Policy.of({"version": 1, "tools": {"t": {"requires": needs[1:]}, "a*": {}}}).tools["t"]


def test_a_whole_result_can_be_matched() -> None:
    """A tool that returns nothing but an id needs no path into its result."""
    text = BASE.replace("effect: read", "requires: [{tool: issue_refund, match: {id: result}}]")
    assert Policy.parse(text).tools["get_order"].requires[0].match == {"id": "result"}


def test_rules_are_frozen_and_can_be_copied() -> None:
    """No rule can be widened after the policy was loaded, and a copy is equal to it."""
    text = BASE.replace(
        "effect: read", "origin: {a: [prompt]}, requires: [{tool: issue_refund, match: {a: b}}]"
    )
    policy = Policy.parse(text)
    tool = policy.tools["get_order"]
    with pytest.raises(TypeError, match="frozen"):
        tool.origin["b"] = tool.origin["a"]  # type: ignore[index]
    with pytest.raises(TypeError, match="frozen"):
        tool.requires[0].match["c"] = "d"  # type: ignore[index]
    with pytest.raises(ValueError, match="frozen"):
        tool.origin["a"].otherwise = "approve"
    assert pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == policy
    assert copy.deepcopy(policy).tools == policy.tools
