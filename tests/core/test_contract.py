"""The contract of adapters, kept by the smallest adapter there can be: a loop in plain Python."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pydantic
import pytest

from sluicegate import Deny, Recorded, Schema, Succeeded
from sluicegate.adapting import Attempt, Shape, acarry_out, carry_out, own_run, recorded_text
from sluicegate.testing import AdapterContract, Told, assert_every_tool_guarded


class Loop:
    """An agent without a framework: it makes the calls of each turn together, and then is done."""

    def __init__(self, gate, tools, script, subject):
        self.gate, self.script, self.subject = gate, script, subject
        self.tools = {tool.__name__: tool for tool in tools}
        self.run_id = own_run() or uuid.uuid4().hex
        self.told, self.final = [], False

    def run(self):
        for turn in self.script:
            with ThreadPoolExecutor(len(turn)) as pool:
                calls = [pool.submit(copy_context().run, self.call, call) for call in turn]
                self.told += [call.result() for call in calls]
            if self.final:
                return Told(self.told, done=False)
        return Told(self.told, done=True)

    async def arun(self):
        for turn in self.script:
            self.told += await asyncio.gather(*(self.acall(call) for call in turn))
            if self.final:
                return Told(self.told, done=False)
        return Told(self.told, done=True)

    def call(self, call):
        tool = self.tools.get(call.tool)
        parts = {"refused": self.refused, "outcome": outcome}
        return carry_out(self.gate, self.attempt(call), lambda args: tool(**args), **parts)

    async def acall(self, call):
        tool = self.tools.get(call.tool)

        async def body(args):
            found = (
                tool(**args)
                if inspect.iscoroutinefunction(tool)
                else asyncio.to_thread(tool, **args)
            )
            return await found

        parts = {"refused": self.refused, "outcome": outcome}
        return await acarry_out(self.gate, self.attempt(call), body, **parts)

    def attempt(self, call):
        tool = self.tools.get(call.tool)
        return Attempt(
            call.tool,
            call.args,
            source="loop",
            subject=self.subject,
            run=self.run_id,
            call_id=call.id,
            shape=lambda: None if tool is None else shape_of(tool),
        )

    def refused(self, no):
        self.final = self.final or (isinstance(no, Deny) and no.final)
        return recorded_text(no) if isinstance(no, Recorded) else no.render()


def shape_of(tool):
    """A function's own defaults are all that happens between its caller and its body."""
    signature = inspect.signature(tool)

    def receive(known):
        given = signature.bind(**known)
        given.apply_defaults()
        return given.arguments

    return Shape(Schema(pydantic.TypeAdapter(tool).json_schema())), receive


def outcome(permit, ended):
    return permit.outcome_of(ended) if isinstance(ended, BaseException) else Succeeded(ended)


class TestLoop(AdapterContract):
    """Whoever writes an adapter for another framework can begin with this one."""

    def run(self, gate, tools, script, subject=None):
        return Loop(gate, tools, script, subject).run()

    async def arun(self, gate, tools, script, subject=None):
        return await Loop(gate, tools, script, subject).arun()


def test_a_framework_that_nobody_knows() -> None:
    """What no adapter knows cannot be called guarded."""
    loop: Any = Loop(None, [], [], None)
    with pytest.raises(TypeError, match="of no framework"):
        assert_every_tool_guarded(loop)


def test_a_hanging_agent_is_a_failure() -> None:
    """An agent that never ends fails its test instead of stopping all tests."""

    class Hanging(TestLoop):
        PATIENCE = 0.2

        def run(self, gate, tools, script, subject=None):
            import threading

            threading.Event().wait(5)

    with pytest.raises(AssertionError, match="hangs"):
        Hanging().test_a_permitted_call_runs_once()
