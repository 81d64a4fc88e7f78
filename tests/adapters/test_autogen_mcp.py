"""A real MCP server over stdio behind a GateWorkbench: what is refused never reaches it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from autogen_core import CancellationToken
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams, mcp_server_tools
from autogen_scene import agent, call, patiently, proposed, settled, told

from sluicegate_autogen import GateWorkbench, guard_tools, unguarded

T = TypeVar("T")

SERVER = '''
import sys, time
from mcp.server.fastmcp import FastMCP

server, log = FastMCP("shop", log_level="ERROR"), open(sys.argv[1], "a", buffering=1)

@server.tool()
def refund(order: str, amount: int = 1, note: str | None = None) -> str:
    """Refund an order."""
    log.write(f"refund {order} {amount}\\n")
    return f"refunded {amount} for {order}"

@server.tool()
def fail(order: str) -> str:
    """Fail."""
    log.write(f"fail {order}\\n")
    raise ValueError("the shop is closed")

@server.tool()
def slow() -> str:
    """Take long."""
    log.write("slow\\n")
    time.sleep(3)
    return "done"

server.run()
'''


@pytest.fixture
def server(tmp_path: Path) -> StdioServerParams:
    script = tmp_path / "server.py"
    script.write_text(SERVER, encoding="utf-8")
    return StdioServerParams(
        command=sys.executable, args=[str(script), str(tmp_path / "log")], read_timeout_seconds=30
    )


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[str]]:
    def lines() -> list[str]:
        path = tmp_path / "log"
        return path.read_text("utf-8").splitlines() if path.exists() else []

    return lines


def behind(
    server: StdioServerParams, gate: Any, work: Callable[[GateWorkbench], Awaitable[T]]
) -> T:
    """What *work* gives with a started workbench behind *gate*."""

    async def main() -> T:
        async with GateWorkbench(McpWorkbench(server), gate) as workbench:
            return await work(workbench)

    return patiently(main(), 60)


def test_a_refused_call_never_reaches_the_server(server, log, make_gate):
    """Limits, undeclared names and wrong types are refused here; what is permitted runs there."""
    gate = make_gate({"tools": {"refund": {"args": {"properties": {"amount": {"maximum": 5}}}}}})
    turns = [
        [call("refund", order="A1", amount=9)],
        [call("refund", "c2", order="A1", amont=2)],
        [call("refund", "c3", order="A1", amount="2")],
        [call("refund", "c4", order="A2", amount=2)],
        [call("fail", "c5", order="A3")],
    ]

    async def work(workbench: GateWorkbench) -> Any:
        return (await agent(*turns, workbench=workbench).run(task="go on")).messages

    messages = behind(server, gate, work)
    assert told(messages) == [
        "args_invalid",
        "args_unknown",
        "args_invalid",
        "refunded 2 for A2",
        "unknown_tool",
    ]
    assert log() == ["refund A2 2"]
    assert settled(gate) == ["succeeded"]


def test_both_ways_in_are_gated(server, log, make_gate):
    """`call_tool_stream` of the gated workbench is `call_tool` of the one inside, and decided as well."""
    gate = make_gate({"tools": {"refund": {"rate": "1/h"}}})

    async def work(workbench: GateWorkbench) -> list[Any]:
        stream = workbench.call_tool_stream("refund", {"order": "A1"}, CancellationToken(), "c1")
        return [*[x async for x in stream], await workbench.call_tool("refund", {"order": "A2"})]

    ran, refused = behind(server, gate, work)
    assert (ran.is_error, refused.is_error) == (False, True)
    assert "rate" in refused.to_text()
    assert log() == ["refund A1 1"]


def test_the_policy_sees_what_the_server_fills_in(server, log, make_gate):
    """The defaults of the server's schema are decided about, and sent as they were: not at all."""
    gate = make_gate({"tools": {"refund": {}}})

    async def work(workbench: GateWorkbench) -> Any:
        return await workbench.call_tool("refund", {"order": "A1"})

    assert behind(server, gate, work).to_text() == "refunded 1 for A1"
    assert proposed(gate)[0]["args"] == {"order": "A1", "amount": 1, "note": None}


@pytest.mark.parametrize(("effect", "outcome"), [("write", "unknown"), ("read", "failed")])
def test_an_error_of_the_server_is_settled_as_the_policy_says(
    effect, outcome, server, log, make_gate
):
    """The model reads what the server said."""
    gate = make_gate({"tools": {"fail": {"effect": effect}}})

    async def work(workbench: GateWorkbench) -> Any:
        return await workbench.call_tool("fail", {"order": "A1"}, call_id="c1")

    result = behind(server, gate, work)
    assert result.is_error
    assert "the shop is closed" in result.to_text()
    assert settled(gate) == [outcome]


def test_a_repeated_effect_is_answered_from_the_record(server, log, make_gate):
    """The server is asked once."""
    gate = make_gate({"tools": {"refund": {"once": {"key": "{order}"}}}})
    turns = [call("refund", order="A1")], [call("refund", "c2", order="A1")]

    async def work(workbench: GateWorkbench) -> Any:
        return (await agent(*turns, workbench=workbench).run(task="go on")).messages

    assert told(behind(server, gate, work)) == ["refunded 1 for A1"] * 2
    assert log() == ["refund A1 1"]


def test_cancelling_leaves_an_unknown_outcome(server, log, make_gate):
    """Who stops waiting does not know whether the server has done it."""
    gate = make_gate({"tools": {"slow": {}}})

    async def work(workbench: GateWorkbench) -> None:
        running = asyncio.ensure_future(workbench.call_tool("slow", {}, call_id="c1"))
        while log() != ["slow"]:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running], timeout=2)
        assert running.cancelled()

    behind(server, gate, work)
    assert settled(gate) == ["unknown"]


def test_the_tools_of_a_server_can_be_guarded_one_by_one(server, log, make_gate):
    """`mcp_server_tools` gives tools that connect for each call; guarded, they ask first."""
    gate = make_gate({"tools": {"refund": {"rate": "1/h"}}})
    turns = [call("refund", order="A1")], [call("refund", "c2", order="A2")]

    async def main() -> Any:
        tools = guard_tools(await mcp_server_tools(server), gate)
        return (await agent(*turns, tools=tools).run(task="go on")).messages

    ran, refused = told(patiently(main(), 60))
    assert "refunded 1 for A1" in ran
    assert refused == "rate"
    assert log() == ["refund A1 1"]
    assert proposed(gate)[0]["args"] == {"order": "A1", "amount": 1, "note": None}


def test_a_bare_server_is_named(server, make_gate):
    """A workbench without a gate, whatever it has, is a way past it."""
    gate = make_gate({"tools": {"refund": {}}})
    bare = agent(workbench=[GateWorkbench(McpWorkbench(server), gate), McpWorkbench(server)])
    assert unguarded(bare) == ["desk.McpWorkbench"]
