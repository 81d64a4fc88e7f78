"""What every claim is made of: who takes it, how it ends, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from ..amount import Micros
from ..decision import Reason

__all__ = ["SECOND", "Cell", "Ending", "Hold", "Refusal", "Replay", "Taken", "build"]

Cell: TypeAlias = "Sequence[Any] | None"

SECOND: Final = 1_000_000

T = TypeVar("T", bound="tuple[Any, ...]")


class _Build(Protocol):
    def __call__(self, kind: type[T], fields: tuple[Any, ...], /) -> T: ...


build: Final = cast("_Build", tuple.__new__)  # pyright: ignore[reportUnknownMemberType]
"""
Makes a named tuple of all its fields in their order, `build(Hold, (permit, at, expires, binding))`:
for the few that every decision makes, since their own constructors take twice as long.
"""


class Hold(NamedTuple):
    """What takes a claim: a permit, at a time, for a while, for exactly one tool and arguments."""

    permit: str
    at: int
    expires: int
    binding: str


class Ending(NamedTuple):
    """
    How a held claim ends. *used* has the real costs; *entry* is the outcome's place in the journal.

    *late* says that the outcome was on record as unknown, and that a person or the
    provider now knows it.
    """

    outcome: Literal["succeeded", "failed", "unknown"]
    used: Mapping[str, Micros]
    at: int
    entry: int
    late: bool = False


class Refusal(NamedTuple):
    """
    A claim's no. *wait* is for how long in all the caller may wait for a yes, in µs.

    *ask* says that a person may say yes all the same; *final* that the run is over.
    """

    reason: Reason
    wait: int = 0
    ask: bool = False
    final: bool = False


class Replay(NamedTuple):
    """The same call succeeded before; its outcome is the journal entry with this number."""

    entry: int


Taken: TypeAlias = "Sequence[Any] | Refusal | Replay | None"
"""The cell afterwards (None: as it was), or a no, or an earlier result."""
