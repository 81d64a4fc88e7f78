"""How LangChain makes what a function receives of what the model sent: per tool, and found out once."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple, cast

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
    document = cast("dict[str, Any] | None", call if isinstance(call, dict) else None)
    fields = {} if document is not None else _fields(tool.get_input_schema())
    shown = _fields(call) if document is None else document.get("properties", {})
    # What only the program may fill in is the framework's to say; it says so in private.
    injected = tool._injected_args_keys | (fields.keys() - shown.keys())  # pyright: ignore[reportPrivateUsage]
    aliases = {name: _aliases(name, field) for name, field in fields.items()}
    fresh = [name for name, field in fields.items() if field.default_factory not in STEADY]
    shape = Shape(
        Schema.of(_document(call) if document is None else document),
        # With all aliases: LangChain shows one name of a field, not always one that pydantic takes.
        fields=(fields.keys() - injected).union(*aliases.values()),
        injected=injected,
        fresh={name: aliases[name] | {name} for name in fresh},
    )
    by_name = _by_name(tool.args_schema)
    by_alias_only = {name for name in fields if aliases[name] and not by_name}
    receive = _receive(tool, fields.keys() & injected, by_alias_only, _defaults(tool, shown))
    return Arguments(shape, receive, next(iter(shown), "input"))


def _receive(
    tool: BaseTool, injected: Collection[str], by_alias: Collection[str], defaults: dict[str, Any]
) -> Receive | None:
    """LangChain's own parsing, with nothing injected; None for a tool that takes what it is given."""
    model: Any = tool.args_schema
    if model is None or isinstance(model, dict):
        return (lambda known: {**defaults, **known}) if defaults else None
    if injected:
        absent: dict[str, Any] = dict.fromkeys(injected, (Any, None))
        model = create_model(model.__name__, __base__=model, **absent)
    parser = tool.model_copy(update={"args_schema": model})

    def receive(known: Mapping[str, Any]) -> Mapping[str, Any]:
        dropped = ", ".join(sorted(known.keys() & by_alias))
        if dropped:
            raise ValueError(f"it would drop {dropped}, which it takes by an alias only")
        parsed: Any = parser._parse_input(thaw(dict(known)), "")  # pyright: ignore[reportPrivateUsage]
        return {**defaults, **parsed}

    return receive


def _fields(model: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", get_fields(model))


def _document(model: Any) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = (getattr(model, "model_json_schema", None) or model.schema)()
    return schema


def _defaults(tool: BaseTool, names: Collection[str]) -> dict[str, Any]:
    """The defaults of the function itself: older versions of LangChain leave them to Python."""
    parts = (getattr(tool, part, None) for part in ("func", "coroutine", "_run"))
    function = next(part for part in parts if part is not None)
    found: dict[str, Any] = {}
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
