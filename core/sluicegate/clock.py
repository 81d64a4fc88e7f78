"""Where time and identifiers come from; the only file of the core that may ask for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

__all__ = ["Clock", "Ids", "SystemClock", "random_id"]

Ids: TypeAlias = Callable[[], str]
"""Makes the id of a permit: unique among all processes that share a ledger."""


class Clock(Protocol):
    """A source of time."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 00:00 UTC."""
        ...


class SystemClock:
    """The clock of this machine. It may step back; ledgers guard against that."""

    __slots__ = ()

    def now(self) -> int:
        return time.time_ns() // 1000


def random_id() -> str:
    """128 random bits, in hexadecimal."""
    return os.urandom(16).hex()
