"""What all models of the policy file have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema

__all__ = ["Model", "WrittenAs"]


class Model(BaseModel):
    """Frozen, strict, and without keys that nobody knows."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        validate_default=False,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, slots=True)
class WrittenAs:
    """The annotated type is written as *form*, whose validators make it one."""

    form: Any

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.form)
