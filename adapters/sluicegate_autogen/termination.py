"""The end of a team's run, where the gate said that it should end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from autogen_agentchat.base import TerminatedException, TerminationCondition
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    StopMessage,
    ToolCallExecutionEvent,
)
from autogen_core import Component
from pydantic import BaseModel
from typing_extensions import Self

from sluicegate import Deny, Reason

__all__ = ["GateTermination"]

# What the model is told at the end of a final refusal: all that AutoGen keeps of one is its text.
_FINAL: Final = (
    Deny(tool="", reasons=(Reason("halted", "", ""),), final=True, brief=True)
    .render()
    .partition("was not run. ")[2]
)


class _Nothing(BaseModel):
    """The configuration of a condition that has none."""


class GateTermination(TerminationCondition, Component[_Nothing]):
    """
    End a team's run after a refusal that is final: `termination_condition=GateTermination() | …`.

    AutoGen asks between the turns of a team, so an agent with `max_tool_iterations` above 1
    may speak to its model again before; its further calls are refused.
    """

    component_config_schema = _Nothing
    component_provider_override = "sluicegate_autogen.GateTermination"

    def __init__(self) -> None:
        self._terminated = False

    @property
    def terminated(self) -> bool:
        return self._terminated

    async def __call__(
        self, messages: Sequence[BaseAgentEvent | BaseChatMessage]
    ) -> StopMessage | None:
        """A StopMessage with the refusal, if there is a final one among *messages*."""
        if self._terminated:
            raise TerminatedException("the gate has ended this run already")
        for message in messages:
            for result in message.content if isinstance(message, ToolCallExecutionEvent) else ():
                if result.is_error and result.content.endswith(_FINAL):
                    self._terminated = True
                    return StopMessage(content=result.content, source="GateTermination")
        return None

    async def reset(self) -> None:
        self._terminated = False

    def _to_config(self) -> _Nothing:
        return _Nothing()

    @classmethod
    def _from_config(cls, config: _Nothing) -> Self:
        return cls()
