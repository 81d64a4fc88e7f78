"""What a compiled policy is made of: rules about one tool, and makers of claims."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ..amount import Micros
from ..claims import Claim, Note, Quota, Rate, Slot, Standing
from ..decision import Reason
from ..glob import matches
from ..proposal import Proposal, Subject
from ..schema import Validator
from ..window import Window
from .value import Expression

__all__ = [
    "ApproveRule", "Call", "Counter", "GrantRule", "Maker", "Makers", "Noter", "Rules", "ToolRule",
]  # fmt: skip


class Call(NamedTuple):
    """A proposal with the arguments that would run, the facts, and what it costs, in millionths."""

    proposal: Proposal
    args: Mapping[str, Any]
    costs: Mapping[str, Micros]
    facts: Mapping[str, Any]


Maker: TypeAlias = Callable[[Call], "Claim | Reason | None"]
Makers: TypeAlias = Callable[[Call], "Iterable[Claim | Reason]"]
Noter: TypeAlias = Callable[[Call, object], "Iterable[Note]"]
"""From a call and its result to what the run will remember of it."""


class GrantRule(NamedTuple):
    """One entry of `grants`, reduced to what depends on the call."""

    rule: str
    who: tuple[tuple[str, str], ...]
    when: Expression | None

    def fits(self, subject: Subject) -> bool:
        """Whether the grant is for *subject*: every part that it names must be there and match."""
        for name, pattern in self.who:
            values = subject.roles if name == "role" else (getattr(subject, name),)
            if not any(value is not None and matches(pattern, value) for value in values):
                return False
        return True


class ApproveRule(NamedTuple):
    """When a person must say yes; without *when*, always."""

    rule: str
    when: Expression | None


class ToolRule(NamedTuple):
    """All that the policy says about one tool."""

    name: str
    rule: str
    args: Validator | None
    unknown_args: Literal["deny", "drop", "allow"]
    when: Expression | None
    grants: tuple[GrantRule, ...] | None
    costs: tuple[tuple[str, Expression], ...]
    makers: tuple[Maker, ...]
    key: Callable[[Call], str] | None
    lease: int
    on_error: Literal["unknown", "failed"]
    origin: Makers | None = None
    prompted: bool = False
    """Whether a value may come from the user's words."""
    approve: ApproveRule | None = None
    asking: int = 86_400_000_000
    """For how long a request and its yes live, in µs."""
    notes: Noter | None = None
    labels: tuple[str, ...] = ()
    """Labels that a flow looks at."""
    digest: bool = False
    """Whether the journal keeps arguments and results by their digests alone."""


class Counter(NamedTuple):
    """Where a limit keeps its cells, and how to read them: *calls* per *period* µs for a rate."""

    rule: str
    kind: type[Quota] | type[Rate] | type[Slot]
    name: str
    prefix: str
    limit: Micros
    window: Window | None = None
    calls: int = 1
    period: int = 1


class Rules(Protocol):
    """A policy as `evaluate` sees it."""

    @property
    def names(self) -> Collection[str]:
        """The names and patterns of all entries, for messages."""
        ...

    def rule(self, tool: str) -> ToolRule | None:
        """The rule for a tool of this name; None if the policy has no entry for it."""
        ...

    def standing(self, proposal: Proposal, /) -> tuple[list[Standing], list[Reason]]:
        """What is looked at whatever the rules say, and what is missing for it."""
        ...
