"""
One namespace on one server: commits, and reading.

A commit is one exchange when nobody else has changed what it looked at: the answers are
computed from what is known here, and commit.lua writes them if that is still so. If not,
its reply says what is different, and the answers are computed again. Who was overtaken
takes the turn: for a moment the others wait, so that nobody starves.

Each process that writes is a *writer* with a journal chain of its own. The server keeps
the record of each writer's last batch, so a batch can be sent again when its reply is
lost, a batch that arrives late is refused, and a server that has lost what it had
acknowledged is recognised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from os import urandom
from typing import Any, Final, NamedTuple, TypeAlias

from ..claims import Cell
from ..errors import LedgerError
from ..journal import GENESIS
from .base import Answer, Out, Request
from .holdings import Holdings
from .redis_books import Draft, Elsewhere, RedisBooks, parsed
from .redis_inspect import Findings, inspect
from .redis_journal import PAGE, Keys, RedisJournal, named
from .redis_link import COMMIT, TRIM, Address, Link
from .redis_restoring import restore
from .redis_wire import Wire

__all__ = ["Exchange", "Steps", "Store"]

FORMAT: Final = "1"

TOLERANCE: Final = 1_000_000
"""So many µs may a batch's time be from the server's: it is an estimate, and it travels."""

LEASE: Final = 20_000
"""A turn lasts so many µs, or four exchanges, whichever is longer; half a second at most."""

POLL: Final = 60
"""
So many µs between two looks at whether the turn of another process is over, or as long as an
exchange takes: the more wait, the longer it takes.
"""


class Exchange(NamedTuple):
    """What commit.lua is to be told until *deadline*, a time of `time.monotonic`."""

    arguments: Sequence[str]
    deadline: float


Steps: TypeAlias = Generator["Exchange | float", Any, None]
"""Each step is an exchange, which is answered by the reply, or a pause in seconds."""


class Store:
    """
    Commits are for one thread at a time; so is reading, on a connection of its own.

    *exact* takes the time from the requests, as a ledger in memory does: for tests, and
    for histories that are carried over from another ledger.
    """

    def __init__(
        self, address: Address, *, timeout: float, require_durable: bool, exact: bool
    ) -> None:
        self.label = address.label
        self._timeout = timeout
        self._require_durable = require_durable
        self._exact = exact
        self._keys = Keys.of(address.namespace)
        self._findings: Findings | None = None
        self._writing = Link(address, timeout=timeout, inspect=self._inspect)
        self._reading = Link(address, timeout=timeout, inspect=self._inspect)
        self.journal = RedisJournal(
            address.label, self._keys, self._read, partial(self._reading.script, TRIM)
        )
        self._books = RedisBooks(self.journal.body, exact=exact)
        self._id = ""
        self._writer = -1  # none yet: the first commit asks for a number
        self._record = ""
        self._chain = (0, GENESIS)
        self._at = 0
        self.floor = 0
        self._pending: dict[str, Draft] = {}  # sent, and perhaps carried out
        self._clock = (0, 0)  # the server's time, and ours when we heard it
        self._exchange = 0  # how long the last one took, in µs
        self._contended = False
        self.gone: str | None = None

    def open(self) -> None:
        """See that the server is there and fit. Raises LedgerError."""
        self._reading.call("PING")
        floor = self._reading.call("HGET", self._keys.meta, "floor")
        self.floor = int(floor or 0)

    @property
    def findings(self) -> Findings:
        """What the server was like when it was last looked over. Raises LedgerError."""
        if self._findings is None:
            self._read("PING")
        assert self._findings is not None  # noqa: S101 - each new connection is looked over
        return self._findings

    @property
    def name(self) -> str:
        """Under which the entries of this process are chained; "" before the first."""
        return named(self._id, self._writer) if self._id else ""

    def now(self) -> int:
        """The server's time, in µs, as far as can be told from here; never earlier than it was."""
        heard, here = self._clock
        if self._exact or not heard:
            return self.floor
        return max(heard + time.monotonic_ns() // 1000 - here, self._at, self.floor)

    # --- commits ---

    def commit(self, requests: Sequence[Request], answers: list[Answer | Exception]) -> None:
        """
        Carry out *requests*, and put their answers into *answers*.

        Raises LedgerError. Then *answers* are what they would be if it was done all the
        same, which the next commit finds out.
        """
        self.finish(self.committing(requests, answers, waits=True))

    def finish(self, steps: Steps, step: Exchange | float = 0.0, *, sent: bool = False) -> None:
        """Take *step* and all that follow. Of an exchange that is *sent* only the reply is left."""
        with suppress(StopIteration):
            while True:
                if isinstance(step, Exchange):
                    step = steps.send(self._exchanged(step, sent=sent))
                else:
                    if step:  # to sleep for no time takes 0.1 ms
                        time.sleep(step)
                    step = next(steps)
                sent = False

    def committing(
        self, requests: Sequence[Request], answers: list[Answer | Exception], *, waits: bool = False
    ) -> Steps:
        """
        The steps of `commit`, for whoever can wait for their replies. From the first pause on
        whoever takes them *waits* for more than that: for what a draft has to fetch.
        """
        deadline = time.monotonic() + self._timeout
        if self.gone is not None:
            raise LedgerError(self.gone)
        if self._writer < 0:
            self._register(deadline)
        overtaken = 1 if self._contended else 0
        while True:
            try:
                draft = self._books.draft(requests, self._chain, self.now(), waits=waits)
            except Elsewhere:
                waits = True
                yield 0.0
                continue
            answers[:] = draft.answers
            status, *rest = yield from self._submit(draft, overtaken, deadline)
            if status == b"ok":
                self._kept(draft)
                self._contended = overtaken > 1
                return
            if status == b"moved":
                self._find_out(rest[0].decode())
            elif status == b"stale":
                self._books.correct(*rest)
                overtaken += 1
            elif status != b"wait":
                self._lose(status.decode())
            if time.monotonic() >= deadline:
                raise LedgerError(
                    f"{self.label} was overtaken by other processes for {self._timeout:g} s, so the "
                    "request was withdrawn; use fewer processes on the same limits, or a longer timeout"
                )

    def _submit(
        self, draft: Draft, overtaken: int, deadline: float
    ) -> Generator[Exchange | float, Any, list[Any]]:
        """What the server says to *draft*; what it says of the time is learnt on the way."""
        # Something sent before may still arrive: a batch that changes the record shuts it out.
        writes = draft.changes or bool(self._pending)
        if writes:
            self._pending[draft.record] = draft
        lease = min(max(LEASE, 4 * self._exchange), 500_000) if overtaken else 0
        arguments = [
            self._id,
            f"w{self._writer}",
            self._record,
            draft.record if writes else "-",
            str(draft.at),
            "-1" if self._exact else str(TOLERANCE),
            str(self.floor),
            str(lease),
            *self._books.arguments(draft),
        ]
        broken = self._writing.broken
        status, *rest = yield from self._send(arguments, deadline)
        while status == b"wait" and time.monotonic() < deadline:
            yield min(rest[0], max(POLL, self._exchange)) / 1e6
            status, *rest = yield from self._send(arguments, deadline)
        if status not in (b"ok", b"moved") and self._writing.broken == broken:
            self._pending.pop(draft.record, None)  # it was refused, and no copy is on its way
        return [status, *rest]

    def _send(
        self, arguments: Sequence[str], deadline: float
    ) -> Generator[Exchange, Any, list[Any]]:
        sent = time.monotonic_ns()
        status, now, floor, *rest = yield Exchange(arguments, deadline)
        heard = time.monotonic_ns()
        self._exchange = (heard - sent) // 1000
        self._clock = (now, heard // 1000)
        if status not in (b"lost", b"gone"):
            self.floor = max(self.floor, floor)
        return [status, *rest]

    def _exchanged(self, step: Exchange, *, sent: bool) -> Any:
        return self._writing.script(
            COMMIT, self._keys[:5], step.arguments, step.deadline, sent=sent
        )

    # --- for an event loop: see redis_flight.py ---

    def wire(
        self, loop: asyncio.AbstractEventLoop, ear: Callable[[Wire], Callable[[], None]]
    ) -> Wire | None:
        """
        The connection for commits as *loop* may use it; None if there is something to do before, or
        other processes are in the way: to take turns with them is to wait.
        """
        if self._writer < 0 or self._contended:
            return None
        return self._writing.wire(loop, ear)

    def packed(self, step: Exchange) -> bytes:
        """What to send."""
        return self._writing.packed(COMMIT, self._keys[:5], step.arguments)

    def cut(self) -> None:
        """What was sent will have no reply."""
        self._writing.cut()

    # --- below ---

    def _kept(self, draft: Draft) -> None:
        self._books.keep(draft)
        self._stand(draft, draft.record if draft.record in self._pending else self._record)

    def _stand(self, draft: Draft, record: str) -> None:
        # At once: Ctrl-C comes between any two calls, and the server would take a batch that
        # goes with this record, and does not with this chain.
        at = max(self._at, draft.at)
        self._record, self._chain, self._at = record, (draft.seq, draft.last), at
        self._pending.clear()

    def _find_out(self, record: str) -> None:
        """Another batch of ours was the last: one whose reply never came."""
        if record not in self._pending:
            self._lose("lost")
        self._stand(self._pending[record], record)

    def _lose(self, status: str) -> None:
        what = "does not have this ledger any more" if status == "gone" else (
            "has lost decisions that it had acknowledged (a failover to a replica that did not have "
            "them, or a crash without `appendfsync always`)"
        )  # fmt: skip
        self.gone = (
            f"{self.label} {what}; what was spent or carried out since then may be permitted again. "
            "Compare with what the tools did, then start this process anew: docs/redis.md, After a loss"
        )
        raise LedgerError(self.gone)

    def _register(self, deadline: float) -> None:
        """Become a writer. A number that is given twice, because a reply was lost, is left out."""
        call = self._writing.call
        call("HSETNX", self._keys.meta, "id", urandom(8).hex(), deadline=deadline)
        call("HSETNX", self._keys.meta, "format", FORMAT, deadline=deadline)
        kept = call("HMGET", self._keys.meta, "id", "format", "floor", deadline=deadline)
        if kept[1].decode() != FORMAT:
            raise LedgerError(
                f"{self.label} has a ledger of format {kept[1].decode()}, and this version of "
                f"Sluicegate reads format {FORMAT}; update Sluicegate, or use another namespace"
            )
        seconds, micros = call("TIME", deadline=deadline)
        heard = time.monotonic_ns() // 1000
        number = call("HINCRBY", self._keys.meta, "writers", 1, deadline=deadline) - 1
        self.floor = max(self.floor, int(kept[2] or 0))
        self._clock = (max(int(seconds) * 1_000_000 + int(micros), self.floor), heard)
        self._id, self._writer = kept[0].decode(), number
        self._books.write_as(number, self.name)

    def _inspect(self, link: Link) -> None:
        self._findings = inspect(link, self._keys.kinds(), require_durable=self._require_durable)

    # --- reading ---

    def cell(self, key: str) -> Cell:
        """One cell, as it is now."""
        raw = self._read("HGET", self._keys.cells, key)
        return None if raw is None else parsed(raw)

    def look(self, keys: Sequence[str]) -> list[Cell]:
        """Several cells, as they are at one time."""
        found = self._read("HMGET", self._keys.cells, *keys) if keys else ()
        return [None if raw is None else parsed(raw) for raw in found]

    def cells(self, prefix: str) -> list[tuple[str, Sequence[Any]]]:
        """All cells whose key begins with *prefix*, by key; each as it was when it was read."""
        pattern = "".join(f"\\{sign}" if sign in "*?[]^-\\" else sign for sign in prefix) + "*"
        return sorted((key, parsed(raw)) for key, raw in self._scan(self._keys.cells, pattern))

    def walk(self) -> Iterator[tuple[str, Sequence[Any]]]:
        """All cells in no order, page by page; one that is there all the time comes up at least once."""
        cursor = b"0"
        while True:
            cursor, page = self._read("HSCAN", self._keys.cells, cursor, "COUNT", PAGE)
            for key, raw in zip(page[::2], page[1::2], strict=True):
                yield key.decode(), parsed(raw)
            if cursor == b"0":
                return

    def out(self) -> list[Out]:
        """All permits that are out."""
        found = ((permit, *parsed(raw)) for permit, raw in self._scan(self._keys.permits, "*"))
        return [Out(*permit) for permit in sorted(found)]

    def restore(self, holdings: Holdings) -> None:
        """Have exactly *holdings*, if there is nothing yet."""
        restore(self._read, self._keys, self.label, FORMAT, holdings)
        self.floor = holdings.floor

    def close(self) -> None:
        """Let go of the connections."""
        self.gone = self.gone or f"{self.label} is closed; open it again with RedisLedger"
        self._writing.drop()
        self._reading.drop()

    def _read(self, *command: Any) -> Any:
        if self.gone is not None:
            raise LedgerError(self.gone)
        return self._reading.call(*command)

    def _scan(self, key: str, pattern: str) -> Iterator[tuple[str, bytes]]:
        found: dict[bytes, bytes] = {}
        cursor = b"0"
        while True:
            cursor, page = self._read("HSCAN", key, cursor, "MATCH", pattern, "COUNT", 1000)
            found.update(zip(page[::2], page[1::2], strict=True))
            if cursor == b"0":
                break
        yield from ((name.decode(), raw) for name, raw in found.items())
