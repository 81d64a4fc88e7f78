"""
Patterns for names: `*` stands for any text, `?` for one character, all else for itself.

Case matters and nothing is an escape. An exact name beats every pattern; among
patterns the one with more literal characters is the more specific one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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
    """Whether there is a name that fits both patterns."""
    if not _ends_agree(first, second):
        return False
    # shared[j]: first[i:] and second[j:] have a name in common; i counts down
    shared = [False] * len(second) + [True]
    for j in range(len(second) - 1, -1, -1):
        shared[j] = second[j] == "*" and shared[j + 1]
    for mine in reversed(first):
        after, shared = shared, [mine == "*" and shared[-1]] * (len(second) + 1)
        for j in range(len(second) - 1, -1, -1):
            theirs = second[j]
            if "*" in (mine, theirs):  # the star stands for nothing, or for what comes next
                shared[j] = after[j] or shared[j + 1]
            else:
                shared[j] = after[j + 1] and (mine == theirs or "?" in (mine, theirs))
    return shared[0]


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


def _ends_agree(first: str, second: str) -> bool:
    """Whether the literal beginnings and ends allow an overlap: settles most pairs at once."""
    head = min(_literal_head(first), _literal_head(second))
    tail = min(_literal_head(first[::-1]), _literal_head(second[::-1]))
    return first[:head] == second[:head] and (tail == 0 or first[-tail:] == second[-tail:])


def _literal_head(pattern: str) -> int:
    return next((i for i, char in enumerate(pattern) if char in _WILD), len(pattern))
