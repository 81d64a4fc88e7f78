"""One line of the result, and how it is measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

now = time.perf_counter_ns


@dataclass(frozen=True)
class Row:
    """
    One line of the result: what, how much, beside which floor, against which target.

    Without *measured* nothing was, and *note* says why.
    """

    name: str
    measured: float | None
    unit: str
    floor: float | None = None
    floor_name: str = ""
    target: str = ""
    met: bool | None = None
    note: str = ""


def timed(work: Callable[[], object]) -> float:
    begin = now()
    work()
    return (now() - begin) / 1000


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return (
        f"p90 {ordered[len(ordered) * 9 // 10]:.0f}, p99 {ordered[len(ordered) * 99 // 100]:.0f} µs"
    )


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that the benchmark is started on: a RAM disk would measure nothing."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        yield Path(name)
