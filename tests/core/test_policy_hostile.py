"""Texts that no policy should be: YAML beyond JSON, damaged JSON, nesting, and random documents."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.errors import PolicyError
from sluicegate.policy import read_yaml
from sluicegate.policy.model import Policy
from sluicegate.policy.origin import Misplaced

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "tools": {
        "get_order": {"effect": "read", "labels": ["sensitive"]},
        "issue_refund": {
            "args": {"properties": {"amount": {"type": "number", "maximum": 500.5}}},
            "once": {"key": "refund:{order_id}", "within": "24h"},
            "cost": {"eur": "args.amount", "fee": 0.25},
            "requires": [{"tool": "get_order", "match": {"order_id": "result.id"}}],
            "breaker": {"failures": 3, "cooldown": "30s"},
            "origin": {
                "order_id": ["prompt", "get_*"],
                "iban": {"from": ["facts.crm.payees"], "otherwise": "approve"},
            },
            "approve": {"when": "args.large", "within": "2h"},
            "repeat": 5,
            "record": "digest",
            "labels": ["external_send"],
        },
        "close": {"approve": "args.sure", "repeat": False},
    },
    "grants": [{"agent": "support-*", "tools": ["get_order", "issue_refund"]}],
    "limits": [{"budget": "eur", "limit": 1000, "per": ["tenant"], "window": "day"}, {"repeat": 3}],
    "flows": [{"name": "f", "after": ["sensitive"], "deny": ["external_send"]}],
    "contracts": [{"when": "issue_refund", "then": "close", "match": {"id": "order_id"}}],
}

SMALL = "version: 1\ntools:\n  a: {}\n"


def refusal(text: str, format: str = "yaml") -> PolicyError:
    """The error for *text*, which always says in which file and what to do."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(text, format=format, file="policy.file")
    assert caught.value.file == "policy.file"
    assert caught.value.problem
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (SMALL + "tools: {}\n", (4, 1), "'tools' is here twice; the first is in line 2"),
        (SMALL + "  a: {}\n", (4, 3), "'a' is here twice; the first is in line 3"),
        ("version: 1\ntools: {é: {}, 'é': {}}", (2, 16), "twice"),
        ("version: 1\nx: &a [1]\ny: *a\n", (2, 4), "anchors"),
        ("version: 1\nx: [*a]\n", (2, 5), "aliases"),
        ("version: 1\nx: !!python/object:os.system {}\n", (2, 4), "tag"),
        ("version: 1\nx: ! y\n", (2, 4), "tag"),
        ("version: 1\n!!str x: y\n", (2, 1), "tag"),
        ("version: 1\n<<: {a: 1}\n", (2, 1), "merge keys"),
        ("version: 1\n5: x\n", (2, 1), "this name is 5, not text"),
        ("version: 1\ntrue: x\n", (2, 1), "this name is true"),
        ("version: 1\n~: x\n", (2, 1), "this name is ~, not text"),
        ("version: 1\n? [a]\n: x\n", (2, 3), "list or a mapping"),
        ("version: 1\n---\nversion: 1\n", (2, 1), "second document"),
        ("version: 1\nx: 'y\n\nz: 1\n", (2, 4), "no YAML"),
        ("version: 1\nx: [y\n\n", (2, 4), "no YAML"),
        ("version: 1\n\tx: y\n", (2, 1), "no YAML"),
        ("version: 1\nx: a: b\n", (2, 5), "no YAML"),
        ("version: 1\nx: \x00\n", (2, 4), "no YAML"),
        ("version: 01\n", (1, 10), "do not agree on what '01' is"),
        ("version: 0x1\n", (1, 10), "do not agree"),
        ("version: 1_0\n", (1, 10), "do not agree"),
        ("version: .5\n", (1, 10), "do not agree"),
        ("version: .nan\n", (1, 10), "do not agree"),
        ("version: -.INF\n", (1, 10), "do not agree"),
        ("version: TRUE\n", (1, 10), "do not agree"),
        ("version: 0.12345678901234567890\n", (1, 10), "more digits"),
        ("version: 1e999\n", (1, 10), "too large"),
    ],
)
def test_yaml_that_is_refused(text: str, place: tuple[int, int], problem: str) -> None:
    """YAML beyond JSON, and text that YAML readers disagree about, is refused at its place."""
    error = refusal(text)
    assert problem in error.problem
    assert (error.line, error.column) == place
    assert error.text == text.splitlines()[error.line - 1].strip()


def read(text: str, loader: Any) -> Any:
    return read_yaml.read(text, loader)[0]


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", None)])
def test_yaml_means_what_json_can_say(loader: Any) -> None:
    """yes, no, on, off, dates and 1:30 are text; only true, false and null are words."""
    text = (
        "[yes, No, on, OFF, 2024-01-01, 1:30, 1.2.3, =, true, false, null, ~, 5, -0.5, 'true', 1e2]"
    )
    expected = ["yes", "No", "on", "OFF", "2024-01-01", "1:30", "1.2.3", "=", True, False]
    assert read(text, loader) == [*expected, None, None, 5, -0.5, "true", 100.0]
    assert read("a: |\n  5\nb: >-\n  true\n", loader) == {"a": "5\n", "b": "true"}


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", None)])
@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 1_000, "? " * 1_000])
def test_deep_yaml(loader: Any, text: str) -> None:
    """Nesting without end is refused early, by the C reader and by the Python reader."""
    with pytest.raises(Misplaced):
        read(text, loader)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ('{"version": 1, "version": 1}', (1, 16), "'version' is here twice"),
        ('{"version": NaN}', (1, 13), "'NaN' is no JSON"),
        ('{"version": -Infinity}', (1, 13), "no JSON"),
        ('{"version": 01}', (1, 13), "no JSON"),
        ('{"version": True}', (1, 13), "no JSON"),
        ('{"version": 1,}', (1, 15), "a name in"),
        ('{"version" 1}', (1, 12), "a colon is due"),
        ('{"version": 1 "tools": {}}', (1, 15), "a comma or }"),
        ('{"version": 1', (1, 14), "a comma or }"),
        ('{"version": ', (1, 13), "ends too early"),
        ('{"version": 1}\n 5', (2, 2), "'5' follows the end"),
        ('{\n"version": "1\n"}', (2, 12), "does not end"),
        ('{"version": "\\x"}', (1, 13), "unknown escape"),
        ("{'version': 1}", (1, 2), "a name in"),
        ("[1,, 2]", (1, 4), "no JSON"),
        ("[1 2]", (1, 4), "a comma or ]"),
        ('{"version": 1, "tools": {"\\ud800": {}}}', (1, 25), "surrogate"),
    ],
)
def test_json_that_is_refused(text: str, place: tuple[int, int], problem: str) -> None:
    """JSON is read strictly, and each refusal has its place."""
    error = refusal(text, "json")
    assert problem in error.problem
    assert (error.line, error.column) == place


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_the_json_reader_agrees_with_the_standard_library(value: Any) -> None:
    """What the standard library writes is read back as it was, in both of its styles."""
    from sluicegate.policy.read_json import read as read_json

    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        assert json.dumps(read_json(text)[0]) == json.dumps(value)


def test_yaml_mistakes_come_with_advice() -> None:
    """What people stumble over most is explained: a colon in a text, a tab, an odd first letter."""
    assert "with a colon" in refusal("version: 1\nx: a: b\n").hint
    assert "spaces" in refusal("version: 1\n\tx: y\n").hint
    assert "quotes" in refusal("version: 1\nx: @y\n").hint


def test_text_with_a_lone_surrogate() -> None:
    """Text that no file can hold is refused before it is read."""
    with pytest.raises(PolicyError, match="surrogate") as caught:
        Policy.parse("version: 1\n# \ud800")
    assert (caught.value.line, caught.value.column) == (2, 3)


WORDS = (
    "version tools grants limits effect args when once key within cost rate budget limit per window"
    " concurrency wait lease labels read write 1 5m 10/min calls null true {order_id} get_* *"
    " requires tool match breaker failures cooldown origin from otherwise prompt facts.x approve"
    " repeat depth oscillation flows contracts name after deny then record digest false result.x"
).split()
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=25,
)


def only_a_policy_or_its_refusal(text: str, format: str) -> None:
    with contextlib.suppress(PolicyError):
        assert isinstance(Policy.parse(text, format=format), Policy)


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*WORDS, *"\n :-{}[],\"'&*!|>#%?\t"])).map("".join)
)
@example("%TAG ! x\n--- !y z")
@example("%YAML 9.9\n---\n")
@example("\ufeff")
@example("...\n...\n")
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    """Whatever a file has in it, reading it gives a policy or a PolicyError, in each format."""
    for format in ("yaml", "json", "toml"):
        only_a_policy_or_its_refusal(text, format)


@given(
    st.dictionaries(
        st.sampled_from(["tools", "grants", "limits", "flows", "contracts", "replies", "x"]),
        JSON_VALUES,
    )
)
def test_any_document_is_a_policy_or_refused(document: dict[str, Any]) -> None:
    """Whatever a document has in it, it is a policy or refused with a PolicyError."""
    only_a_policy_or_its_refusal(json.dumps({"version": 1, **document}), "json")
    with contextlib.suppress(PolicyError):
        Policy.of({"version": 1, **document})


@given(st.data())
def test_a_damaged_policy_is_a_policy_or_refused(data: st.DataObject) -> None:
    """A policy with one value replaced by any other is a policy or refused."""
    document = copy.deepcopy(DOCUMENT)
    here: Any = document
    while True:
        keys = list(here) if isinstance(here, dict) else range(len(here))
        key = data.draw(st.sampled_from(keys))
        inner = here[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.integers(0, 3)) == 0:
            here[key] = data.draw(JSON_VALUES)
            break
        here = inner
    with contextlib.suppress(PolicyError):
        Policy.of(document)


def test_deep_json_and_toml() -> None:
    """Nesting without end is refused in the other formats too."""
    assert "deeper than" in refusal("[" * 100_000, "json").problem
    assert "deeply" in refusal("a = " + "[" * 10_000, "toml").problem
