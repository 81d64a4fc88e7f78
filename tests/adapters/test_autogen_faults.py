"""Whatever fails, an agent never hangs, nothing runs that was not permitted, and the outcome is right."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from autogen_core.tool_agent import ToolException
from autogen_core.tools import (
    FunctionTool,
    StaticWorkbench,
    ToolResult,
    Workbench,
)
from autogen_scene import (
    agent,
    call,
    decided,
    go,
    patiently,
    results,
    settled,
    told,
)

from sluicegate import Gate, MemoryLedger, NotExecuted
from sluicegate_autogen import GateWorkbench, guard_tools

LIMITED = {"refund": {"args": {"properties": {"amount": {"maximum": 5}}}}}


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    def refund(order: str, amount: int = 1) -> str:
        """Refund an order."""
        return effects.add("refund", order, amount)

    return refund


# --- an agent never hangs --------------------------------------------------------------------------


class Broken(Gate):
    """A gate with a bug."""

    async def adecide(self, proposal: Any) -> Any:
        raise RuntimeError("bug")


class Mute(Gate):
    """A gate that gives what is no decision."""

    async def adecide(self, proposal: Any) -> Any:
        return None


@pytest.mark.parametrize("kind", [Broken, Mute])
@pytest.mark.parametrize("guarded", ["workbench", "tools"])
def test_a_gate_with_a_bug_neither_runs_the_tool_nor_hangs_the_agent(
    kind, guarded, refund, effects
):
    """Whatever a gate does, the tool does not run, and the agent is told and goes on."""
    gate = kind({"version": 1, "tools": LIMITED}, "memory:")
    how = {
        "workbench": lambda: {"workbench": GateWorkbench([refund], gate)},
        "tools": lambda: {"tools": guard_tools([refund], gate)},
    }[guarded]()
    messages = go(agent([call("refund", order="A1")], **how))
    assert told(messages) == ["internal_error"]
    assert messages[-1].to_text() == "done"
    assert effects.all == []


@pytest.mark.parametrize(
    "error",
    [
        ToolException(call_id="c1", content="odd", name="refund"),
        asyncio.CancelledError("by the tool itself"),
        StopAsyncIteration(),
    ],
    ids=["BaseException", "CancelledError", "StopAsyncIteration"],
)
@pytest.mark.parametrize("inner", [list, StaticWorkbench])
def test_a_tool_that_raises_anything_does_not_hang_the_agent(error, inner, make_gate):
    """AutoGen would wait for such a call forever; here its outcome is unknown, and the agent goes on."""

    async def refund() -> str:
        raise error

    gate = make_gate({"tools": {"refund": {}}})
    workbench = GateWorkbench(inner([FunctionTool(refund, "")]), gate)
    messages = go(agent([call("refund")], workbench=workbench))
    assert [r.is_error for r in results(messages)] == [True]
    assert messages[-1].to_text() == "done"
    assert settled(gate) == ["unknown"]


class Failing(Workbench):
    """A workbench that lists a tool and fails in every other way."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.lists = 2

    async def list_tools(self) -> Any:
        self.lists -= 1
        if self.lists < 0:
            raise ConnectionError("the server is gone")
        return [{"name": "ping", "parameters": {"type": "object", "properties": {}}}]

    async def call_tool(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def reset(self) -> None: ...
    async def save_state(self) -> Any: ...
    async def load_state(self, state: Any) -> None: ...


@pytest.mark.parametrize("answer", [RuntimeError("bug"), KeyError("x"), "no result", None])
def test_a_workbench_that_breaks_does_not_hang_the_agent(answer, make_gate):
    """A workbench that raises, or that answers with nonsense, is an unknown outcome and an error."""
    gate = make_gate({"tools": {"ping": {}}})
    messages = go(agent([call("ping")], workbench=GateWorkbench(Failing(answer), gate)))
    assert [r.is_error for r in results(messages)] == [True]
    assert settled(gate) == ["unknown"]


def test_a_list_that_fails_in_the_midst_of_a_call_does_not_hang_the_agent(make_gate):
    """An agent lists the tools again before each call; once listed, the last list stands."""
    failing = Failing(ToolResult(name="ping", result=[]))
    failing.lists = 1
    gate = make_gate({"tools": {"ping": {}}})
    messages = go(agent([call("ping")], workbench=GateWorkbench(failing, gate)))
    assert [r.is_error for r in results(messages)] == [False]
    assert messages[-1].to_text() == "done"


def test_a_workbench_that_never_listed_anything_says_why(make_gate):
    """Without any list there is nothing to stand on: the error is that of the workbench."""
    failing = Failing()
    failing.lists = 0
    gate = make_gate({"tools": {"ping": {}}})
    with pytest.raises(ConnectionError):
        patiently(GateWorkbench(failing, gate).list_tools())
    assert patiently(GateWorkbench(failing, gate).call_tool("ping")).is_error
    assert decided(gate) == []


def test_an_outcome_that_cannot_be_recorded_is_still_told(refund, effects, caplog):
    """What happened did happen: the model is told so, and the log says that it is not on record."""

    class Half(MemoryLedger):
        def perform(self, request: Any) -> Any:
            if type(request).__name__ == "Settling":
                raise OSError("disk full")
            return super().perform(request)

    gate = Gate({"version": 1, "tools": LIMITED}, Half())
    messages = go(agent([call("refund", order="A1")], workbench=GateWorkbench([refund], gate)))
    assert told(messages) == ["refund A1 1"]
    assert effects.all == ["refund A1 1"]
    assert "could not be recorded" in caplog.text


# --- outcomes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "error", "outcome"),
    [
        ("write", TimeoutError("lost"), "unknown"),
        ("read", TimeoutError("lost"), "failed"),
        ("write", NotExecuted("declined"), "failed"),
    ],
)
def test_what_a_tool_raises_is_settled_as_the_policy_says(effect, error, outcome, make_gate):
    """The gate sees the exception itself, and the model reads what it would read without a gate."""

    def refund() -> str:
        raise error

    gate = make_gate({"tools": {"refund": {"effect": effect}}})
    messages = go(agent([call("refund")], workbench=GateWorkbench([refund], gate)))
    bare = go(agent([call("refund")], tools=[refund]))
    assert settled(gate) == [outcome]
    assert results(messages) == results(bare)


@pytest.mark.parametrize(("guarded", "outcome"), [(False, "unknown"), (True, "failed")])
def test_a_foreign_workbench_keeps_exceptions_to_itself(guarded, outcome, make_gate):
    """It makes text of them, so NotExecuted is lost, unless its tools are guarded themselves."""

    def refund() -> str:
        raise NotExecuted("declined")

    gate = make_gate({"tools": {"refund": {}}})
    inside = guard_tools([refund], gate) if guarded else [FunctionTool(refund, "")]
    messages = go(agent([call("refund")], workbench=GateWorkbench(StaticWorkbench(inside), gate)))
    assert told(messages) == ["declined"]
    assert settled(gate) == [outcome]
