"""The argument battery: whatever a model may send, a wrong argument never runs the tool."""

from __future__ import annotations

import pytest

from sluicegate import Denied, Deny, Gate, Permit, Proposal, Recorded

SCHEMA = {
    "type": "object",
    "properties": {
        "order": {"type": "string", "maxLength": 20},
        "amount": {"type": "number", "maximum": 10_000},
        "note": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
    "required": ["order", "amount"],
}
POLICY = {
    "version": 1,
    "tools": {
        "refund": {},
        "anything": {"unknown_args": "allow"},
        "less": {"unknown_args": "drop"},
    },
}


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = {"deeper": value}
    return value


GOOD = {"order": "A1", "amount": 5}

WRONG = {
    "missing": ({"order": "A1"}, "args_invalid"),
    "text for a number": ({**GOOD, "amount": "5000"}, "args_invalid"),
    "true for a number": ({**GOOD, "amount": True}, "args_invalid"),
    "NaN": ({**GOOD, "amount": float("nan")}, "args_not_canonical"),
    "infinity": ({**GOOD, "amount": float("inf")}, "args_not_canonical"),
    "minus infinity": ({**GOOD, "amount": float("-inf")}, "args_not_canonical"),
    "a list": ({**GOOD, "amount": [5]}, "args_invalid"),
    "null": ({**GOOD, "amount": None}, "args_invalid"),
    "an undeclared extra": ({**GOOD, "currency": "USD"}, "args_unknown"),
    "an undeclared extra inside": ({**GOOD, "note": {"txt": "x"}}, "args_invalid"),
    "wrong case": ({"order": "A1", "Amount": 5}, "args_unknown"),
    "a 401-digit integer": ({**GOOD, "amount": 10**400}, "args_not_canonical"),
    "a lone surrogate": ({**GOOD, "order": "\ud800"}, "args_not_canonical"),
    "a key that is no text": ({**GOOD, 5: "x"}, "args_not_canonical"),
    "a 100-level nesting": ({**GOOD, "note": nested(100)}, "args_not_canonical"),
    "a 5 MB string": ({**GOOD, "order": "x" * 5_000_000}, "args_not_canonical"),
    "a tuple": ({**GOOD, "order": ("A1",)}, "args_not_canonical"),
    "no object at all": (["A1", 5], "args_not_canonical"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_never_runs_the_tool(name):
    """Each wrong argument is refused with a reason that says which one, and the tool is not entered."""
    args, code = WRONG[name]
    gate = Gate(POLICY, "memory:")
    ran = []
    with pytest.raises(Denied) as caught:
        gate.call(Proposal("refund", args, schema=SCHEMA), lambda **given: ran.append(given))
    assert not ran
    assert code in [reason.code for reason in caught.value.decision.reasons]
    assert len(caught.value.decision.render()) < 2_000, "a refusal is no echo of the attack"
    assert gate.journal.verify() is None


def test_a_duplicate_key_is_refused():
    """In JSON text, a key that comes twice is a refusal and not the last one of the two."""
    gate = Gate(POLICY, "memory:")
    decision = gate.decide(
        Proposal.parse("refund", '{"order":"A1","amount":5,"amount":9000}', schema=SCHEMA)
    )
    assert [reason.code for reason in decision.reasons] == ["args_not_canonical"]
    assert "'amount' twice" in decision.reasons[0].message


@pytest.mark.parametrize(
    "tool", ["Refund", "refund ", "refnd", "REFUND", "refund\u200b", "", "\ud800", "x" * 5_000]
)
def test_another_spelling_of_a_tool_is_another_tool(tool):
    """Names are compared exactly: what only looks like a tool of the policy is refused."""
    decision = Gate(POLICY, "memory:").decide(Proposal(tool, GOOD, schema=SCHEMA))
    assert isinstance(decision, Deny)
    assert decision.reasons[0].code in ("unknown_tool", "args_not_canonical")


def test_the_good_call_runs():
    """The battery refuses what is wrong with the call and not the call."""
    assert isinstance(
        Gate(POLICY, "memory:").decide(Proposal("refund", GOOD, schema=SCHEMA)), Permit
    )


def test_an_unknown_argument_is_named_with_the_declared_ones():
    """A misspelt argument is told with what is accepted and what was probably meant."""
    decision = Gate(POLICY, "memory:").decide(
        Proposal("refund", {**GOOD, "amuont": 500}, schema=SCHEMA)
    )
    (reason,) = decision.reasons
    assert reason.message == (
        "refund never declared 'amuont' (did you mean 'amount'?); it accepts: amount, note, order"
    )


def test_unknown_arguments_can_be_dropped_or_let_through():
    """`unknown_args` drops what the tool never declared, or lets it through; both stay checked."""
    gate = Gate(POLICY, "memory:")
    extra = {**GOOD, "currency": "USD"}
    assert gate.decide(Proposal("less", extra, schema=SCHEMA)).args == GOOD
    assert gate.decide(Proposal("anything", extra, schema=SCHEMA)).args == extra
    for tool in ("less", "anything"):
        assert isinstance(
            gate.decide(Proposal(tool, {**extra, "amount": "5"}, schema=SCHEMA)), Deny
        )


def test_a_schema_that_cannot_be_used_refuses():
    """A tool whose own schema is broken, or points somewhere else, is refused with the reason."""
    for schema in ({"type": "objekt"}, {"$ref": "https://example.com/x.json"}, {"pattern": "("}):
        decision = Gate(POLICY, "memory:").decide(Proposal("refund", GOOD, schema=schema))
        assert [reason.code for reason in decision.reasons] == ["args_invalid"]


def test_what_was_decided_is_what_runs():
    """Changing the original arguments after the decision changes neither permit nor call nor key."""
    gate = Gate({"version": 1, "tools": {"put": {"once": {"key": "k"}}}}, "memory:")
    items = ["a"]
    proposal = Proposal("put", {"items": items})
    items.append("b")
    seen = []
    gate.call(proposal, lambda items: seen.append(items))
    assert seen == [["a"]]
    assert isinstance(gate.decide(Proposal("put", {"items": ["a"]})), Recorded)
    with pytest.raises(TypeError, match="frozen"):
        proposal.args["items"].append("c")


def test_an_open_schema_stays_open():
    """A tool that declares that it takes any argument is taken at its word."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "additionalProperties": True,
    }
    decide = Gate(POLICY, "memory:").decide
    assert isinstance(decide(Proposal("refund", {"a": 1, "b": 2}, schema=schema)), Permit)
    assert isinstance(decide(Proposal("refund", {"a": "1", "b": 2}, schema=schema)), Deny)
