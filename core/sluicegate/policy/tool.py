"""One entry under `tools`, and the rules that an entry can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from ..canonical import FrozenDict
from . import values
from .base import Model, WrittenAs

__all__ = ["Approve", "Breaker", "Match", "Once", "OriginRule", "Require", "Tool"]

_SECOND: Final = 1_000_000
_HOUR: Final = 3_600 * _SECOND

Match: TypeAlias = Annotated[
    Mapping[values.Argument, values.Earlier], AfterValidator(values.frozen)
]
"""Which arguments must be equal to what in an earlier call."""


class Once(Model):
    """At most once for each key, across runs and processes, within a tenant."""

    key: values.Template | None = Field(
        default=None, examples=["refund:{order_id}", "{customer.id}/{month}"]
    )
    """What the action is about, with arguments in braces. Default: all arguments."""

    within: values.Span | None = Field(default=None, examples=["24h"])
    """For how long a key stays used. Default: forever."""

    wait: values.Pause = Field(default=0, json_schema_extra={"default": "0s"})
    """How long a call may wait for the same key that is being carried out."""


class Require(Model):
    """A call that must have succeeded earlier in this run."""

    tool: values.Glob = Field(examples=["get_order"])
    """The name or pattern of the earlier tool."""

    match: Match = Field(
        default_factory=FrozenDict,
        examples=[{"order_id": "order_id"}, {"plan_id": "result.id"}],
    )
    """This call's argument, and the earlier call's argument, `result` or `result.<path>` that it
    must be equal to."""


class Breaker(Model):
    """Refuse the tool for a while after failures in a row, then let one call try."""

    failures: values.Count = 3
    """How many calls in a row must fail, or end in an unknown outcome, to open it."""

    cooldown: values.Span = Field(default=30 * _SECOND, json_schema_extra={"default": "30s"})
    """How long it stays open before one call may try."""


class OriginRule(Model):
    """Where the value of an argument may have come from."""

    sources: values.Sources = Field(alias="from", examples=[["prompt", "facts.crm.payees"]])
    """prompt (the user's words), facts.<plugin>, or tools by name or pattern (their results)."""

    otherwise: Literal["deny", "approve"] = "deny"
    """What to do with a value from elsewhere: refuse the call, or ask a person."""


class Approve(Model):
    """A person must say yes to exactly this action."""

    when: values.Condition | None = Field(default=None, examples=["args.amount > 200"])
    """A CEL condition: which calls need a yes. Default: all."""

    within: values.Span = Field(default=24 * _HOUR, json_schema_extra={"default": "24h"})
    """How long a request lives, and the yes to it."""


def _form_of_origin(value: object) -> str | None:
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, Mapping) else None


def _form_of_approve(value: object) -> str | None:
    if value is True:
        return "true"
    return "text" if isinstance(value, str) else "mapping" if isinstance(value, Mapping) else None


def _from_list(sources: tuple[str, ...]) -> OriginRule:
    return OriginRule.model_validate({"from": sources})


def _always(_: bool) -> Approve:
    return Approve()


def _if(condition: str) -> Approve:
    return Approve(when=condition)


_Origins = Annotated[
    OriginRule,
    WrittenAs(
        Annotated[
            Annotated[values.Sources, AfterValidator(_from_list), Tag("list")]
            | Annotated[OriginRule, Tag("mapping")],
            Discriminator(
                _form_of_origin, custom_error_type="no_form", custom_error_message="has no form"
            ),
        ]
    ),
]
_Approval = Annotated[
    Approve,
    WrittenAs(
        Annotated[
            Annotated[Literal[True], AfterValidator(_always), Tag("true")]
            | Annotated[values.Condition, AfterValidator(_if), Tag("text")]
            | Annotated[Approve, Tag("mapping")],
            Discriminator(
                _form_of_approve,
                custom_error_type="no_form",
                custom_error_message="has no form",
            ),
        ]
    ),
]


class Tool(Model):
    """One tool, or all tools whose names fit a pattern."""

    effect: Literal["read", "idempotent", "write"] = "write"
    """read: no side effect; idempotent: safe to repeat with equal arguments; write: not safe."""

    args: values.ArgumentSchema | None = Field(
        default=None, examples=[{"properties": {"amount": {"type": "number", "maximum": 500}}}]
    )
    """JSON Schema (2020-12) of the arguments; the tool's own schema must hold as well."""

    unknown_args: Literal["deny", "drop", "allow"] = "deny"
    """What to do with arguments that the tool never declared."""

    when: values.Condition | None = Field(default=None, examples=["args.currency == 'EUR'"])
    """A CEL condition over args, subject, facts, run and now that must be true."""

    requires: tuple[Require, ...] = Field(
        default=(),
        strict=False,
        examples=[[{"tool": "get_order", "match": {"order_id": "order_id"}}]],
    )
    """Calls that must have succeeded earlier in this run, all of them."""

    once: Once | None = None
    """At most once, across runs and processes."""

    cost: values.Costs = Field(
        default_factory=FrozenDict, examples=[{"eur": "args.amount", "emails": 1}]
    )
    """Metered resources that a call uses: a name and a number or an expression."""

    concurrency: values.Count | None = None
    """How many calls of this tool may run at the same time."""

    rate: values.RateText | None = None
    """How often this tool may be called."""

    breaker: Breaker | None = None
    """Refuse the tool for a while after failures in a row."""

    repeat: values.Repeats | None = None
    """A number in place of that of `repeat` limits, or false: none of them is for this tool."""

    origin: Annotated[Mapping[values.Argument, _Origins], AfterValidator(values.frozen)] = Field(
        default_factory=FrozenDict, examples=[{"order_id": ["prompt", "get_order"]}]
    )
    """Arguments whose value must have come from somewhere: a list of sources for each."""

    approve: _Approval | None = Field(default=None, examples=["args.amount > 200"])
    """A person must say yes: true for every call, or a CEL condition."""

    on_error: Literal["unknown", "failed"] | None = None
    """What an exception means. Default: unknown for write, failed for the rest."""

    lease: values.Span = Field(default=300 * _SECOND, json_schema_extra={"default": "5m"})
    """How long a permit lives; a call that has not ended by then is an unknown outcome."""

    record: Literal["full", "digest"] = "full"
    """What the journal keeps of arguments and results; a digest cannot be replayed."""

    labels: values.Names = ()
    """Words of your own that `flows` refer to."""
