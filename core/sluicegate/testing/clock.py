"""For tests of policies, plugins and adapters: a clock that is told, and ids that count."""

from __future__ import annotations

from itertools import count

from ..clock import Ids

__all__ = ["FakeClock", "counted_ids"]


class FakeClock:
    """A clock that stands still until it is told otherwise. Times are µs since 1970 UTC."""

    def __init__(self, now: int = 1_767_225_600_000_000) -> None:  # 2026-01-01 00:00 UTC
        self._now = now

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Go on by *seconds*, or back if they are negative: real clocks do that too."""
        self._now += round(seconds * 1_000_000)


def counted_ids(prefix: str = "permit-") -> Ids:
    """Ids that are the same in every run: permit-1, permit-2, …"""
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers)}"
