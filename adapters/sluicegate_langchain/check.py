"""Which tools of a graph no gate guards, as far as the graph itself can tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]

from .middleware import GateMiddleware
from .tools import is_guarded

__all__ = ["unguarded"]

_DEEPEST: Final = 12
"""Wrappers in wrappers that are looked through: more middleware than any agent has."""


def unguarded(graph: Any) -> list[str]:
    """
    The names of the tools of *graph*, a compiled graph or agent, that run without a gate.

    It looks into graphs in graphs, not into the tools' own code. Raises TypeError for
    something else.
    """
    if not _is_graph(graph):
        raise TypeError(
            f"{type(graph).__name__} is no compiled graph; check what `create_agent` or `compile` gave"
        )
    return sorted({name for node in _tool_nodes(graph) for name in _open(node)})


def _is_graph(value: Any) -> bool:
    return isinstance(value, Pregel)


def _tool_nodes(graph: Any) -> Iterator[ToolNode]:
    for node in graph.nodes.values():
        for part in (node.bound, *getattr(node.bound, "steps", ())):
            if isinstance(part, ToolNode):
                yield part
            elif _is_graph(part):
                yield from _tool_nodes(part)


def _open(node: ToolNode) -> list[str]:
    wrappers = [getattr(node, name, None) for name in ("_wrap_tool_call", "_awrap_tool_call")]
    if all(_reaches_gate(wrapper) for wrapper in wrappers):
        return []
    return [name for name, tool in node.tools_by_name.items() if not is_guarded(tool)]


def _reaches_gate(wrapper: Any, depth: int = _DEEPEST) -> bool:
    """Whether the gate's middleware is among those that LangChain has made one function of."""
    if isinstance(getattr(wrapper, "__self__", None), GateMiddleware):
        return True
    cells = getattr(wrapper, "__closure__", None) or ()
    return depth > 0 and any(_reaches_gate(_content(cell), depth - 1) for cell in cells)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
