"""Where time and identifiers come from; the only file of the core that may ask for them."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

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


_SEED: Final = os.urandom(32).hex()
_COUNT: Final = itertools.count()


def random_id() -> str:
    """
    128 bits in hexadecimal that nobody can foresee, and that come up once.

    They are a hash of what the system gave once, and of a count. To ask it each time would
    let go of Python's lock each time: where threads share the work that costs more than most
    of a decision. Process and time are hashed as well, so that neither the child of a fork
    nor the copy of a virtual machine goes on with the same ones.
    """
    told = f"{_SEED}{next(_COUNT)} {time.time_ns()} {os.getpid()}"
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
