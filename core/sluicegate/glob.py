"""
Patterns for names: `*` stands for any text, `?` for one character, all else for itself.

Case matters and nothing is an escape. An exact name beats every pattern; among
patterns the one with more literal characters is the more specific one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import combinations, groupby

__all__ = ["is_glob", "literal_count", "matches", "overlap", "resolve", "ties"]

_WILD = "*?"


def is_glob(pattern: str) -> bool:
    """Whether *pattern* has a wildcard, so that it is not simply a name."""
    return "*" in pattern or "?" in pattern


def literal_count(pattern: str) -> int:
    """How many characters of *pattern* stand for themselves: its specificity."""
    return len(pattern) - pattern.count("*") - pattern.count("?")


def matches(pattern: str, name: str) -> bool:
    """
    Whether *name* fits *pattern*.

    Only the last `*` is ever tried again, so this takes at most
    len(pattern) × len(name) steps, whatever a model makes up as a name.
    """
    at = taken = retry = 0
    star = -1
    while taken < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, taken
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[taken]):
            at += 1
            taken += 1
        elif star >= 0:
            retry += 1
            at, taken = star + 1, retry
        else:
            return False
    return pattern.count("*", at) == len(pattern) - at


def overlap(first: str, second: str) -> bool:
    """
    Whether there is a name that fits both patterns.

    Reads *first* one character at a time. Bit j says that what was read so far can
    also be read as the first j characters of *second*.
    """
    if not _ends_agree(first, second):
        return False
    end, stars, single, literal = _masks(second)
    reached = 1 | (stars & 1) << 1
    for mine in first:
        if mine == "*":  # it may stand for all that follows
            reached = -(reached & -reached) & ((2 << end) - 1)
        else:
            fits = single if mine == "?" else literal.get(mine, literal["?"])
            reached = (reached & fits) << 1 | (reached & stars)
            reached |= (reached & stars) << 1  # a star may also stand for nothing
    return bool(reached >> end & 1)


def resolve(patterns: Collection[str], name: str) -> str | None:
    """
    The most specific of *patterns* that *name* fits, None if it fits none.

    Patterns among which this would be a matter of luck are `ties`, which no policy has.
    """
    if not is_glob(name) and name in patterns:
        return name
    fitting = [pattern for pattern in patterns if is_glob(pattern) and matches(pattern, name)]
    return max(fitting, key=lambda pattern: (literal_count(pattern), pattern), default=None)


def ties(patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of *patterns* that are equally specific and can both fit one name."""
    globs = sorted(filter(is_glob, patterns), key=literal_count)
    for _, equals in groupby(globs, key=literal_count):
        yield from (pair for pair in combinations(equals, 2) if overlap(*pair))


@lru_cache(512)
def _masks(pattern: str) -> tuple[int, int, int, dict[str, int]]:
    """The length of *pattern*, and as bits where its stars, its other parts and each character are."""
    pattern = re.sub(r"\*+", "*", pattern)
    stars = sum(1 << j for j, char in enumerate(pattern) if char == "*")
    wild = sum(1 << j for j, char in enumerate(pattern) if char == "?")
    literal = dict.fromkeys(pattern, wild) | {"?": wild}
    for j, char in enumerate(pattern):
        literal[char] |= 1 << j
    return len(pattern), stars, ((1 << len(pattern)) - 1) & ~stars, literal


def _ends_agree(first: str, second: str) -> bool:
    """Whether the literal beginnings and ends allow an overlap: settles most pairs at once."""
    head = min(_literal_head(first), _literal_head(second))
    tail = min(_literal_head(first[::-1]), _literal_head(second[::-1]))
    return first[:head] == second[:head] and (tail == 0 or first[-tail:] == second[-tail:])


def _literal_head(pattern: str) -> int:
    return next((i for i, char in enumerate(pattern) if char in _WILD), len(pattern))
