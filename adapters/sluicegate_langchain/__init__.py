"""
Sluicegate for LangChain and LangGraph: what the policy does not permit does not run.

`GateMiddleware` for `create_agent`, `tool_node` for graphs built by hand, `guard_tools`
for tools that go anywhere, `GateCallbackHandler` where callbacks are all there is.
"""

from __future__ import annotations

try:
    from .callbacks import GateCallbackHandler
    from .check import unguarded
    from .middleware import GateMiddleware, tool_node
    from .tools import guard_tools
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("langchain", "langchain_core", "langgraph"):
        raise
    raise ImportError(
        "sluicegate_langchain needs LangChain: pip install sluicegate[langchain]"
    ) from error

__all__ = ["GateCallbackHandler", "GateMiddleware", "guard_tools", "tool_node", "unguarded"]
