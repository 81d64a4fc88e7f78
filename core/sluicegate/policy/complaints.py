"""What pydantic found wrong, in the words of whoever wrote the policy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..canonical import Json
from .base import Model
from .fault import Fault, Path, accepted, shown
from .limits import KINDS, Budget, Concurrency, Depth, RateLimit, Repeat
from .model import Contract, Flow, Grant, Policy
from .tool import Approve, Breaker, Once, OriginRule, Require, Tool

__all__ = ["faults_of"]

_OF_KIND: Final[Mapping[object, type[Model]]] = {
    "budget": Budget,
    "rate": RateLimit,
    "concurrency": Concurrency,
    "repeat": Repeat,
    "depth": Depth,
}
_OF_SECTION: Final[Mapping[object, type[Model]]] = {
    "grants": Grant,
    "flows": Flow,
    "contracts": Contract,
}
_OF_TOOL: Final[Mapping[object, type[Model]]] = {
    "requires": Require,
    "once": Once,
    "breaker": Breaker,
    "origin": OriginRule,
    "approve": Approve,
}
_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_SHARED: Final = ("per", "tools")
"""Keys that every limit has: named last."""
_OWNER: Final[Mapping[type[Model], str]] = {
    Policy: "a policy",
    Tool: "a tool",
    **{model: str(key) for key, model in _OF_TOOL.items()},
    Grant: "a grant",
    Flow: "a flow",
    Contract: "a contract",
    **dict.fromkeys(_OF_KIND.values(), "this kind of limit"),
}
_EXAMPLES: Final = {
    "once": '{key: "refund:{order_id}"}, or {} for all arguments',
    "breaker": "{failures: 3, cooldown: 30s}, or {} for these defaults",
    "requires": "[{tool: get_order, match: {order_id: order_id}}]",
    "match": "{order_id: order_id}",
    "origin": "{order_id: [prompt, get_order]}",
    "flows": "[{name: …, after: […], deny: […]}]",
    "contracts": "[{when: …, then: …}]",
}
"""What keys look like whose shape is not easily guessed."""
_IS_MISSING: Final = "is missing"
_MISSING: Final[Mapping[Path, str]] = {
    ("version",): "write version: 1",
    ("tools",): "list the tools that may run: {get_order: {effect: read}}",
}


def faults_of(error: ValidationError) -> list[Fault]:
    """All that *error* found, with paths into the document."""
    faults = [fault for detail in error.errors(include_url=False) for fault in _faults(detail)]
    misspelt = {(*f.at[:-1], _meant(f)) for f in faults if f.on_key}
    return [f for f in faults if f.problem != _IS_MISSING or f.at not in misspelt]


def _faults(detail: ErrorDetails) -> Iterator[Fault]:
    place, path, value = detail["loc"], _path(detail["loc"]), detail["input"]
    kind, context = detail["type"], detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Fault):
        on_key = bool(place) and place[-1] == "[key]"
        for fault in cause.under(path):
            fault.on_key = fault.on_key or on_key
            yield fault
    elif kind == "extra_forbidden":
        yield _unknown_key(place, path)
    elif kind == "missing":
        hint = _MISSING.get(path) or f"write {path[-1]}: …"
        yield Fault(_IS_MISSING, hint, at=path)
    elif kind == "literal_error":
        yield _no_choice(path, value, str(context["expected"]))
    elif kind == "no_kind":
        yield _no_kind(path, value)
    elif kind == "no_form":
        yield _no_form(path, value)
    elif kind in _WANTED:
        yield _wrong_type(path, value, _WANTED[kind])
    else:
        yield Fault(f"is {shown(value)}: {detail['msg']}", at=path)


def _meant(fault: Fault) -> str:
    """The key that the hint of *fault* takes its own for."""
    return fault.hint.partition("?")[0].removeprefix("did you mean ")


def _path(place: tuple[int | str, ...]) -> Path:
    """The way through the document: pydantic adds what it told apart by, and marks keys."""
    if place[-1:] == ("[key]",):
        return place[:-1]
    tag = _tag_at(place)
    return place if tag is None else (*place[:tag], *place[tag + 1 :])


def _tag_at(place: tuple[int | str, ...]) -> int | None:
    """Where in *place* the kind of a limit is, or the form of something that has several."""
    if place[:1] == ("limits",):
        tag = 2
    elif place[:1] == ("tools",) and place[2:3] == ("approve",):
        tag = 3
    elif place[:1] == ("tools",) and place[2:3] == ("origin",):
        tag = 4
    else:
        return None
    return tag if len(place) > tag else None


def _model(place: tuple[int | str, ...]) -> type[Model]:
    """Which model the last part of *place* was meant to be a field of."""
    if len(place) == 1:
        return Policy
    if place[0] == "limits":
        return _OF_KIND[place[2]]
    if place[0] == "tools":
        return Tool if len(place) == 3 else _OF_TOOL[place[2]]
    return _OF_SECTION[place[0]]


def _unknown_key(place: tuple[int | str, ...], path: Path) -> Fault:
    model = _model(place)
    word = str(path[-1])
    known = [field.alias or name for name, field in model.model_fields.items()]
    hint = accepted(word, sorted(known, key=_SHARED.__contains__))
    if place[0] == "limits" and word in KINDS:
        hint = "one entry is one limit; write two entries"
    elif model is Depth and word == "per":
        hint = "leave it out: how deep a call is does not depend on who calls"
    return Fault(f"is no key of {_OWNER[model]}", hint, at=path, on_key=True)


def _no_choice(path: Path, value: object, expected: str) -> Fault:
    return Fault(f"is {shown(value)}", accepted(value, re.findall(r"'([^']*)'", expected)), at=path)


def _no_kind(path: Path, value: Json) -> Fault:
    if not isinstance(value, dict):
        return _wrong_type(path, value, "a mapping")
    hints = (accepted(key, KINDS) for key in value)
    hint = next((hint for hint in hints if hint.startswith("did")), accepted("", KINDS))
    return Fault("is no limit: it has none of the keys that make one", hint, at=path)


def _no_form(path: Path, value: object) -> Fault:
    if path[2] == "origin":
        fault = _wrong_type(path, value, "a list")
        fault.hint += ", or {from: [prompt, get_order], otherwise: approve}"
        return fault
    hint = "write true, a condition such as args.amount > 200, or {when: …, within: 2h}"
    if value is False:
        hint = "leave it out: without it nobody is asked"
    return Fault(f"is {shown(value)}; it must be true, a condition or a mapping", hint, at=path)


def _wrong_type(path: Path, value: object, wanted: str) -> Fault:
    hint = f"write {_EXAMPLES.get(str(path[-1]), wanted)}" if path else f"write {wanted}"
    if wanted == "a list" and isinstance(value, str) and str(path[-1]) not in _EXAMPLES:
        hint = f"write a list: [{value!r}]" if len(value) <= 80 else hint
    elif wanted == "a mapping" and isinstance(value, str) and path[-2:-1] == ("requires",):
        hint = f"write {{tool: {shown(value)}}}"
    elif wanted == "text" and path[-1:] == ("when",) and value is True:
        hint = "leave it out: without a condition the rule always applies"
    elif wanted == "text" and isinstance(value, (bool, int, float)):
        hint = f"put it in quotes: '{shown(value)}'"
    return Fault(f"is {shown(value)}; it must be {wanted}", hint, at=path)
