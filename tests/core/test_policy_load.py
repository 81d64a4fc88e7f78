"""From text to a policy: formats, files, and errors with their places."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from sluicegate.errors import PolicyError
from sluicegate.policy.fault import spoken
from sluicegate.policy.model import Policy

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "tools": {
        "get_order": {"effect": "read", "labels": ["sensitive"]},
        "issue_refund": {
            "args": {"properties": {"amount": {"type": "number", "maximum": 500.5}}},
            "once": {"key": "refund:{order_id}", "within": "24h"},
            "cost": {"eur": "args.amount", "fee": 0.25},
        },
    },
    "grants": [{"agent": "support-*", "tools": ["get_order", "issue_refund"]}],
    "limits": [{"budget": "eur", "limit": 1000, "per": ["tenant"], "window": "day"}],
}

YAML = """\
# who may refund
version: 1
limits:
- {window: day, budget: eur, per: [tenant], limit: 1000}
tools:
  get_order: {effect: read, labels: [sensitive]}
  issue_refund:
    args: {properties: {amount: {type: number, maximum: 500.5}}}
    once: {key: "refund:{order_id}", within: 24h}
    cost:
      eur: args.amount
      fee: 0.25   # each
grants: [{agent: support-*, tools: [get_order, issue_refund]}]
"""

TOML = """\
version = 1
[tools.get_order]
effect = "read"
labels = ["sensitive"]
[tools.issue_refund]
once = { key = "refund:{order_id}", within = "24h" }
cost = { eur = "args.amount", fee = 0.25 }
[tools.issue_refund.args.properties.amount]
type = "number"
maximum = 500.5
[[grants]]
agent = "support-*"
tools = ["get_order", "issue_refund"]
[[limits]]
budget = "eur"
limit = 1000
per = ["tenant"]
window = "day"
"""

SMALL = "version: 1\ntools:\n  a: {}\n"


def refusal(text: str, format: str = "yaml") -> PolicyError:
    """The error for *text*, which always says in which file and what to do."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(text, format=format, file="policy.file")
    assert caught.value.file == "policy.file"
    assert caught.value.problem
    assert caught.value.hint
    return caught.value


def test_one_policy_in_three_formats() -> None:
    """Comments, the order of keys and the format of the file do not change a policy."""
    policies = [
        Policy.of(DOCUMENT),
        Policy.parse(YAML),
        Policy.parse(TOML, format="toml"),
        Policy.parse(json.dumps(DOCUMENT), format="json"),
        Policy.parse(json.dumps(DOCUMENT, indent=2)),
    ]
    assert len(set(policies)) == 1
    assert {policy.revision for policy in policies} == {policies[0].revision}
    assert all(policy.document == DOCUMENT for policy in policies)
    assert policies[0].revision.startswith("sha256:")


def test_a_changed_value_changes_the_revision() -> None:
    """The revision is of everything that the document says."""
    assert Policy.parse(YAML).revision != Policy.parse(YAML.replace("1000", "1001")).revision


def test_the_revision_is_fixed() -> None:
    """The revision is SHA-256 over RFC 8785, so anyone can compute it."""
    import hashlib

    text = b'{"tools":{"a":{}},"version":1}'
    assert Policy.parse(SMALL).revision == "sha256:" + hashlib.sha256(text).hexdigest()


def test_a_policy_is_frozen_and_can_be_copied() -> None:
    """Nothing in a policy can be changed; copies and pickles are equal to it."""
    policy = Policy.parse(YAML)
    with pytest.raises(ValueError, match="frozen"):
        policy.version = 1
    with pytest.raises(TypeError, match="frozen"):
        policy.tools["new"] = policy.tools["get_order"]  # type: ignore[index]
    with pytest.raises(TypeError, match="frozen"):
        policy.document["tools"]["get_order"]["effect"] = "write"  # type: ignore[call-overload, index]
    assert policy.tools["issue_refund"].args is not None
    with pytest.raises(TypeError, match="frozen"):
        policy.tools["issue_refund"].args["properties"]["amount"]["maximum"] = 10**6
    assert pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == policy


def test_the_document_is_a_copy() -> None:
    """Changing the document afterwards does not change the policy."""
    document = copy.deepcopy(DOCUMENT)
    policy = Policy.of(document)
    document["tools"]["issue_refund"]["args"]["properties"]["amount"]["maximum"] = 10**6
    assert policy.document == DOCUMENT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy.yaml", YAML),
        ("policy.yml", YAML),
        ("POLICY.YAML", "\ufeff" + YAML.replace("\n", "\r\n")),
        ("policy.toml", TOML),
        ("policy.json", json.dumps(DOCUMENT)),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    """The suffix says the format; a byte order mark and Windows line ends do no harm."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    policy = Policy.load(path)
    assert policy == Policy.of(DOCUMENT)
    assert (policy.source, policy.path) == (str(path), path)
    assert Policy.of(DOCUMENT).source == ""
    assert Policy.of(DOCUMENT).path is None


def test_a_missing_file(tmp_path: Path) -> None:
    """The error for a missing file says how to make one."""
    with pytest.raises(PolicyError, match="no policy file here") as caught:
        Policy.load(tmp_path / "sluicegate.yaml")
    assert "sluicegate init" in caught.value.hint


def test_files_that_cannot_be_policies(tmp_path: Path) -> None:
    """A directory, an unknown suffix, too many bytes and bytes that are no text are refused."""
    (tmp_path / "directory.yaml").mkdir()
    with pytest.raises(PolicyError, match="cannot be read"):
        Policy.load(tmp_path / "directory.yaml")
    with pytest.raises(PolicyError, match=r"cannot end in \.txt") as caught:
        Policy.load(tmp_path / "policy.txt")
    assert ".yaml" in caught.value.hint
    large = tmp_path / "large.yaml"
    large.write_bytes(b"# \xff" + b"x" * 1_048_576)
    with pytest.raises(PolicyError, match="larger than 1,048,576 bytes"):
        Policy.load(large)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("version: 1\n# caf\u00e9".encode("latin-1"))
    with pytest.raises(PolicyError, match="byte 0xe9 is not UTF-8") as caught:
        Policy.load(latin)
    assert (caught.value.line, caught.value.column) == (2, 6)


@pytest.mark.parametrize("text", ["", "   \n", "# nothing\n", "---\n", "~", "{}", "null"])
def test_an_empty_policy(text: str) -> None:
    """An empty policy is an error, not one that permits nothing, or everything."""
    error = refusal(text)
    assert "empty" in error.problem
    assert "sluicegate init" in error.hint


@pytest.mark.parametrize(("text", "format"), [("", "json"), (" \n", "json"), ("# x\n", "toml")])
def test_an_empty_policy_in_other_formats(text: str, format: str) -> None:
    """An empty file is an empty policy in each format."""
    assert "the policy is empty" in refusal(text, format).problem


@pytest.mark.parametrize("text", ["[]", "hello", "5", "- version: 1"])
def test_a_policy_is_a_mapping(text: str) -> None:
    """A list, a text and a number are no policies."""
    assert "no mapping" in refusal(text).problem


def test_places_in_json() -> None:
    """An error in a JSON file has the line and column of the value that is to blame."""
    text = json.dumps(DOCUMENT, indent=2).replace('"read"', '"raed"')
    error = refusal(text, "json")
    assert error.text == '"effect": "raed",'
    assert error.column == 17


@pytest.mark.parametrize(
    ("before", "after", "line", "problem"),
    [
        ('"read"', '"raed"', 3, "tools.get_order.effect"),
        ("effect", "efect", 3, "efect is no key"),
        ('"24h"', '"24"', 6, "once.within"),
        ("maximum", "maxmum", 10, "maxmum is no keyword"),
        ('"day"', '"dya"', 18, "limits[0].window"),
        ("limit = 1000\n", "", 14, "limits[0].limit is missing"),
        ("version = 1", "version = 2024-01-01", 1, "version is a date"),
        ("version = 1", "version = [", 2, "no TOML"),
        ("version = 1", "version = 1\nversion = 1", 2, "no TOML"),
        ("version = 1", "version = 1\nnan = nan", 0, "no number"),
        ("version = 1", "version = " + "[" * 5_000, 0, "TOML"),
        (
            "version = 1",
            "version = 1\n" + "a." * 10_001 + "b = 1",
            2,
            "a line of 20,007 characters",
        ),
    ],
)
def test_places_in_toml(before: str, after: str, line: int, problem: str) -> None:
    """An error in a TOML file has the line of the value, as far as it can be found again."""
    error = refusal(TOML.replace(before, after, 1), "toml")
    assert problem in error.problem or line == 0
    assert error.line == line


def test_places_in_nested_tables() -> None:
    """A table under the second element of an array of tables belongs to that element."""
    text = "version = 1\n[[limits]]\nbudget = 'calls'\nlimit = 1\n[[limits]]\n[limits.x]\ny = 1\n"
    error = refusal(text + "[tools.'a b']\neffect = 'raed'\n", "toml")
    assert (error.line, error.problem[:9]) == (5, "limits[1]")
    assert "also line 9: tools.a b.effect" in error.hint


def test_a_text_that_is_too_large() -> None:
    """The bound holds for text as well as for files."""
    with pytest.raises(PolicyError, match="larger than 1,048,576 bytes"):
        Policy.parse("#" + "é" * 524_288)


def test_anything_but_plain_json_is_refused() -> None:
    """A document of other values than JSON's is refused, and the path is named."""
    for value, problem in [((1,), "tuple"), (float("nan"), "nan"), (2**64, "65 bits")]:
        with pytest.raises(PolicyError, match=problem) as caught:
            Policy.of({"version": 1, "tools": {"a": {"args": {"const": value}}}})
        assert "tools.a.args.const" in caught.value.problem
    with pytest.raises(PolicyError, match="no mapping"):
        Policy.of([])  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="keys must be strings"):
        Policy.of({1: 1})  # type: ignore[dict-item]


def test_an_unknown_format() -> None:
    """A misspelt format is an error that names the formats."""
    with pytest.raises(PolicyError, match="no format 'yamel'") as caught:
        Policy.parse(SMALL, format="yamel")
    assert "did you mean yaml?" in caught.value.hint


def test_the_first_problem_leads_and_the_others_follow() -> None:
    """One error tells all: the first in the file with its place, the others in short."""
    error = refusal("tools:\n  a: {effect: raed, lease: 5}\nfoo: 1\nversion: 2\n")
    assert (error.line, error.column) == (2, 15)
    assert error.problem == "tools.a.effect is 'raed'"
    assert error.text == "a: {effect: raed, lease: 5}"
    assert "did you mean read? accepted: read, idempotent, write" in error.hint
    assert "also line 2: tools.a.lease is 5" in error.hint
    assert "also line 3: foo is no key of a policy" in error.hint
    assert "also line 4: version is 2" in error.hint
    many = "version: 1\ntools:\n" + "".join(f"  t{i}: {{x: 1}}\n" for i in range(30))
    assert "and 20 more" in refusal(many).hint


def test_a_long_line_is_cut_around_the_place() -> None:
    """The offending text stays short and has the place in it."""
    error = refusal(json.dumps({"version": 1, "tools": {"a" * 150: {}, "b": {"effect": "x"}}}))
    assert len(error.text) <= 120
    assert '"effect": "x"' in error.text


def test_positions_are_kept() -> None:
    """A policy knows where its values are, for warnings; without a file it knows nothing."""
    policy = Policy.parse(YAML)
    assert policy.position(("tools", "issue_refund", "cost", "fee")) == (12, 12)
    assert policy.position(("tools", "issue_refund", "cost"), on_key=True) == (10, 5)
    assert policy.position(("tools", "issue_refund", "when")) == (7, 3)
    assert Policy.of(DOCUMENT).position(("tools",)) is None
    assert spoken(("limits", 0, "per")) == "limits[0].per"


def test_a_policy_shows_its_file_and_revision() -> None:
    """The repr of a policy is short."""
    policy = Policy.parse(SMALL, file="p.yaml")
    assert repr(policy) == f"<Policy p.yaml, {policy.revision[:19]}…>"
