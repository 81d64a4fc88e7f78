"""Proposals and subjects: frozen at the door, equal exactly if their canonical text is."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, UserDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.canonical import freeze
from sluicegate.decision import Reason
from sluicegate.proposal import Proposal, Subject
from sluicegate.schema import Schema

NAMES = st.text(min_size=1, max_size=6)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9), st.text(max_size=3)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
ARGS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)
SUBJECTS = st.builds(
    Subject,
    tenant=st.none() | NAMES,
    user=st.none() | NAMES,
    agent=st.none() | NAMES,
    roles=st.lists(NAMES, max_size=3).map(tuple),
)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def content(proposal: Proposal) -> dict[str, Any]:
    """What the canonical form is the form of, put together by hand."""
    subject = proposal.subject
    told = {
        "args": proposal.args if proposal.defect is None else None,
        "call_id": proposal.call_id,
        "depth": proposal.depth,
        "parent": proposal.parent,
        "root": proposal.root,
        "run": proposal.run,
        "schema": proposal.schema and proposal.schema.digest,
        "source": proposal.source,
        "subject": {
            "agent": subject.agent,
            "roles": list(subject.roles),
            "tenant": subject.tenant,
            "user": subject.user,
        },
        "tool": proposal.tool,
    }
    if proposal.flaw is not None and proposal.flaw.code != "args_not_canonical":
        told["defect_code"] = proposal.flaw.code
    return told | ({"defect": proposal.defect} if proposal.defect else {})


def sha256(document: object) -> str:
    """The digest of a JSON document, by the reference library."""
    return "sha256:" + hashlib.sha256(rfc8785.dumps(document)).hexdigest()


PROPOSALS = st.builds(
    Proposal,
    NAMES,
    ARGS,
    subject=SUBJECTS,
    run=st.none() | NAMES,
    call_id=st.none() | st.text(max_size=4),
    schema=st.sampled_from([None, {}, SCHEMA]),
    parent=st.none() | NAMES,
    root=st.none() | NAMES,
    depth=st.integers(0, 9),
    source=st.text(max_size=4),
    defect=st.none() | NAMES,
    flaw=st.none()
    | st.builds(
        Reason,
        st.sampled_from(["missing_subject", "args_not_canonical", "internal_error"]),
        NAMES,
        NAMES,
    ),
)


@given(PROPOSALS)
def test_the_digest_is_that_of_the_same_content(proposal):
    """The text is the RFC 8785 form of all fields, and the digest its SHA-256."""
    told = content(proposal)
    assert proposal.text.encode() == rfc8785.dumps(told)
    assert proposal.digest == sha256(told)


@given(PROPOSALS)
def test_the_action_is_tool_args_subject_and_run(proposal):
    """An approval is bound to the SHA-256 of exactly these four."""
    told = content(proposal)
    assert proposal.action == sha256(
        {name: told[name] for name in ("args", "run", "subject", "tool")}
    )


@given(PROPOSALS, PROPOSALS)
def test_proposals_are_equal_exactly_if_their_texts_are(one, other):
    """Equality, hash, text, digest and content agree, whatever the proposals are."""
    assert (one == other) is (one.text == other.text) is (one.digest == other.digest)
    assert (one == other) is (rfc8785.dumps(content(one)) == rfc8785.dumps(content(other)))
    assert len({one, other}) == (1 if one == other else 2)


@given(NAMES, ARGS, NAMES, ARGS)
def test_the_binding_is_tool_and_args_alone(tool, args, other_tool, other_args):
    """Two calls share a binding exactly if both tool and arguments are the same."""
    one, other = Proposal(tool, args), Proposal(other_tool, other_args)
    same = (tool, freeze(args)[1]) == (other_tool, freeze(other_args)[1])
    assert (one.binding == other.binding) is same
    assert one.binding == Proposal(tool, args, run="r", call_id="c", depth=3).binding


BASE: dict[str, Any] = {
    "tool": "refund",
    "args": {"order": "A-1", "lines": [{"n": 1}]},
    "subject": Subject(tenant="acme", user="u", agent="a", roles=("x",)),
    "run": "run-1",
    "call_id": "call-1",
    "schema": SCHEMA,
    "parent": "run-0",
    "root": "run-0",
    "depth": 1,
    "source": "langchain",
}


@pytest.mark.parametrize(
    ("field", "value", "changed"),
    [
        ("tool", "refunds", {"digest", "action", "binding"}),
        ("args", {"order": "A-1", "lines": [{"n": 2}]}, {"digest", "action", "binding"}),
        ("args", {"order": "A-1", "lines": [{"n": 1.0}]}, set()),
        ("args", {"lines": [{"n": 1}], "order": "A-1"}, set()),
        ("args", {"order": "A-1", "lines": [{"n": True}]}, {"digest", "action", "binding"}),
        ("subject", Subject(tenant="acme", user="u", agent="a", roles=["x", "x"]), set()),
        (
            "subject",
            Subject(tenant="acme", user="v", agent="a", roles=("x",)),
            {"digest", "action"},
        ),
        ("subject", Subject(tenant="acme", user="u", agent="a"), {"digest", "action"}),
        ("run", "run-2", {"digest", "action"}),
        ("run", None, {"digest", "action"}),
        ("call_id", "call-2", {"digest"}),
        ("call_id", None, {"digest"}),
        ("call_id", "", {"digest"}),
        ("schema", {**SCHEMA, "title": "T"}, {"digest"}),
        ("schema", None, {"digest"}),
        ("schema", dict(reversed(SCHEMA.items())), set()),
        ("schema", Schema(SCHEMA), set()),
        ("parent", "run-9", {"digest"}),
        ("root", "run-9", {"digest"}),
        ("depth", 2, {"digest"}),
        ("source", "autogen", {"digest"}),
    ],
)
def test_what_changes_which_digest(field, value, changed):
    """Each field changes exactly the digests that are bound to it."""
    before, after = Proposal(**BASE), Proposal(**{**BASE, field: value})
    different = {
        name
        for name in ("digest", "action", "binding")
        if getattr(before, name) != getattr(after, name)
    }
    assert different == changed
    assert (before == after) is ("digest" not in changed)


# --- frozen ----------------------------------------------------------------------------------


def test_later_changes_of_the_original_change_nothing():
    """What was decided is what runs, also when somebody changes a nested list afterwards."""
    args = {"to": ["a@x.org"], "body": {"lines": [{"n": 1}]}}
    proposal = Proposal("send", args)
    digests = (proposal.digest, proposal.action, proposal.binding)
    args["to"].append("thief@y.org")
    args["body"]["lines"][0]["n"] = 10**6
    args.clear()
    assert proposal.args == {"to": ["a@x.org"], "body": {"lines": [{"n": 1}]}}
    assert (proposal.digest, proposal.action, proposal.binding) == digests


def test_a_proposal_cannot_be_changed():
    """No attribute can be set, added or deleted, and no argument replaced."""
    proposal = Proposal(**BASE)
    for name in (*Proposal.__slots__, "extra"):
        with pytest.raises(AttributeError, match=f"frozen; {name} cannot be set"):
            setattr(proposal, name, None)
        with pytest.raises(AttributeError, match=f"frozen; {name} cannot be deleted"):
            delattr(proposal, name)
    with pytest.raises(TypeError, match="frozen"):
        proposal.args["order"] = "A-2"
    with pytest.raises(TypeError, match="frozen"):
        proposal.args["lines"][0]["n"] = 2
    assert proposal == Proposal(**BASE)


def test_a_proposal_is_unequal_to_everything_else():
    """Its own text is no proposal, and it says what it is."""
    proposal = Proposal("t", {"a": 1})
    assert proposal != proposal.text
    assert repr(proposal) == f"Proposal({proposal.text})"


class Shifty(Mapping):
    """A mapping that answers differently each time it is asked."""

    def __init__(self):
        self.reads = 0

    def items(self):
        self.reads += 1
        return [("amount", self.reads), ("to", ["a"])]

    def __getitem__(self, key):
        return 10**6

    def __iter__(self):
        return iter(["amount", "to", "evil"])

    def __len__(self):
        return 3


def test_a_mapping_that_changes_is_read_once():
    """A mapping that says something else at each read is decided as it was read first."""
    args = Shifty()
    proposal = Proposal("pay", args)
    assert proposal.args == {"amount": 1, "to": ["a"]}
    assert (proposal.defect, args.reads) == (None, 1)
    assert proposal.args_text == '{"amount":1,"to":["a"]}'


@pytest.mark.parametrize("kind", [UserDict, OrderedDict, MappingProxyType, lambda d: freeze(d)[0]])
def test_any_mapping_may_hold_the_arguments(kind):
    """At the top any mapping will do; it is the same proposal as with a dict."""
    args = {"a": [1], "b": {"c": None}}
    assert Proposal("t", kind(args)) == Proposal("t", args)


# --- where it comes from -----------------------------------------------------------------------


def test_a_bare_proposal_comes_from_nowhere():
    """What is left out is missing or zero, and a name may have a thousand characters."""
    bare = Proposal("ü" * 1000, {})
    assert (bare.defect, bare.run, bare.parent, bare.root, bare.depth, bare.source) == (
        None, None, None, None, 0, "",
    )  # fmt: skip
    assert bare.subject == Subject()


def test_an_empty_call_id_is_kept():
    """An empty id means that the framework gave none where it should have: not the same as None."""
    assert Proposal("t", {}, call_id="").call_id == ""
    assert Proposal("t", {}).call_id is None


@pytest.mark.parametrize(
    ("where", "root"),
    [
        ({}, None),
        ({"run": "r"}, "r"),
        ({"run": "r", "parent": "p"}, "p"),
        ({"run": "r", "parent": "p", "root": "o"}, "o"),
        ({"root": "o"}, "o"),
    ],
)
def test_the_root_is_the_outermost_run_that_is_known(where, root):
    """Without a root it is the parent, without a parent the run itself."""
    assert Proposal("t", {}, **where).root == root


def test_a_copy_of_a_proposal_is_the_proposal():
    """What cannot change need not be copied."""
    import copy

    proposal = Proposal("pay", {"items": [1]})
    assert copy.copy(proposal) is proposal
    assert copy.deepcopy({"p": proposal})["p"] is proposal
