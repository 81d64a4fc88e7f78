"""What the contract of adapters is played with: calls, tools with real bodies, gates that break."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..gate import Gate
from ..hookspec import Objection, hookimpl
from ..ledger.base import Answer, Request
from ..ledger.memory import MemoryLedger
from ..proposal import Proposal, Subject

__all__ = [
    "Bodies",
    "Call",
    "Failing",
    "Plugin",
    "Script",
    "Told",
    "decisions_of",
    "gate_over",
    "outcomes_of",
    "pay",
    "said_of",
    "turns",
]


@dataclass(frozen=True)
class Call:
    """One tool call of the scripted model; *id* None means that the framework sees no id."""

    tool: str
    args: Mapping[str, Any]
    id: str | None


Script = Sequence[Sequence[Call]]
"""The turns of the model: the calls it makes together. After the last one it says "done"."""


@dataclass
class Told:
    """
    How a run went: the texts that the model was given for its calls, in the order of
    the calls, and whether the model came to its last word, "done".
    """

    replies: list[str] = field(default_factory=list[str])
    done: bool = False


@dataclass
class Bodies:
    """Tools with real bodies that write down what they did."""

    ran: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    busy: int = 0
    peak: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pay(self) -> Callable[..., Any]:
        def pay(order: str, amount: float, currency: str = "EUR") -> str:
            """Pay an amount for an order."""
            self.ran.append((order, amount, currency))
            return f"paid {order}, receipt {len(self.ran)}"

        return pay

    def apay(self) -> Callable[..., Any]:
        async def pay(order: str, amount: float, currency: str = "EUR") -> str:
            """Pay an amount for an order."""
            await asyncio.sleep(0)
            self.ran.append((order, amount, currency))
            return f"paid {order}, receipt {len(self.ran)}"

        return pay

    def fetch(self, error: BaseException | None = None) -> Callable[..., Any]:
        def fetch(key: str) -> str:
            """Fetch what is stored under a key."""
            self.ran.append((key,))
            if error is not None:
                raise error
            return f"value of {key}"

        return fetch

    def slow(self, seconds: float) -> Callable[..., Any]:
        def work(number: int) -> str:
            """Work on a number for a while."""
            with self.lock:
                self.busy += 1
                self.peak = max(self.peak, self.busy)
            time.sleep(seconds)
            with self.lock:
                self.busy -= 1
            self.ran.append((number,))
            return f"worked on {number}"

        return work


def turns(*calls: Call) -> list[list[Call]]:
    """A script with one call a turn."""
    return [[call] for call in calls]


def pay(number: int, /, **more: Any) -> Call:
    """The call of `pay` with the id c<number>."""
    return Call("pay", {"order": f"A{number}", "amount": 5.5, **more}, f"c{number}")


class Failing(MemoryLedger):
    """A ledger that fails once it is asked for a decision, perhaps after a while."""

    def __init__(self, error: Exception, after: float = 0.0) -> None:
        super().__init__()
        self._error, self._after = error, after

    def perform(self, request: Request) -> Answer:
        time.sleep(self._after)
        raise self._error


class Plugin:
    """A plugin that objects as it is told."""

    def __init__(self, answer: Callable[[], str | Objection | None]) -> None:
        def sluicegate_object() -> str | Objection | None:
            return answer()

        self.sluicegate_object = hookimpl(sluicegate_object)


def gate_over(
    *,
    once: bool = False,
    fetch: Mapping[str, Any] | None = None,
    limits: Sequence[Any] = (),
    ledger: MemoryLedger | None = None,
    plugins: Mapping[str, object] | None = None,
) -> Gate:
    """A gate over the contract's tools."""
    paying: dict[str, Any] = {"args": {"properties": {"amount": {"maximum": 100}}}}
    if once:
        paying["once"] = {"key": "pay:{order}"}
    tools = {"pay": paying, "fetch": dict(fetch or {}), "work": {}, "pack": {}}
    policy = {"version": 1, "tools": tools, "limits": list(limits)}
    return Gate(policy, ledger or MemoryLedger(), plugins=plugins or {})


def decisions_of(gate: Gate) -> list[dict[str, Any]]:
    """The decisions in the journal of *gate*."""
    return [entry.content for entry in gate.journal if entry.content["kind"] == "decision"]


def outcomes_of(gate: Gate) -> list[str]:
    """The outcomes in the journal of *gate*."""
    return [
        entry.content["outcome"] for entry in gate.journal if entry.content["kind"] == "outcome"
    ]


def said_of(decision: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...], str]:
    """What must be equal in all frameworks: the tool, the decision, the reasons and the action."""
    said = decision["proposal"]
    who = {name: value for name, value in said["subject"].items() if value}
    action = Proposal(
        said["tool"], said["args"] or {}, subject=Subject(**who), run=said["run"]
    ).action
    codes = tuple(reason["code"] for reason in decision.get("reasons", ()))
    return said["tool"], decision["decision"], codes, action
