"""How CrewAI makes what a function receives of what the model sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crewai.tools import BaseTool

from sluicegate import Schema
from sluicegate.adapting.shape import STEADY, Shape

__all__ = ["Arguments"]


class Arguments:
    """The arguments of *tool*. Raises ValueError or a pydantic error for one without a JSON Schema."""

    def __init__(self, tool: BaseTool) -> None:
        self._model = tool.args_schema
        fields = self._model.model_fields
        facing = Schema.of(self._model.model_json_schema())
        if facing.problem is not None:
            raise ValueError(facing.problem)
        self.shape = Shape(facing, fields=fields)
        self.names = list(fields)
        self._fresh = {name for name in fields if fields[name].default_factory not in STEADY}

    def received(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """What the function receives: CrewAI drops what the tool never declared, and fills in defaults."""
        declared = self.shape.facing.names
        known = {name: args[name] for name in args if declared is None or name in declared}
        return self._model.model_validate(known).model_dump()

    def decided(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The same without defaults that are new each time, such as an id: nobody can decide about those."""
        parsed = self._model.model_validate(args)
        new = self._fresh - parsed.model_fields_set
        return {name: value for name, value in parsed.model_dump().items() if name not in new}
