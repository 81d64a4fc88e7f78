"""What the limits of a policy have left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .amount import MICRO, Micros
from .claims import Quota, Slot
from .ledger.base import Ledger
from .policy.rules import Counter
from .window import window_of

__all__ = ["Usage", "usage"]

_PART: Final = re.compile(r'\|([\w.]+)=("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """
    The state of one limit for one scope.

    Amounts are in millionths, of calls too: *used* is settled, *held* belongs to calls
    under way, *left* is what a new call may take. *resets_at* is in µs since 1970
    UTC; None for a limit that does not reset.
    """

    rule: str
    kind: str
    name: str
    scope: Mapping[str, str]
    limit: Micros
    used: Micros
    held: Micros
    left: Micros
    resets_at: int | None = None


def usage(
    counters: Iterable[Counter], ledger: Ledger, wanted: Mapping[str, str], now: int
) -> list[Usage]:
    """One row per limit and scope that has been counted, in the order of the policy."""
    rows: list[Usage] = []
    for counter in counters:
        for key, cell in ledger.cells(counter.prefix):
            scope = _scope(key[len(counter.prefix) :])
            if scope is not None and all(
                scope.get(name, value) == value for name, value in wanted.items()
            ):
                rows.append(_row(counter, scope, cell, now))
    return rows


def _scope(rest: str) -> dict[str, str] | None:
    """The parts at the end of a key; None if the key belongs to another limit with a longer prefix."""
    parts = {name: json.loads(value) for name, value in _PART.findall(rest)}
    return parts if _PART.sub("", rest) == "" else None


def _row(counter: Counter, scope: Mapping[str, str], cell: Sequence[Any], now: int) -> Usage:
    used, held, resets = 0, 0, None
    if counter.kind is Quota:
        window = counter.window
        resets = window.end(now) if window is not None else None
        if cell[0] == window_of(now, window):
            used, held = cell[1], cell[2]
    elif counter.kind is Slot:
        held = MICRO * sum(1 for expires in cell[1::2] if expires > now)
    else:
        ahead = max(0, cell[0] - now)
        used = min(counter.limit, -(-ahead * MICRO * counter.calls // counter.period))
        resets = cell[0] if ahead else None
    return Usage(
        rule=counter.rule,
        kind=counter.kind.__name__.lower(),
        name=counter.name,
        scope=scope,
        limit=counter.limit,
        used=used,
        held=held,
        left=max(0, counter.limit - used - held),
        resets_at=resets,
    )
