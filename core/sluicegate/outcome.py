"""What became of a permitted call: it succeeded, it failed, or nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .amount import Micros, micros

__all__ = ["Failed", "Outcome", "Succeeded", "Unknown"]


def _used(cost: Mapping[str, object]) -> dict[str, Micros]:
    return {name: micros(value, f"cost {name!r}") for name, value in cost.items()}


def _nothing() -> dict[str, object]:
    return {}


@dataclass(frozen=True, slots=True)
class Succeeded:
    """
    The effect happened.

    *result* is recorded, so that an identical later call can be answered with it.
    *cost* says what was really used, by the names of the policy's `cost`; a name
    that is left out is settled as it was held. Units are those of the budget.

    Raises ValueError for a cost that is negative or no number.
    """

    result: object = None
    cost: Mapping[str, object] = field(default_factory=_nothing)

    @property
    def used(self) -> dict[str, Micros]:
        return _used(self.cost)

    def __post_init__(self) -> None:
        if self.cost:
            _used(self.cost)


@dataclass(frozen=True, slots=True)
class Failed:
    """The effect certainly did not happen; what the permit held is given back."""

    error: BaseException | str = "failed"


@dataclass(frozen=True, slots=True)
class Unknown:
    """The effect may have happened; nothing that the permit held is given back."""

    error: BaseException | str = "the outcome is not known"


Outcome: TypeAlias = Succeeded | Failed | Unknown
