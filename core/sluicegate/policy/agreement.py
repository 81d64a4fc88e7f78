"""What is wrong between the parts of a policy: names that nothing has, rules that nothing can keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ..glob import is_glob, overlap, ties
from .fault import Fault, Path, accepted, shown
from .limits import BUILT_IN, Budget
from .values import FACTS, PROMPT

if TYPE_CHECKING:
    from .model import Policy
    from .tool import Tool

__all__ = ["disagreements", "fits_any", "unlisted"]

_MOST_GLOBS: Final = 500
_MOST: Final = 10
"""Faults of one kind: more of them help nobody, and looking for a fit takes its time."""


def disagreements(policy: Policy) -> Iterator[Fault]:
    """What is wrong between the parts of *policy*, at most ten faults of each kind."""
    yield from islice(_ties(policy.tools), _MOST)
    yield from islice(_idle_budgets(policy), _MOST)
    yield from _of_tools_named(policy)
    yield from islice(_idle_flows(policy), _MOST)


def fits_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether there is a name that fits *name* and one of *patterns*."""
    return any(overlap(name, pattern) for pattern in patterns)


def unlisted(pattern: str, tools: Mapping[str, Tool], at: Path) -> Iterator[Fault]:
    """The fault of *pattern*, at *at*, if there is no entry of *tools* for a name that fits it."""
    if pattern in tools or fits_any(pattern, tools):
        return
    hint, _, _ = accepted(pattern, tools).partition(" accepted:")
    close = hint if hint.startswith("did") else "list it under tools, or remove it"
    yield Fault(f"is {shown(pattern)}, which fits no listed tool", close, at=at)


def _ties(tools: Mapping[str, Tool]) -> Iterator[Fault]:
    globs = [name for name in tools if is_glob(name)]
    if len(globs) > _MOST_GLOBS:
        yield Fault(
            f"has {len(globs)} patterns", f"at most {_MOST_GLOBS}", at=("tools",), on_key=True
        )
        return
    order = {name: i for i, name in enumerate(globs)}
    for pair in ties(globs):
        first, second = sorted(pair, key=order.__getitem__)
        yield Fault(
            f"and {first} are equally specific, and some names fit both",
            "the pattern with more literal characters wins; make one of the two longer",
            at=("tools", second),
            on_key=True,
        )


def _idle_budgets(policy: Policy) -> Iterator[Fault]:
    names = {BUILT_IN, *(name for tool in policy.tools.values() for name in tool.cost)}
    for i, limit in enumerate(policy.limits):
        if isinstance(limit, Budget) and limit.budget not in names:
            yield Fault(
                f"is {limit.budget!r}, which no tool costs, so this limit would never apply",
                accepted(limit.budget, sorted(names)),
                at=("limits", i, "budget"),
            )


def _idle_flows(policy: Policy) -> Iterator[Fault]:
    carried = {label for tool in policy.tools.values() for label in tool.labels}
    for i, flow in enumerate(policy.flows):
        for key in ("after", "deny"):
            labels: tuple[str, ...] = getattr(flow, key)
            for j, label in enumerate(labels):
                if label not in carried:
                    yield Fault(
                        f"is {label!r}, a label that no tool has, so this flow would never apply",
                        accepted(label, sorted(carried)) if carried else "give tools `labels`",
                        at=("flows", i, key, j),
                    )


def _of_tools_named(policy: Policy) -> Iterator[Fault]:
    """Tools that rules look back or forward to, and that have no entry or can never run."""
    named = [*_of_requires(policy), *_of_origins(policy), *_of_contracts(policy)]
    patterns = {pattern for pattern, _ in named if is_glob(pattern)}
    if len(patterns) > _MOST_GLOBS:
        problem = f"name {len(patterns)} different patterns in their rules"
        yield Fault(problem, f"at most {_MOST_GLOBS}", at=("tools",), on_key=True)
        return
    faults = (fault for pattern, at in named for fault in unlisted(pattern, policy.tools, at))
    unknown = list(islice(faults, _MOST))
    yield from unknown
    if not unknown:  # a misspelt name is the cause, and not that nothing can be first
        yield from islice(_never_first(policy.tools), _MOST)


def _of_requires(policy: Policy) -> Iterator[tuple[str, Path]]:
    for name, tool in policy.tools.items():
        for i, required in enumerate(tool.requires):
            yield required.tool, ("tools", name, "requires", i, "tool")


def _of_origins(policy: Policy) -> Iterator[tuple[str, Path]]:
    for name, tool in policy.tools.items():
        for argument, rule in tool.origin.items():
            at: Path = ("tools", name, "origin", argument)
            if isinstance(_written(policy, at), Mapping):
                at = (*at, "from")
            for i, source in enumerate(rule.sources):
                if source != PROMPT and not source.startswith(f"{FACTS}."):
                    yield source, (*at, i)


def _of_contracts(policy: Policy) -> Iterator[tuple[str, Path]]:
    for i, contract in enumerate(policy.contracts):
        yield contract.when, ("contracts", i, "when")
        yield contract.then, ("contracts", i, "then")


def _written(policy: Policy, at: Path) -> object:
    value: Any = policy.document
    for key in at:
        value = value[key]
    return value


def _never_first(tools: Mapping[str, Tool]) -> Iterator[Fault]:
    """
    Tools of which each waits for itself, or for others that wait for it.

    What requires nothing can run, and so can what requires only tools that can; a
    pattern that fits several entries needs one of them.
    """
    waiting = {
        name: set(range(len(tool.requires))) for name, tool in tools.items() if tool.requires
    }
    patterns = {required.tool for name in waiting for required in tools[name].requires}
    entries = {pattern: _entries(pattern, tools) for pattern in patterns}
    served: dict[str, list[tuple[str, int]]] = {name: [] for name in tools}
    for name, needs in waiting.items():
        for i in needs:
            for entry in entries[tools[name].requires[i].tool]:
                served[entry].append((name, i))
    able = [name for name in tools if name not in waiting]
    while able:
        for name, i in served[able.pop()]:
            needs = waiting.get(name, set())
            needs.discard(i)
            if not needs and waiting.pop(name, None) is not None:
                able.append(name)
    for name, needs in waiting.items():
        first = min(needs)
        required = tools[name].requires[first].tool
        why, hint = "has to wait as well", "tools cannot wait for one another; leave out one"
        if required == name:
            why, hint = "is the tool itself", "name another tool"
        yield Fault(
            f"is {shown(required)}, which {why}, so {name} could never run",
            hint,
            at=("tools", name, "requires", first, "tool"),
        )


def _entries(pattern: str, tools: Mapping[str, Tool]) -> list[str]:
    """The entries that a call could be under whose name fits *pattern*."""
    if is_glob(pattern):
        return [name for name in tools if overlap(name, pattern)]
    if pattern in tools:
        return [pattern]
    return [name for name in tools if is_glob(name) and overlap(name, pattern)]
