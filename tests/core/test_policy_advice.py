"""What authors and their editors are told: the JSON Schema, the warnings, the starter policy."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import PolicyError
from sluicegate.policy.editor import json_schema
from sluicegate.policy.lint import problems
from sluicegate.policy.model import Policy
from sluicegate.policy.starter import starter

BASE = """\
version: 1
tools:
  get_order: {effect: read}
  refund:
    cost: {eur: args.amount}
"""

EVERYTHING = """\
version: 1
replies: full
tools:
  search_orders: {effect: read, labels: [untrusted]}
  get_order:     {effect: read, labels: [sensitive]}
  issue_refund:
    effect: write
    args:
      properties: {amount: {type: number, exclusiveMinimum: 0, maximum: 500}}
    unknown_args: deny
    when: args.confirmed
    requires: [{tool: get_order, match: {order_id: order_id, customer.id: result.customer}}]
    once: {key: "refund:{order_id}", within: 24h, wait: 2s}
    cost: {eur: args.amount, emails: 2}
    concurrency: 1
    rate: 10/min
    breaker: {failures: 3, cooldown: 30s}
    repeat: 5
    origin:
      order_id: [prompt, get_order, "search_*"]
      iban: {from: [prompt, facts.crm.payees], otherwise: approve}
    approve: {when: args.large, within: 2h}
    on_error: unknown
    lease: 5m
    record: digest
    labels: [external_send]
  send_receipt: {effect: idempotent, approve: args.late, repeat: false, breaker: {}}
  close_account: {approve: true}
grants:
  - {agent: "support-*", tools: ["*_order*", issue_refund, send_receipt, close_account]}
  - {role: intern, tenant: acme, user: "b?b", tools: ["get_*"], when: args.order_id}
limits:
  - {budget: eur, limit: "1000.50", per: [tenant], window: day}
  - {budget: calls, limit: 50, per: [run, args.order.id]}
  - {rate: 20/s, burst: 40, per: [tenant], tools: ["*"]}
  - {concurrency: 8, per: [tenant], wait: 2s}
  - {repeat: 3, per: [run], oscillation: true}
  - {depth: 3, tools: ["issue_*"]}
flows:
  - {name: no-exfiltration, after: [untrusted, sensitive], deny: [external_send]}
contracts:
  - {when: issue_refund, then: send_receipt, match: {order_id: order_id, refund: result.id}}
"""
VALIDATOR = jsonschema_rs.Draft202012Validator(json_schema())


def holds(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("text", [EVERYTHING, BASE, starter(), starter(["a", "get_b"])])
def test_the_schema_accepts_policies(text: str) -> None:
    """What loads is also right for an editor."""
    Policy.parse(text)
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("version: 1", "version: 2"),
        BASE.replace("read", "raed"),
        BASE.replace("effect", "efect"),
        BASE.replace("effect: read", "lease: 5"),
        BASE.replace("effect: read", "lease: 5 min"),
        BASE.replace("effect: read", "rate: 10/mn"),
        BASE.replace("effect: read", "when: "),
        BASE.replace("effect: read", "args: {type: 5}"),
        BASE.replace("effect: read", "concurrency: 0"),
        BASE + "grants: []\n",
        BASE + "limits: [{budget: eur, limit: -1}]\n",
        BASE + "limits: [{budget: eur, limit: 1, per: [role]}]\n",
        BASE + "limits: [{budget: eur, limit: 1, rate: 1/s}]\n",
        BASE + "limits: [{depth: 3, per: [run]}]\n",
        BASE + "limits: [{depth: 101}]\n",
        BASE + "limits: [{repeat: 0}]\n",
        BASE + "flows: [{name: f, after: [a]}]\n",
        BASE + "contracts: [{when: refund}]\n",
        BASE.replace("effect: read", "requires: [refund]"),
        BASE.replace("effect: read", "requires: [{tool: refund, match: {a: 'b c'}}]"),
        BASE.replace("effect: read", "breaker: {failures: 0}"),
        BASE.replace("effect: read", "origin: {a: prompt}"),
        BASE.replace("effect: read", "origin: {a: []}"),
        BASE.replace("effect: read", "origin: {a: {from: [prompt], otherwise: ask}}"),
        BASE.replace("effect: read", "approve: false"),
        BASE.replace("effect: read", "approve: {within: 2}"),
        BASE.replace("effect: read", "repeat: true"),
        BASE.replace("effect: read", "record: none"),
        "version: 1\ntools: {}\n",
        "version: 1\n",
    ],
)
def test_the_schema_refuses_mistakes(text: str) -> None:
    """An editor marks the common mistakes, and each of them is an error of the file as well."""
    assert not holds(text)
    with pytest.raises(PolicyError):
        Policy.parse(text)


def test_the_schema_is_for_people() -> None:
    """It shows what is written, explains each key, and offers no null."""
    text = json.dumps(json_schema())
    assert '"type": "null"' not in text
    assert "300000000" not in text
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]
    for model in models:
        assert model["additionalProperties"] is False
        for name, field in model["properties"].items():
            assert field.get("description") or "$ref" in field, name
    assert schema["$defs"]["Tool"]["properties"]["lease"]["default"] == "5m"
    assert schema["$defs"]["Approve"]["properties"]["within"]["default"] == "24h"
    assert list(schema["$defs"]["OriginRule"]["properties"]) == ["from", "otherwise"]


def remarks(text: str) -> list[str]:
    return [str(remark) for remark in problems(Policy.parse(text))]


@pytest.mark.parametrize(
    ("text", "path", "says", "advice"),
    [
        (
            BASE + "grants: [{tools: [refund]}]",
            "line 3: tools.get_order",
            "cannot run",
            "no grant is for it",
        ),
        (
            BASE + "grants: [{tools: ['*', get_odrer]}]",
            "line 6: grants[0].tools[1]",
            "fits no listed tool",
            "did you mean get_order?",
        ),
        (
            BASE + "limits: [{rate: 1/s, tools: ['put_*']}]",
            "line 6: limits[0].tools[0]",
            "fits no listed tool",
            "list it under tools",
        ),
        (
            BASE + "limits: [{budget: eur, limit: 1, tools: [get_order]}]",
            "line 6: limits[0].tools",
            "fits no tool that has this cost",
            "eur is a cost of refund",
        ),
        (
            BASE.replace("effect: read", "effect: read, cost: {usd: 1}"),
            "line 3: tools.get_order.cost",
            "has effect read, and cost",
            "is no read",
        ),
        (
            BASE.replace("effect: read", "once: {key: daily}"),
            "line 3: tools.get_order.once.key",
            "is the same for every call",
            "{order_id}",
        ),
        (
            BASE.replace("effect: read", "args: {properties: {n: {maximum: 5}, m: {enum: [1]}}}"),
            "line 3: tools.get_order.args.properties.n.maximum",
            "holds for every value that is no number",
            "add type: number",
        ),
        (
            BASE + "limits: [{repeat: 1, per: [run]}]",
            "line 6: limits[0].repeat",
            "the second identical call halts the run",
            "2 or more",
        ),
        (
            BASE.replace("effect: read", "repeat: 1") + "limits: [{repeat: 3, per: [root]}]",
            "line 3: tools.get_order.repeat",
            "the second identical call halts the run",
            "2 or more",
        ),
        (
            BASE + "limits: [{repeat: 3, per: [tenant]}]",
            "line 6: limits[0].per",
            "all runs together, and for ever",
            "per: [run]",
        ),
        (
            BASE + "limits: [{repeat: 3}]",
            "line 6: limits[0].repeat",
            "all runs together, and for ever",
            "per: [run]",
        ),
        (
            BASE.replace("effect: read", "repeat: false")
            + "limits: [{repeat: 3, per: [run], tools: [refund]}]",
            "line 3: tools.get_order.repeat",
            "changes nothing",
            "{repeat: 3, per: [run]}",
        ),
        (
            BASE.replace("effect: read", "labels: [web, send]")
            + "flows: [{name: f, after: [web], deny: [send]}]",
            "line 6: flows[0].after[0]",
            "is 'web', which only tools have that this flow denies (get_order)",
            "a rule of its own",
        ),
        (
            BASE + "contracts: [{when: refund, then: refund}]",
            "line 6: contracts[0].then",
            "each call would ask for one more",
            "another tool",
        ),
    ],
)
def test_remarks(text: str, path: str, says: str, advice: str) -> None:
    """A rule that never applies, or less than it seems to, is found with its place."""
    (remark,) = remarks(text)
    assert remark.startswith(f"{path} ")
    assert says in remark
    assert advice in remark


def test_policies_without_remarks() -> None:
    """What does its work is not remarked upon; an overlap of patterns counts as reached."""
    assert remarks(BASE) == []
    assert remarks(starter()) == []
    assert remarks(EVERYTHING) == []
    assert remarks("version: 1\ntools: {'get_*': {}}\ngrants: [{tools: ['*_order']}]\n") == []


def test_rules_that_remember_without_remarks() -> None:
    """A flow that other tools set first, two tries, and a pattern that follows itself do their work."""
    labelled = BASE.replace("effect: read", "labels: [web, send]").replace(
        "    cost: {eur: args.amount}", "    labels: [web]"
    )
    assert remarks(labelled + "flows: [{name: f, after: [web], deny: [send]}]") == []
    assert remarks(BASE + "limits: [{repeat: 2, per: [run]}, {depth: 0}]") == []
    assert remarks(BASE + "contracts: [{when: '*', then: '*'}]") == []


def test_remarks_come_in_the_order_of_the_file() -> None:
    """Remarks are read from top to bottom; without a file they have no line."""
    text = "version: 1\ngrants: [{tools: [x]}]\ntools: {a: {}, b: {}}\n"
    places = [(remark.line, remark.path) for remark in problems(Policy.parse(text))]
    assert places == [(2, "grants[0].tools[0]"), (3, "tools.a"), (3, "tools.b")]
    document: dict[str, Any] = yaml.safe_load(text)
    assert {remark.line for remark in problems(Policy.of(document))} == {0}


def test_the_starter_shows_how() -> None:
    """Without tools the starter is an example of the sections, and every comment is a comment."""
    policy = Policy.parse(starter())
    assert policy.tools["issue_refund"].once is not None
    assert len(policy.limits) == 4
    assert "grants:" in starter()


def test_the_starter_lists_tools() -> None:
    """Names that begin like reads are reads, all others are writes; arguments are shown."""
    schema = {"properties": {"order_id": {"type": "string"}, "amount": {"type": "number"}}}
    text = starter({"get_order": None, "refund": schema, "null": {}, "weird: {name}": schema})
    policy = Policy.parse(text)
    assert {name: tool.effect for name, tool in policy.tools.items()} == {
        "get_order": "read",
        "refund": "write",
        "null": "write",
        "weird: {name}": "write",
    }
    assert "# arguments: order_id, amount" in text
    assert '# once: {key: "refund:{order_id}", within: 24h}' in text


def test_what_the_starter_suggests_is_right() -> None:
    """A suggestion works when its comment sign is taken away."""
    text = starter({"refund": {"properties": {"order_id": {}}}})
    policy = Policy.parse(text.replace("# once", "once"))
    assert policy.tools["refund"].once is not None
    example = starter()
    for line in (
        *("# concurrency", "# rate", "# requires", "# approve", "# breaker"),
        *("# grants", "#   - {", "# - {budget", "# - {repeat"),
    ):
        assert line in example
        example = example.replace(line, line.removeprefix("# ").removeprefix("#"))
    policy = Policy.parse(example)
    assert policy.grants is not None
    assert policy.tools["issue_refund"].requires
    assert policy.tools["issue_refund"].breaker
    assert policy.tools["issue_refund"].approve
    assert len(policy.limits) == 6


@given(
    st.dictionaries(
        st.text(),
        st.none() | st.dictionaries(st.just("properties"), st.dictionaries(st.text(), st.none())),
    )
)
def test_no_name_breaks_out_of_the_starter(tools: dict[str, Any]) -> None:
    """Names from a tool server are data: they add no entry, or they are refused."""
    names = set(tools) or set(Policy.parse(starter()).tools)
    with contextlib.suppress(ValueError, PolicyError):
        assert set(Policy.parse(starter(tools)).tools) == names


def test_a_property_cannot_write_into_the_starter() -> None:
    """An argument whose name has a line break does not become a line of the policy."""
    schema = {"properties": {"a\n  evil: {}": {}, "good": {}}}
    text = starter({"tool": schema})
    assert "evil" not in text
    assert "# arguments: good" in text
