"""
Sluicegate for LangChain and LangGraph: what the policy does not permit does not run.

`GateMiddleware` for `create_agent`, `tool_node` for graphs built by hand, `guard_tools`
for tools that go anywhere, `GateCallbackHandler` where callbacks are all there is.
"""

from __future__ import annotations

try:
    import langchain as _langchain  # noqa: F401
    import langgraph.prebuilt as _prebuilt  # noqa: F401
except ImportError as error:
    raise ImportError(
        "sluicegate_langchain needs LangChain: pip install sluicegate[langchain]"
    ) from error

from .callbacks import GateCallbackHandler
from .middleware import GateMiddleware, tool_node
from .tools import guard_tools

__all__ = ["GateCallbackHandler", "GateMiddleware", "guard_tools", "tool_node"]
