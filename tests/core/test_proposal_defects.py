"""What is wrong with a proposal: the model's faults are defects, the program's are exceptions."""

from __future__ import annotations

import math
from collections import UserDict

import pytest

from sluicegate.decision import Reason
from sluicegate.proposal import Proposal, Subject


@pytest.mark.parametrize(
    ("tool", "args", "others", "defect"),
    [
        ("t", {"a": math.nan}, {}, "a is nan, which is no JSON number"),
        ("t", {"a": [math.inf]}, {}, "a[0] is inf"),
        ("t", {"a": 10**401}, {}, "a is an integer of 1333 bits"),
        ("t", {"a": "\ud800"}, {}, "a has a lone surrogate"),
        ("t", {"\ud800": 1}, {}, "has a key with a lone surrogate"),
        ("t", {"a": (1,)}, {}, "a is a tuple"),
        ("t", {"a": "x" * 5_000_000}, {}, "a is 5,000,000 characters long"),
        ("t", {1: 2}, {}, "has a key that is a int"),
        ("t", None, {}, "is a NoneType; arguments must be an object"),
        ("t", [1, 2], {}, "is a list; arguments must be an object"),
        ("t", "{}", {}, "is a str; arguments must be an object"),
        ("t", 5, {}, "is a int; arguments must be an object"),
        ("t\ud800", {}, {}, "the tool's name has a lone surrogate"),
        ("t" * 1001, {}, {}, "the tool's name has 1001 characters; at most 1000 are accepted"),
        ("ü" * 1001, {}, {}, "the tool's name has 1001 characters"),
        ("t", {}, {"call_id": "\udfff"}, "the call id has a lone surrogate"),
        ("t", {}, {"call_id": "c" * 1001}, "the call id has 1001 characters"),
        ("t", {"a": 1}, {"defect": "the reply was cut off"}, "the reply was cut off"),
        ("t", {}, {"defect": "not JSON: \ud800"}, "not JSON: \\ud800"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) and value.isascii() else "",
)
def test_what_a_model_could_send_is_never_an_exception(tool, args, others, defect):
    """Such a proposal exists, without arguments, says what is wrong and can be written down."""
    proposal = Proposal(tool, args, **others)
    assert defect in proposal.defect
    for text in (proposal.text, proposal.tool, proposal.defect, repr(proposal)):
        text.encode()
    assert len(proposal.text) < 4000
    assert proposal.digest != Proposal("t", {}).digest
    assert proposal.action.startswith("sha256:")
    assert proposal.binding != Proposal("t", {}).binding or "call id" in proposal.defect


@pytest.mark.parametrize("args", [{"a": math.nan}, {"a": 1, "b": ()}, [1], None])
def test_a_defective_proposal_has_no_arguments(args):
    """Nothing of what could not be frozen is left to be decided about or to be run."""
    proposal = Proposal("t", args)
    assert dict(proposal.args) == {}
    assert proposal.args_text == "null"
    assert Proposal("t", {"a": 1}, defect="broken").args == {}


def test_raw_arguments_are_kept_only_for_a_gate_that_observes():
    """What came in is at hand where it could not be frozen, and nowhere else."""
    args = {"a": math.nan}
    assert Proposal("t", args).raw is args
    assert Proposal("t", [1]).raw == Proposal("t", {"a": 1}).raw == {}


def test_a_defect_is_a_reason_to_refuse():
    """A flaw that an adapter gives is kept as it is; any other is that the call is not canonical."""
    flaw = Reason("missing_subject", "adapter", "nobody said whose agent this is")
    given = Proposal("t", {"a": 1}, flaw=flaw)
    assert (given.flaw, given.defect, given.args) == (flaw, flaw.message, {})
    assert given != Proposal("t", {"a": 1}, defect=flaw.message)
    for proposal in (Proposal("t", {"a": math.nan}), Proposal("t", {}, defect="cut off")):
        assert proposal.flaw.code == "args_not_canonical"
        assert proposal.defect in proposal.flaw.message
    assert Proposal("t", {"a": 1}).flaw is None


def test_a_mapping_with_a_key_twice_is_a_defect():
    """One of the two values would be lost without a word."""

    class Twice(UserDict):
        def items(self):
            return [("amount", 1), ("amount", 500)]

    assert "has a key twice" in Proposal("pay", Twice()).defect


def test_proposals_with_different_defects_differ():
    """A name that was cut or escaped never equals the name that it looks like."""
    assert Proposal("a\ud800", {}) != Proposal("a\\ud800", {})
    assert Proposal("a" * 1000, {}) != Proposal("a" * 1001, {})
    assert Proposal("t", {}, defect="x") != Proposal("t", {}, defect="y")


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"tool": None}, TypeError, "the tool's name is None"),
        ({"tool": b"refund"}, TypeError, "the tool's name is b'refund'"),
        ({"subject": None}, TypeError, "subject is a NoneType"),
        ({"subject": {"tenant": "acme"}}, TypeError, "subject is a dict; it must be a Subject"),
        ({"run": ""}, ValueError, "run has 0 characters; it must have 1 to 1000"),
        ({"run": "r" * 1001}, ValueError, "run has 1001 characters"),
        ({"run": 7}, TypeError, "run is 7; it must be a str"),
        ({"run": "\ud800"}, ValueError, "lone surrogate"),
        ({"call_id": 7}, TypeError, "the call id is 7"),
        ({"parent": ""}, ValueError, "parent has 0 characters"),
        ({"root": ""}, ValueError, "root has 0 characters"),
        ({"source": 7}, TypeError, "source is 7"),
        ({"depth": -1}, ValueError, "depth is -1; it must be an integer of 0 or more"),
        ({"depth": True}, ValueError, "depth is True"),
        ({"depth": 1.0}, ValueError, "depth is 1.0"),
        ({"defect": ""}, ValueError, "defect is empty"),
        ({"defect": 7}, TypeError, "the defect is 7"),
        ({"schema": 7}, TypeError, "int"),
    ],
)
def test_what_the_program_got_wrong_is_an_exception(changes, error, problem):
    """A wrong type or an empty name is a bug of the caller, and it is told which."""
    with pytest.raises(error) as caught:
        Proposal(**{"tool": "t", "args": {}, "subject": Subject(), **changes})
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "args", "defect"),
    [
        ('{"a": [1, 2]}', {"a": [1, 2]}, None),
        (b'{"a": "\xc3\xa4"}', {"a": "ä"}, None),
        ('{"amount": 1, "amount": 500}', {}, "has the key 'amount' twice"),
        ('{"a": {"b": 1, "b": 1}}', {}, "has the key 'b' twice"),
        ('{"a": NaN}', {}, "has NaN, which is no JSON number"),
        ('{"a": 1e999}', {}, "a is inf"),
        ('{"a": "\\ud800"}', {}, "a has a lone surrogate"),
        ('{"a": 1', {}, "is not JSON"),
        ("", {}, "is not JSON"),
        ("[1]", {}, "is a list; arguments must be an object"),
        ("null", {}, "is a NoneType"),
        ("[" * 100_000, {}, "nests deeper|is not JSON"),
        ('{"n": ' + "9" * 401 + "}", {}, "integer of 1333 bits"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_arguments_as_text_are_read_strictly(text, args, defect):
    """JSON text that is broken or says a thing twice is a defect, never an exception."""
    proposal = Proposal.parse("t", text, run="r", call_id="c")
    assert proposal.args == args
    if defect is None:
        assert proposal == Proposal("t", args, run="r", call_id="c")
    else:
        assert any(part in proposal.defect for part in defect.split("|"))
        assert (proposal.run, proposal.call_id) == ("r", "c")
