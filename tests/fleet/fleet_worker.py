"""
One worker of a fleet: real LangChain agents, one after the other, on a shared ledger.

    python fleet_worker.py URL POLICY FOLDER NUMBER

What its tools do, they do to files in FOLDER, which all workers share. It says "ready",
waits for a line, runs its agents, says "done", and goes on asking until it is halted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from sluicegate import Gate, Subject
from sluicegate_langchain import GateMiddleware

FOLDER = Path(sys.argv[3]) if len(sys.argv) > 3 else Path()
AGENTS, TURNS, WIDE = 4, 3, 6


class Scripted(BaseChatModel):
    """A model that makes the tool calls of one turn after the other, and then says "done"."""

    turns: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Scripted:
        return self

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        calls = self.turns[turn] if turn < len(self.turns) else []
        said = AIMessage("" if calls else "done", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


def write(name: str, line: str) -> None:
    """Add a line to a file that all workers share; a short one is written in one piece."""
    descriptor = os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@tool
def pay(order: str) -> str:
    """Pay one euro for an order."""
    write("paid", order)
    return f"paid {order}"


@tool
def notify(topic: str) -> str:
    """Tell everybody about a topic."""
    write("notified", topic)
    return f"told all about {topic}"


@tool
def crunch(job: str) -> str:
    """Do something that needs a slot."""
    write("busy", f"+ {time.monotonic_ns()}")
    time.sleep(0.02)
    write("busy", f"- {time.monotonic_ns()}")
    return f"crunched {job}"


def turns(worker: str, agent: int) -> list[list[dict[str, Any]]]:
    """What an agent's model does: everything that there is not enough of, several at once."""
    made: list[list[dict[str, Any]]] = []
    for turn in range(TURNS):
        calls = [("pay", {"order": f"{worker}-{agent}-{turn}-{n}"}) for n in range(WIDE)]
        calls += [("notify", {"topic": f"topic {(agent + n) % 5}"}) for n in range(2)]
        calls += [("crunch", {"job": f"{worker}-{agent}-{turn}-{n}"}) for n in range(2)]
        made.append(
            [
                {"name": name, "args": args, "id": f"{turn}-{n}", "type": "tool_call"}
                for n, (name, args) in enumerate(calls)
            ]
        )
    return made


def say(word: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    _, url, policy, _, worker = sys.argv
    gate = Gate(policy, url)
    guard = GateMiddleware(gate, subject=Subject(tenant="acme", agent=f"worker-{worker}"))
    say("ready")
    sys.stdin.readline()
    for number in range(AGENTS):
        agent = create_agent(
            Scripted(turns=turns(worker, number)), [pay, notify, crunch], middleware=[guard]
        )
        answered = agent.invoke({"messages": [("user", "go on")]})["messages"]
        for message in answered:
            if isinstance(message, ToolMessage) and message.status == "error":
                codes = message.additional_kwargs.get("sluicegate", {}).get("codes", ["error"])
                write("refused", f"{message.name} {','.join(codes)}")
    say("done")
    for number in range(10_000):
        one = [
            {
                "name": "notify",
                "args": {"topic": "are we halted"},
                "id": f"h{number}",
                "type": "tool_call",
            }
        ]
        agent = create_agent(Scripted(turns=[one]), [notify], middleware=[guard])
        answer = agent.invoke({"messages": [("user", "go on")]})["messages"][2]
        if "halted" in answer.text:
            say("halted")
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main()
