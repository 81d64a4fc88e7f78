"""Durations and rates as people write them: 30s, 24h, 1h30m; 10/min, 3/10s."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .fault import Fault, accepted, shown

__all__ = ["DURATION", "LONGEST", "RATE", "Rate", "duration", "in_words"]

_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_UNITS: Final = {
    "ms": 1_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
    "d": _DAY,
    "w": 7 * _DAY,
}
_SPELLINGS: Final = {
    **{unit: unit for unit in _UNITS},
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "minute", "minutes"), "m"),
    **dict.fromkeys(("hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("week", "weeks"), "w"),
}
_SHORT: Final = ("ms", "s", "min", "h", "d", "w")

_UNIT: Final = "|".join(sorted(_SPELLINGS, key=len, reverse=True))
DURATION: Final = rf"^([0-9]{{1,15}}({_UNIT}))+$"
"""The pattern of a duration, for editors."""
RATE: Final = rf"^[0-9]{{1,15}}/([0-9]{{1,15}})?({_UNIT})$"
"""The pattern of a rate, for editors."""

LONGEST: Final = 36_600 * _DAY
"""The longest duration, in µs: a century, so that a sum of two times still fits 64 bits."""

_PART: Final = re.compile(r"([0-9]{1,15})([a-z]+)", re.ASCII)
_RATE: Final = re.compile(r"([0-9]{1,15})/([0-9]{1,15})?([a-z]+)", re.ASCII)


def duration(value: object) -> int:
    """The duration that *value* (text such as 30s or 1h30m) says, in µs; raises Fault."""
    hint = "write a number and a unit: 30s, 5m, 24h, 7d, or 1h30m"
    if not isinstance(value, str):
        if type(value) is int and value > 0:
            hint = f"write {value}s for seconds or {value}m for minutes"
        raise Fault(f"is {shown(value)}, which is no duration", hint)
    parts = list(_PART.finditer(value))
    if not parts or "".join(part[0] for part in parts) != value:
        raise Fault(f"is {shown(value)}, which is no duration", hint)
    total = sum(int(part[1]) * _unit(part[2]) for part in parts)
    if total > LONGEST:
        raise Fault(f"is {shown(value)}, which is above the longest duration", "at most 36600d")
    return total


@dataclass(frozen=True, slots=True)
class Rate:
    """*count* times within any *period* (in µs) on average."""

    count: int
    period: int

    @classmethod
    def parse(cls, value: object) -> Rate:
        """The rate that *value* (text such as 10/min or 3/10s) says; raises Fault."""
        hint = "write a number and a period: 20/s, 10/min, 100/h, 5/day, or 3/10s"
        found = _RATE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise Fault(f"is {shown(value)}, which is no rate", hint)
        count, period = int(found[1]), int(found[2] or 1) * _unit(found[3])
        if not count or not period:
            raise Fault(f"is {shown(value)}; both numbers must be 1 or more", hint)
        if period > LONGEST:
            raise Fault(f"is {shown(value)}, whose period is too long", "at most 36600d")
        if count > period:
            raise Fault(f"is {shown(value)}, more than one in a microsecond", hint)
        return cls(count, period)

    def __str__(self) -> str:
        unit = next(unit for unit in reversed(_UNITS) if self.period % _UNITS[unit] == 0)
        periods = self.period // _UNITS[unit]
        return f"{self.count}/{unit if periods == 1 else f'{periods}{unit}'}"


def in_words(micros: int) -> str:
    """A duration of *micros* µs as it is written in a policy."""
    text = ""
    for unit in reversed(_UNITS):
        count, micros = divmod(micros, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _unit(word: str) -> int:
    unit = _SPELLINGS.get(word)
    if unit is None:
        raise Fault(f"has the unit {shown(word)}", accepted(word, _SHORT))
    return _UNITS[unit]
