"""Patterns for names: what fits, what overlaps, and which of several wins."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.glob import is_glob, literal_count, matches, overlap, resolve, ties

PATTERNS = st.text("ab*?", max_size=6)
NAMES = st.text("abc", max_size=8)
ALL_SHORT_NAMES = ["".join(word) for size in range(7) for word in product("abc", repeat=size)]


def by_regex(pattern: str, name: str) -> bool:
    """The same question, asked of the standard library."""
    regex = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(regex, name, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("get_order", "get_order", True),
        ("get_order", "Get_order", False),
        ("get_order", "get_orders", False),
        ("get_*", "get_", True),
        ("get_*", "forget_it", False),
        ("*", "", True),
        ("?", "", False),
        ("get_?", "get_é", True),
        ("*_order", "get_order_order", True),
        ("a*b*c", "abbc", True),
        ("a*b*c", "acb", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
        ("a\\*", "a*", False),
        ("search_*", "search_*", True),
    ],
)
def test_examples(pattern: str, name: str, fits: bool) -> None:
    """Only * and ? are special, case counts, and the whole name must fit."""
    assert matches(pattern, name) is fits


@given(PATTERNS, NAMES)
def test_matching_agrees_with_regular_expressions(pattern: str, name: str) -> None:
    """A name fits exactly if the regular expression of the pattern matches it."""
    assert matches(pattern, name) is by_regex(pattern, name)


def test_matching_takes_no_longer_than_it_must() -> None:
    """A name made up to be slow is refused at once, where backtracking would never end."""
    assert not matches("*a" * 60 + "b", "a" * 1000)
    assert not matches("a*" * 60 + "b", "a" * 1000)


@given(st.text("ab*?", max_size=3), st.text("ab*?", max_size=3))
def test_overlap_agrees_with_trying_every_name(first: str, second: str) -> None:
    """Two patterns overlap exactly if some name fits both."""
    shared = any(matches(first, name) and matches(second, name) for name in ALL_SHORT_NAMES)
    assert overlap(first, second) is shared


@given(PATTERNS, PATTERNS, NAMES)
def test_overlap_is_symmetric_and_misses_nothing(first: str, second: str, name: str) -> None:
    """The order of the patterns does not matter, and a shared name proves an overlap."""
    assert overlap(first, second) is overlap(second, first)
    if matches(first, name) and matches(second, name):
        assert overlap(first, second)


@pytest.mark.parametrize(
    ("name", "winner"),
    [
        ("get_order", "get_order"),
        ("get_orders", "get_or*"),
        ("get_cat", "get_*"),
        ("put", "*"),
        ("GET_ORDER", "*"),
    ],
)
def test_the_most_specific_pattern_wins(name: str, winner: str) -> None:
    """An exact name beats every pattern; of patterns the one with more literal characters wins."""
    assert resolve(["*", "get_*", "get_order", "get_or*"], name) == winner


def test_nothing_fits() -> None:
    """A name that fits no pattern has no winner: it is an unknown tool."""
    assert resolve(["get_*", "search"], "put") is None


def test_a_pattern_as_a_name_gets_no_exact_match() -> None:
    """A model that proposes the pattern itself gets what any other name would get."""
    assert resolve(["a*", "a**"], "a*") == resolve(["a**", "a*"], "a*")
    assert resolve(["get_?"], "get_?") == "get_?"
    assert resolve(["get_?"], "get_*") == "get_?"


@given(st.lists(PATTERNS, unique=True, max_size=5), NAMES)
def test_without_ties_the_winner_does_not_depend_on_the_order(
    patterns: list[str], name: str
) -> None:
    """If nothing ties, one entry alone wins, whatever the order of the entries."""
    winner = resolve(patterns, name)
    assert resolve(patterns[::-1], name) == winner
    fitting = [p for p in patterns if is_glob(p) and matches(p, name)]
    best = max(map(literal_count, fitting), default=-1)
    rivals = [p for p in fitting if literal_count(p) == best]
    if name not in patterns and len(rivals) > 1:
        assert list(ties(patterns))


def test_ties_name_both_patterns() -> None:
    """Equally specific patterns tie only if a name can fit both; exact names never do."""
    assert list(ties(["get_*", "*_get", "put_*", "abcd"])) == [
        ("get_*", "*_get"),
        ("*_get", "put_*"),
    ]
    assert list(ties(["get_*", "put_*", "get_", "put_"])) == []
    assert list(ties(["a?", "a*"])) == [("a?", "a*")]


def test_literal_count_ignores_wildcards() -> None:
    """Specificity is the number of characters that stand for themselves."""
    assert [literal_count(p) for p in ("*", "a*b?", "abc", "")] == [0, 2, 3, 0]
