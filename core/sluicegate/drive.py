"""Carrying out a flow: blocking, or on an event loop. There is one flow and not two."""

from __future__ import annotations

import time  # noqa: TID251 - to wait is not to ask for the time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from .ledger.base import Ledger, Request

__all__ = ["Inquire", "Pause", "Step", "Steps", "adrive", "drive"]

T = TypeVar("T")


class Pause(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


class Inquire(NamedTuple):
    """Ask plugins, which may do I/O."""

    question: Callable[[], Any]


Step: TypeAlias = Request | Pause | Inquire
Steps: TypeAlias = Generator[Step, Any, T]


def drive(flow: Steps[T], ledger: Ledger) -> T:
    """Carry out *flow*, blocking where it waits."""
    try:
        step = next(flow)
        while True:
            try:
                kind = type(step)
                if kind is Pause or kind is Inquire:
                    answer = _done(step)  # type: ignore[arg-type]
                else:
                    answer = ledger.perform(step)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - it is the flow's to say what an error means
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _done(step: Pause | Inquire) -> Any:
    if type(step) is Inquire:
        return step.question()
    assert type(step) is Pause  # noqa: S101 - for the type checker
    return time.sleep(step.seconds)


async def adrive(flow: Steps[T], ledger: Ledger) -> T:
    """Carry out *flow* on an event loop without blocking it."""
    try:
        step = next(flow)
        while True:
            try:
                kind = type(step)
                if kind is Pause or kind is Inquire:
                    answer = await _adone(step)  # type: ignore[arg-type]
                else:
                    answer = await ledger.aperform(step)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - it is the flow's to say what an error means
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


async def _adone(step: Pause | Inquire) -> Any:
    import asyncio  # not at the top: a program without an event loop need not load one

    if type(step) is Inquire:
        return await asyncio.to_thread(step.question)
    assert type(step) is Pause  # noqa: S101 - for the type checker
    return await asyncio.sleep(step.seconds)
