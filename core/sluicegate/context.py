"""Who and where, for code that has no other way to say it: a context variable."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final

from .claims import Narrowing
from .decision import Permit
from .errors import PermitError
from .proposal import Subject, checked_name, narrowed

__all__ = ["Context", "context", "current", "current_permit", "in_a_call", "under"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """
    The subject and the run that surround a call. *depth* counts the runs around this one,
    and *within* are those between the outermost one and the parent.

    *prompt* is what the user said. *tools* are the lists of names and patterns to which
    the run and those around it were narrowed: a call must fit one of each.
    """

    subject: Subject = Subject()
    run: str | None = None
    parent: str | None = None
    root: str | None = None
    depth: int = 0
    within: tuple[str, ...] = ()
    prompt: str | None = None
    tools: Narrowing = ()


_CURRENT: Final[ContextVar[Context]] = ContextVar("sluicegate_context", default=Context())


def current() -> Context:
    """The context of this thread or task. A raw thread begins with an empty one."""
    return _CURRENT.get()


_PERMIT: Final[ContextVar[Permit | None]] = ContextVar("sluicegate_permit", default=None)


def current_permit() -> Permit:
    """
    The permit under which this code runs: for tools that hand its `key` (or its `id`) on to
    their provider as an idempotency key. Raises PermitError outside of a permitted call.
    """
    permit = _PERMIT.get()
    if permit is None:
        raise PermitError("no permitted call is running here; call the tool through its gate")
    return permit


def in_a_call() -> bool:
    """Whether this code runs under a permit: whoever speaks here is a tool or an agent, and no user."""
    return _PERMIT.get() is not None


@contextmanager
def under(permit: Permit) -> Generator[None, None, None]:
    """While a tool runs under *permit*."""
    token = _PERMIT.set(permit)
    try:
        yield
    finally:
        _PERMIT.reset(token)


class _Entered:
    """The same block for `with` and `async with`."""

    __slots__ = ("_inner", "_token")

    def __init__(self, inner: Context) -> None:
        self._inner = inner

    def __enter__(self) -> Context:
        self._token = _CURRENT.set(self._inner)
        return self._inner

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _CURRENT.reset(self._token)

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def context(
    *,
    subject: Subject | None = None,
    tenant: str | None = None,
    user: str | None = None,
    agent: str | None = None,
    roles: tuple[str, ...] | None = None,
    run: str | None = None,
    prompt: str | None = None,
    tools: Iterable[str] | None = None,
) -> _Entered:
    """
    Say for whom and in which run the calls inside a `with` (or `async with`) block are made.

    Parts that are left out stay as they are outside; a whole *subject* takes the place of
    the one outside first. A run inside another run is its
    child: it keeps the root, and its depth is one more.

    *prompt* is what the user said, for rules about where values come from. *tools* are
    names and patterns: nothing else may be called in this run from now on, nor in
    those inside of it, and nothing can widen that again.
    """
    outer = current()
    given = {"tenant": tenant, "user": user, "agent": agent, "roles": roles}
    base = outer.subject if subject is None else subject
    who = replace(base, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    inner = replace(outer, subject=who)
    if run is not None and checked_name(run, "run") != outer.run:
        nested = outer.run is not None
        between = () if outer.parent in (None, outer.root) else (str(outer.parent),)
        inner = replace(
            inner,
            run=run,
            parent=outer.run,
            root=outer.root or outer.run or run,
            depth=outer.depth + nested,
            within=(*outer.within, *between),
        )
    if prompt is not None:
        inner = replace(inner, prompt=prompt)
    if tools is not None:
        inner = replace(inner, tools=narrowed(outer.tools, tools))
    return _Entered(inner)
