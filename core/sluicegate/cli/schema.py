"""`sluicegate schema`: the shape of the policy file, for editors."""

from __future__ import annotations

from ..policy.editor import json_schema
from .terminal import Json, print_json

__all__ = ["schema"]


def schema(as_json: Json = True) -> None:
    """
    Print the JSON Schema of the policy file, for your editor.

    \b
    Examples:
      sluicegate schema > sluicegate.schema.json
      sluicegate schema | jq '.properties | keys'

    \b
    Then let the first line of the policy name it (VS Code, Zed, Helix, JetBrains):
      # yaml-language-server: $schema=sluicegate.schema.json
    """
    print_json(json_schema())
