"""Ways to hold a ledger up, as a test needs it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.claims import Cell, Ending, Hold, Taken


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, as another process would: by a descriptor of one's own."""
    descriptor = os.open(path.with_name(path.name + "-lock"), os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


class Gated:
    """A claim on nothing that lets a test stop time in the middle of a transaction."""

    key = "gated"

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def take(self, cell: Cell, hold: Hold) -> Taken:
        self.reached.set()
        assert self.go_on.wait(10)
        return (hold.permit,)

    def settle(self, cell: Cell, hold: Hold, ending: Ending) -> Cell:
        return None
