"""The frozen copy: what was decided cannot change any more."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.canonical import FrozenDict, FrozenList, freeze, thaw

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.just(1.5), st.text(max_size=4)
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


def containers(value: Any) -> list[Any]:
    """All lists and dicts in *value*, the outer ones first."""
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in containers(item))]
    if isinstance(value, list):
        return [value, *(found for item in value for found in containers(item))]
    return []


@given(DOCUMENTS)
def test_freezing_leaves_the_original_alone(document):
    """The original is the same objects with the same content afterwards."""
    before, parts = json.dumps(document), containers(document)
    freeze(document)
    assert json.dumps(document) == before
    assert all(type(part) in (dict, list) for part in parts)
    assert all(a is b for a, b in zip(parts, containers(document), strict=True))


@given(DOCUMENTS)
def test_nothing_that_happens_to_the_original_reaches_the_copy(document):
    """Emptying every list and dict of the original, however deep, changes nothing."""
    frozen, text = freeze(document)
    for part in containers(document):
        part.clear()
    assert freeze(frozen)[1] == text


@given(DOCUMENTS)
def test_every_container_of_the_copy_is_frozen(document):
    """No plain list or dict is left at any depth."""
    assert {type(part) for part in containers(freeze(document)[0])} <= {FrozenDict, FrozenList}


DICT_CHANGES = {
    "set": lambda d: operator.setitem(d, "a", 2),
    "set new": lambda d: operator.setitem(d, "z", 2),
    "delete": lambda d: operator.delitem(d, "a"),
    "clear": lambda d: d.clear(),
    "pop": lambda d: d.pop("a"),
    "pop default": lambda d: d.pop("z", None),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("z", 1),
    "setdefault there": lambda d: d.setdefault("a", 1),
    "update": lambda d: d.update(a=2),
    "update nothing": lambda d: d.update(),
    "|=": lambda d: operator.ior(d, {"a": 2}),
}
LIST_CHANGES = {
    "set": lambda x: operator.setitem(x, 0, 2),
    "set slice": lambda x: operator.setitem(x, slice(None), []),
    "delete": lambda x: operator.delitem(x, 0),
    "append": lambda x: x.append(1),
    "clear": lambda x: x.clear(),
    "extend": lambda x: x.extend([1]),
    "insert": lambda x: x.insert(0, 1),
    "pop": lambda x: x.pop(),
    "remove": lambda x: x.remove(3),
    "reverse": lambda x: x.reverse(),
    "sort": lambda x: x.sort(),
    "sort by key": lambda x: x.sort(key=lambda _: 0, reverse=True),
    "+=": lambda x: operator.iadd(x, [1]),
    "*=": lambda x: operator.imul(x, 2),
}


@pytest.mark.parametrize("change", DICT_CHANGES.values(), ids=DICT_CHANGES)
def test_no_mutator_changes_a_frozen_object(change):
    """Each way to change a dict raises TypeError, names the way out, and changes nothing."""
    frozen, text = freeze({"b": {"a": 1}})
    with pytest.raises(TypeError, match=r"frozen.*sluicegate\.thaw\(\)"):
        change(frozen["b"])
    assert freeze(frozen)[1] == text


@pytest.mark.parametrize("change", LIST_CHANGES.values(), ids=LIST_CHANGES)
def test_no_mutator_changes_a_frozen_array(change):
    """Each way to change a list raises TypeError, names the way out, and changes nothing."""
    frozen, text = freeze({"b": [3, 1, 2]})
    with pytest.raises(TypeError, match=r"frozen.*sluicegate\.thaw\(\)"):
        change(frozen["b"])
    assert freeze(frozen)[1] == text


def test_no_mutator_was_forgotten():
    """Whatever a list has and a tuple lacks, and a dict beyond reading, is overridden."""
    harmless = {"copy", "__reversed__"}
    for name in set(dir(list)) - set(dir(tuple)) - harmless:
        assert getattr(FrozenList, name) is not getattr(list, name), name
    reading = set(dir(list)) | {
        "copy",
        "get",
        "items",
        "keys",
        "values",
        "fromkeys",
        "__or__",
        "__ror__",
    }
    for name in set(dir(dict)) - reading | {"__setitem__", "__delitem__", "pop", "clear"}:
        assert getattr(FrozenDict, name) is not getattr(dict, name), name


def test_frozen_values_take_no_new_attributes():
    """There is no place beside the content where something could be hidden."""
    frozen = freeze({"b": [1]})[0]
    for part in containers(frozen):
        with pytest.raises(AttributeError):
            part.extra = 1


def test_a_frozen_value_combines_into_plain_ones():
    """`|`, `+`, `copy()` and `**` make new, plain values and leave the frozen ones alone."""
    frozen, text = freeze({"a": [1], "b": 2})
    combined = [frozen | {"c": 3}, frozen.copy(), {**frozen}, frozen["a"] + [2], frozen["a"].copy()]
    assert [type(value) for value in combined] == [dict, dict, dict, list, list]
    for value in combined:
        value.clear()
    assert freeze(frozen)[1] == text


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(
            pickle.dumps(value, protocol)
        )
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@given(st.sampled_from(list(COPIES)), DOCUMENTS)
def test_copies_of_a_frozen_value_are_equal_and_frozen(way, document):
    """Frameworks copy and pickle what they are given; it stays the same frozen value."""
    frozen, text = freeze(document)
    twin = COPIES[way](frozen)
    assert freeze(twin)[1] == text
    assert [type(part) for part in containers(twin)] == [type(part) for part in containers(frozen)]


@given(DOCUMENTS)
def test_a_frozen_value_is_written_by_json_like_the_original(document):
    """json.dumps, isinstance and equality treat it as the dict or list that it is."""
    frozen = freeze(document)[0]
    assert json.dumps(frozen) == json.dumps(document)
    assert frozen == document


@given(DOCUMENTS)
def test_thaw_gives_fresh_plain_values(document):
    """Each thawed copy is plain all through and shares no list or dict with anything."""
    frozen, text = freeze(document)
    first, second = thaw(frozen), thaw(frozen)
    assert {type(part) for part in containers(first)} <= {dict, list}
    everything = containers(frozen) + containers(first) + containers(second)
    assert len({id(part) for part in everything}) == len(everything)
    for part in containers(first):
        part.clear()
    assert freeze(frozen)[1] == freeze(second)[1] == text


@given(DOCUMENTS)
def test_freezing_and_thawing_go_round(document):
    """Freezing a thawed or a frozen value again gives the same copy and the same text."""
    frozen, text = freeze(document)
    for again in (freeze(thaw(frozen)), freeze(frozen)):
        assert again[1] == text
        assert json.dumps(again[0]) == json.dumps(frozen)
