"""What a run owes under `contracts`: calls that had to follow others and did not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from ..canonical import NotCanonical, freeze, is_object, loads
from ..glob import is_glob, literal_count, matches
from .acts import ABSENT, Act, Moment
from .value import Owed, on_one_line

if TYPE_CHECKING:
    from ..policy.model import Contract

__all__ = ["owed"]

Path: TypeAlias = tuple[str, ...]
Row: TypeAlias = "tuple[str | None, ...]"
"""A value for each pair of a `match`, as canonical text; None where there is none."""

_MOST: Final = 1000
"""So many values of one call are matched; for more of them one is owed that says so."""

_DONE: Final = frozenset({"succeeded", "recorded"})
_DOUBTFUL: Final = frozenset({"unknown", "open"})
_ASKING: Final = _DOUBTFUL | {"succeeded"}


def owed(contracts: Sequence[Contract], acts: Sequence[Act]) -> Iterator[Owed]:
    """What each of *contracts* asks for and none of *acts* has answered."""
    for index, contract in enumerate(contracts):
        yield from _Terms(f"contracts[{index}]", contract).owed(acts)


class _Tries(NamedTuple):
    """Calls that fit what is asked for, by what they match on: when the last done one began, and all."""

    done: dict[Row, Moment]
    all: dict[Row, list[Act]]


class _Terms:
    """One contract, read once."""

    def __init__(self, where: str, contract: Contract) -> None:
        self._where = where
        self._when, self._then = contract.when, contract.then
        pairs = sorted(contract.match.items())
        self._names = [(own, theirs) for own, theirs in pairs]
        self._own = {i: tuple(own.split(".")) for i, (own, _) in enumerate(pairs)}
        self._theirs = {i: _earlier(theirs) for i, (_, theirs) in enumerate(pairs)}

    def owed(self, acts: Sequence[Act]) -> Iterator[Owed]:
        tries = self._tries(acts)
        for act in acts:
            if act.state in _ASKING and self._asks(act.tool):
                for row in self._wanted(act):
                    done = None if row is None else tries.done.get(row)
                    if done is None or act.ended is None or done <= act.ended:
                        yield self._told(
                            act, row, tries.all.get(row, []) if row is not None else []
                        )

    def _asks(self, tool: str) -> bool:
        """
        Whether a call of *tool* asks for another one.

        Where `then` is the narrower pattern its own calls do not: `*` followed by
        `write_log` would else never be fulfilled.
        """
        if not matches(self._when, tool):
            return False
        return not (matches(self._then, tool) and _narrower(self._then, self._when))

    def _tries(self, acts: Iterable[Act]) -> _Tries:
        done: dict[Row, Moment] = {}
        tried: dict[Row, list[Act]] = {}
        for act in acts:
            if not matches(self._then, act.tool):
                continue
            for row in itertools.islice(_rows(act.args, self._own), _MOST):
                tried.setdefault(row, []).append(act)
                if act.state in _DONE and None not in row:
                    done[row] = act.began
        return _Tries(done, tried)

    def _wanted(self, act: Act) -> Iterator[Row | None]:
        """What the calls that follow must match on; None for what nobody looks at any more."""
        root = {"args": act.args, "result": _read(act.result)}
        found = _rows(root, self._theirs)
        yield from dict.fromkeys(itertools.islice(found, _MOST))
        if next(found, None) is not None:
            yield None

    def _told(self, act: Act, row: Row | None, tries: Sequence[Act]) -> Owed:
        match = () if row is None else tuple(zip((own for own, _ in self._names), row, strict=True))
        missing, way_out = self._story(act, row, tries)
        return Owed(
            contract=self._where,
            call=act.call(),
            then=self._then,
            match=tuple((name, value or "") for name, value in match),
            missing=missing,
            way_out=way_out,
        )

    def _story(self, act: Act, row: Row | None, tries: Sequence[Act]) -> tuple[str, str]:
        wanted = self._in_words(row)
        if row is None:
            return (
                f"asks for more than {_MOST} calls of {self._then}, of which no more are looked at",
                "make calls that are about fewer things",
            )
        if None in row:
            lost = self._names[row.index(None)][1]
            return (
                f"asks for {self._then}, and the journal has no {lost} of it to tell which",
                "have it match on something that is kept",
            )
        if act.state == "open":
            return f"is under way and asks for {wanted} after it", "wait for its end"
        if act.state == "unknown":
            return (
                f"asks for {wanted} if it took effect, which nobody knows",
                "have a person reconcile it, then do what is owed",
            )
        told = _telling(act, tries)
        return f"asks for {wanted}, which {_history(tries, told)}", _way_out(told, wanted)

    def _in_words(self, row: Row | None) -> str:
        told = [
            f"{own} {on_one_line(value, 60)}"
            for (own, _), value in zip(self._names, row or (), strict=False)
            if value is not None
        ]
        return f"{self._then} with {', '.join(told)}" if told else self._then


def _narrower(pattern: str, other: str) -> bool:
    """Whether *pattern* beats *other* where both fit, as in the rest of the policy."""
    if not is_glob(pattern):
        return is_glob(other)
    return is_glob(other) and literal_count(pattern) > literal_count(other)


# --- what was tried ------------------------------------------------------------------------------


def _telling(act: Act, tries: Sequence[Act]) -> list[Act]:
    """Those of *tries* that matter: what came to nothing before *act* had ended does not."""
    ended = act.ended or act.began
    return [
        one for one in tries if one.state in _DOUBTFUL or one.state in _DONE or one.began > ended
    ]


def _history(tries: Sequence[Act], telling: Sequence[Act]) -> str:
    """What there is in place of the call that is owed, in words."""
    if not telling:
        return "was not called after it" if tries else "was never called"
    told: list[str] = []
    early = sum(one.state in _DONE for one in telling)
    if early:
        told.append(f"succeeded {early}×, but began before this one had ended")
    for state in ("failed", "unknown", "open", "refused", "deferred"):
        found = [one for one in telling if one.state == state]
        if found:
            told.append(_state(state, found))
    return ", ".join(told)


def _state(state: str, found: Sequence[Act]) -> str:
    last = found[-1]
    if state == "failed":
        why = on_one_line(last.error) or "no message"
        return f"failed {len(found)}×, the last time with {why} (entry {last.entry})"
    if state == "unknown":
        return f"has an unknown outcome (permit {last.content['permit']})"
    if state == "open":
        return f"is under way (permit {last.content['permit']})"
    if state == "refused":
        return f"was refused {len(found)}× ({', '.join(last.codes)})"
    return f"needs a person's yes (request {last.content['request']})"


def _way_out(tries: Sequence[Act], wanted: str) -> str:
    """What to do about the call that is owed: never repeat one of which nobody knows."""
    states = {one.state: one for one in tries}
    if "unknown" in states:
        permit = states["unknown"].content["permit"]
        return f"do not repeat it: have a person reconcile permit {permit}"
    if "open" in states:
        return "wait for its end"
    if tries and tries[-1].state == "deferred":
        return "have a person answer, then make the same call again"
    return f"call {wanted}"


# --- values --------------------------------------------------------------------------------------


def _earlier(name: str) -> Path:
    """Where a value of the earlier call is: in its result or among its arguments."""
    path = tuple(name.split("."))
    return path if path[0] == "result" else ("args", *path)


def _rows(value: Any, paths: Mapping[int, Path]) -> Iterator[Row]:
    """
    The values at *paths*, one row for each combination: a list stands for its elements.

    Values out of the same element stay together. An empty list gives no row.
    """
    for found in _found(value, paths):
        yield tuple(found[i] for i in range(len(paths)))


def _found(value: Any, paths: Mapping[int, Path]) -> Iterator[dict[int, str | None]]:
    if paths and isinstance(value, (list, tuple)):
        for item in cast("Sequence[Any]", value):
            yield from _found(item, paths)
        return
    here = {i: _text(value) for i, path in paths.items() if not path}
    below: dict[str, dict[int, Path]] = {}
    for i, path in paths.items():
        if path:
            below.setdefault(path[0], {})[i] = path[1:]
    parts = [
        list(itertools.islice(_found(_child(value, name), rest), _MOST + 1))
        for name, rest in below.items()
    ]
    for combination in itertools.product(*parts):
        row = dict(here)
        for part in combination:
            row.update(part)
        yield row


def _child(value: Any, name: str) -> Any:
    return value[name] if is_object(value) and name in value else None


def _text(value: Any) -> str | None:
    if value is None or value is ABSENT:
        return None
    try:
        return freeze(value)[1]
    except NotCanonical:
        return None


def _read(result: object) -> object:
    """A result as JSON: frameworks hand it on as text."""
    if isinstance(result, str):
        try:
            return loads(result)
        except NotCanonical:
            return result
    return result
