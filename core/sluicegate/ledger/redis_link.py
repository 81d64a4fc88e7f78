"""
A connection to one Redis or Valkey server: opened when it is needed, looked over each time.

What is sent here is sent again after a connection that broke, because the reply may be
all that was lost. So every command must mean the same when it is carried out twice;
the scripts see to that for commits and for the journal. redis-py's own retries are switched off: they would
not know when the caller's time is over.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from threading import RLock
from typing import Any, Final, NamedTuple, Protocol, cast

import hiredis
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as NoReply
from redis.retry import Retry

from ..errors import LedgerError
from .redis_wire import Wire

__all__ = ["COMMIT", "TRIM", "Address", "Link", "Script"]

_pack: Final[Callable[[tuple[Any, ...]], bytes]] = cast("Any", hiredis).pack_command
"""In half the time that redis-py takes to call the same."""

PAUSE: Final = 0.01
"""Seconds before the first new attempt; twice as many before each further one, up to LONGEST."""
LONGEST: Final = 0.25

PASSING: Final = ("LOADING", "READONLY", "MASTERDOWN", "BUSY", "CLUSTERDOWN", "TRYAGAIN")
"""Refusals of a server that is starting, that is no master now, or that is at work elsewhere."""

WAYS_OUT: Final = {
    "READONLY": "it is a replica; let the address lead to the master, or wait for the failover",
    "LOADING": "it is reading its data; try again in a moment",
    "BUSY": "another script keeps it busy; see `SCRIPT KILL`, and do not share the server with such scripts",
    "OOM": "its memory is used up; raise `maxmemory`, or remove old data (see docs/redis.md, Sizing)",
    "MISCONF": "it cannot write its data to disk; see its log and the space on its disk",
    "WRONGPASS": "put the right user and password into the URL: redis://user:password@host, with "
    "characters such as / and # written %2F and %23",
    "NOPERM": "grant it to the user, see docs/redis.md, Permissions",
    "NOREPLICAS": "it has fewer replicas than `min-replicas-to-write`; start them, or lower the number",
    "MOVED": "it is one node of a cluster, and the namespace lives on another; name that node",
    "WRONGTYPE": "something else has written to the keys of this namespace; give the ledger another",
}


class Script(NamedTuple):
    """A script of ours, and the name that servers give it."""

    text: str
    digest: str

    @classmethod
    def of(cls, name: str) -> Script:
        """The one in this file beside this module."""
        text = (files("sluicegate.ledger") / name).read_text("utf-8")
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


COMMIT: Final = Script.of("commit.lua")
TRIM: Final = Script.of("trim.lua")


class Address(NamedTuple):
    """Where a ledger is. *label* names it without any secret; *options* are redis-py's."""

    url: str
    label: str
    namespace: str
    options: dict[str, Any]

    def __repr__(self) -> str:
        return f"<{self.label}>"


class _Connection(Protocol):
    """What is used of redis-py's connections, which say little of their types."""

    socket_timeout: float | None
    socket_connect_timeout: float | None

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_packed_command(self, packed: list[bytes]) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def read_response(self, disable_decoding: bool) -> Any: ...


class Link:
    """
    One connection, for one caller at a time. *inspect* is called with each new one, and
    may refuse it with a LedgerError. *timeout* is in seconds.
    """

    def __init__(
        self, address: Address, *, timeout: float, inspect: Callable[[Link], None]
    ) -> None:
        self.label = address.label
        self._timeout = timeout
        self._inspect = inspect
        self._guard = RLock()
        self._connection: _Connection | None = None
        self._wire: Wire | None = None
        self.broken = 0  # so many commands got no reply: they may be on their way
        self._hurried = False  # it was opened with less time, which its socket keeps
        try:
            pool = cast("Any", ConnectionPool).from_url(
                address.url,
                **address.options,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                health_check_interval=0,
            )
            self._make: Callable[[], _Connection] = pool.make_connection
            self._make()  # this is where redis-py looks at the options
        except (ValueError, TypeError, RedisError):
            # What redis-py says about a URL may quote it, with the password in it.
            raise LedgerError(
                f"the address or an option of {address.label} cannot be read; see docs/redis.md"
            ) from None

    def call(self, *command: Any, deadline: float | None = None, sent: bool = False) -> Any:
        """
        The reply to *command*, which may have been *sent*; sent again, until *deadline*, if
        there is none.

        Raises LedgerError. Then nobody knows whether it was carried out, or will be.
        """
        end = time.monotonic() + self._timeout if deadline is None else deadline
        pause = PAUSE
        with self._guard:
            while True:
                try:
                    return self._exchange(command, end, sent=sent)
                except (RedisError, OSError) as error:
                    reply = self._heed(error)
                    if reply and reply not in PASSING:
                        raise self._refusal(error) from error
                    if time.monotonic() + pause >= end:
                        raise self._refusal(error) from error
                except _NoScript:
                    raise
                except BaseException:
                    self.cut()  # its reply would be taken for that of the next command
                    raise
                sent = False
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)

    @staticmethod
    def packed(script: Script, keys: Sequence[str], arguments: Sequence[str]) -> bytes:
        """The command that runs *script*, as `script` sends it first."""
        return _pack(("EVALSHA", script.digest, len(keys), *keys, *arguments))

    def script(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[str],
        deadline: float | None = None,
        *,
        sent: bool = False,
    ) -> Any:
        """Run *script*, which may have been *sent*, whether the server still has it or not."""
        rest = (len(keys), *keys, *arguments)
        try:
            return self.call("EVALSHA", script.digest, *rest, deadline=deadline, sent=sent)
        except _NoScript:
            return self.call("EVAL", script.text, *rest, deadline=deadline)

    def ask(self, *command: Any) -> Any:
        """One exchange on the connection that is being inspected. Raises redis-py's errors."""
        assert self._connection is not None  # noqa: S101 - it is being inspected
        self._connection.send_packed_command([_pack(command)])
        return self._connection.read_response(disable_decoding=True)

    def drop(self) -> None:
        """Let go of the connection; the next call opens another."""
        connection, self._connection, self._wire = self._connection, None, None
        if connection is not None:
            connection.disconnect()

    # --- for an event loop ---

    def wire(
        self, loop: asyncio.AbstractEventLoop, ear: Callable[[Wire], Callable[[], None]]
    ) -> Wire | None:
        """
        The connection as *loop* may use it, which calls what *ear* gives when there is a reply; None if
        it has to be opened first, is encrypted, or is nothing that this loop can watch.
        """
        if self._wire is not None and self._wire.within(loop):
            self._wire.watch()
            return self._wire
        own = getattr(self._connection, "_sock", None)
        if not isinstance(own, socket.socket) or isinstance(own, ssl.SSLSocket):
            return None
        try:
            self._wire = Wire(own, loop, ear)
        except (RuntimeError, OSError):  # NotImplementedError is a RuntimeError
            self._wire = None
        return self._wire

    def cut(self) -> None:
        """Let go of a connection on which a command was sent and got no reply."""
        self.broken += 1
        self.drop()

    # --- below ---

    def _exchange(self, command: tuple[Any, ...], end: float, *, sent: bool) -> Any:
        connection = self._connection
        if connection is None:
            connection, sent = self._open(end), False
        if not sent:
            connection.send_packed_command([_pack(command)])
        left = end - time.monotonic()
        # Looking first costs a system call or two; the socket's own timeout does for most.
        in_haste = self._hurried or left < 0.9 * self._timeout
        if in_haste and not connection.can_read(timeout=max(left, 0.001)):
            raise NoReply("no reply")
        return connection.read_response(disable_decoding=True)

    def _open(self, end: float) -> _Connection:
        left = max(end - time.monotonic(), 0.001)
        connection = self._make()
        self._hurried = left < 0.9 * self._timeout
        if self._hurried:
            connection.socket_connect_timeout = connection.socket_timeout = left
        connection.connect()
        self._connection = connection
        try:
            self._inspect(self)
        except BaseException:
            self.drop()
            raise
        return connection

    def _heed(self, error: Exception) -> str:
        """The code of a reply that is an error, or "" where there was no reply."""
        if isinstance(error, NoScriptError):
            raise _NoScript from None
        code = _code(error)
        self.broken += not code
        if not code or code in PASSING[:3]:  # another server may be there next time
            self.drop()
        return code

    def _refusal(self, error: Exception) -> LedgerError:
        code = _code(error)
        if code:
            way_out = WAYS_OUT.get(code, "see docs/redis.md")
            return LedgerError(f"{self.label} refuses: {error}; {way_out}")
        return LedgerError(
            f"{self.label} did not answer within {self._timeout:g} s ({error}); whether the request "
            "was carried out is not known, and a claim that it made is given back as soon as the "
            "server answers; see that it runs and can be reached, then try again"
        )


class _NoScript(Exception):
    """The server does not have the script (any more)."""


def _code(error: Exception) -> str:
    """The code of a server's error; "" if it is none. Inside scripts it comes after a minus."""
    if isinstance(error, AuthenticationError):
        return "WRONGPASS"
    name = type(error).__name__
    if name in _CLASSES:
        return _CLASSES[name]
    if not isinstance(error, ResponseError):
        return ""
    found = _CODE.search(str(error))
    return found[1] if found else "ERR"


_CODE: Final = re.compile(rf"(?:^|-)({'|'.join(WAYS_OUT)})\b")

_CLASSES: Final = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
    "MovedError": "MOVED",
}
"""redis-py takes the code off where it has a class for it."""
