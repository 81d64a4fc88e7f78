"""A first policy, with comments, for `sluicegate init`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from .values import pattern

__all__ = ["READS", "starter"]

READS: Final = ("get_", "list_", "read_", "search_")
"""How the names of tools begin that are taken for reads; the author has the last word."""

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,60}")
_WORDS: Final = frozenset({"true", "false", "null"})

_HEAD: Final = """\
# What the agents may do. A tool that is not listed here cannot run.
# `sluicegate check` says what is wrong with this file, `sluicegate schema` helps your editor.
version: 1

# effect:  read        no side effect
#          idempotent  safe to repeat with equal arguments
#          write       not safe to repeat; the default
tools:
"""

_EXAMPLE: Final = """\
  search_orders: {effect: read}
  get_order: {effect: read}
  issue_refund:
    effect: write
    args:                                # JSON Schema; the tool's own schema must hold as well
      properties:
        amount: {type: number, exclusiveMinimum: 0, maximum: 500}
    # when: args.currency == 'EUR'       # a condition (CEL) that must be true
    once: {key: "refund:{order_id}", within: 24h}    # one refund for each order and day
    cost: {eur: args.amount}             # held before the call, settled after it
    # requires: [{tool: get_order, match: {order_id: order_id}}]     # seen first, in this run
    # approve: true                      # a person must say yes; or a condition, as for when
    # breaker: {failures: 3, cooldown: 30s}
    # concurrency: 1                     # calls at the same time
    # rate: 10/min
"""

_GRANTS: Final = """
# Who may call what. Without this section everybody may call every tool listed above.
# grants:
#   - {agent: "support-*", tools: [{tools}]}
#   - {role: admin, tools: ["*"]}
"""

_LIMITS: Final = """
# Shared limits; every one that fits a call applies.
# per: tenant, user, agent, run, root, tool or args.<name>; each of them has the limit to itself.
limits:
  - {budget: calls, limit: 1000, window: day}       # `calls` is built in
  - {rate: 5/s, burst: 20}
  - {concurrency: 8, wait: 2s}
  # - {budget: calls, limit: 50, per: [run]}
  # - {repeat: 5, per: [run]}            # identical calls; at twice the number the run is halted
"""

_BUDGET: Final = (
    "  - {budget: eur, limit: 1000, window: day}          # from the costs of the tools\n"
)


def starter(tools: Mapping[str, Mapping[str, Any] | None] | Iterable[str] = ()) -> str:
    """
    The text of a policy (YAML) for *tools*: names, or names with their JSON Schemas.

    Without tools it shows an order desk. Raises ValueError for a name that no
    policy can have.
    """
    schemas: dict[str, Mapping[str, Any] | None] = dict.fromkeys(tools)
    if isinstance(tools, Mapping):
        schemas.update(cast("Mapping[str, Mapping[str, Any] | None]", tools))
    if not schemas:
        example = _GRANTS.replace("{tools}", "search_orders, get_order")
        return _HEAD + _EXAMPLE + example + _LIMITS + _BUDGET
    entries = "".join(_entry(name, schema or {}) for name, schema in schemas.items())
    some = ", ".join(_quoted(name) for name in list(schemas)[:3])
    return _HEAD + entries + _GRANTS.replace("{tools}", some) + _LIMITS


def _entry(name: str, schema: Mapping[str, Any]) -> str:
    key = _quoted(pattern(name))
    if name.startswith(READS):
        return f"  {key}: {{effect: read}}\n"
    lines = [f"  {key}:", "    effect: write"]
    names = _arguments(schema)
    if names:
        lines.append(f"    # arguments: {', '.join(names)}")
    if names and key == name:
        lines.append(f'    # once: {{key: "{name}:{{{names[0]}}}", within: 24h}}')
    return "\n".join(lines) + "\n"


def _arguments(schema: Mapping[str, Any]) -> list[str]:
    """The arguments that can stand in a comment: whoever wrote the tool chose their names."""
    names: Iterable[object] = schema.get("properties", ())
    return [name for name in names if isinstance(name, str) and _PLAIN.fullmatch(name)]


def _quoted(name: str) -> str:
    if _PLAIN.fullmatch(name) and name not in _WORDS:
        return name
    return json.dumps(name, ensure_ascii=False)
