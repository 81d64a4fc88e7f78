"""How the contract of adapters runs an agent: with patience, and in the test's own context."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

from ..context import context, current
from ..errors import NotExecuted
from ..gate import Gate
from ..proposal import Subject
from .scene import Script, Told

__all__ = ["ADA", "Runner"]

ADA: Final = Subject(tenant="acme", user="ada", agent="clerk")
T = TypeVar("T")


class Runner:
    """Runs agents of one framework; `run` and `arun` are to be said by the adapter."""

    PATIENCE: ClassVar[float] = 60.0
    """Seconds after which a run counts as hanging."""

    # --- to be said by the adapter ---------------------------------------------------------------

    def run(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = None
    ) -> Told:
        """Run a guarded agent to its end, blocking."""
        raise NotImplementedError

    async def arun(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = None
    ) -> Told:
        """The same on the running event loop."""
        raise NotImplementedError

    def _run(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = ADA
    ) -> Told:
        return self._patiently(lambda: self.run(gate, tools, script, subject))

    def _arun(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = ADA
    ) -> Told:
        return self._patiently(
            lambda: asyncio.run(_awaited(self.arun(gate, tools, script, subject)))
        )

    def _run_raising(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, _: str = ""
    ) -> None:
        """Run an agent whose tool raises: some frameworks tell the model, some end the run."""
        try:
            with context(run="raising"):
                self._run(gate, tools, script)
        except (TimeoutError, NotExecuted):
            pass

    def _patiently(self, work: Callable[[], T]) -> T:
        """What *work* gives, in this context; a run that hangs is a failure and not a hanging test."""
        results: list[T] = []
        errors: list[BaseException] = []
        here = current()

        def attempt() -> None:
            try:
                who = here.subject
                with context(
                    tenant=who.tenant,
                    user=who.user,
                    agent=who.agent,
                    roles=who.roles or None,
                    run=here.run,
                ):
                    results.append(work())
            except BaseException as error:  # noqa: BLE001 - it is raised again below
                errors.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(self.PATIENCE)
        assert not thread.is_alive(), f"the agent hangs: no end after {self.PATIENCE:g} s"
        if errors:
            raise errors[0]
        return results[0]


async def _awaited(value: Awaitable[T]) -> T:
    return await value
