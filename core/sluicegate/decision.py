"""
The four decisions. They are a closed union without a truth value: a `match`
that forgets one fails type checking, and `if decision:` raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias, get_args

from .errors import NotExecuted
from .outcome import Failed, Outcome, Succeeded, Unknown

if TYPE_CHECKING:
    from .claims import Claim
    from .policy.rules import ToolRule
    from .proposal import Proposal

__all__ = ["CODES", "Code", "Decision", "Defer", "Deny", "Permit", "Reason", "Recorded", "Retry"]

Code: TypeAlias = Literal[
    "unknown_tool",
    "not_granted",
    "args_invalid",
    "args_unknown",
    "args_not_canonical",
    "condition",
    "condition_error",
    "origin",
    "order",
    "flow",
    "budget",
    "rate",
    "concurrency",
    "repeat",
    "breaker",
    "depth",
    "duplicate_call",
    "in_progress",
    "outcome_unknown",
    "key_conflict",
    "approval_required",
    "approval_rejected",
    "approval_expired",
    "halted",
    "missing_subject",
    "objection",
    "plugin_error",
    "ledger_unavailable",
    "internal_error",
]
"""Why a call was refused. The set is closed: programs may switch on it."""

CODES: Final = frozenset(get_args(Code))

Retry: TypeAlias = Literal["never", "approval"] | float
"""Never (unchanged), after an approval, or after so many seconds."""


@dataclass(frozen=True, slots=True)
class Reason:
    """
    One reason for a refusal.

    *rule* is the place in the policy that said no, such as `tools.refund.when` or
    `limits[0]`. *message* has the number, the name and the way out.
    """

    code: Code
    rule: str
    message: str
    retry: Retry = "never"

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"{self.code!r} is no reason code; see sluicegate.decision.CODES")
        if self.retry not in ("never", "approval") and (
            isinstance(self.retry, str) or not 0 <= self.retry < math.inf
        ):
            raise ValueError(
                f"retry is {self.retry!r}; it must be never, approval, or 0 seconds or more"
            )


class _Untruthful:
    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError("a decision has no truth value; match on Permit, Deny, Defer and Recorded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit(_Untruthful):
    """
    The call may run once, with exactly these `args`, until `expires_at`.

    *args* are a deep-frozen copy: what was decided is what runs. *expires_at* is in
    microseconds since 1970 UTC. *key* is the idempotency key, if the policy has
    one, to be handed on to the provider. *costs* are what it holds of each metered
    resource, in millionths. *observed* means that the gate only
    watches and that this call might well have been refused. *digest* says that the
    journal keeps no arguments and results of it. *proposal* and *rule* are what it was
    decided from, where that is known.
    """

    id: str
    tool: str
    args: Mapping[str, Any]
    at: int
    expires_at: int
    claims: tuple[Claim, ...]
    revision: str
    binding: str
    costs: Mapping[str, int] = field(default_factory=dict[str, int])
    on_error: Literal["unknown", "failed"] = "unknown"
    key: str | None = None
    observed: bool = False
    digest: bool = False
    proposal: Proposal | None = field(default=None, repr=False, compare=False)
    rule: ToolRule | None = field(default=None, repr=False, compare=False)

    def outcome_of(self, error: BaseException) -> Outcome:
        """
        What it means that the tool raised *error*, by the policy's `on_error`.

        `NotExecuted` is always a failure. A cancellation or an interrupted process
        is always unknown: nobody waited for the end of the effect.
        """
        if isinstance(error, NotExecuted):
            return Failed(error)
        if self.on_error == "failed" and isinstance(error, Exception):
            return Failed(error)
        return Unknown(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny(_Untruthful):
    """
    The call must not run. All reasons are here, in the order of the rules.

    *final* means that the whole run should stop. *brief* keeps the messages out of
    what the model is told (the policy's `replies: short`).
    """

    tool: str
    reasons: tuple[Reason, ...]
    final: bool = False
    brief: bool = False

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("a Deny needs at least one reason")

    @property
    def retry(self) -> Retry:
        """When it is worth asking again: the strictest answer of all reasons."""
        answers = [reason.retry for reason in self.reasons]
        if "never" in answers:
            return "never"
        if "approval" in answers:
            return "approval"
        return max(answer for answer in answers if not isinstance(answer, str))

    def render(self) -> str:
        """The refusal as the model should read it."""
        if self.brief:
            codes = ", ".join(dict.fromkeys(reason.code for reason in self.reasons))
            return f"REFUSED ({codes}): {self.tool} was not run. {_advice(self)}"
        lines = [f"REFUSED: {self.tool} was not run."]
        lines += [f"- {reason.code}: {reason.message}" for reason in self.reasons]
        return "\n".join([*lines, _advice(self)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer(_Untruthful):
    """A person must say yes to exactly this action first; ask again with the same call."""

    tool: str
    request_id: str
    reasons: tuple[Reason, ...]
    expires_at: int

    def render(self) -> str:
        """The request as the model should read it."""
        lines = [f"WAITING FOR APPROVAL: {self.tool} was not run (request {self.request_id})."]
        lines += [f"- {reason.code}: {reason.message}" for reason in self.reasons]
        return "\n".join([*lines, "Do not repeat this call before it is approved."])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(_Untruthful):
    """
    The identical call ran before; it does not run again, and this is what it gave.

    *complete* is False where the result could not be recorded (it was no JSON value
    or too large); `result` is then None although the earlier call had a result.
    """

    tool: str
    permit_id: str
    outcome: Succeeded
    at: int
    complete: bool = True

    @property
    def result(self) -> object:
        return self.outcome.result


Decision: TypeAlias = Permit | Deny | Defer | Recorded


def _advice(decision: Deny) -> str:
    retry = decision.retry
    if decision.final:
        return "Stop here: no further call of this run will be permitted."
    if retry == "never":
        return "Do not repeat this call unchanged."
    if retry == "approval":
        return "Do not repeat this call before a person has approved it."
    if retry == 0:
        return "The same call may be made again after that."
    return f"The same call may be made again in {_seconds(retry)}."


def _seconds(value: float) -> str:
    """*value* for people, rounded up: who comes too early is refused again."""
    if value > 120:
        minutes = math.ceil(value / 60)
        hours, rest = divmod(minutes, 60)
        return f"{minutes} min" if hours < 2 else f"{hours} h {rest} min"
    if value > 10:
        return f"{math.ceil(value)} s"
    return f"{math.ceil(round(value * 10, 6)) / 10:g} s"
