"""The JSON Schema of the policy file, for editors: what people write, not what is made of it."""

from __future__ import annotations

from typing import Any, Final, cast

from ..canonical import Json
from .argument_schema import DIALECT
from .model import Policy

__all__ = ["json_schema"]

_NULL: Final[Json] = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) that every policy fulfils; passing it is not yet being right."""
    schema = cast("dict[str, Any]", _as_written(Policy.model_json_schema()))
    return {"$schema": DIALECT, **schema, "title": "Sluicegate policy"}


def _as_written(schema: Json) -> Json:
    """*schema* without null: what is not wanted in a policy is left out, never left empty."""
    if isinstance(schema, list):
        return [_as_written(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    choices = kept.get("anyOf")
    if isinstance(choices, list) and _NULL in choices:
        choices.remove(_NULL)
        if len(choices) == 1:
            del kept["anyOf"]
            kept = {**cast("dict[str, Json]", choices[0]), **kept}
    return {key: _as_written(value) for key, value in kept.items()}
