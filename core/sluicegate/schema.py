"""
A tool's own JSON Schema, prepared once.

Frameworks drop arguments that a tool never declared, without a word: a
misspelt `quantiy=500` runs as the default. So the schema here is closed: what
it does not name, it refuses, also in nested objects.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NoReturn, TypeAlias, cast

import jsonschema_rs

from .canonical import NotCanonical, freeze, is_object, thaw

__all__ = ["Schema", "SchemaProblem", "Validator", "compiled", "complaints"]

Validator: TypeAlias = jsonschema_rs.Draft202012Validator

_CACHED: Final = 1024
_STEPS: Final = 10_000
_COMPLAINTS: Final = 20
_COMPOUND: Final = frozenset(
    {"if", "not", "dependentSchemas", "$dynamicRef", "unevaluatedProperties"}
)
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties", "contains")
_OWN: Final = frozenset({"properties", "patternProperties", "additionalProperties"})
_COMBINED: Final = frozenset({"allOf", "anyOf", "oneOf", "$ref"})
_REVERSING: Final = ('"oneOf":', '"not":', '"if":', '"maxContains":')
"""Keywords by which a schema may accept more although a part of it accepts less."""


class SchemaProblem(ValueError):
    """The document is no JSON Schema that can be checked offline."""


class Schema:
    """
    A frozen JSON Schema (2020-12) of a tool's arguments.

    *names* are the arguments that the tool declares, None if it declares that it
    takes any. *problem* says why the schema cannot be used; such a schema refuses
    every call. Make one per tool and pass it to each proposal.
    """

    __slots__ = ("_also", "_closed", "_open", "digest", "names", "problem", "text")

    text: str
    digest: str
    names: frozenset[str] | None
    problem: str | None

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.problem = None
        self.names = None
        self.text = "null"
        self._open: Validator | None = None
        self._closed: Validator | None = None
        self._also: Validator | None = None
        try:
            frozen, self.text = freeze(dict(document))
            assert isinstance(frozen, dict)  # noqa: S101 - for the type checker
            self._open = compiled(frozen)
            self._closed = compiled(_close(frozen)) if _closable(frozen) else self._open
            if self._closed is not self._open and any(word in self.text for word in _REVERSING):
                self._also = self._open
            self.names = _declared(frozen, frozen, set())
        except NotCanonical as error:
            self.problem = f"it is not JSON: {error}"
        except SchemaProblem as error:
            self.problem = str(error)
        self.digest = "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @staticmethod
    def of(document: Mapping[str, Any] | Schema) -> Schema:
        """The prepared schema of *document*, from a cache by its content."""
        if type(document) is Schema:
            return document
        try:
            content = marshal.dumps(
                cast("Any", document), 2
            )  # version 2: the bytes depend on the content only
        except ValueError:
            return Schema(document)  # type: ignore[arg-type]
        known = _cache.get(content)
        if known is None:
            known = Schema(document)  # type: ignore[arg-type]
            if len(_cache) >= _CACHED:
                _cache.clear()
            _cache[content] = known
        return known

    def holds(self, args: Mapping[str, Any], *, closed: bool = True) -> bool:
        """Whether *args* satisfy the schema; False if the schema itself is unusable."""
        validator = self._closed if closed else self._open
        if validator is None or not validator.is_valid(args):
            return False
        return not closed or self._also is None or self._also.is_valid(args)

    def errors(self, args: Mapping[str, Any], *, closed: bool = True) -> Iterator[str]:
        """What is wrong with *args*, one sentence each."""
        validator = self._closed if closed else self._open
        if validator is None:
            yield f"the tool's own schema cannot be used: {self.problem}"
            return
        if closed and self._also is not None and validator.is_valid(args):
            validator = self._also
        yield from complaints(validator, args)

    def __repr__(self) -> str:
        return f"Schema({self.digest[:19]}…, names={sorted(self.names) if self.names is not None else 'any'})"


_cache: dict[bytes, Schema] = {}


def compiled(document: Mapping[str, Any], *, formats: bool = False) -> Validator:
    """
    A validator that never fetches anything; raises SchemaProblem.

    Its patterns take linear time. One that cannot (pydantic writes such ones for decimals)
    is given so many steps; text that needs more does not match, and so is refused. With
    *formats*, `format: email` and the like are checked and no mere remarks.
    """
    try:
        return _compiled(document, jsonschema_rs.RegexOptions(), formats)
    except SchemaProblem:
        return _compiled(document, jsonschema_rs.FancyRegexOptions(backtrack_limit=_STEPS), formats)


def _compiled(document: Mapping[str, Any], patterns: Any, formats: bool) -> Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            thaw(document),  # it takes no subclass of list in a schema
            pattern_options=patterns,
            retriever=_offline,
            validate_formats=formats,
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise SchemaProblem(str(error).partition("\n")[0]) from None


def complaints(validator: Validator, args: Mapping[str, Any]) -> Iterator[str]:
    """What *validator* says against *args*, each with the path of the argument."""
    for error in islice(validator.iter_errors(args), _COMPLAINTS):
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.instance_path)
        message = error.message if len(error.message) <= 300 else error.message[:297] + "…"
        yield f"{where.lstrip('.')}: {message}" if where else message


def _offline(uri: str) -> NoReturn:
    raise ValueError(f"a schema may not refer to {uri!r}: nothing is fetched")


def _declared(schema: Any, root: Mapping[str, Any], seen: set[str]) -> frozenset[str] | None:
    """The names that *schema* declares at its top, None if it says that it takes any."""
    if not is_object(schema):
        return None if schema is True else frozenset()
    if schema.get("additionalProperties") not in (None, False) or "patternProperties" in schema:
        return None
    names: frozenset[str] = frozenset(schema.get("properties", ()))
    parts: list[Any] = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, ())]
    reference = schema.get("$ref")
    if reference is not None and reference not in seen:
        seen.add(reference)  # each one once: schemas may refer to themselves
        parts.append(_local(reference, root))
    for part in parts:
        inner = _declared(part, root, seen)
        if inner is None:
            return None
        names |= inner
    return names


def _local(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if is_object(found) else None
    return found


def _closable(schema: Any) -> bool:
    """
    Whether each object in *schema* stands for itself.

    Where several subschemas describe the same object together, closing one of
    them would refuse what the other one declares; such schemas are left alone.
    """
    if not is_object(schema):
        return True
    if not _COMPOUND.isdisjoint(schema) or len(schema.get("allOf", ())) > 1:
        return False
    own = 0 if _OWN.isdisjoint(schema) else 1
    if own + len(_COMBINED.intersection(schema)) > 1:
        return False
    return all(_closable(part) for part in _inside(schema))


def _inside(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas directly in *schema*: by place, since an argument may be called `not`."""
    for key in _MAPS:
        yield from schema.get(key, {}).values()
    for key in _LISTS:
        yield from schema.get(key, ())
    for key in _SINGLE:
        yield schema.get(key)


def _close(schema: Any) -> Any:
    if not is_object(schema):
        return schema
    closed: dict[str, Any] = dict(schema)
    for key in _MAPS:
        if key in closed:
            closed[key] = {name: _close(part) for name, part in closed[key].items()}
    for key in _LISTS:
        if key in closed:
            closed[key] = [_close(part) for part in closed[key]]
    for key in _SINGLE:
        if key in closed:
            closed[key] = _close(closed[key])
    if "properties" in closed and "patternProperties" not in closed:
        closed.setdefault("additionalProperties", False)
    return closed
