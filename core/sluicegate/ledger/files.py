"""
The files of a SQLite ledger: where they may be, what they must be, and the lock beside them.

Nothing here writes to a file that exists: one that is refused is left as it was.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

from ..clock import random_id
from ..errors import LedgerError
from ..journal import GENESIS, link

try:
    import fcntl
except ImportError as error:
    raise LedgerError(
        "the SQLite ledger needs file locks between processes (fcntl), which this system does not have; "
        "run on Linux, macOS or WSL, or use the ledger memory:"
    ) from error

__all__ = [
    "APPLICATION",
    "VERSION",
    "LockFile",
    "create",
    "inspect",
    "network_file_system",
    "refuse_place",
]

APPLICATION: Final = 0x534C4747
"""SQLite's application_id of a ledger; schema.sql sets it."""

VERSION: Final = 1
"""The version of schema.sql: SQLite's user_version."""

NETWORK: Final = frozenset(
    "9p acfs afs beegfs ceph cifs coda davfs drvfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 "
    "ocfs2 orangefs prl_fs pvfs2 smb2 smb3 smbfs vboxsf vmhgfs".split()
)
"""File systems that other machines may write to, or whose locks and shared memory are not to be trusted."""

LOCAL_FUSE: Final = frozenset({"fuse.fuse-overlayfs"})
"""What is known to be local among FUSE file systems; the others are shares, object stores and the like."""

MOUNTS: Final = Path("/proc/self/mountinfo")


class LockFile:
    """
    A lock between processes: flock on a file of its own beside the ledger.

    On the ledger itself it would be dangerous: closing any descriptor of a file drops
    all POSIX locks that the process holds on it, and those are SQLite's. Not for two
    threads at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def try_acquire(self, seconds: float, *, pause: float) -> bool:
        """
        Take the lock if it becomes free within *seconds*, looking every *pause* seconds.

        Raises LedgerError if there can be no lock.
        """
        if self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(pause)
            if self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return True
        return False

    def acquire(self) -> None:
        """Take the lock, however long it takes; first come, first served. Raises LedgerError."""
        self._flock(fcntl.LOCK_EX)

    def release(self) -> None:
        """Let the next one have it."""
        try:
            self._flock(fcntl.LOCK_UN)
        except LedgerError:
            return  # a descriptor that was closed behind our back has released it

    def close(self) -> None:
        """
        Let go of the file, and of the lock with it.

        In a forked child the lock stays with the parent: the two share it until it is
        released in so many words, or until both are gone.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # closed behind our back
                os.close(fd)

    def _flock(self, operation: int) -> bool:
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._fd, operation)
        except BlockingIOError:
            return False
        except OSError as error:
            self._fd = None  # of no use, or another file's by now
            raise LedgerError(
                f"the lock {self.path} beside the ledger cannot be used: {error.strerror}; "
                "see that this process may write its directory"
            ) from error
        return True


def refuse_place(path: Path) -> None:
    """
    Raise LedgerError if there can be no ledger at *path*, or if what is there is none.

    Looks without a lock, and leaves no trace beside a foreign file. Network file systems
    are recognised on Linux only; elsewhere it is up to you to keep the ledger local.
    """
    kind = network_file_system(MOUNTS.read_text(), str(path)) if MOUNTS.exists() else None
    if kind is not None:
        raise LedgerError(
            f"{path} is on a file system of type {kind}, where locks and shared memory do not hold between "
            "machines; put the ledger on a local disk, or use a ledger server for a fleet"
        )
    if path.is_dir():
        raise LedgerError(f"{path} is a directory; name a file in it, such as {path / 'ledger.db'}")
    if not path.exists():
        return
    size = path.stat().st_size
    if size < 4096:
        found = f"it has {size} bytes, and no ledger is so short"
        raise _refusal(path, found, "name another file, or remove it if it is of no use")
    _look(path, _refuse_foreign)


def inspect(path: Path) -> None:
    """
    Raise LedgerError if the ledger at *path* is damaged. To be called under its lock.

    """
    _look(path, _refuse_damaged)


def create(path: Path) -> None:
    """
    Make a new ledger at *path*. To be called under its lock.

    It is made under another name first: the file is there in full or not at all.
    """
    for leftover in ("-wal", "-shm", "-journal"):
        if path.with_name(path.name + leftover).exists():
            raise LedgerError(
                f"{path} is missing, but {path.name}{leftover} is there: part of a ledger was removed; "
                "put the file back beside it, or remove both to begin a new ledger"
            )
    draft = path.with_name(path.name + "-new")
    for name in (
        draft,
        draft.with_name(draft.name + "-journal"),
        draft.with_name(draft.name + "-wal"),
    ):
        name.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.executescript(
            files("sluicegate.ledger").joinpath("schema.sql").read_text(encoding="utf-8")
        )
        connection.execute("INSERT INTO head VALUES (1, 0, ?, 0, ?)", (GENESIS, random_id()))
        connection.execute("PRAGMA journal_mode = WAL")
    draft.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def network_file_system(mountinfo: str, path: str) -> str | None:
    """
    The type of the file system that *path* is on, if it is one for networks; else None.

    *mountinfo* is the text of /proc/self/mountinfo (proc(5)); *path* is absolute and has
    no symbolic links. Of nested mounts the innermost counts, of stacked ones the last.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields, types = mount.split(" "), source.split(" ")
        if len(fields) < 5:
            continue
        point = _unescaped(fields[4]).rstrip("/")
        if (path == point or path.startswith(point + "/")) and len(point) >= best:
            best, kind = len(point), types[0]
    fuse = kind == "fuse" or kind.startswith("fuse.")
    return kind if kind in NETWORK or (fuse and kind not in LOCAL_FUSE) else None


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def _look(path: Path, check: Callable[[Path, sqlite3.Connection], None]) -> None:
    """
    Run *check* on a connection that cannot write.

    Without a write-ahead log the file is all there is, and reading it as immutable
    makes no files beside it. With one, it has to be read; a connection that only reads
    does not bring it into the file when it is closed.
    """
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None)
        with closing(connection):
            check(path, connection)
    except sqlite3.Error as error:
        raise _refusal(path, f"SQLite says: {error}", _RESTORE) from error


def _refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    """Without the lock only this is certain: whoever writes here as we look changes no header."""
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error as error:
        if "not a database" in str(error):
            raise
        return  # perhaps in the middle of a change; `inspect` looks again under the lock
    if application != APPLICATION:
        found = f"it is a SQLite database of another application (application_id {application})"
        raise _refusal(path, found, "name another file")


def _refuse_damaged(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        found = f"its schema version is {version}, and this release of Sluicegate knows {VERSION}"
        raise _refusal(path, found, "run the release that wrote it")
    heads = connection.execute("SELECT seq, hash, writer FROM head").fetchall()
    if len(heads) != 1:
        raise _refusal(path, f"its table head has {len(heads)} rows instead of 1", _RESTORE)
    seq, hashed, writer = heads[0]
    query = "SELECT seq, prev, hash, body FROM journal WHERE seq >= ? ORDER BY seq DESC LIMIT 1"
    last = connection.execute(query, (seq,)).fetchone() or (0, "", GENESIS, "")
    folded = connection.execute("SELECT hash FROM journal WHERE seq = ?", (seq,)).fetchone()
    if (folded or (GENESIS,))[0] != hashed:
        raise _refusal(path, f"entry {seq} of its journal is not the one on record", _RESTORE)
    if last[0] and link(last[1], writer, last[0], last[3]) != last[2]:
        raise _refusal(path, f"entry {last[0]}, the last of its journal, was changed", _RESTORE)
    connection.execute("SELECT key, cell FROM cells LIMIT 1").fetchall()
    connection.execute("SELECT id, expires, entry FROM permits LIMIT 1").fetchall()


_RESTORE: Final = "restore it from a copy, or name another file"


def _refusal(path: Path, found: str, way_out: str) -> LedgerError:
    return LedgerError(
        f"{path} cannot be used as a ledger: {found}; {way_out}. The file was left as it is."
    )
