"""Connecting to the server within a time, whatever it takes."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from ...errors import LedgerError
from .address import Address
from .line import Late, Line, connected

__all__ = ["connected_by"]


def connected_by(address: Address, until: float) -> Line:
    """
    A new line; it is given up at *until*, a time of `time.monotonic`.

    libpq waits for two seconds at least, and looks up names for as long as the system likes.
    So a thread connects that nobody has to wait for: a caller who is in a hurry goes.
    Raises psycopg.Error, and LedgerError for a server that is of no use.
    """
    made: SimpleQueue[Line | BaseException] = SimpleQueue()
    first = Lock()  # whoever has it decides: it was made in time, or nobody wants it any more

    def connect() -> None:
        try:
            found: Line | BaseException = connected(address)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            found = error
        if first.acquire(blocking=False):
            made.put(found)
        elif isinstance(found, Line):
            found.drop()

    try:
        Thread(target=connect, name="sluicegate connecting", daemon=True).start()
    except RuntimeError as error:  # the interpreter is about to end
        raise LedgerError(f"no thread to connect to {address}: {error}") from error
    try:
        found = made.get(timeout=max(0.0, until - time.monotonic()))
    except BaseException as error:  # nothing in time, or KeyboardInterrupt
        if first.acquire(blocking=False):
            raise (Late("no connection in time") if isinstance(error, Empty) else error) from None
        found = made.get()  # it has just come
        if not isinstance(error, Empty):
            if isinstance(found, Line):
                found.drop()
            raise
    if isinstance(found, BaseException):
        raise found
    return found
