"""The gate as a callback handler, for where callbacks are all there is: it can say no and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import BaseTool

from sluicegate import ApprovalRequired, Defer, Denied, Deny, Gate, Permit, Reason
from sluicegate.adapting import SubjectSource, record

from .arguments import Arguments
from .call import Call, outcome, passes

__all__ = ["GateCallbackHandler"]

_MADE_BEFORE: Final = Reason(
    "duplicate_call",
    "langchain",
    "this call was made before and succeeded; a callback cannot answer it with its recorded result",
)


class GateCallbackHandler(BaseCallbackHandler):
    """
    Refuse tool calls by raising Denied (or ApprovalRequired) before they run, which ends the run.

    Callbacks are told the name and the arguments of a call and not the tool's schema:
    give the *tools* as well, or arguments that a tool never declared go unnoticed.
    *subject* may be a function of the call's metadata.

    It is a plain handler on purpose: LangChain swallows what an async one raises
    before a tool that is not async, and then runs the tool.
    """

    def __init__(
        self, gate: Gate, *, subject: SubjectSource = None, tools: Iterable[BaseTool] = ()
    ) -> None:
        self._gate = gate
        self._subject = subject
        self._tools = {tool.name: tool for tool in tools}
        self._permits: dict[UUID, Permit] = {}

    # Without these three LangChain goes on when the gate says no; so they cannot be set.
    raise_error: Any = property(lambda self: True)
    run_inline: Any = property(lambda self: True)
    ignore_agent: Any = property(lambda self: False)

    def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **others: Any
    ) -> None:
        """Decide, unless this call was permitted on its way here; raises Denied or ApprovalRequired."""
        name: str = serialized["name"]
        tool, sent, call_id = (
            self._tools.get(name),
            others.get("inputs"),
            others.get("tool_call_id"),
        )
        if sent is None:
            sent = {Arguments.of(tool).first if tool else "input": input_str}
        if passes(self._gate, name, "callback", call_id, sent):
            return
        told: Any = others.get("metadata") or {}
        call = Call(tool, name, sent, call_id, config=told, subject=self._subject, offered=told)
        decision = self._gate.decide(call.proposal)
        if isinstance(decision, Permit):
            self._permits[run_id] = decision
        elif isinstance(decision, Deny):
            raise Denied(decision)
        elif isinstance(decision, Defer):
            raise ApprovalRequired(decision)
        else:
            raise Denied(Deny(tool=name, reasons=(_MADE_BEFORE,)))

    def on_tool_end(self, output: Any, *, run_id: UUID, **others: Any) -> None:
        """Settle the permit of the call, if it is one of ours."""
        self._settle(run_id, output)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **others: Any) -> None:
        """Settle the permit of the call by what the tool raised."""
        self._settle(run_id, error)

    def _settle(self, run_id: UUID, ended: object) -> None:
        permit = self._permits.pop(run_id, None)
        if permit is not None:
            record(self._gate, permit, outcome(permit, ended))
