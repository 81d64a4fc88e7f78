"""
Which cells are over, and the request that removes them. Pure.

A cell is over when no later decision can depend on it any more. For most kinds that
is a fact: a window that has passed, a bucket that is full again, leases that have
ended. What belongs to a run, and a call id, could matter at any time; they are over when
nothing was heard of them for as long as `Keep` says. Everything else stays: a key without
a `within`, an unknown outcome, a halt, a breaker, a budget that never ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from .canonical import loads
from .claims import Cell
from .claims.standing import HEARD, run_key
from .entries import amending_entry
from .ledger.base import Amending
from .window import Window

__all__ = ["Keep", "family", "over", "run_of", "sweeping", "swept", "swept_one_by_one"]

_DAY: Final = 86_400_000_000

MARGIN: Final = 60_000_000
"""So many µs longer everything is kept: the clocks of a fleet's servers are not one."""


class Keep(NamedTuple):
    """
    For how long something is kept after it was last heard of, in µs.

    *runs*: what a run remembers and has used, after its last call. *calls*: call ids,
    keys whose `within` has passed, and requests for a person's yes that have expired.
    """

    runs: int = 30 * _DAY
    calls: int = 30 * _DAY


def family(key: str) -> str:
    """The kind of a cell, by its key."""
    kind = key.partition("|")[0]
    return "turns" if kind.startswith("turns") else kind


def over(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    """
    Whether no decision at *at* or later can depend on the *cell* under *key*.

    *run* is the cell of the run that the key belongs to (`run_of`), if it belongs to one.
    """
    rule = _RULES.get(family(key))
    try:
        return rule is not None and rule(key, cell, run, at - MARGIN, keep)
    except (TypeError, IndexError):
        return False  # a plugin's own kind of cell, under a key that is none of its own: it stays


def run_of(key: str) -> str | None:
    """The run whose silence decides about the cell under *key*; None if it is no run's."""
    kind = family(key)
    found = _OF_RUN.get(kind)
    if found is not None:
        match = found.fullmatch(key)
        return match[1] if match else None
    endless = kind == "quota" and _window(key) == "None"
    return _scoped(key) if endless or kind in ("repeat", "turns") else None


# --- what removes them --------------------------------------------------------------------------


def sweeping(now: int, keys: Sequence[str], keep: Keep) -> Amending:
    """
    Remove the cells under *keys*, all of them or none: what was taken again in the meantime
    is not over, and then the request is refused.
    """
    entry = amending_entry("swept", keep=keep._asdict(), keys=list(keys))
    return _removing(now, keys, keep, entry, missing=False)


def swept(entry: Mapping[str, Any]) -> Amending:
    """The request that a journal entry of the kind "swept" records."""
    keep = Keep(**entry["keep"])  # what its own journal does not tell may be missing
    return _removing(entry["at"], entry["keys"], keep, "}", missing=True)


def swept_one_by_one(entry: Mapping[str, Any]) -> Iterator[Amending]:
    """The same in parts, for a state that is not the recorded one: what is not over there stays."""
    for key in entry["keys"]:
        yield swept({**entry, "keys": [key]})


def _removing(now: int, keys: Sequence[str], keep: Keep, entry: str, *, missing: bool) -> Amending:
    owners = [run_of(key) for key in keys]
    looks = tuple(sorted({run_key(owner) for owner in owners if owner is not None} - {*keys}))
    names = (*looks, *keys)

    def amend(cells: tuple[Cell, ...], at: int) -> Sequence[Cell] | str:
        if min(keep) < 0:
            return f"{keep} has a time below 0"
        known = dict(zip(names, cells, strict=True))
        for key, owner in zip(keys, owners, strict=True):
            cell = known[key]
            if cell is None and missing:
                continue
            run = known[run_key(owner)] if owner is not None else None
            if cell is None or not over(key, cell, run, at, keep):
                return f"the cell {key!r:.120} is not over"
        return (*cells[: len(looks)], *(None for _ in keys))

    return Amending(now, names, amend, entry)


# --- by kind: (key, cell, its run's cell, the time, what to keep) → over? ---------------------------

_Rule: TypeAlias = Callable[[str, Sequence[Any], Cell, int, Keep], bool]

_ROOTED: Final = {
    "labels": r"labels\|(.*)",
    "came": r"came\|(.*)\|[0-9a-f]{2}",
    "step": r"step\|(.*)\|[0-9a-f]{20}\|[0-9a-f]{32}",
    "prompt": r"prompt\|(.*)\|[0-9a-f]{64}",
}
_OF_RUN: Final = {kind: re.compile(form, re.DOTALL) for kind, form in _ROOTED.items()}
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^"]+', re.DOTALL)
"""A key is made of JSON strings, which may hold anything, and of what the policy says."""


def _window(key: str) -> str:
    return [*key.split("|", 3), "", "", ""][2]


def _scoped(key: str) -> str | None:
    """The run that a limit counts by: `run`, or `root` if there is only that."""
    found: dict[str, str] = {}
    before = ""
    for piece in _PIECE.findall(key):
        name = before.rpartition("|")[2]
        if piece.startswith('"') and name in ("run=", "root="):
            found[name] = str(loads(piece))
        before = piece
    return found.get("run=", found.get("root="))


def _ints(cell: Sequence[Any], count: int) -> bool:
    return len(cell) == count and all(type(part) is int for part in cell)


def _silent(run: Cell, at: int, age: int) -> bool:
    """Whether the run is not halted, and nothing was heard of it for *age* µs."""
    if run is None or run[2] is not None:
        return False
    heard: int = run[3] if len(run) > 3 else run[0]
    return heard + HEARD + age <= at


def _quota(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    window = _window(key)
    if window in Window.__members__:
        return _ints(cell, 3) and bool(cell[0] < Window[window].number(at))
    return _silent(run, at, keep.runs)


def _rate(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    return _ints(cell, 2) and bool(cell[0] < at)


def _slot(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    leases = cell[1::2]
    paired = len(cell) == 2 * len(leases) and all(type(permit) is str for permit in cell[0::2])
    return paired and all(type(lease) is int and lease <= at for lease in leases)


def _once(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    """A success keeps until when it is valid; the time after that is for policies that lengthen it."""
    return cell[0] == "done" and len(cell) > 5 and bool(cell[5] + keep.calls <= at)


def _seen(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    return cell[0] == "done" and bool(cell[2] + keep.calls <= at)


def _approval(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    return bool(cell[3] + keep.calls <= at)


def _run(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    """The run's own cell goes last: without it nobody knows how old the others are."""
    return _silent(cell, at, 2 * keep.runs)


def _memory(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    return _silent(run, at, keep.runs)


def _labels(key: str, cell: Sequence[Any], run: Cell, at: int, keep: Keep) -> bool:
    under_way = any(lease > at for lease in cell[3::4])
    return not under_way and _silent(run, at, keep.runs)


_RULES: Final[Mapping[str, _Rule]] = {
    "quota": _quota,
    "rate": _rate,
    "slot": _slot,
    "once": _once,
    "seen": _seen,
    "approval": _approval,
    "run": _run,
    "labels": _labels,
    **dict.fromkeys(("came", "step", "prompt", "repeat", "turns"), _memory),
}
