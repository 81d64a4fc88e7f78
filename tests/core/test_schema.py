"""A tool's own schema: closed, offline, prepared once, and never a way to say yes by mistake."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import schema as module
from sluicegate.canonical import freeze
from sluicegate.schema import Schema


def of_object(**properties: object) -> dict[str, object]:
    """The schema of an object with these properties."""
    return {"type": "object", "properties": properties}


INNER = of_object(b={"type": "integer"})


@pytest.mark.parametrize(
    ("document", "fits", "extra"),
    [
        (of_object(a={}), {"a": 1}, {"a": 1, "z": 1}),
        (of_object(), {}, {"z": 1}),
        (of_object(a=INNER), {"a": {"b": 1}}, {"a": {"b": 1, "z": 1}}),
        (of_object(a={"items": INNER}), {"a": [{"b": 1}]}, {"a": [{"b": 1}, {"z": 1}]}),
        (of_object(a={"prefixItems": [INNER]}), {"a": [{"b": 1}]}, {"a": [{"z": 1}]}),
        (
            {"$ref": "#/$defs/T", "$defs": {"T": of_object(a=INNER)}},
            {"a": {"b": 1}},
            {"a": {"z": 1}},
        ),
        (
            of_object(a={"$ref": "#/definitions/T"}) | {"definitions": {"T": INNER}},
            {"a": {"b": 1}},
            {"a": {"b": 1, "z": 1}},
        ),
        (
            of_object(a={"anyOf": [INNER, {"type": "null"}]}),
            {"a": None},
            {"a": {"b": 1, "z": 1}},
        ),
        (
            {
                "oneOf": [
                    of_object(a={}) | {"required": ["a"]},
                    of_object(b={}) | {"required": ["b"]},
                ]
            },
            {"b": 1},
            {"b": 1, "z": 1},
        ),
        (of_object(a={"allOf": [INNER]}), {"a": {"b": 1}}, {"a": {"z": 1}}),
        (
            of_object(a={"type": "object", "additionalProperties": INNER}),
            {"a": {"any": {"b": 1}}},
            {"a": {"any": {"z": 1}}},
        ),
        (
            of_object(a={"type": "object", "patternProperties": {"^x": INNER}}),
            {"a": {"x1": {"b": 1}}},
            {"a": {"x1": {"z": 1}}},
        ),
        (
            {"$ref": "#/$defs/Node", "$defs": {"Node": of_object(next={"$ref": "#/$defs/Node"})}},
            {"next": {"next": {}}},
            {"next": {"next": {"z": 1}}},
        ),
    ],
    ids=[
        "top",
        "no arguments",
        "nested",
        "items",
        "prefix items",
        "reference",
        "definitions",
        "union",
        "one of",
        "all of one",
        "additional",
        "pattern",
        "recursive",
    ],
)
def test_what_is_not_declared_is_refused(document, fits, extra):
    """At the top and at any depth an undeclared name does not hold, although the tool would drop it."""
    schema = Schema(document)
    assert schema.problem is None
    assert schema.holds(fits)
    assert schema.holds(freeze(fits)[0])
    assert not schema.holds(extra)
    assert not schema.holds(freeze(extra)[0])
    assert any("z" in error for error in schema.errors(extra))
    assert list(schema.errors(fits)) == []
    assert schema.holds(extra, closed=False)


@pytest.mark.parametrize(
    ("document", "args"),
    [
        (of_object(a={}) | {"additionalProperties": True}, {"a": 1, "z": 1}),
        (of_object(a={}) | {"additionalProperties": {"type": "integer"}}, {"a": 1, "z": 1}),
        (of_object(a={}) | {"patternProperties": {"^z": {}}}, {"a": 1, "z": 1}),
        (of_object(a={"type": "object"}), {"a": {"z": 1}}),
        (of_object(a=INNER | {"additionalProperties": True}), {"a": {"b": 1, "z": 1}}),
        ({"allOf": [of_object(a={}), of_object(b={})]}, {"a": 1, "b": 2}),
        (of_object(a={}) | {"allOf": [of_object(b={})]}, {"a": 1, "b": 2}),
        (of_object(a={}) | {"anyOf": [of_object(b={}), of_object(c={})]}, {"a": 1, "b": 2}),
        (
            of_object(a={}) | {"$ref": "#/$defs/T", "$defs": {"T": of_object(b={})}},
            {"a": 1, "b": 2},
        ),
        ({"allOf": [of_object(a={})], "anyOf": [of_object(b={}), {}]}, {"a": 1, "b": 2}),
        (of_object(a={}) | {"if": {}, "then": of_object(b={})}, {"a": 1, "b": 2}),
        (
            {"anyOf": [of_object(a={})], "additionalProperties": {"type": "integer"}},
            {"a": 1, "b": 2},
        ),
    ],
)
def test_what_the_tool_declares_open_stays_open(document, args):
    """Free-form objects, and subschemas that describe one object together, are not closed."""
    assert Schema(document).holds(args)


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({}, set()),
        ({"type": "object"}, set()),
        (of_object(a={}, b={}), {"a", "b"}),
        (of_object(a={}) | {"additionalProperties": False}, {"a"}),
        (of_object(a={}) | {"additionalProperties": True}, None),
        (of_object(a={}) | {"additionalProperties": {}}, None),
        (of_object(a={}) | {"patternProperties": {"x": {}}}, None),
        ({"$ref": "#/$defs/T", "$defs": {"T": of_object(a={})}}, {"a"}),
        ({"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": of_object(a={})}}, {"a"}),
        (
            {"$ref": "#/$defs/T", "$defs": {"T": of_object(a={}) | {"additionalProperties": {}}}},
            None,
        ),
        (
            {"anyOf": [of_object(a={}), {"$ref": "#/$defs/T"}], "$defs": {"T": of_object(b={})}},
            {"a", "b"},
        ),
        (
            {"allOf": [of_object(a={}), {"oneOf": [of_object(b={}), of_object(c={})]}]},
            {"a", "b", "c"},
        ),
        ({"anyOf": [of_object(a={}), True]}, None),
        ({"anyOf": [of_object(a={}), False]}, {"a"}),
        (of_object(a={}) | {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, {"a"}),
    ],
)
def test_the_names_that_a_tool_declares(document, names):
    """All names that any part of the schema declares at the top; None if the tool takes any."""
    assert Schema(document).names == names


def test_names_are_found_once_however_often_they_are_referred_to():
    """A schema of references to references is read in the time of its size, not of its unfolding."""
    defs: dict[str, object] = {"D0": of_object(a={})}
    for i in range(1, 30):
        defs[f"D{i}"] = {"anyOf": [{"$ref": f"#/$defs/D{i - 1}"}] * 30}
    assert Schema({"$ref": "#/$defs/D29", "$defs": defs}).names == {"a"}


@pytest.mark.parametrize("name", ["not", "if", "allOf", "$ref", "properties", "oneOf", "contains"])
def test_arguments_may_be_called_like_keywords(name):
    """A tool with an argument named `not` or `allOf` is closed like any other."""
    schema = Schema(of_object(**{name: INNER, "other": {"default": {"allOf": 5, "if": 1}}}))
    assert schema.problem is None
    assert schema.holds({name: {"b": 1}})
    assert not schema.holds({name: {"b": 1, "z": 1}})
    assert Schema(of_object(**{name: True})).names == {name}


# --- closing may only refuse more --------------------------------------------------------------

KEYS = st.sampled_from("abc")
SCHEMAS = st.recursive(
    st.sampled_from([{}, {"type": "integer"}, {"const": 1}, False, {"$ref": "#/$defs/T"}]),
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, max_size=2).map(lambda p: {"type": "object", "properties": p}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"oneOf": parts}),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"anyOf": parts}),
        inner.map(lambda part: {"not": part}),
        inner.map(lambda part: {"contains": part, "maxContains": 1}),
        inner.map(lambda part: {"items": part}),
        inner.map(lambda part: {"additionalProperties": part}),
        st.tuples(inner, inner).map(lambda two: {"if": two[0], "then": two[1]}),
    ),
    max_leaves=6,
)
ARGS = st.dictionaries(
    KEYS,
    st.recursive(
        st.sampled_from([1, 2, None]),
        lambda inner: st.one_of(
            st.dictionaries(KEYS, inner, max_size=2), st.lists(inner, max_size=3)
        ),
        max_leaves=4,
    ),
    max_size=3,
)


@given(SCHEMAS, SCHEMAS, st.lists(ARGS, min_size=1, max_size=8))
def test_what_a_schema_refuses_its_closed_form_refuses(part, definition, examples):
    """Closing a branch of `oneOf` or of `not` must not make arguments hold that did not."""
    document = {"allOf": [part], "$defs": {"T": of_object(a=definition)}}
    schema = Schema(document)
    for args in examples:
        if schema.holds(args):
            assert schema.holds(args, closed=False)
        assert schema.holds(args) == (list(schema.errors(args)) == [])


def test_branches_that_exclude_one_another_only_when_closed():
    """Arguments that fit two branches of `oneOf` are refused, with the words of the open schema."""
    schema = Schema({"oneOf": [of_object(a={}), of_object(a={}, b={})]})
    assert not schema.holds({"a": 1, "b": 2})
    assert any("more than one" in error for error in schema.errors({"a": 1, "b": 2}))


# --- schemas that cannot be used -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"type": "objekt"}, "objekt"),
        ({"properties": 5}, "5 is not"),
        ({"properties": {"a": 5}}, "5 is not"),
        ({"required": "a"}, "is not of type"),
        ({"properties": {"a": {"pattern": "("}}}, "regex"),
        ({"$ref": "#/$defs/missing"}, "does not exist"),
        ({"$ref": "https://example.com/tool.json"}, "nothing is fetched"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "nothing is fetched"),
        ({"$id": "https://example.com/a", "$ref": "b"}, "nothing is fetched"),
        ({"default": math.nan}, "it is not JSON: default is nan"),
        ({"enum": (1, 2)}, "it is not JSON: enum is a tuple"),
        ({"properties": {1: {}}}, "it is not JSON: properties has a key"),
        ({"title": "\ud800"}, "it is not JSON: title has a lone surrogate"),
    ],
)
def test_an_unusable_schema_holds_nothing(document, problem):
    """A schema that is broken, remote or no JSON refuses every call and says why."""
    schema = Schema(document)
    assert problem in schema.problem
    assert schema.names is None
    for closed in (True, False):
        assert not schema.holds({}, closed=closed)
        (error,) = schema.errors({"a": 1}, closed=closed)
        assert error == f"the tool's own schema cannot be used: {schema.problem}"


def test_the_dialect_is_always_2020_12():
    """`$schema` neither fetches anything nor turns keywords off."""
    for dialect in ("http://json-schema.org/draft-07/schema#", "https://example.com/lax"):
        schema = Schema({"$schema": dialect, **of_object(a={"type": "integer"}), "required": ["a"]})
        assert schema.problem is None
        assert schema.holds({"a": 1})
        assert not schema.holds({"a": "1"})
        assert not schema.holds({})
        assert not schema.holds({"a": 1, "z": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [{"type": "number"}, {"type": "integer"}, {"enum": [1, None]}])
def test_nan_is_no_number(value, kind):
    """Not a number is no number, also where the arguments were never frozen."""
    schema = Schema(of_object(a=kind))
    assert not schema.holds({"a": value})
    assert not schema.holds({"a": value}, closed=False)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 - 1, -(2**63)])
def test_integers_of_64_bits_are_compared_exactly(number):
    """No limit is off by one because a number went through a float."""
    assert Schema(of_object(a={"type": "integer", "maximum": number})).holds({"a": number})
    assert not Schema(of_object(a={"exclusiveMaximum": number})).holds({"a": number})
    assert Schema(of_object(a={"const": number})).holds({"a": number})
    assert not Schema(of_object(a={"const": number})).holds({"a": number - 1})


def test_a_hostile_pattern_and_text_take_linear_time():
    """`(a+)+$` against a long run of a's ends: a backtracking matcher would need 2**100000 steps."""
    program = (
        "from sluicegate.schema import Schema\n"
        "s = Schema({'properties': {'a': {'pattern': '^(a+)+$'}, 'b': {'pattern': '^(a|a)*$'}}})\n"
        "assert s.problem is None\n"
        "assert s.holds({'a': 'a' * 100_000, 'b': 'a' * 100_000})\n"
        "assert not s.holds({'a': 'a' * 100_000 + '!'})\n"
        "assert not s.holds({'b': 'a' * 100_000 + '!'})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)


# --- what it says --------------------------------------------------------------------------------


def test_errors_name_the_argument():
    """Each complaint begins with the path of the argument and is short, whatever was sent."""
    document = of_object(
        lines={"type": "array", "items": of_object(n={"type": "integer"})}, note={"maxLength": 3}
    )
    args = {"lines": [{"n": 1}, {"n": "x" * 10_000}], "note": "four"}
    errors = sorted(Schema(document).errors(args))
    assert [error.partition(":")[0] for error in errors] == ["lines[1].n", "note"]
    assert all(len(error) < 400 for error in errors)


def test_complaints_end_somewhere():
    """A thousand wrong arguments are not a thousand sentences."""
    args = {f"z{i}": "x" for i in range(1000)}
    document = {"additionalProperties": {"type": "integer"}}
    assert 1 <= len(list(Schema(document).errors(args))) <= 100


def test_a_schema_shows_its_digest_and_names():
    """The digest is that of the document's canonical form, and the order of keys is no part of it."""
    document = of_object(b={}, a={})
    schema = Schema(document)
    assert schema.text == freeze(document)[1]
    assert schema.digest == Schema(dict(reversed(document.items()))).digest
    assert schema.digest != Schema(of_object(a={})).digest
    assert repr(schema) == f"Schema({schema.digest[:19]}…, names=['a', 'b'])"
    assert "names=any" in repr(Schema({"additionalProperties": True}))


# --- prepared once -------------------------------------------------------------------------------


def test_a_schema_is_prepared_once_for_its_content():
    """Equal documents share one prepared schema, and a prepared one is taken as it is."""
    document = of_object(a={"type": "integer"}, cached={})
    schema = Schema.of(document)
    assert Schema.of(copy.deepcopy(document)) is schema
    assert Schema.of(schema) is schema
    assert Schema.of(MappingProxyType(document)).digest == schema.digest


@pytest.mark.parametrize("prepare", [Schema, Schema.of])
def test_changing_the_document_afterwards_changes_no_prepared_schema(prepare):
    """A framework that mutates its own schema in place gets a different one, not a stale one."""
    document = of_object(a={"type": "integer"}, mutated={"enum": [1]})
    schema = prepare(document)
    digest = schema.digest
    document["properties"]["a"]["type"] = "string"
    document["properties"]["mutated"]["enum"].append(2)
    assert schema.digest == digest
    assert schema.holds({"a": 1, "mutated": 1})
    assert not schema.holds({"a": "x"})
    assert not schema.holds({"mutated": 2})
    changed = prepare(document)
    assert changed.digest != digest
    assert changed.holds({"a": "x", "mutated": 2})


def test_true_and_one_are_different_schemas():
    """Values that Python takes for equal do not share a prepared schema."""
    for one, other in ((True, 1), (0, False), (1, 1.5)):
        first, second = (
            Schema.of(of_object(a={"const": one})),
            Schema.of(of_object(a={"const": other})),
        )
        assert first is not second
        assert first.holds({"a": one})
        assert not first.holds({"a": other})


def test_the_cache_has_an_end():
    """Schemas that are made up for each call do not fill the memory."""
    for i in range(1100):
        assert Schema.of({"title": str(i)}).problem is None
    assert len(module._cache) <= 1024


def test_patterns_that_look_ahead_are_bounded():
    """A pattern beyond linear time works, and text that would take it for ever is refused at once."""
    decimal = {"type": "string", "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}
    slow = {"type": "string", "pattern": "^(?=a)(a+)+$"}
    schema = Schema({"type": "object", "properties": {"d": decimal, "s": slow}})
    assert schema.problem is None
    assert schema.holds({"d": "12.5", "s": "aaa"})
    assert not schema.holds({"d": "+."})
    assert not schema.holds({"s": "a" * 5_000 + "!"})
