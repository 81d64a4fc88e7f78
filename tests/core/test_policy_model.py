"""What a policy can say, what it refuses, and what its errors tell the author."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest

from sluicegate.errors import PolicyError
from sluicegate.policy.model import (
    Approve,
    Breaker,
    Budget,
    Concurrency,
    Depth,
    Grant,
    Once,
    Policy,
    RateLimit,
    Repeat,
    Require,
    Tool,
)
from sluicegate.policy.units import Rate

SECOND = 1_000_000

EVERYTHING = """\
version: 1
replies: short
tools:
  search_*: {effect: read, labels: [untrusted, web-2]}
  issue_refund:
    effect: idempotent
    args:
      properties: {amount: {type: number, exclusiveMinimum: 0, maximum: 500}, note: {const: null}}
    unknown_args: drop
    when: args.confirmed
    requires:
      - {tool: "search_*"}
      - {tool: get_order, match: {order_id: args.id, customer.id: result.customer}}
    once: {key: "refund:{order_id}", within: 24h, wait: 2s}
    cost: {eur: args.amount, emails: 2, usd: 0.5}
    concurrency: 1
    rate: 10/min
    breaker: {failures: 5, cooldown: 1m}
    repeat: 6
    origin:
      order_id: [prompt, "search_*"]
      iban: {from: [facts.crm.payees, prompt], otherwise: approve}
    approve: {when: args.large, within: 2h}
    on_error: failed
    lease: 90s
    record: digest
    labels: [external_send]
  get_order: {effect: read, repeat: false, labels: [sensitive]}
  send_receipt: {approve: args.urgent}
  close: {approve: true}
grants:
  - {agent: "a-*", tenant: acme, user: "?ob", role: admin, tools: [issue_refund], when: args.x}
  - {tools: ["*"]}
limits:
  - {budget: eur, limit: 1000.5, per: [tenant, args.account.id], window: day, tools: ["issue_*"]}
  - {budget: calls, limit: "50"}
  - {rate: 20/s, burst: 40, per: [run]}
  - {concurrency: 8, per: [root, tool], wait: 2s}
  - {repeat: 3, per: [run], oscillation: true, tools: ["*"]}
  - {depth: 3, tools: [issue_refund]}
flows:
  - {name: no-leak, after: [untrusted, sensitive], deny: [external_send]}
contracts:
  - {when: issue_refund, then: send_receipt, match: {order: order_id, receipt: result.receipt.id}}
"""

BASE = """\
version: 1
tools:
  get_order: {effect: read}
  refund:
    cost: {eur: args.amount}
"""


def test_everything_that_can_be_said() -> None:
    """Each key of the file arrives in its model, in microseconds and millionths."""
    policy = Policy.parse(EVERYTHING)
    refund = policy.tools["issue_refund"]
    assert policy.replies == "short"
    assert policy.tools["search_*"].labels == ("untrusted", "web-2")
    assert (refund.effect, refund.unknown_args, refund.on_error) == ("idempotent", "drop", "failed")
    assert (refund.when, refund.concurrency, refund.lease) == ("args.confirmed", 1, 90 * SECOND)
    assert refund.once == Once.model_construct(
        key="refund:{order_id}", within=86_400 * SECOND, wait=2 * SECOND
    )
    assert refund.cost == {"eur": "args.amount", "emails": "2", "usd": "0.5"}
    assert refund.rate == Rate(10, 60 * SECOND)
    assert policy.grants is not None
    first, second = policy.grants
    assert (first.agent, first.tenant, first.user, first.role) == (
        "a-*",
        "acme",
        "?ob",
        "admin",
    )
    assert second == Grant.model_construct(_fields_set={"tools"}, tools=("*",))
    euros, calls, rate, slots, _, _ = policy.limits
    assert isinstance(euros, Budget)
    assert isinstance(calls, Budget)
    assert (euros.limit, euros.window, euros.per) == (
        1_000_500_000,
        "day",
        ("tenant", "args.account.id"),
    )
    assert (calls.limit, calls.window, calls.per, calls.tools) == (50_000_000, None, (), ("*",))
    assert isinstance(rate, RateLimit)
    assert (rate.rate, rate.burst) == (Rate(20, SECOND), 40)
    assert isinstance(slots, Concurrency)
    assert (slots.concurrency, slots.wait, slots.per) == (8, 2 * SECOND, ("root", "tool"))


def test_every_rule_that_remembers() -> None:
    """Keys about what happened before arrive as well; `args.` before an earlier argument is dropped."""
    policy = Policy.parse(EVERYTHING)
    refund = policy.tools["issue_refund"]
    assert [(needed.tool, needed.match) for needed in refund.requires] == [
        ("search_*", {}),
        ("get_order", {"order_id": "id", "customer.id": "result.customer"}),
    ]
    assert refund.breaker == Breaker.model_construct(failures=5, cooldown=60 * SECOND)
    assert {name: (rule.sources, rule.otherwise) for name, rule in refund.origin.items()} == {
        "order_id": (("prompt", "search_*"), "deny"),
        "iban": (("facts.crm.payees", "prompt"), "approve"),
    }
    assert refund.approve == Approve.model_construct(when="args.large", within=7_200 * SECOND)
    assert (refund.record, refund.repeat, policy.tools["get_order"].repeat) == ("digest", 6, False)
    *_, repeat, depth = policy.limits
    assert isinstance(repeat, Repeat)
    assert (repeat.repeat, repeat.oscillation, repeat.per) == (3, True, ("run",))
    assert isinstance(depth, Depth)
    assert (depth.depth, depth.tools) == (3, ("issue_refund",))
    (flow,) = policy.flows
    assert (flow.name, flow.after, flow.deny) == (
        "no-leak",
        ("untrusted", "sensitive"),
        ("external_send",),
    )
    (contract,) = policy.contracts
    assert (contract.when, contract.then) == ("issue_refund", "send_receipt")
    assert contract.match == {"order": "order_id", "receipt": "result.receipt.id"}


def test_an_approval_has_three_spellings() -> None:
    """true is for every call, a condition for those it fits; both give a person a day."""
    policy = Policy.parse(EVERYTHING)
    assert policy.tools["close"].approve == Approve()
    assert policy.tools["send_receipt"].approve == Approve(when="args.urgent")
    assert Approve().within == 86_400 * SECOND
    assert (
        Policy.of({"version": 1, "tools": {"a": {"approve": {}}}}).tools["a"].approve == Approve()
    )


def test_defaults() -> None:
    """What is not said is strict: a write, whose unknown arguments are denied."""
    policy = Policy.parse("version: 1\ntools: {a: {}, b: {once: {}}}\n")
    assert policy.tools["a"] == Tool()
    tool = policy.tools["a"]
    assert (tool.effect, tool.unknown_args, tool.on_error) == ("write", "deny", None)
    assert (tool.once, tool.cost, tool.labels, tool.lease) == (None, {}, (), 300 * SECOND)
    assert (tool.requires, tool.breaker, tool.repeat, tool.origin) == ((), None, None, {})
    assert (tool.approve, tool.record) == (None, "full")
    assert policy.tools["b"].once == Once()
    assert Once().wait == 0
    assert (Breaker().failures, Breaker().cooldown) == (3, 30 * SECOND)
    assert Require(tool="a").match == {}
    assert Repeat(repeat=3).oscillation is False
    assert (policy.replies, policy.grants, policy.limits) == ("full", None, ())
    assert (policy.flows, policy.contracts) == ((), ())


def refusal(before: str, after: str, base: str = BASE) -> PolicyError:
    """The error for a policy in which *before* was replaced."""
    assert before in base
    with pytest.raises(PolicyError) as caught:
        Policy.parse(base.replace(before, after, 1), file="p.yaml")
    error = caught.value
    assert error.line, "an error in a file has a place"
    assert error.text
    assert error.hint
    return error


@pytest.mark.parametrize(
    ("before", "after", "problem", "hint"),
    [
        ("version: 1", "version: 2", "version is 2; this release reads version 1", "version: 1"),
        ("version: 1", "version: true", "version is true", "version: 1"),
        ("version: 1", "version: 1.0", "version is 1.0", "version: 1"),
        ("version: 1", "version: '1'", "version is '1'", "version: 1"),
        ("version: 1\n", "", "version is missing", "version: 1"),
        ("version: 1", "version: 1\nreplies: shrot", "replies is 'shrot'", "did you mean short?"),
        (
            "version: 1",
            "version: 1\nlimit: []",
            "limit is no key of a policy",
            "did you mean limits?",
        ),
        ("tools:", "tool:", "tool is no key", "did you mean tools?"),
        ("effect: read", "effect: raed", "effect is 'raed'", "did you mean read?"),
        ("effect: read", "effect: READ", "effect is 'READ'", "did you mean read?"),
        ("effect: read", "efect: read", "efect is no key of a tool", "did you mean effect?"),
        ("effect: read", "effect: [read]", "effect is a list", "read, idempotent, write"),
        ("effect: read", "labels: web", "it must be a list", "['web']"),
        ("effect: read", "labels: [a, a]", "labels[1] is 'a' for the second time", "remove"),
        ("effect: read", "labels: [-a]", "labels[0] is '-a'", "letters"),
        ("effect: read", "concurrency: 0", "concurrency is 0", "1 or more"),
        ("effect: read", "concurrency: true", "must be a whole number", "whole number"),
        ("effect: read", "concurrency: 1.0", "must be a whole number", "whole number"),
        ("effect: read", "concurrency: '1'", "must be a whole number", "whole number"),
        ("effect: read", "lease: 5", "lease is 5, which is no duration", "5s"),
        ("effect: read", "lease: 0s", "lease is no time at all", "1ms"),
        ("effect: read", "rate: 10/mn", "rate has the unit 'mn'", "did you mean min?"),
        ("effect: read", "rate: 10", "rate is 10, which is no rate", "10/min"),
        ("effect: read", "unknown_args: ignore", "unknown_args is 'ignore'", "deny, drop, allow"),
        ("effect: read", "on_error: fail", "on_error is 'fail'", "did you mean failed?"),
        ("effect: read", "when: true", "when is true; it must be text", "leave it out"),
        ("effect: read", "when: 5", "when is 5; it must be text", "'5'"),
        ("effect: read", "when: '5'", "when is 5, which is no condition", "args.amount < 100"),
        ("effect: read", "when: arg.x", "unknown name arg", "did you mean args?"),
        ("effect: read", "once: true", "once is true; it must be a mapping", "{} for all"),
        ("effect: read", "once: {kye: a}", "once.kye is no key of once", "did you mean key?"),
        ("effect: read", "once: {key: 'a{b'}", "once.key is 'a{b'", "{order_id}"),
        ("{eur: args", "{calls: args", "cost.calls is built in", "name of its own"),
        ("{eur: args", "{'': args", "cost. is ''", "letters"),
        ("{eur: args.amount}", "{eur: -1}", "cost.eur is '-1'; it must be 0 or more", "0 or more"),
        ("{eur: args.amount}", "{eur: true}", "cost.eur is true", "a number or an expression"),
        ("{eur: args.amount}", "eur", "cost is 'eur'; it must be a mapping", "mapping"),
        ("  get_order:", "  ' get_order':", "which no name fits", "pattern"),
        ("  get_order:", "  '':", "which no name fits", "pattern"),
        ("  get_order:", f"  {'x' * 201}:", "has 201 characters", "at most 200"),
        ("{effect: read}", "read", "get_order is 'read'; it must be a mapping", "mapping"),
    ],
)
def test_wrong_tools(before: str, after: str, problem: str, hint: str) -> None:
    """A mistake in a tool is named, with what is accepted and the nearest valid name."""
    error = refusal(before, after)
    assert problem in error.problem
    assert hint in error.hint


@pytest.mark.parametrize(
    ("entry", "problem", "hint"),
    [
        ("{budget: eru, limit: 1}", "budget is 'eru', which no tool costs", "did you mean eur?"),
        ("{budget: eur}", "limits[0].limit is missing", "limit"),
        ("{budget: eur, limit: -1}", "limit is -1; it must be 0 or more", "0 or more"),
        ("{budget: eur, limit: lots}", "limit is 'lots', which is no number", "0 or more"),
        ("{budget: eur, limit: 0.0000001}", "limit is 1e-07", "6 decimals"),
        ("{budget: eur, limit: 1, window: dya}", "window is 'dya'", "did you mean day?"),
        ("{budget: eur, limit: 1, rate: 1/s}", "rate is no key", "two entries"),
        (
            "{budget: eur, limit: 1, pre: []}",
            "pre is no key of this kind of limit",
            "did you mean per?",
        ),
        ("{budget: eur, limit: 1, per: [role]}", "per[0] is 'role'", "several roles"),
        ("{budget: eur, limit: 1, per: [tennant]}", "per[0] is 'tennant'", "did you mean tenant?"),
        ("{budget: eur, limit: 1, per: [subject.user]}", "per[0] is", "did you mean user?"),
        ("{budget: eur, limit: 1, per: [args.]}", "per[0] is 'args.'", "args.<name>"),
        ("{budget: eur, limit: 1, per: [run, run]}", "per[1] is 'run' for the second", "remove"),
        ("{budget: eur, limit: 1, per: run}", "per is 'run'; it must be a list", "['run']"),
        ("{budget: eur, limit: 1, tools: []}", "tools is an empty list", '["*"]'),
        ("{budget: 5, limit: 1}", "budget is 5; it must be text", "'5'"),
        ("{rate: 10/s, burst: 0}", "burst is 0", "1 or more"),
        (
            "{rate: 10/s, limit: 1}",
            "limit is no key of this kind of limit",
            "rate, burst, per, tools",
        ),
        ("{concurrency: 1, wait: 2}", "wait is 2, which is no duration", "2s"),
        ("{concurency: 1}", "limits[0] is no limit", "did you mean concurrency?"),
        ("{}", "limits[0] is no limit", "budget, rate, concurrency, repeat, depth"),
        ("{repaet: 3}", "limits[0] is no limit", "did you mean repeat?"),
        ("{repeat: 0}", "repeat is 0", "1 or more"),
        ("{repeat: 3, oscillation: yes}", "is 'yes'; it must be true or false", "true or false"),
        ("{repeat: 3, window: day}", "window is no key of this", "repeat, oscillation, per, tools"),
        ("{repeat: 3, budget: calls, limit: 1}", "repeat is no key of this kind", "two entries"),
        ("{depth: 101}", "depth is 101", "from 0 (no sub-agents) to 100"),
        ("{depth: -1}", "depth is -1", "from 0"),
        ("{depth: true}", "depth is true; it must be a whole number", "whole number"),
        ("{depth: 3, per: [run]}", "per is no key of this kind of limit", "leave it out"),
        ("calls", "limits[0] is 'calls'; it must be a mapping", "mapping"),
        ("[]", "limits[0] is a list; it must be a mapping", "mapping"),
    ],
)
def test_wrong_limits(entry: str, problem: str, hint: str) -> None:
    """A mistake in a limit is named, and so is a limit that would never apply."""
    error = refusal("version: 1", f"version: 1\nlimits:\n  - {entry}")
    assert problem in error.problem
    assert hint in error.hint
    assert error.line == 3


@pytest.mark.parametrize(
    ("grants", "problem", "hint"),
    [
        ("[]", "grants is an empty list", "leave the section out"),
        ("{tools: [a]}", "grants is a mapping; it must be a list", "list"),
        ("[{agent: a}]", "grants[0].tools is missing", "tools"),
        ("[{tools: []}]", "grants[0].tools is an empty list", '["*"]'),
        ("[{tools: 'get_*'}]", "it must be a list", "['get_*']"),
        ("[{tools: [a], roles: x}]", "roles is no key of a grant", "did you mean role?"),
        ("[{tools: [a], agent: ''}]", "agent is ''", "pattern"),
        ("[{tools: [a], role: [x]}]", "role is a list; it must be text", "text"),
        ("[{tools: [a], when: ''}]", "when is empty", "args.amount"),
    ],
)
def test_wrong_grants(grants: str, problem: str, hint: str) -> None:
    """A mistake in a grant is named; an empty list of grants is one."""
    error = refusal("version: 1", f"version: 1\ngrants: {grants}")
    assert problem in error.problem
    assert hint in error.hint


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("{effect: read}", "", "tools.get_order"),
        ("effect: read", "when: ", "tools.get_order.when"),
        ("effect: read", "once: ~", "tools.get_order.once"),
        ("effect: read", "args: ", "tools.get_order.args"),
        ("effect: read", "labels: [~]", "tools.get_order.labels[0]"),
        ("version: 1", "version: 1\ngrants:", "grants"),
        (
            "version: 1",
            "version: 1\nlimits: [{budget: calls, limit: 1, window: }]",
            "limits[0].window",
        ),
    ],
)
def test_an_empty_value_is_no_default(before: str, after: str, path: str) -> None:
    """A value that somebody forgot to write is refused: empty grants do not mean everybody."""
    assert refusal(before, after).problem == f"{path} is empty"


def test_no_tools() -> None:
    """A policy without any tool is refused: nothing could ever run."""
    with pytest.raises(PolicyError, match="nothing may run"):
        Policy.of({"version": 1, "tools": {}})


def test_equally_specific_patterns() -> None:
    """Two patterns that could both decide are an error at the second, which names the first."""
    error = refusal("  get_order:", "  get_*: {}\n  '*_get': {}\n  get_order:")
    assert error.problem == "tools.*_get and get_* are equally specific, and some names fit both"
    assert (error.line, error.column) == (4, 3)
    Policy.parse(
        "version: 1\ntools: {get_*: {}, put_*: {}, get_ord*: {}, get_order: {}, '*': {}}\n"
    )


def test_too_many_patterns() -> None:
    """Comparing patterns in pairs is bounded."""
    with pytest.raises(PolicyError, match="501 patterns"):
        Policy.of({"version": 1, "tools": {f"t{i}_*": {} for i in range(501)}})


def test_no_sub_agents_at_all() -> None:
    """A depth of 0 is a limit: the outermost run alone."""
    (limit,) = Policy.parse(BASE + "limits: [{depth: 0}]\n").limits
    assert isinstance(limit, Depth)
    assert (limit.depth, limit.tools) == (0, ("*",))


def test_a_budget_of_calls_needs_no_cost() -> None:
    """`calls` is built in; a cost that no budget limits is only metered."""
    policy = Policy.parse(BASE + "limits: [{budget: calls, limit: 5}]\n")
    assert policy.tools["refund"].cost == {"eur": "args.amount"}


@pytest.mark.parametrize(
    ("schema", "path", "hint"),
    [
        (
            {"properties": {"a": {"maxmum": 5}}},
            "properties.a.maxmum is no keyword",
            "mean maximum?",
        ),
        ({"amount": {"maximum": 5}}, "amount is no keyword", "properties: {amount: …}"),
        ({"nonsense": 5}, "nonsense is no keyword", "2020-12"),
        ({"anyOf": [{"typ": "string"}]}, "anyOf[0].typ is no keyword", "mean type?"),
        ({"additionalProperties": {"minimun": 1}}, "minimun is no keyword", "mean minimum?"),
        ({"properties": {"a": {"type": "str"}}}, "properties.a.type is 'str'", "mean string?"),
        ({"properties": {"a": {"format": "emial"}}}, "format is 'emial'", "mean email?"),
        (
            {"properties": {"a": {"minimum": "1"}}},
            "properties.a.minimum is no JSON Schema",
            "2020-12",
        ),
        (
            {"properties": {"a": {"pattern": "("}}},
            "properties.a.pattern is no JSON Schema",
            "2020-12",
        ),
        ({"properties": {"a": {"pattern": "(?=a)"}}}, "a.pattern is no JSON Schema", "look-around"),
        ({"properties": [1]}, "properties is no JSON Schema", "2020-12"),
        ({"$ref": "file:///etc/passwd"}, "$ref is 'file:///etc/passwd'", "#/$defs"),
        ({"$ref": "http://localhost/x"}, "nothing is fetched", "#/$defs"),
        ({"$ref": "#/$defs/nowhere"}, "args is no", "2020-12"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema is", "2020-12"),
        ({"properties": {"a": {"$id": "x:y", "$schema": "x:z"}}}, "a.$schema is 'x:z'", "2020-12"),
        ({"type": "array"}, "type is 'array', but arguments always are an object", "leave it out"),
    ],
)
def test_wrong_argument_schemas(schema: Mapping[str, Any], path: str, hint: str) -> None:
    """A schema that would not do what it seems to is refused when it is loaded."""
    with pytest.raises(PolicyError) as caught:
        Policy.of({"version": 1, "tools": {"t": {"args": schema}}})
    assert caught.value.problem.startswith("tools.t.args")
    assert path in caught.value.problem
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"properties": {"maxmum": {"const": None}, "a": True}, "x-note": {"anything": 1}},
        {"$defs": {"a": {"type": ["string", "null"]}}, "properties": {"b": {"$ref": "#/$defs/a"}}},
        {"dependentSchemas": {"a": {"required": ["b"]}}, "if": {"required": ["a"]}, "then": False},
        {"properties": {"a": {"enum": [{"typ": 1}], "default": {"maxmum": 1}, "format": "date"}}},
    ],
)
def test_argument_schemas(schema: Mapping[str, Any]) -> None:
    """Every keyword of 2020-12 is accepted, and values inside a schema are left alone."""
    policy = Policy.of({"version": 1, "tools": {"t": {"args": schema}}})
    assert policy.tools["t"].args == schema


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CEL needs Python 3.11")
def test_wrong_cel_has_a_place() -> None:
    """A condition that cannot be read is an error at its place when the policy is loaded."""
    error = refusal("effect: read", "when: args.a = 1")
    assert "at character 8" in error.problem
    assert (error.line, error.column) == (3, 21)


def test_models_refuse_what_python_offers_them() -> None:
    """The constructor is as strict as the file."""
    for wrong in (
        {"version": 1},
        {"version": 1, "tools": {"a": Tool()}},
        {"version": 1, "tools": {}},
    ):
        with pytest.raises(ValueError, match="1 validation error"):
            Policy(**wrong)
    assert Policy.model_validate({"version": 1, "tools": {"a": {}}}) == Policy.parse(
        "version: 1\ntools: {a: {}}"
    )
