"""What pydantic found wrong, in the words of whoever wrote the policy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..canonical import Json
from .fault import Fault, Path, accepted, shown
from .model import KINDS, NOT_YET, Budget, Concurrency, Grant, Once, Policy, RateLimit, Tool

__all__ = ["faults_of"]

_OF_KIND: Final[Mapping[object, type[BaseModel]]] = {
    "budget": Budget,
    "rate": RateLimit,
    "concurrency": Concurrency,
}
_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_SHARED: Final = ("per", "tools")
"""Keys that every limit has: named last."""
_OWNER: Final = {
    "policy": "a policy",
    "tool": "a tool",
    "once": "once",
    "grant": "a grant",
    "limit": "this kind of limit",
}
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
    elif kind in _WANTED:
        yield _wrong_type(path, value, _WANTED[kind])
    else:
        yield Fault(f"is {shown(value)}: {detail['msg']}", at=path)


def _meant(fault: Fault) -> str:
    """The key that the hint of *fault* takes its own for."""
    return fault.hint.partition("?")[0].removeprefix("did you mean ")


def _path(place: tuple[int | str, ...]) -> Path:
    """The way through the document: pydantic adds the kind of a limit, and marks keys."""
    if place[:1] == ("limits",) and len(place) > 2:
        place = (*place[:2], *place[3:])
    return place[:-1] if place[-1:] == ("[key]",) else place


def _model(place: tuple[int | str, ...]) -> tuple[str, type[BaseModel]]:
    """Which model the last part of *place* was meant to be a field of."""
    if len(place) == 1:
        return "policy", Policy
    if place[0] == "limits":
        return "limit", _OF_KIND[place[2]]
    if place[0] == "grants":
        return "grant", Grant
    return ("once", Once) if len(place) == 4 else ("tool", Tool)


def _unknown_key(place: tuple[int | str, ...], path: Path) -> Fault:
    where, model = _model(place)
    word = str(path[-1])
    if word in NOT_YET.get(where, ()):
        return _not_yet(path)
    hint = accepted(word, sorted(model.model_fields, key=_SHARED.__contains__))
    if where == "limit" and word in KINDS:
        hint = "one entry is one limit; write two entries"
    return Fault(f"is no key of {_OWNER[where]}", hint, at=path, on_key=True)


def _not_yet(path: Path) -> Fault:
    return Fault(
        "is not supported yet", "remove it, or wait for a release that has it", at=path, on_key=True
    )


def _no_choice(path: Path, value: object, expected: str) -> Fault:
    return Fault(f"is {shown(value)}", accepted(value, re.findall(r"'([^']*)'", expected)), at=path)


def _no_kind(path: Path, value: Json) -> Fault:
    if not isinstance(value, dict):
        return _wrong_type(path, value, "a mapping")
    later = next((key for key in value if key in NOT_YET["limit"]), None)
    if later is not None:
        return _not_yet((*path, later))
    hints = (accepted(key, KINDS) for key in value)
    hint = next((hint for hint in hints if hint.startswith("did")), accepted("", KINDS))
    return Fault("is no limit: it has none of the keys that make one", hint, at=path)


def _wrong_type(path: Path, value: object, wanted: str) -> Fault:
    hint = f"write {wanted}"
    if wanted == "a list" and isinstance(value, str):
        hint = f"write a list: [{value!r}]" if len(value) <= 80 else hint
    elif wanted == "text" and path[-1:] == ("when",) and value is True:
        hint = "leave it out: without a condition the rule always applies"
    elif wanted == "text" and isinstance(value, (bool, int, float)):
        hint = f"put it in quotes: '{shown(value)}'"
    return Fault(f"is {shown(value)}; it must be {wanted}", hint, at=path)
