"""Cancelling: nobody hangs, what was running is unknown, and what was not did not run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.tools import BaseStreamTool, FunctionTool, StaticStreamWorkbench, StaticWorkbench
from autogen_scene import agent, call, decided, patiently, results, settled
from pydantic import BaseModel

from sluicegate import Gate
from sluicegate_autogen import GateWorkbench, guard_tools

WAYS: dict[str, Callable[[Any, Gate], dict[str, Any]]] = {
    "workbench": lambda tool, gate: {"workbench": GateWorkbench([tool], gate)},
    "tools": lambda tool, gate: {"tools": guard_tools([tool], gate)},
    "static": lambda tool, gate: {"workbench": StaticWorkbench(guard_tools([tool], gate))},
    "foreign": lambda tool, gate: {"workbench": GateWorkbench(StaticWorkbench([tool]), gate)},
}


class Slow:
    """A tool that begins, and then takes longer than anybody waits."""

    def __init__(self, kind: str) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.tool = FunctionTool(self.work if kind == "sync" else self.awork, "", name="work")

    def work(self) -> str:
        self.begun.set()
        self.release.wait(10)
        return "done"

    async def awork(self) -> str:
        self.begun.set()
        await asyncio.sleep(10)
        return "done"

    async def has_begun(self) -> None:
        while not self.begun.is_set():
            await asyncio.sleep(0.001)


async def cancelled(running: asyncio.Future[Any], token: CancellationToken, slow: Slow) -> Any:
    """Cancel by the token once the tool runs; what the agent ends with, which must be soon."""
    await slow.has_begun()
    token.cancel()
    await asyncio.wait([running], timeout=5)
    slow.release.set()
    assert running.done(), "the agent hangs after it was cancelled"
    return None if running.cancelled() else running.result()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_the_token_ends_an_agent_whose_tool_is_running(way, kind, make_gate):
    """Plain AutoGen hangs here. The agent is told, ends, and the outcome is unknown."""
    gate, slow = make_gate({"tools": {"work": {}}}), Slow(kind)
    desk = agent([call("work")], **WAYS[way](slow.tool, gate), max_tool_iterations=1)

    async def main() -> Any:
        token = CancellationToken()
        running = asyncio.ensure_future(desk.run(task="go", cancellation_token=token))
        return await cancelled(running, token, slow)

    result = patiently(main())
    [told] = results(result.messages)
    assert told.is_error
    assert "cancelled" in told.content
    assert settled(gate) == ["unknown"]


@pytest.mark.parametrize("way", WAYS)
def test_the_token_ends_a_team_whose_tool_is_running(way, make_gate):
    """A team ends as AutoGen says it does, with CancelledError."""
    gate, slow = make_gate({"tools": {"work": {}}}), Slow("async")
    desk = agent([call("work")], **WAYS[way](slow.tool, gate))
    team = RoundRobinGroupChat([desk], termination_condition=TextMessageTermination(source="desk"))

    async def main() -> Any:
        token = CancellationToken()
        running = asyncio.ensure_future(team.run(task="go", cancellation_token=token))
        return await cancelled(running, token, slow)

    assert patiently(main()) is None
    assert settled(gate) == ["unknown"]


def test_siblings_of_a_cancelled_call_are_unknown_too(make_gate):
    """Of two calls at once both were running, so both are unknown, each settled once."""
    gate, slow = make_gate({"tools": {"work": {}}}), Slow("async")
    desk = agent([call("work"), call("work", "c2")], workbench=GateWorkbench([slow.tool], gate))

    async def main() -> Any:
        token = CancellationToken()
        running = asyncio.ensure_future(desk.run(task="go", cancellation_token=token))
        return await cancelled(running, token, slow)

    patiently(main())
    assert settled(gate) == ["unknown", "unknown"]


@pytest.mark.parametrize("way", ["tool", "call_tool", "call_tool_stream"])
def test_who_waits_for_a_call_may_stop_waiting(way, make_gate):
    """A cancelled caller gets its CancelledError, as asyncio promises, and the outcome is unknown."""
    gate, slow = make_gate({"tools": {"work": {}}}), Slow("async")
    workbench, [tool] = GateWorkbench([slow.tool], gate), guard_tools([slow.tool], gate)

    async def streamed() -> None:
        async for _ in workbench.call_tool_stream("work", {}, CancellationToken(), "c1"):
            pass

    work = {
        "tool": lambda: tool.run_json({}, CancellationToken(), "c1"),
        "call_tool": lambda: workbench.call_tool("work", {}, CancellationToken(), "c1"),
        "call_tool_stream": streamed,
    }[way]

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(work(), 0.1)

    patiently(main())
    assert slow.begun.is_set()
    assert settled(gate) == ["unknown"]


def test_waiting_for_a_slot_ends_with_the_token(make_gate):
    """A call that has to wait for another is not permitted any more once it is cancelled."""
    limits = [{"concurrency": 1, "wait": "60s"}]
    gate, slow = make_gate({"tools": {"work": {}}, "limits": limits}), Slow("async")
    desk = agent([call("work"), call("work", "c2")], workbench=GateWorkbench([slow.tool], gate))

    async def main() -> Any:
        token = CancellationToken()
        running = asyncio.ensure_future(desk.run(task="go", cancellation_token=token))
        await asyncio.sleep(0.1)
        return await cancelled(running, token, slow)

    patiently(main())
    assert (decided(gate), settled(gate)) == (["permit"], ["unknown"])


def test_a_token_that_is_cancelled_already_runs_nothing(make_gate):
    """The call is answered, and neither decided nor run."""
    gate, slow, token = make_gate({"tools": {"work": {}}}), Slow("async"), CancellationToken()
    token.cancel()
    result = patiently(GateWorkbench([slow.tool], gate).call_tool("work", {}, token, "c1"))
    assert result.is_error
    assert "did not run" in result.to_text()
    assert (slow.begun.is_set(), settled(gate)) == (False, [])


def test_a_stream_that_is_left_behind_is_unknown(make_gate):
    """Who stops listening in the midst of it ends the tool, and its outcome is unknown."""
    ended = []

    class Ticks(BaseStreamTool[Any, Any, Any]):
        async def run(self, args: Any, cancellation_token: CancellationToken) -> Any: ...

        async def run_stream(
            self, args: Any, token: CancellationToken
        ) -> AsyncGenerator[Any, None]:
            try:
                while True:
                    yield TextMessage(content="tick", source="clock")
                    await asyncio.sleep(0)
            finally:
                ended.append("tool")

    class NoArgs(BaseModel): ...

    gate = make_gate({"tools": {"ticks": {}}})
    workbench = GateWorkbench([Ticks(NoArgs, TextMessage, "ticks", "")], gate)
    assert isinstance(workbench, StaticStreamWorkbench)

    async def main() -> None:
        stream = workbench.call_tool_stream("ticks", {}, CancellationToken(), "c1")
        async for event in stream:
            assert event.content == "tick"
            break
        await stream.aclose()

    patiently(main())
    assert ended == ["tool"]
    assert settled(gate) == ["unknown"]
