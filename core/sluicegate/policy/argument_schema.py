"""
The JSON Schema under a tool's `args`.

JSON Schema ignores what it does not know: `maxmum: 500` would be no limit at all,
without a word. So here every keyword must be one of the 2020-12 vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, cast

import jsonschema_rs

from ..canonical import Json, freeze, thaw
from .fault import Fault, Path, accepted, shown

__all__ = ["DIALECT", "argument_schema"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_ONE: Final = frozenset(
    "additionalProperties contains contentSchema else if items not propertyNames then"
    " unevaluatedItems unevaluatedProperties".split()
)
_MANY: Final = frozenset("allOf anyOf oneOf prefixItems".split())
_NAMED: Final = frozenset("$defs definitions dependentSchemas patternProperties properties".split())
_LEAVES: Final = frozenset(
    "$anchor $comment $dynamicAnchor $dynamicRef $id $ref $schema const contentEncoding"
    " contentMediaType default dependentRequired deprecated description enum examples"
    " exclusiveMaximum exclusiveMinimum format maxContains maxItems maxLength maxProperties maximum"
    " minContains minItems minLength minProperties minimum multipleOf pattern readOnly required"
    " title type uniqueItems writeOnly".split()
)
_KEYWORDS: Final = sorted(_ONE | _MANY | _NAMED | _LEAVES)
_TYPES: Final = "array boolean integer null number object string".split()
_FORMATS: Final = (
    "date date-time duration email hostname idn-email idn-hostname ipv4 ipv6 iri iri-reference"
    " json-pointer regex relative-json-pointer time uri uri-reference uri-template uuid"
).split()


def argument_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A frozen copy of *schema*, if it is a usable JSON Schema of an object; raises Fault."""
    document = cast("dict[str, Json]", freeze(dict(schema))[0])
    Fault.refuse(_unknown(document, ()))
    kinds = document.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise Fault(
            f"is {shown(kinds)}, but arguments always are an object",
            "leave it out, or write type: object",
            at=("type",),
        )
    try:
        jsonschema_rs.Draft202012Validator(
            thaw(document),  # it takes no subclass of list in a schema
            pattern_options=jsonschema_rs.RegexOptions(),
            retriever=_offline,
            validate_formats=True,
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:  # ValidationError is the first
        raise Fault(
            f"is no JSON Schema: {str(error).partition(chr(10))[0][:300]}",
            "see json-schema.org, draft 2020-12; patterns have no look-around or back-references",
            at=tuple(getattr(error, "instance_path", ())),
        ) from None
    return document


def _unknown(schema: Json, at: Path) -> Iterator[Fault]:
    """Keywords that nobody would look at, in *schema* and in the schemas inside it."""
    if not isinstance(schema, dict):
        return  # the validator says what else is wrong
    for word, value in schema.items():
        here = (*at, word)
        if word in _ONE:
            yield from _unknown(value, here)
        elif word in _MANY and isinstance(value, list):
            for i, item in enumerate(value):
                yield from _unknown(item, (*here, i))
        elif word in _NAMED and isinstance(value, dict):
            for name, item in value.items():
                yield from _unknown(item, (*here, name))
        elif word not in _LEAVES | _MANY | _NAMED and not word.startswith("x-"):
            yield _no_keyword(word, value, here)
        else:
            yield from _misused(word, value, here)


def _no_keyword(word: str, value: Json, at: Path) -> Fault:
    hint, _, _ = accepted(word, _KEYWORDS).partition(" accepted:")
    if not hint.startswith("did"):
        hint = "accepted: the keywords of JSON Schema 2020-12, and x-…"
        if isinstance(value, dict):
            hint = f"if {word} is an argument, put it under properties: {{{word}: …}}"
    return Fault("is no keyword of JSON Schema", hint, at=at, on_key=True)


def _misused(word: str, value: Json, at: Path) -> Iterator[Fault]:
    """Values that are legal in JSON Schema and never do what was meant."""
    if word == "format" and value not in _FORMATS:
        yield Fault(f"is {shown(value)}, which nobody checks", accepted(value, _FORMATS), at=at)
    elif word == "type" and isinstance(value, str) and value not in _TYPES:
        yield Fault(f"is {shown(value)}", accepted(value, _TYPES), at=at)
    elif word == "$schema" and value != DIALECT:
        yield Fault(f"is {shown(value)}", f"accepted: {DIALECT}", at=at)
    elif word in ("$ref", "$dynamicRef") and not str(value).startswith("#"):
        yield Fault(f"is {shown(value)}, and nothing is fetched", "refer to #/$defs/…", at=at)


def _offline(uri: str) -> NoReturn:  # pragma: no cover - a second lock: no such $ref gets here
    raise ValueError(f"it refers to {uri}, and nothing is fetched")
