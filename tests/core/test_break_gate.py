"""Hostile and odd calls: nothing runs that must not, and nothing is counted that did not happen."""

from __future__ import annotations

import asyncio
import json

import pytest

from sluicegate import (
    Deny,
    Failed,
    Gate,
    Permit,
    PermitError,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
)
from sluicegate.canonical import freeze
from sluicegate.replay import replay
from sluicegate.testing import FakeClock

SCHEMA = {"type": "object", "properties": {"order": {"type": "string"}}}


def made(tool=None, tools=None, clock=None, observe=False, **sections):
    return Gate(
        {"version": 1, "tools": tools or {"t": tool or {}}, **sections},
        "memory:",
        clock=clock or FakeClock(),
        observe=observe,
    )


def codes(decision):
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


def sound(gate):
    """Every entry is canonical, and every decision follows from the journal."""
    for entry in gate.journal:
        assert freeze(json.loads(entry.body))[1] == entry.body
    return replay(gate.journal).difference is None


# --- arguments that the policy drops ------------------------------------------------------------


def dropped(order="7", **junk):
    return Proposal("t", {"order": order, **junk}, schema=SCHEMA, run="r1")


def test_what_is_dropped_makes_no_other_call_of_it():
    """With `unknown_args: drop` a made-up argument is no way to do the same thing twice."""
    gate = made({"unknown_args": "drop", "once": {}})
    permit = gate.decide(dropped(junk=1))
    assert dict(permit.args) == {"order": "7"}
    gate.settle(permit, Succeeded("paid"))
    again = gate.decide(dropped(junk=2))
    assert isinstance(again, Recorded)
    assert again.result == "paid"
    assert isinstance(gate.decide(dropped("8", junk=2)), Permit)
    assert sound(gate)


def test_what_is_dropped_does_not_hide_a_doubt():
    """A write of unknown outcome is not made again under the cover of a made-up argument."""
    gate = made({"unknown_args": "drop"})
    gate.settle(gate.decide(dropped(junk=1)), Unknown("lost"))
    assert codes(gate.decide(dropped(junk=2))) == ["outcome_unknown"]
    assert codes(gate.decide(dropped())) == ["outcome_unknown"]
    assert sound(gate)


def test_a_key_is_bound_to_what_runs():
    """The same key with another dropped argument is the same call, and no conflict; so it is reconciled."""
    gate = made({"unknown_args": "drop", "once": {"key": "pay:{order}"}})
    permit = gate.decide(dropped(junk=1))
    gate.settle(permit, Unknown("lost"))
    gate.reconcile(permit.id, Succeeded("paid"), by="ada")
    assert isinstance(gate.decide(dropped(junk=2)), Recorded)
    assert sound(gate)


# --- where values came from -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        [{"email": "eve@evil.example"}],
        [[{"email": "eve@evil.example"}]],
        [{"email": "ada@example.com"}, {"email": "eve@evil.example"}],
        "eve@evil.example",
        '{"email": "eve@evil.example"}',
        [{"email": "ada@example.com"}, "eve@evil.example"],
        {"email": {"address": "eve@evil.example"}},
        {"email": ["ada@example.com", "eve@evil.example"]},
        7,
    ],
)
def test_no_other_form_of_an_argument_escapes_its_origin(to):
    """A list or a plain value where the policy expects an object is looked at all the same."""
    gate = made({"origin": {"to.email": ["prompt"]}})
    assert codes(
        gate.decide(Proposal("t", {"to": to}, run="r1", prompt="ask ada@example.com"))
    ) == ["origin"]


@pytest.mark.parametrize(
    "to", [{"email": "ada@example.com"}, [{"email": "ada@example.com"}], None, {}]
)
def test_values_that_came_up_pass_in_each_form(to):
    """What the user said may be sent as an object or in a list; what is not sent needs no origin."""
    gate = made({"origin": {"to.email": ["prompt"]}})
    call = Proposal("t", {"to": to}, run="r1", prompt="ask ada@example.com")
    assert isinstance(gate.decide(call), Permit)


@pytest.mark.parametrize("values", [201, 4096, 4097, 5000])
@pytest.mark.parametrize("otherwise", ["deny", "approve"])
def test_too_many_values_are_refused_whatever_their_number(values, otherwise):
    """More than can be traced is refused, and no person is asked about what nobody can look through."""
    gate = made({"origin": {"x": {"from": ["prompt"], "otherwise": otherwise}}})
    call = Proposal("t", {"x": list(range(values))}, run="r1", prompt="hello")
    assert codes(gate.decide(call)) == ["origin"]
    assert sound(gate)


def test_words_are_remembered_as_they_are_kept():
    """A lone surrogate in the user's words changes nothing about what a replay finds in them."""
    gate = made({"origin": {"x": ["prompt"]}})
    for value in ("ada", "\\ud800", "bob"):
        gate.decide(Proposal("t", {"x": value}, run="r1", prompt="tell \ud800 ada"))
    assert sound(gate)


def test_words_must_be_text():
    """The user's words that are no text are the program's mistake, and said so at once."""
    with pytest.raises(TypeError, match="prompt is a bytes; it must be a str"):
        Proposal("t", {}, prompt=b"hello")


# --- order ------------------------------------------------------------------------------------------

PAIRS = {
    "look": {"effect": "read"},
    "pay": {
        "requires": [
            {"tool": "look", "match": {"order": "result.rows.id", "who": "result.rows.who"}}
        ]
    },
}


def seen(gate, result, tool="look", **args):
    gate.settle(gate.decide(Proposal(tool, args, run="r1")), Succeeded(result))


def paid(gate, **args):
    return gate.decide(Proposal("pay", args, run="r1"))


@pytest.mark.parametrize("text", [False, True])
def test_what_is_matched_must_stand_together(text):
    """Two matched values must be of the same element of a list: order 1 is not the one of bob."""
    gate = made(tools=PAIRS)
    rows = {"rows": [{"id": 1, "who": "ada"}, {"id": 2, "who": "bob"}, {"id": 3}, 4]}
    seen(gate, json.dumps(rows) if text else rows)
    assert codes(paid(gate, order=1, who="bob")) == ["order"]
    assert codes(paid(gate, order=3, who="bob")) == ["order"]
    assert isinstance(paid(gate, order=1, who="ada"), Permit)
    assert isinstance(paid(gate, order=2, who="bob"), Permit)
    assert sound(gate)


def test_a_list_beside_a_value_stands_for_its_elements():
    """One who owns several orders owns each of them."""
    match = {"order": "result.orders.id", "who": "result.owner.name", "day": "day"}
    tools = {"look": {"effect": "read"}, "pay": {"requires": [{"tool": "look", "match": match}]}}
    gate = made(tools=tools)
    seen(gate, {"owner": {"name": "ada"}, "orders": [{"id": [1, 2]}, {"id": 3}]}, day="mon")
    for order in (1, 2, 3):
        assert isinstance(paid(gate, order=order, who="ada", day="mon"), Permit)
    assert codes(paid(gate, order=3, who="ada", day="tue")) == ["order"]


def test_a_value_and_what_is_inside_of_it():
    """A rule may look at an object and at a part of it."""
    match = {"whole": "result.a", "part": "result.a.b"}
    tools = {"look": {"effect": "read"}, "pay": {"requires": [{"tool": "look", "match": match}]}}
    gate = made(tools=tools)
    seen(gate, {"a": {"b": 1}})
    assert isinstance(paid(gate, whole={"b": 1}, part=1), Permit)
    assert codes(paid(gate, whole={"b": 1}, part=2)) == ["order"]


class Broken(dict):
    """A result that cannot be read."""

    def __getitem__(self, key):
        raise RuntimeError("the connection is closed")

    def __contains__(self, key):
        raise RuntimeError("the connection is closed")

    def values(self):
        raise RuntimeError("the connection is closed")


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("result", [Broken(rows=[]), nested(100_000), {"rows": nested(5000)}])
def test_a_result_that_cannot_be_read_settles_the_call(result):
    """The call succeeded and is on record; only what needs the result is refused later."""
    tools = {**PAIRS, "send": {"origin": {"to": ["look"]}}}
    gate = made(tools=tools)
    seen(gate, result)
    assert gate.unknowns() == []
    assert not list(gate.ledger.out())
    assert codes(paid(gate, order=1, who="ada")) == ["order"]
    assert sound(gate)


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        {"root": "top"},
        {"parent": "top"},
        {"run": "a", "parent": "top"},
        {"run": "a", "parent": "b", "root": "top"},
        {"run": "a", "parent": "top", "root": "a", "depth": 2},
    ],
)
def test_a_call_belongs_to_each_run_that_it_names(where):
    """A halt and a narrowing of a run hold for all calls below it, however these say where they are."""
    gate = made(tools={"t": {}, "u": {}})
    gate.decide(Proposal("t", {}, run="top", tools=[["t"]]))
    assert codes(gate.decide(Proposal("u", {}, **where))) == ["not_granted"]
    gate.halt(run="top", by="ada")
    assert codes(gate.decide(Proposal("t", {"n": 1}, **where))) == ["halted"]
    assert sound(gate)


@pytest.mark.parametrize(
    ("where", "deep"),
    [
        ({"run": "c", "parent": "p"}, 1),
        ({"run": "c", "parent": "p", "root": "r"}, 2),
        ({"run": "c"}, 0),
    ],
)
def test_a_run_is_as_deep_as_it_says_whose_child_it_is(where, deep):
    """Naming the runs around without counting them is no way past a limit of depth."""
    for limit in range(3):
        gate = made(limits=[{"depth": limit}])
        assert codes(gate.decide(Proposal("t", {}, **where))) == (["depth"] if deep > limit else [])


# --- what people say --------------------------------------------------------------------------------


def test_what_people_do_is_kept_in_canonical_form():
    """An entry of a halt is canonical whatever part it names, and can be derived again."""
    gate = made()
    for scope in ({"agent": "a"}, {"tenant": "t", "user": "u", "agent": "b", "run": "r"}, {}):
        gate.halt(**scope, by="ada", reason="why not")
        gate.resume(**scope, by="ada", reason="over")
    assert sound(gate)


@pytest.mark.parametrize("words", [5, None, "\ud800", "x" * 1001, b"because"])
def test_odd_words_of_people_are_refused(words):
    """A reason or a note that cannot be kept is an error, and nothing is halted or answered."""
    gate = made({"approve": True})
    asked = gate.decide(Proposal("t", {}, subject=Subject(agent="a")))
    with pytest.raises((TypeError, ValueError), match="reason "):
        gate.halt(by="ada", reason=words)
    with pytest.raises((TypeError, ValueError), match="reason "):
        gate.resume(by="ada", reason=words)
    with pytest.raises((TypeError, ValueError), match="note "):
        gate.approve(asked.request_id, by="ada", note=words)
    assert (gate.halts(), len(gate.pending())) == ([], 1)


def test_a_request_is_answered_by_its_whole_name():
    """A part of a name is no request, and neither is what is no name at all."""
    gate = made({"approve": True})
    asked = gate.decide(Proposal("t", {}))
    for name in (asked.request_id[:1], asked.request_id[:15], "%", "x." + asked.request_id):
        with pytest.raises(PermitError, match="there is no request"):
            gate.approve(name, by="ada")
    with pytest.raises(PermitError, match="is over: the same call was asked for anew"):
        gate.approve(asked.request_id[:16] + ".other", by="ada")
    for odd in (None, 5, b"x", ""):
        with pytest.raises((TypeError, ValueError), match="the request "):
            gate.approve(odd, by="ada")
    assert [asking.id for asking in gate.pending()] == [asked.request_id]


def test_an_observing_gate_asks_nobody():
    """What it only watches has run already: there is nothing to say yes to, each time anew."""
    gate = made({"approve": True}, observe=True)
    for _ in range(2):
        permit = gate.decide(Proposal("t", {}, run="r1"))
        assert permit.observed
        gate.settle(permit, Succeeded())
    assert gate.pending() == []
    assert sound(gate)


def test_what_is_only_watched_is_settled_once_too():
    """A second outcome of a watched call is as wrong as that of any other, and never on record."""
    gate = made({"args": {"required": ["x"]}}, observe=True)
    permit = gate.decide(Proposal("t", {}, run="r1"))
    assert permit.observed
    gate.settle(permit, Succeeded(1))
    with pytest.raises(PermitError, match="was settled before"):
        gate.settle(permit, Failed("no"))
    assert len(list(gate.journal)) == 3
    assert sound(gate)


def test_an_observing_gate_asks_nobody_about_digests():
    """The same where the journal keeps no arguments."""
    gate = made({"approve": True, "record": "digest"}, observe=True)
    for _ in range(2):
        gate.decide(Proposal("t", {}, run="r1"))
    assert gate.pending() == []
    assert sound(gate)


# --- outcomes -----------------------------------------------------------------------------------


class Speechless(Exception):
    """An error whose text cannot be had."""

    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize("record", ["full", "digest"])
def test_an_error_without_a_text_is_recorded(record):
    """What failed has failed, whatever its error has to say."""
    gate = made({"effect": "read", "record": record})
    gate.settle(gate.decide(Proposal("t", {})), Failed(Speechless()))
    assert not list(gate.ledger.out())
    assert '"error":"Speechless' in list(gate.journal)[-1].body


class Later:
    """Something to wait for that is no coroutine, as a future is."""

    def __await__(self):
        yield from ()


def test_what_nobody_waited_for_is_unknown():
    """A plain function that only begins something has not succeeded when it returns."""
    gate = made()
    with pytest.raises(TypeError, match="gave a Later; use `await gate.acall"):
        gate.call(Proposal("t", {}, run="r1"), Later)
    assert [unknown.tool for unknown in gate.unknowns()] == ["t"]


def test_a_generator_is_no_call():
    """Its body would run after the outcome was recorded; nothing is decided."""
    gate = made()

    def lazy():
        yield 1

    async def lazy_too():
        yield 1

    with pytest.raises(TypeError, match="is a generator"):
        gate.call(Proposal("t", {}), lazy)
    with pytest.raises(TypeError, match="is a generator"):
        asyncio.run(gate.acall(Proposal("t", {}), lazy_too))
    assert not list(gate.journal)
