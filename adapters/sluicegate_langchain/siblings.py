"""Calls that one task of a graph carries out side by side: an interrupt lets the others end first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

from langgraph.errors import GraphInterrupt

__all__ = ["SCRATCHPAD", "beside_others"]

SCRATCHPAD: Final = "__pregel_scratchpad"


class _Task:
    """How many calls of a task are at work."""

    def __init__(self) -> None:
        self.at_work = 0
        self.rest = asyncio.Event()


_TASKS: Final[dict[int, _Task]] = {}
_AROUND: Final = ContextVar[frozenset[int]]("sluicegate_langchain_tasks", default=frozenset())
"""The tasks of the calls whose tools are running around us."""


@asynccontextmanager
async def beside_others(config: Any) -> AsyncGenerator[None, None]:
    """
    The block in which a call is carried out on an event loop.

    The tool node of a hand-built graph gathers the calls of a turn. An interrupt in one of
    them ends the task, and perhaps the loop: another call would be cut off at what it is
    doing just then, with an unknown outcome. So it waits here until every other call has
    ended, or waits as well. In threads the node itself sees to that. A call that the tool of
    another one makes is part of that one, which would wait for it, and it for that one.
    """
    pad = config.get("configurable", {}).get(SCRATCHPAD)
    name, around = id(pad), _AROUND.get()  # the pad lives as long as the task does
    if pad is None or name in around:
        yield
        return
    task = _TASKS.setdefault(name, _Task())
    task.at_work += 1
    _AROUND.set(around | {name})
    asks = False
    try:
        yield
    except GraphInterrupt:
        asks = True
        await asyncio.sleep(0)  # those that were gathered with us have begun after that
        raise
    finally:
        _AROUND.set(around)
        task.at_work -= 1
        if not task.at_work:
            _TASKS.pop(name).rest.set()
        elif asks:
            await task.rest.wait()
