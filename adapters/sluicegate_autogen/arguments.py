"""How AutoGen makes what a function receives of what the model sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from autogen_core.tools import ToolSchema
from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from sluicegate import Schema, thaw
from sluicegate.adapting.shape import STEADY, Receive, Shape
from sluicegate.canonical import is_object

__all__ = ["Arguments", "arguments_of"]

Arguments: TypeAlias = "tuple[Shape, Receive | None]"

_NONE: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


def arguments_of(tool: ToolSchema, model: type[BaseModel] | None = None) -> Arguments:
    """
    The arguments of a tool that is shown to the model as *tool*.

    *model* is what AutoGen parses them with. Without one a workbench takes them as they
    are, and fills in the defaults that its own schema declares.
    """
    document: Mapping[str, Any] = tool.get("parameters") or _NONE
    facing = Schema.of(document)
    if model is None:
        parts = document.get("properties", {}).items()
        defaults = {n: p["default"] for n, p in parts if is_object(p) and "default" in p}
        return Shape(facing), (lambda known: {**defaults, **known}) if defaults else None
    fields = {name: _spellings(name, field) for name, field in model.model_fields.items()}
    fresh = [n for n, field in model.model_fields.items() if field.default_factory not in STEADY]
    shape = Shape(
        facing,
        fields=frozenset[str]().union(*fields.values()),
        fresh={name: fields[name] for name in fresh},
    )
    return shape, lambda known: dict(model.model_validate(thaw(known)))


def _spellings(name: str, field: FieldInfo) -> set[str]:
    """All names by which pydantic may take a field."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    firsts = [choice.path[0] if isinstance(choice, AliasPath) else choice for choice in choices]
    return {text for text in (name, field.alias, *firsts) if isinstance(text, str)}
