"""One connection to the server, on which nothing is waited for beyond a time."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.generators import execute
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Ready, Wait

from ...errors import LedgerError
from .address import Address
from .statement import Statement

__all__ = ["Late", "Line", "connected", "trouble"]

_OLDEST: Final = 130_000

_T = TypeVar("_T")


_READ, _WRITE = int(Wait.R), int(Wait.W)
_FOREVER: Final = 1e6


def _ready(socket: int, wanted: int, seconds: float) -> Ready | None:
    """What the socket is ready for, of what is *wanted*; None if it is for nothing in time."""
    seconds = min(seconds, _FOREVER)
    if not hasattr(select, "poll"):  # Windows, where no descriptor is too large for it
        given = [socket] if wanted & _READ else [], [socket] if wanted & _WRITE else []
        read, written, _ = select.select(*given, [], seconds)
        found = (_READ if read else 0) | (_WRITE if written else 0)
        return Ready(found) if found else None
    poll = select.poll()
    poll.register(
        socket,
        (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0),
    )
    events = poll.poll(seconds * 1000)
    if not events:
        return None
    event = events[0][1]
    if event & ~(select.POLLIN | select.POLLOUT):
        return Ready(wanted)  # it is lost: let libpq find out how
    return Ready(
        (_READ if event & select.POLLIN else 0) | (_WRITE if event & select.POLLOUT else 0)
    )


class Late(psycopg.OperationalError):
    """The server has not answered in time."""


class Line(psycopg.Connection[tuple[Any, ...]]):
    """
    A connection whose statements end at the time *until* (of `time.monotonic`) at the latest.

    Statements are sent as text, several in one message, and none is prepared: a pooler may
    give each transaction another server connection.
    """

    until: float = math.inf
    warned: str = ""
    """The last warning of the server, such as that a commit was not replicated as it should be."""

    def wait(self, gen: Generator[Any, Any, _T], *args: Any, **more: Any) -> _T:
        """
        Carry *gen* on as the server answers. psycopg's own has no end in all of its releases.

        Raises Late; the line is of no use afterwards.
        """
        try:
            wanted = next(gen)
            while True:
                left = self.until - time.monotonic()
                ready = _ready(self.pgconn.socket, wanted, max(0.0, left))
                if not ready:
                    raise Late("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: _T = end.value
            return result

    @property
    def broken(self) -> bool:
        """Whether the server's side of it is lost, or in a state that nobody knows."""
        lost = (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)
        return self.closed or self.pgconn.transaction_status in lost

    def rows(self, statement: Statement, *given: Any) -> list[tuple[Any, ...]]:
        """
        Carry out *statement*; the rows of the last part that has any.

        A cursor would do the same and double the work of this process.
        """
        connection = self.pgconn
        connection.send_query(statement.given(given))
        found: list[tuple[Any, ...]] = []
        for result in self.wait(execute(connection)):
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)
            if result.status == ExecStatus.TUPLES_OK:
                found = [_row(result, row) for row in range(result.ntuples)]
        return found

    def noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        """Keep a warning; what is said more quietly concerns nobody here."""
        if notice.severity_nonlocalized == "WARNING":
            self.warned = notice.message_primary or "?"

    def drop(self) -> None:
        """Let go of it, whatever state it is in."""
        with suppress(psycopg.Error):
            self.pgconn.finish()  # says good-bye if it can, and waits for nothing
        self.close()


def connected(address: Address) -> Line:
    """A new line. Raises psycopg.Error, and LedgerError for a server that is of no use."""
    parts = {"application_name": "sluicegate", **address.parts, "client_encoding": "UTF8"}
    parts.setdefault("connect_timeout", max(2, math.ceil(address.timeout)))
    line = Line.connect(make_conninfo(**parts), autocommit=True, prepare_threshold=None)
    line.add_notice_handler(line.noticed)
    if line.info.server_version < _OLDEST:
        number = line.info.server_version // 10_000
        line.drop()
        raise LedgerError(f"{address} is PostgreSQL {number}; the ledger needs 13 or newer")
    return line


_BIGINT, _INTEGER, _BOOLEAN = 20, 23, 16


def _row(result: PGresult, row: int) -> tuple[Any, ...]:
    return tuple(
        [
            _value(result.get_value(row, column), result.ftype(column))
            for column in range(result.nfields)
        ]
    )


def _value(value: bytes | None, kind: int) -> Any:
    if value is None:
        return None
    if kind in (_BIGINT, _INTEGER):
        return int(value)
    return value == b"t" if kind == _BOOLEAN else value.decode()


_WAYS_OUT: Final = {
    "55P03": "another transaction kept what the request needs; see pg_stat_activity for who does, "
    "or give the ledger a longer timeout",
    "25006": "the server is a standby or read-only; point the URL at the primary "
    "(target_session_attrs=read-write), or clear default_transaction_read_only",
    "42501": "grant the role what docs/postgres.md lists",
    "53100": "give the server's disk some space",
    "53200": "raise max_locks_per_transaction or the server's memory",
    "53300": "raise max_connections of the server, or lower `connections` in the URL",
    "3D000": "create the database, or name another one in the URL",
    "28P01": "see the password in the URL, PGPASSWORD or the password file",
    "42P01": "the namespace was dropped or is another program's; open the ledger again",
    "3F000": "the namespace was dropped; open the ledger again",
}


_UNREACHED: Final = "see that the server is up and that this host may reach it"


def trouble(address: Address, error: BaseException) -> LedgerError:
    """What went wrong, in words: the ledger, what the server said, and the way out."""
    if isinstance(error, LedgerError):
        return error
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    told = address.scrubbed(str(error)) or type(error).__name__
    way_out = _WAYS_OUT.get(code, "the server's log says more") if code else _UNREACHED
    return LedgerError(f"the ledger {address} cannot be used: {told}; {way_out}")
