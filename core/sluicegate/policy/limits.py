"""Limits that tools share: how much, how often, how many at once, how often again, how deep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from . import values
from .base import Model

__all__ = [
    "BUILT_IN",
    "KINDS",
    "AnyLimit",
    "Budget",
    "Concurrency",
    "Depth",
    "Limit",
    "RateLimit",
    "Repeat",
]

BUILT_IN: Final = "calls"
"""The resource of which every permitted call costs 1."""

KINDS: Final = ("budget", "rate", "concurrency", "repeat", "depth")
"""The kinds of limits, each named by the key that makes it one."""

_Per = Annotated[tuple[values.Part, ...], Field(strict=False), AfterValidator(values.distinct)]
_Tools = Annotated[values.Globs, AfterValidator(values.not_empty)]


class _Limit(Model):
    per: _Per = Field(default=(), examples=[["tenant"], ["run", "args.account"]])
    """What each has a limit of its own: tenant, user, agent, run, root, tool, args.<name>."""

    tools: _Tools = Field(default=("*",))
    """The tools that share this limit."""


class Budget(_Limit):
    """At most so much of a metered resource in each window, or ever."""

    budget: values.Name = Field(examples=["eur", "calls"])
    """A name from the `cost` of tools, or `calls`, of which every call costs 1."""

    limit: values.Amount = Field(examples=[1000, "0.25"])
    """How much, in the unit of the cost."""

    window: Literal["minute", "hour", "day", "week", "month"] | None = None
    """When the budget is full again, in UTC. Default: never."""


class RateLimit(_Limit):
    """At most so many calls in a period, on average, with bursts."""

    rate: values.RateText
    """How often: 20/s, 10/min, 3/10s."""

    burst: values.Count | None = None
    """How many may come at once. Default: the number in `rate`."""


class Concurrency(_Limit):
    """At most so many calls at the same time."""

    concurrency: values.Count
    """How many."""

    wait: values.Pause = Field(default=0, json_schema_extra={"default": "0s"})
    """How long a call may wait for its turn before it is refused."""


class Repeat(_Limit):
    """
    At most so many identical proposals, refused ones included.

    At twice the number the run is halted.
    """

    repeat: values.Count
    """How many proposals of the same tool with the same arguments, not only in a row."""

    oscillation: bool = False
    """Whether two tools that take turns count as well, whatever their arguments."""


class Depth(Model):
    """Agents that call agents: at most so many runs above the one that calls."""

    depth: values.Levels
    """How deep; 0 is the outermost run alone."""

    tools: _Tools = Field(default=("*",))
    """The tools that cannot be called from deeper."""


def _kind_of(entry: object) -> str | None:
    if isinstance(entry, Mapping):
        return next((kind for kind in KINDS if kind in entry), None)
    return None


Limit: TypeAlias = Budget | RateLimit | Concurrency | Repeat | Depth
AnyLimit = Annotated[
    Annotated[Budget, Tag("budget")]
    | Annotated[RateLimit, Tag("rate")]
    | Annotated[Concurrency, Tag("concurrency")]
    | Annotated[Repeat, Tag("repeat")]
    | Annotated[Depth, Tag("depth")],
    Discriminator(_kind_of, custom_error_type="no_kind", custom_error_message="has no kind"),
]
"""A limit, told apart by its first kind that it has a key for."""
