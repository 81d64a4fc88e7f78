"""Opening a SQLite ledger: what is made, what is refused, and that it is left as it was."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from requested import claiming, granted, noting, quota, record, settling, slot, state

from sluicegate.errors import LedgerError
from sluicegate.journal import verify
from sluicegate.ledger import open_ledger
from sluicegate.ledger.base import Granted
from sluicegate.ledger.files import network_file_system
from sluicegate.ledger.sqlite import SqliteLedger


def fill(path: Path, entries: int = 40) -> None:
    """Make a ledger with some entries, and close it."""
    with closing(SqliteLedger(path)) as ledger:
        for number in range(entries):
            granted(ledger, f"p{number}", quota(1000), slot(1000))


def sql(path: Path, *statements: str) -> None:
    """Change a file behind the ledger's back."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def foreign(path: Path) -> None:
    sql(path, "CREATE TABLE orders (id)", "INSERT INTO orders VALUES (1)")


def no_database(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)


def newer(path: Path) -> None:
    fill(path)
    sql(path, "PRAGMA user_version = 2")


def truncated(path: Path) -> None:
    fill(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_short(path: Path) -> None:
    fill(path)
    path.write_bytes(path.read_bytes()[:50])


def garbage_pages(path: Path) -> None:
    fill(path)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(range(256)) * ((len(content) - 4096) // 256))


def garbage_schema(path: Path) -> None:
    fill(path)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\x5a" * 3996 + content[4096:])


def no_head(path: Path) -> None:
    fill(path)
    sql(path, "DELETE FROM head")


def no_table(path: Path) -> None:
    fill(path)
    sql(path, "DROP TABLE permits")


def last_entry_missing(path: Path) -> None:
    fill(path)
    sql(path, "DELETE FROM journal WHERE seq = 40")


def last_entry_changed(path: Path) -> None:
    fill(path)
    sql(path, "UPDATE journal SET body = replace(body, 'p39', 'p38') WHERE seq = 40")


def nothing_in_it(path: Path) -> None:
    path.touch()


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "foreign": (foreign, "another application"),
    "no database": (no_database, "not a database"),
    "newer": (newer, "schema version is 2, and this release of Sluicegate knows 1"),
    "truncated": (truncated, "malformed"),
    "cut short": (cut_short, "it has 50 bytes, and no ledger is so short"),
    "garbage pages": (garbage_pages, "malformed"),
    "garbage schema": (garbage_schema, "malformed"),
    "no head": (no_head, "head has 0 rows instead of 1"),
    "no table": (no_table, "no such table: permits"),
    "last entry missing": (last_entry_missing, "entry 40 of its journal is not the one on record"),
    "last entry changed": (last_entry_changed, "entry 40, the last of its journal, was changed"),
    "empty": (nothing_in_it, "it has 0 bytes, and no ledger is so short"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sound_ledger_is_refused_and_left_alone(path: Path, kind: str) -> None:
    """The error names the file, what was found and a way out; not one byte changes."""
    spoil, found = REFUSED[kind]
    spoil(path)
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(path)
    assert str(path) in str(caught.value)
    assert found in str(caught.value)
    assert "The file was left as it is." in str(caught.value)
    assert hashlib.sha256(path.read_bytes()).digest() == before


@pytest.mark.parametrize("spoil", [foreign, no_database, nothing_in_it])
def test_nothing_is_left_beside_a_foreign_file(path: Path, spoil: Callable[[Path], None]) -> None:
    """Somebody else's directory gets no lock file from us."""
    spoil(path)
    with pytest.raises(LedgerError):
        SqliteLedger(path)
    assert os.listdir(path.parent) == [path.name]


def test_a_damaged_ledger_with_a_log_is_left_alone(path: Path, tmp_path: Path) -> None:
    """A file and its write-ahead log, as a crash leaves them, are not folded by a refusal."""
    fill(path)
    after_crash = tmp_path / "after a crash" / "ledger.db"
    after_crash.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE journal SET body = 'x' WHERE seq = 40")
        database.commit()
        for end in ("", "-wal"):
            Path(f"{after_crash}{end}").write_bytes(Path(f"{path}{end}").read_bytes())
    before = after_crash.read_bytes(), Path(f"{after_crash}-wal").read_bytes()
    assert before[1]
    with pytest.raises(LedgerError, match="entry 40, the last of its journal, was changed"):
        SqliteLedger(after_crash)
    assert (after_crash.read_bytes(), Path(f"{after_crash}-wal").read_bytes()) == before


def test_a_sound_ledger_with_a_log_is_opened(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash leaves is what was acknowledged, in the file or in the log beside it."""
    monkeypatch.setattr("sluicegate.ledger.database.FOLD_ENTRIES", 50)
    after_crash = tmp_path / "after a crash" / "ledger.db"
    after_crash.parent.mkdir()
    with closing(SqliteLedger(path)) as ledger:
        for number in range(170):
            granted(ledger, f"p{number}", quota(1000))
        for end in ("", "-wal"):
            Path(f"{after_crash}{end}").write_bytes(Path(f"{path}{end}").read_bytes())
    with closing(SqliteLedger(after_crash)) as ledger:
        assert state(ledger) == [("quota", [0, 0, 170])]
        assert verify(ledger.entries(), ledger.head()) is None


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory is no ledger, and the error proposes a name in it."""
    with pytest.raises(LedgerError, match="is a directory; name a file in it"):
        SqliteLedger(tmp_path)


def test_a_place_where_nothing_can_be_written_is_refused() -> None:
    """Where no directory can be made, the error says which and why."""
    with pytest.raises(LedgerError, match="/proc/nowhere/ledger.db cannot be opened"):
        SqliteLedger("/proc/nowhere/ledger.db")


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be a user without rights for a while, if we are root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_written_is_refused(
    path: Path, request: pytest.FixtureRequest
) -> None:
    """A ledger that could only be read would permit nothing, so it is refused at once."""
    fill(path)
    for file in path.parent.iterdir():
        file.chmod(0o444)
    for folder in [path.parent, *path.parent.parents[:-1]]:
        if folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o555)
    before = path.read_bytes()
    request.getfixturevalue("nobody")
    with pytest.raises(LedgerError, match=r"Permission denied|readonly"):
        SqliteLedger(path)
    assert path.read_bytes() == before


def test_half_a_ledger_is_not_taken_for_none(path: Path) -> None:
    """A log without its file is what a careless removal leaves; a new ledger would swallow it."""
    log = path.with_name("ledger.db-wal")
    log.write_bytes(b"x" * 100)
    with pytest.raises(LedgerError, match=r"missing, but ledger.db-wal is there"):
        SqliteLedger(path)
    assert not path.exists()


def test_directories_are_made(tmp_path: Path) -> None:
    """The first use of `.sluicegate/ledger.db` needs no preparation."""
    with closing(SqliteLedger(tmp_path / "a" / "b" / "ledger.db")) as ledger:
        granted(ledger, "p", quota(1))
        assert ledger.path == tmp_path / "a" / "b" / "ledger.db"


def test_a_name_with_signs_of_its_own_works(tmp_path: Path) -> None:
    """Signs that mean something in a URI are only letters in a file's name."""
    with closing(SqliteLedger(tmp_path / "50% off? #1 é.db")) as ledger:
        granted(ledger, "p", quota(1))
    assert (tmp_path / "50% off? #1 é.db").exists()


def test_a_draft_that_a_crash_left_behind_is_cleared_away(path: Path) -> None:
    """A ledger is made under another name first; a dead process's attempt is no obstacle."""
    path.with_name("ledger.db-new").write_bytes(b"half a led")
    path.with_name("ledger.db-new-journal").write_bytes(b"half a jour")
    fill(path)
    assert sorted(os.listdir(path.parent)) == ["ledger.db", "ledger.db-lock"]


def test_everything_is_there_after_opening_again(path: Path) -> None:
    """State, permits, journal, head and the clock's floor outlive the ledger that wrote them."""
    with closing(SqliteLedger(path)) as ledger:
        request, answer = granted(ledger, "p", quota(5), slot(5), lease=10**9)
        granted(ledger, "q", quota(5))
        kept = state(ledger), record(ledger), ledger.head(), ledger.floor
    with closing(SqliteLedger(path)) as ledger:
        assert (state(ledger), record(ledger), ledger.head(), ledger.floor) == kept
        ledger.perform(settling(request, answer))
        assert state(ledger) == [("quota", [0, 1, 1])]
        assert verify(ledger.entries(), ledger.head()) is None
        assert len({entry.writer for entry in ledger.entries()}) == 1


def test_a_symbolic_link_is_the_file_it_points_to(path: Path) -> None:
    """Two names of one file are one ledger, with one lock."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    with closing(SqliteLedger(path)) as ledger, closing(SqliteLedger(link)) as other:
        granted(ledger, "p", quota(1))
        assert not isinstance(other.perform(claiming("q", quota(1))), Granted)
    assert not path.with_name("link.db-lock").exists()


def test_two_ledgers_in_one_process_share_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sees what the other did, over folds, and the first to close takes nothing along."""
    monkeypatch.setattr("sluicegate.ledger.database.FOLD_ENTRIES", 50)
    with closing(SqliteLedger(path)) as one:
        two = SqliteLedger(path)
        for number in range(300):
            granted(
                (one, two)[number % 2], f"p{number}", quota(10**6), slot(10**6, key=f"s{number}")
            )
        two.close()
        granted(one, "last", quota(10**6))
        assert state(one)[0] == ("quota", [0, 0, 301])
        assert verify(one.entries(), one.head()) is None


def test_cells_that_are_folded_and_cells_that_are_not_are_read_as_one(path: Path) -> None:
    """What changed since the last fold is in its place among what did not, and what is gone is not."""
    keys = [f"k{number:04}" for number in range(0, 1200, 2)]
    with closing(SqliteLedger(path)) as ledger:
        request, answer = granted(ledger, "p", *(slot(9, key=key) for key in keys))
    with closing(SqliteLedger(path)) as ledger:
        some = keys[::50]
        ledger.perform(
            settling(request._replace(claims=[slot(9, key=key) for key in some]), answer)
        )
        added = [f"k{number:04}" for number in range(1, 1200, 98)] + ["l"]
        granted(ledger, "q", *(quota(9, key=key) for key in added))
        expected = sorted({*keys, *added} - set(some))
        assert [key for key, _ in ledger.cells("")] == expected
        assert [key for key, _ in ledger.cells("k")] == expected[:-1]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:", "names no file; write sqlite:///relative/file.db"),
        ("sqlite://ledger.db", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "memory: for a ledger in memory"),
        ("sqlite:///l.db?mode=ro", "unknown option 'mode'; the options are durability and timeout"),
        ("sqlite:///l.db?timeout=1&timeout=2", "gives 'timeout' twice"),
        ("sqlite:///l.db?timeout=soon", "timeout is 'soon'; it must be a number of seconds"),
        ("sqlite:///l.db?timeout=0", "timeout is 0.0"),
        ("sqlite:///l.db?timeout=nan", "timeout is nan"),
        ("sqlite:///l.db?durability=", "durability is ''; it must be power or process"),
    ],
)
def test_a_url_that_means_nothing_is_refused(
    url: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what is wrong in the URL and what is accepted, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LedgerError) as caught:
        open_ledger(url)
    assert problem in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_url_names_a_file_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative, four are absolute, and the options reach the ledger."""
    monkeypatch.chdir(tmp_path)
    with closing(SqliteLedger.at("sqlite:///a%20b/rel.db")) as ledger:
        assert ledger.path == tmp_path / "a b" / "rel.db"
    url = f"sqlite:///{tmp_path}/abs.db?durability=process&timeout=0.2"
    with closing(SqliteLedger.at(url)) as ledger, closing(sqlite3.connect(ledger.path)) as other:
        assert ledger.path == tmp_path / "abs.db"
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"locked for 0\.2 s"):
            ledger.perform(noting())


MOUNTS = """\
21 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
25 21 0:23 / /proc rw,nosuid - proc proc rw
36 21 0:31 / /mnt/share rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2
37 36 8:17 / /mnt/share/local\\040disk rw - xfs /dev/sdb1 rw
40 21 0:44 / /home/me/remote rw - fuse.sshfs me@host:/ rw
41 21 0:45 / /overlay rw - fuse.fuse-overlayfs fuse-overlayfs rw
42 21 0:46 / /stacked rw - ext4 /dev/vdc rw
43 21 0:47 / /stacked rw - cifs //server/share rw
44 21 0:48 / /bucket rw - fuse s3 rw
45 21 0:49 / /c rw - 9p drvfs rw
46 21 0:50 / /usb rw - fuseblk /dev/sdc1 rw
a broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/ledger.db", None),
        ("/mnt/share/ledger.db", "nfs4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/shared/ledger.db", None),
        ("/mnt/share/local disk/ledger.db", None),
        ("/home/me/remote/a/b.db", "fuse.sshfs"),
        ("/overlay/ledger.db", None),
        ("/stacked/ledger.db", "cifs"),
        ("/bucket/ledger.db", "fuse"),
        ("/c/Users/me/ledger.db", "9p"),
        ("/usb/ledger.db", None),
    ],
)
def test_network_file_systems_are_told_from_local_ones(path: str, kind: str | None) -> None:
    """The innermost and last mount decides; unknown kinds of FUSE count as remote."""
    assert network_file_system(MOUNTS, path) == kind


def test_a_ledger_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the type of the file system, and nothing is made there."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 21 0:31 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr("sluicegate.ledger.files.MOUNTS", mounts)
    with pytest.raises(LedgerError, match="file system of type nfs4, .* local disk"):
        SqliteLedger(tmp_path / "new" / "ledger.db")
    assert os.listdir(tmp_path) == ["mountinfo"]


def test_without_file_locks_there_is_no_sqlite_ledger() -> None:
    """Where Python has no fcntl, the import says so, as a LedgerError."""
    script = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from sluicegate.errors import LedgerError\n"
        "from sluicegate.ledger import open_ledger\n"
        "try:\n    open_ledger('sqlite:///l.db')\n"
        "except LedgerError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "which this system does not have" in ran.stdout
