"""The types of single values in a policy: what is written, checked and turned into units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from ..amount import MICRO, micros
from ..canonical import FrozenDict
from . import expression, template, units
from .argument_schema import DIALECT, argument_schema
from .fault import Fault, accepted, shown

__all__ = [
    "FACTS",
    "PROMPT",
    "Amount",
    "Argument",
    "ArgumentSchema",
    "Condition",
    "Costs",
    "Count",
    "Earlier",
    "Glob",
    "Globs",
    "Levels",
    "Name",
    "Names",
    "Part",
    "Pause",
    "RateText",
    "Repeats",
    "Sources",
    "Span",
    "Template",
    "distinct",
    "exactly_one",
    "frozen",
    "not_empty",
    "pattern",
    "some_grants",
    "some_labels",
    "some_tools",
]

_T = TypeVar("_T")
_Items = TypeVar("_Items", bound="tuple[Any, ...]")

PARTS: Final = ("tenant", "user", "agent", "run", "root", "tool")
"""What a limit can be kept apart by, besides arguments."""

PROMPT: Final = "prompt"
"""The origin that is the user's words."""
FACTS: Final = "facts"
"""How an origin begins that is what a plugin found out."""
RESULT: Final = "result"
"""How a path begins that leads into the result of an earlier call."""

_LONGEST_NAME: Final = 200
_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
_PART: Final = r"^(tenant|user|agent|run|root|tool|args(\.[^.\s]+)+)$"
_PATH: Final = r"^[^.\s]+(\.[^.\s]+)*$"
_DEEPEST: Final = 100
_DECIMAL: Final = r"^[0-9]+(\.[0-9]{1,6})?$"


def pattern(text: str) -> str:
    """*text* if a name can fit it; raises Fault."""
    if not text or text != text.strip() or not text.isprintable():
        raise Fault(f"is {shown(text)}, which no name fits", "write a name or a pattern: get_*")
    if len(text) > _LONGEST_NAME:
        raise Fault(f"has {len(text)} characters", f"at most {_LONGEST_NAME}")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(_NAME[1:-1], text):
        raise Fault(f"is {shown(text)}", "a name has 1 to 64 letters, digits, _ . or -")
    return text


def _cost_name(text: str) -> str:
    if text == "calls":
        raise Fault(
            "is built in: every call costs 1 of it", "give this cost a name of its own", on_key=True
        )
    try:
        return _name(text)
    except Fault as fault:
        raise Fault(fault.problem, fault.hint, on_key=True) from None


def _part(text: str) -> str:
    if re.fullmatch(_PART[1:-1], text):
        return text
    hint = accepted(text.removeprefix("subject."), (*PARTS, "args.<name>"))
    if text in ("role", "roles"):
        hint = "a subject can have several roles; " + accepted("", (*PARTS, "args.<name>"))
    raise Fault(f"is {shown(text)}", hint)


def _span(value: object) -> int:
    length = units.duration(value)
    if length == 0:
        raise Fault("is no time at all", "write 1ms or more")
    return length


def _amount(value: object) -> int:
    try:
        amount = micros(value, "it")
    except ValueError as error:
        raise Fault(str(error).removeprefix("it "), "write 0 or more: 50 or 0.25") from None
    # micros rounds up, which is right for what is spent and wrong for what may be spent
    if amount != Decimal(str(value)) * MICRO:
        raise Fault(f"is {shown(value)}", "an amount has at most 6 decimals")
    return amount


def exactly_one(value: object) -> object:
    """*value*, unless it is one of the things that only equal 1 in Python; raises Fault."""
    if type(value) is not int or value != 1:
        raise Fault(f"is {shown(value)}; this release reads version 1", "write version: 1")
    return value


def _count(value: int) -> int:
    if not 1 <= value <= 1_000_000_000:
        raise Fault(f"is {value}", "write a whole number of 1 or more, at most 1000000000")
    return value


def _levels(value: int) -> int:
    if not 0 <= value <= _DEEPEST:
        raise Fault(f"is {value}", f"write a whole number from 0 (no sub-agents) to {_DEEPEST}")
    return value


def _repeats(value: object) -> object:
    if value is False:
        return value
    if type(value) is not int:
        hint = "write a whole number, or false for a tool that no `repeat` limit is for"
        raise Fault(f"is {shown(value)}; it must be a whole number or false", hint)
    return _count(value)


def _argument(text: str) -> str:
    if not re.fullmatch(_PATH[1:-1], text):
        raise Fault(f"is {shown(text)}, which names no argument", "name an argument: customer.id")
    if text.startswith("args."):
        name = text.removeprefix("args.")
        raise Fault("begins with args.", f"arguments are named alone: {name}", on_key=True)
    return text


def _earlier(text: str) -> str:
    """A path into an earlier call: an argument, `result`, or `result.` and a path."""
    if not re.fullmatch(_PATH[1:-1], text):
        hint = "name an argument of the earlier call, or a part of its result: order_id, result.id"
        raise Fault(f"is {shown(text)}, which leads nowhere", hint)
    path = text.removeprefix("args.")
    if path != text and path.split(".")[0] == RESULT:
        raise Fault(
            f"is {shown(text)}, and {path} is the result of the earlier call",
            f"an argument of the name {RESULT} cannot be matched; choose another one",
        )
    return path


def _source(text: str) -> str:
    first, *path = text.split(".")
    if first == FACTS and not (path and all(path) and text == "".join(text.split())):
        raise Fault(f"is {shown(text)}", "name the plugin, and what of it: facts.crm.payees")
    return pattern(text)


def distinct(items: _Items) -> _Items:
    """*items*, none of them twice; raises Fault."""
    known: set[object] = set()
    for i, item in enumerate(items):
        if item in known:
            raise Fault(f"is {shown(item)} for the second time", "remove one of the two", at=(i,))
        known.add(item)
    return items


def not_empty(items: _Items) -> _Items:
    """*items*, at least one; raises Fault."""
    if not items:
        raise Fault("is an empty list, which fits no tool", 'write ["*"] for all tools')
    return items


def some_labels(items: _Items) -> _Items:
    """*items*, at least one; raises Fault."""
    if not items:
        raise Fault("is an empty list, so this flow would never apply", "name labels of tools")
    return items


def _some_sources(items: _Items) -> _Items:
    if not items:
        hint = "say where the value may come from: [prompt, get_order]"
        raise Fault("is an empty list, so no value would do", hint)
    return items


def some_grants(items: _Items | None) -> _Items | None:
    """*items*, at least one, or None; raises Fault."""
    if items is not None and not items:
        hint = "leave the section out to let every subject call every listed tool"
        raise Fault("is an empty list, which would refuse every call", hint, on_key=True)
    return items


def some_tools(items: Mapping[str, _T]) -> Mapping[str, _T]:
    """*items*, at least one; raises Fault."""
    if not items:
        hint = "list the tools that may run: {get_order: {effect: read}}"
        raise Fault("is empty, so that nothing may run", hint, on_key=True)
    return frozen(items)


def frozen(items: Mapping[str, _T]) -> Mapping[str, _T]:
    """A copy of *items* that cannot be changed."""
    return FrozenDict(items)


Glob = Annotated[str, AfterValidator(pattern), Field(min_length=1, max_length=_LONGEST_NAME)]
"""A name, or a pattern with * and ?."""

Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": _NAME})]
"""A word of the author's own."""

Part = Annotated[str, AfterValidator(_part), WithJsonSchema({"type": "string", "pattern": _PART})]
"""What a limit is kept apart by."""

Globs = Annotated[tuple[Glob, ...], Field(strict=False), AfterValidator(distinct)]
"""Names or patterns, none of them twice."""

Names = Annotated[tuple[Name, ...], Field(strict=False), AfterValidator(distinct)]
"""Words of the author's own, none of them twice."""

_PATH_SCHEMA: Final = {"type": "string", "pattern": _PATH}

Argument = Annotated[str, AfterValidator(_argument), WithJsonSchema(_PATH_SCHEMA)]
"""The path of an argument of the call itself: order_id, customer.id."""

Earlier = Annotated[str, AfterValidator(_earlier), WithJsonSchema(_PATH_SCHEMA)]
"""A path into an earlier call: order_id (an argument), result, or result.order.id."""

Sources = Annotated[
    tuple[Annotated[str, AfterValidator(_source), Field(min_length=1)], ...],
    Field(strict=False, json_schema_extra={"minItems": 1}),
    AfterValidator(distinct),
    AfterValidator(_some_sources),
]
"""Where a value may come from: prompt, facts.<plugin>, or names and patterns of tools."""

Template = Annotated[str, AfterValidator(template.template)]
"""Text with arguments in braces."""

Condition = Annotated[str, AfterValidator(expression.condition)]
"""A CEL expression that must be true."""

ArgumentSchema = Annotated[
    Mapping[str, Any], AfterValidator(argument_schema), WithJsonSchema({"$ref": DIALECT})
]
"""A JSON Schema."""

Count = Annotated[int, AfterValidator(_count), Field(json_schema_extra={"minimum": 1})]
"""A whole number of 1 or more."""

Levels = Annotated[
    int, AfterValidator(_levels), Field(json_schema_extra={"minimum": 0, "maximum": _DEEPEST})
]
"""How many runs may be above the one that calls."""

Repeats = Annotated[
    Literal[False] | int,
    PlainValidator(_repeats),
    WithJsonSchema({"anyOf": [{"const": False}, {"type": "integer", "minimum": 1}]}),
]
"""A number of repetitions, or false for no limit."""

_DURATION: Final = {"type": "string", "pattern": units.DURATION, "examples": ["30s", "5m", "24h"]}
_RATE: Final = {"type": "string", "pattern": units.RATE, "examples": ["10/min", "20/s", "3/10s"]}
_AMOUNT: Final = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _DECIMAL}]
}
_COST: Final = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "minLength": 1}]}

Span = Annotated[int, BeforeValidator(_span), WithJsonSchema(_DURATION)]
"""A duration above 0, in µs."""

Pause = Annotated[int, BeforeValidator(units.duration), WithJsonSchema(_DURATION)]
"""A duration, in µs."""

RateText = Annotated[units.Rate, PlainValidator(units.Rate.parse), WithJsonSchema(_RATE)]
"""A rate."""

Amount = Annotated[int, BeforeValidator(_amount), WithJsonSchema(_AMOUNT)]
"""An amount, in millionths."""

_CostName = Annotated[
    str, AfterValidator(_cost_name), WithJsonSchema({"type": "string", "pattern": _NAME})
]
_CostText = Annotated[str, BeforeValidator(expression.cost), WithJsonSchema(_COST)]
Costs = Annotated[Mapping[_CostName, _CostText], AfterValidator(frozen)]
"""Names of metered resources, each with the text of an expression."""
