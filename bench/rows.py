"""The rows of the benchmark by name. Each gives its figures beside a floor that was measured with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from embedded import memory, processes, sqlite, threads
from growth import footprint, growth
from networked import postgres_rows, redis_rows
from row import Row
from sizes import sizes

ROWS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "memory": memory,
    "sqlite": sqlite,
    "threads": threads,
    "processes": processes,
    "redis": redis_rows,
    "postgres": postgres_rows,
    "growth": growth,
    "sizes": sizes,
    "footprint": footprint,
}
