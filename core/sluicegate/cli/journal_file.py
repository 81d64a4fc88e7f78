"""The journal in a SQLite ledger that cannot be opened: read all the same, to say where it broke."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ..errors import LedgerError
from ..journal import GENESIS, Entry
from ..ledger.files import VERSION, refuse_place

__all__ = ["JournalFile"]

# Numbers below 0 are of entries that have left the journal, and are still referred to.
_ENTRIES: Final = """
SELECT seq, coalesce((SELECT writer FROM head), ''), prev, hash, body
FROM journal WHERE seq > ? ORDER BY seq
"""
_WRITER: Final = "SELECT coalesce((SELECT writer FROM head), '') WHERE ? > 0"
_HEAD: Final = """
SELECT seq, hash FROM (
    SELECT seq, hash, 1 AS on_record FROM head
    UNION ALL SELECT seq, hash, 0 FROM journal
    WHERE seq > 0 AND seq = (SELECT max(seq) FROM journal)
) ORDER BY seq DESC, on_record DESC LIMIT 1
"""


class JournalFile:
    """
    Entries and head as they are in the file *path*: trusts nothing, changes nothing.

    Raises LedgerError if the file is no ledger of this version, or cannot be read at all.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()
        refuse_place(path)
        self._uri = f"{path.as_uri()}?mode=ro"
        [(version,)] = self._rows("PRAGMA user_version")
        if version != VERSION:
            raise LedgerError(f"{path} is a ledger of version {version}, not {VERSION}")

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The entries behind the number *after*."""
        return (Entry(*row) for row in self._rows(_ENTRIES, after))

    def head(self) -> tuple[int, str]:
        """The last entry, or the last one on record if that is a later one."""
        return next(self._rows(_HEAD), (0, GENESIS))

    def heads(self) -> dict[str, tuple[int, str]]:
        """The same for the one writer of a file."""
        head = self.head()
        return {row[0]: head for row in self._rows(_WRITER, head[0])}

    def close(self) -> None:
        """Nothing is open in between."""

    def _rows(self, query: str, *values: object) -> Iterator[Any]:
        try:
            with closing(sqlite3.connect(self._uri, uri=True)) as connection:
                yield from connection.execute(query, values)
        except sqlite3.Error as error:
            raise LedgerError(f"the journal cannot be read: {error}") from error
