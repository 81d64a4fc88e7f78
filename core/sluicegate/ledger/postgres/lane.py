"""One connection and the chain of entries that is written through it: a transaction at a time."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import psycopg

from ...errors import LedgerError
from ..base import Answer, Request
from ..ticket import Kept
from .address import Address
from .books import Chain, Change, PostgresBooks
from .connecting import connected_by
from .line import Late, Line, trouble
from .locks import Locks, Needed
from .statement import Statement, identifier

__all__ = ["Answers", "Lane", "Undecided", "Withdrawn"]

Answers: TypeAlias = "list[Answer | Exception]"
"""One for each request: what it is answered, or what it raised, and then it has changed nothing."""

# Not SELECT * FROM: to have one value is a sixth faster than to scan a function.
_BEGIN: Final = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT to_json({ns}.hold(%s, %s, %s, %s::bigint[], %s::boolean[], %s::text[], %s::text[]))
"""
_END: Final = """
SELECT {ns}.write(%s, %s, %s, %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                  %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[]);
COMMIT
"""
_ROLLBACK: Final = "ROLLBACK"
_BODY: Final = "SELECT body FROM {ns}.journal WHERE number = %s"
_ENLIST: Final = "SELECT * FROM {ns}.enlist(%s)"
_RETURN: Final = "SELECT seq, hash FROM {ns}.writers WHERE number = %s FOR UPDATE"
_RELEASE: Final = "UPDATE {ns}.writers SET free = true WHERE number = %s AND seq = %s AND hash = %s"
_WRITTEN: Final = """
SELECT hash FROM {ns}.journal WHERE number = %s
UNION SELECT hash FROM {ns}.writers WHERE number = %s AND seq = %s
"""

_MOVED: Final = "SG001"
_KEPT: Final = ("55P03", "53200")
"""A lock was not to be had in time, or there is no room for so many."""

_PASSING: Final = (_MOVED, *_KEPT)
"""Errors after which the connection is as good as before: somebody else was at it."""

_PAUSE: Final = 0.05

_FIRST: Final = 0.9
"""Of the time that is left: a lock is given up that much earlier, so that the server can say so."""


class Withdrawn(LedgerError):
    """Nobody waits for the answers any more, so nothing was committed."""


class Undecided(LedgerError):
    """The COMMIT was sent, its reply was lost, and nobody could be asked."""


class Lane:
    """Belongs to one thread at a time. Its methods raise LedgerError."""

    def __init__(self, address: Address) -> None:
        self.floor = 0
        self._address = address
        self._line: Line | None = None
        self._chain: Chain | None = None
        self._durable = address.durability == "power"
        self._server_time = address.clock == "server"
        name = identifier(address.namespace)
        self._say = {
            text: Statement(text, ns=name)
            for text in (_BEGIN, _END, _ROLLBACK, _BODY, _ENLIST, _RETURN, _RELEASE, _WRITTEN)
        }

    def perform(
        self,
        requests: Sequence[Request],
        answers: Answers,
        floor: int,
        until: float,
        patience: float,
        wanted: Callable[[], bool],
    ) -> None:
        """
        Carry out *requests* in one transaction, and put their answers into *answers*; it ends
        at *until*, a time of `time.monotonic`. *patience* is for how many seconds each lock
        may be waited for. After an error there are answers only if they may hold all the same.

        What certainly did not happen because an idle connection turned out to be dead, or
        because somebody took the chain over, is tried once more.
        """
        self.floor = max(self.floor, floor)
        again = True
        while True:
            old = self._line is not None
            try:
                return self._transact(requests, answers, until, patience, wanted)
            except psycopg.Error as error:
                answers.clear()
                moved = error.sqlstate == _MOVED
                if moved:
                    self._chain = None
                lost = self._line is None or self._line.broken
                if error.sqlstate in _PASSING and not lost:
                    self._back()
                else:
                    self.drop()  # the next one may find another server, or another state of this
                if again and (moved or (old and lost and not isinstance(error, Late))):
                    again = False
                    continue
                told = trouble(self._address, error)
                # A value that the server cannot keep is the fault of one request of the batch.
                parted = error.sqlstate in _KEPT or isinstance(error, psycopg.DataError)
                raise (Kept(*told.args) if parted else told) from error
            except BaseException:
                self._back()
                raise

    def _transact(
        self,
        requests: Sequence[Request],
        answers: Answers,
        until: float,
        patience: float,
        wanted: Callable[[], bool],
    ) -> None:
        needed = [self._needed(request) for request in requests]
        locks = Locks([one for one in needed if isinstance(one, Needed)])
        line = self._connected(until)
        chain = self._chain or self._enlisted(line)
        line.until = until
        ((told,),) = line.rows(
            self._say[_BEGIN],
            max(1, int(min(patience, _FIRST * (until - time.monotonic())) * 1000)),
            max(1, int(self._address.timeout * 1000)),
            self._durable,
            locks.numbers,
            locks.sharing,
            list(locks.keys.values()),
            list(locks.permits.values()),
        )
        found = json.loads(told)
        floor, fetch = max(self.floor, found["since"] or 0), partial(self._body, line)
        books = PostgresBooks(locks, chain, floor, found["state"], found["known"], fetch)
        computed: Answers = []
        for request, need in zip(requests, needed, strict=True):
            timed = request._replace(now=found["now"]) if self._server_time else request
            computed.append(books.perform(timed) if isinstance(need, Needed) else need)
        change = books.change()
        if change is None:
            line.rows(self._say[_ROLLBACK])
        elif not wanted():
            raise Withdrawn("nobody waits for the answers any more")
        else:
            answers[:] = computed
            self._commit(line, change, answers, until)
        self.floor = max(self.floor, books.floor if change else 0)
        answers[:] = computed

    def _needed(self, request: Request) -> Needed | Exception:
        """What *request* needs, or why it cannot be carried out by any transaction."""
        try:
            return Needed(request, self._address.namespace)
        except (ValueError, LedgerError) as error:
            return error

    def _commit(self, line: Line, change: Change, answers: Answers, until: float) -> None:
        line.warned = ""
        try:
            line.rows(self._say[_END], *change)
        except psycopg.Error as error:
            if not line.broken:
                raise  # the server said no: nothing was committed
            self.drop()
            if not self._was_committed(change, until, error):
                # The network may still have it, and our locks then. To undo it waits for them.
                raise trouble(self._address, error) from error
        if line.warned:
            # Somebody cancelled the wait for a standby: committed here, and perhaps nowhere else.
            self.drop()
            raise Undecided(
                f"the ledger {self._address} cannot be used: {line.warned}; see that the standbys in "
                "synchronous_standby_names are up; a claim will be undone"
            )
        assert self._chain is not None  # noqa: S101 - for the type checker
        self._chain = self._chain._replace(seq=change.seq, hash=change.hashes[-1])

    def _was_committed(self, change: Change, until: float, why: psycopg.Error) -> bool:
        """Ask on a new line, which first waits for the end of what may still be under way."""
        number = (change.writer << 32) + change.seq
        while time.monotonic() < until:
            try:
                line = self._connected(until)
                # The entry may have been trimmed by now; the chain still ends with it then.
                found = line.rows(self._say[_WRITTEN], number, change.writer, change.seq)
                return found == [(change.hashes[-1],)]
            except (psycopg.Error, LedgerError):
                self.drop()
                time.sleep(max(0, min(_PAUSE, until - time.monotonic())))
        raise Undecided(
            f"{trouble(self._address, why)}; whether the request was carried out is not known yet: "
            "a claim will be undone, and the journal tells of a settlement"
        ) from why

    def _connected(self, until: float) -> Line:
        if self._line is None:
            self._line = connected_by(self._address, until)
            self._line.until = until
            if self._chain is not None:
                self._find_end(self._line, self._chain)
        self._line.until = until
        return self._line

    def _find_end(self, line: Line, chain: Chain) -> None:
        """A transaction of ours may be under way still, or may have been committed unseen: wait for it."""
        ((seq, last),) = line.rows(self._say[_RETURN], chain.number)
        self._chain = chain._replace(seq=seq, hash=last)

    def _enlisted(self, line: Line) -> Chain:
        ((number, name, seq, last, floor),) = line.rows(self._say[_ENLIST], uuid.uuid4().hex)
        self.floor = max(self.floor, floor)
        self._chain = Chain(number, name, seq, last)
        return self._chain

    def _body(self, line: Line, number: int) -> str:
        found = line.rows(self._say[_BODY], number)
        if not found:
            raise LedgerError(f"the journal has no entry {number}; see `sluicegate journal verify`")
        body: str = found[0][0]
        return body

    def _back(self) -> None:
        """Take back what the transaction under way has done so far."""
        if self._line is None:
            return
        try:
            self._line.rows(self._say[_ROLLBACK])
        except psycopg.Error:
            self.drop()

    def drop(self) -> None:
        """Let go of the connection; another is made when it is needed."""
        line, self._line = self._line, None
        if line is not None:
            line.drop()

    def close(self) -> None:
        """Leave the chain to the next who needs one, and let go of the connection."""
        if self._line is not None and self._chain is not None and not self._line.broken:
            chain, self._chain = self._chain, None
            try:
                self._line.until = time.monotonic() + 1
                self._line.rows(self._say[_RELEASE], chain.number, chain.seq, chain.hash)
            except psycopg.Error:
                pass  # it counts as given up in a day
        self.drop()

    def disown(self) -> Any:
        """In the child of a fork: the connection is the parent's, and must not even be closed."""
        line, self._line, self._chain = self._line, None, None
        return line
