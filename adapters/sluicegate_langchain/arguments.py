"""How LangChain makes what a function receives of what the model sent: per tool, and found out once."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from langchain_core.tools import BaseTool, Tool
from langchain_core.utils.pydantic import get_fields
from pydantic import AliasChoices, AliasPath, create_model
from pydantic_core import PydanticSerializationError

from sluicegate import Schema, thaw
from sluicegate.adapting.shape import STEADY, Receive, Shape, jsonable

__all__ = ["Arguments"]

_NAMELESS: Final = {"properties": {"__arg1": {"type": "string"}}, "required": ["__arg1"]}
"""How LangChain shows a plain `Tool`, which takes one text without a name."""


class Arguments(NamedTuple):
    """The arguments of a tool; *first* is the one that a bare text stands for."""

    shape: Shape
    receive: Receive | None
    first: str

    @staticmethod
    def of(tool: BaseTool) -> Arguments:
        """The arguments of *tool*, found out once for as long as it lives unchanged."""
        key = id(tool)
        known = _known.get(key)
        if known is not None and known[0]() is tool and known[1] is tool.args_schema:
            return known[2]
        found = _found_out(tool)
        _known[key] = (weakref.ref(tool, lambda _: _known.pop(key, None)), tool.args_schema, found)
        return found


_known: dict[int, tuple[weakref.ref[BaseTool], object, Arguments]] = {}


def _found_out(tool: BaseTool) -> Arguments:
    nameless = isinstance(tool, Tool) and tool.args_schema is None
    call: Any = _NAMELESS if nameless else tool.tool_call_schema
    plain = isinstance(call, dict)
    fields: dict[str, Any] = {} if plain else dict(get_fields(tool.get_input_schema()))
    shown: Mapping[str, Any] = call.get("properties", {}) if plain else get_fields(call)
    injected = tool._injected_args_keys | (fields.keys() - shown.keys())
    aliases = {name: _aliases(name, field) for name, field in fields.items()}
    fresh = [name for name, field in fields.items() if field.default_factory not in STEADY]
    shape = Shape(
        Schema.of(call if plain else _document(call)),
        # With all aliases: LangChain shows one name of a field, not always one that pydantic takes.
        fields=(fields.keys() - injected).union(*aliases.values()),
        injected=injected,
        fresh={name: aliases[name] | {name} for name in fresh},
    )
    by_alias_only = {} if _by_name(tool.args_schema) else {n for n in fields if aliases[n]}
    receive = _receive(tool, fields.keys() & injected, by_alias_only, _defaults(tool, shown))
    return Arguments(shape, receive, next(iter(shown), "input"))


def _receive(
    tool: BaseTool, injected: Collection[str], by_alias: Collection[str], defaults: dict[str, Any]
) -> Receive | None:
    """LangChain's own parsing, with nothing injected; None for a tool that takes what it is given."""
    schema: Any = tool.args_schema
    if not isinstance(schema, type):
        return (lambda known: {**defaults, **known}) if defaults else None
    if injected:
        absent: dict[str, Any] = dict.fromkeys(injected, (Any, None))
        schema = create_model(schema.__name__, __base__=schema, **absent)
    parser = tool.model_copy(update={"args_schema": schema})

    def receive(known: Mapping[str, Any]) -> Mapping[str, Any]:
        dropped = ", ".join(sorted(known.keys() & by_alias))
        if dropped:
            raise ValueError(f"it would drop {dropped}, which it takes by an alias only")
        return {**defaults, **parser._parse_input(thaw(dict(known)), "")}

    return receive


def _document(model: Any) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = (getattr(model, "model_json_schema", None) or model.schema)()
    return schema


def _defaults(tool: BaseTool, names: Collection[str]) -> dict[str, Any]:
    """The defaults of the function itself: older versions of LangChain leave them to Python."""
    function = getattr(tool, "func", None) or getattr(tool, "coroutine", None) or tool._run
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in names and parameter.default is not parameter.empty:
            try:
                found[name] = jsonable(parameter.default)
            except PydanticSerializationError:
                continue  # a constant of the program without a JSON form
    return found


def _aliases(name: str, field: Any) -> set[str]:
    """The names other than *name* by which pydantic may take a field."""
    found = [field.alias, getattr(field, "validation_alias", None)]
    for alias in found:
        found += alias.choices if isinstance(alias, AliasChoices) else ()
        found += alias.path[:1] if isinstance(alias, AliasPath) else ()
    return {alias for alias in found if isinstance(alias, str)} - {name}


def _by_name(schema: Any) -> bool:
    """Whether a model takes a field with an alias by its name as well."""
    config = getattr(schema, "model_config", {})
    old = getattr(schema, "Config", None)
    words = ("populate_by_name", "validate_by_name")
    return any(map(config.get, words)) or bool(
        getattr(old, "allow_population_by_field_name", False)
    )
