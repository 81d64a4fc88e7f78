"""The scene of `sluicegate demo`, played by a real LangChain agent with a scripted model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain.agents.middleware import wrap_tool_call
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langsmith import tracing_context  # pyright: ignore[reportUnknownVariableType]

from sluicegate import Gate, Subject
from sluicegate.cli.scene import TASK, Script
from sluicegate.cli.shop import Shop

from . import GateMiddleware

__all__ = ["ABOUT", "WIRING", "ScriptedModel", "play", "tell_errors"]

ABOUT: Final = "LangChain's create_agent with real tools on a SQLite shop; the model is scripted"
WIRING: Final = (
    "GateMiddleware(gate, subject=…)",
    "one more middleware for create_agent; nothing else changes",
)
SUBJECT: Final = Subject(tenant="acme", agent="order-desk")


class ScriptedModel(BaseChatModel):
    """A chat model that says what a script says, and reads the tools' answers as a model does."""

    script: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> ScriptedModel:
        """This model knows its tools by heart."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        answers: list[str] = []
        for message in reversed(messages):
            if not isinstance(message, ToolMessage):
                break
            answers.insert(0, str(message.text))
        calls = [
            {"name": call.tool, "args": dict(call.args), "id": f"call-{turn}-{i}"}
            for i, call in enumerate(self.script.next(answers))
        ]
        said = AIMessage(self.script.closing, tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


@wrap_tool_call
def tell_errors(request: Any, handler: Callable[[Any], Any]) -> Any:
    """Let the model read what went wrong in a tool, as most agents do, and go on."""
    try:
        return handler(request)
    except (OSError, ValueError) as error:
        call = request.tool_call
        return ToolMessage(
            f"Error: {error}", tool_call_id=call["id"], name=call["name"], status="error"
        )


def play(shop: Shop, script: Script, gate: Gate | None) -> None:
    """Run the scene in *shop*; the only difference that *gate* makes is one more middleware."""
    middleware: list[Any] = [tell_errors]
    if gate is not None:
        middleware.append(GateMiddleware(gate, subject=SUBJECT))
    model = ScriptedModel(script=script)
    agent: Any = create_agent(model, [tool(f) for f in shop.tools], middleware=middleware)
    config = {"configurable": {"thread_id": "demo"}, "recursion_limit": 200}
    with tracing_context(enabled=False):  # no network, whatever the environment says
        agent.invoke({"messages": [("user", TASK)]}, config)
