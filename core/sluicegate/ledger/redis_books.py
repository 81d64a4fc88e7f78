"""
The books of a Redis ledger: what is known of its state, and a batch of requests in draft.

The meaning of a request is Python (meaning.py). These books let it run against what this
process knows, note what it looked at and what it changed, and make of that the arguments
of commit.lua, which writes them if what was looked at is still so. A key that nobody has
looked at before is taken to be absent; where that is wrong, the server says what is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from json.encoder import encode_basestring_ascii
from typing import Any, Final, NamedTuple, TypeAlias

from ..claims import Cell
from ..errors import LedgerError
from ..journal import GENESIS, link
from .base import Answer, Request
from .meaning import perform

__all__ = ["Draft", "Elsewhere", "RedisBooks", "parsed"]

KEPT: Final = 20_000
"""So many cells and as many permits stay in memory, at some 400 bytes each; for a while a tenth more."""

WRITER: Final = 32
"""Bits of an entry's number that count within its writer; the writer's number is above them."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def parsed(raw: bytes) -> tuple[Any, ...]:
    """The value of a cell or a permit, as the server keeps it, without its stamp. Raises LedgerError."""
    try:
        return tuple(json.loads(raw.partition(b" ")[2]))
    except (ValueError, TypeError) as error:
        raise LedgerError(
            f"a ledger on Redis has a value that no ledger wrote: {raw[:60]!r}; "
            "restore it from a copy, and give nothing else access to its keys"
        ) from error


_Known: TypeAlias = "tuple[str, Any]"
"""A value, and before it the stamp of the batch that wrote it."""

_ABSENT: Final[_Known] = ("", None)


class _Shelf:
    """Values of one kind: as they are known to be, as they were looked at, and as they become."""

    def __init__(self) -> None:
        self.known: dict[str, _Known] = {}
        self.looked: dict[str, str] = {}  # the stamps
        self.values: dict[str, Any] = {}
        self.changed: dict[str, Any] = {}

    def begin(self) -> None:
        self.looked = {}
        self.values = {}
        self.changed = {}

    def get(self, key: str) -> Any:
        """The value at this point of the batch; None if there is none."""
        if key in self.values:
            return self.values[key]
        if not key.isascii():
            key.encode()  # a lone surrogate is the fault of its own request only
        self.looked[key], value = self.known.get(key, _ABSENT)
        self.values[key] = value
        return value

    def put(self, key: str, value: Any) -> Any:
        """The value before, which is looked at like any other."""
        before = self.values[key] if key in self.values else self.get(key)
        self.values[key] = self.changed[key] = value
        return before

    def correct(self, differences: Sequence[Any]) -> None:
        """Learn what the server says of those that were looked at: positions and values."""
        keys = list(self.looked)
        for place in range(0, len(differences), 2):
            position: int = differences[place]
            raw: bytes = differences[place + 1]
            self.known.pop(keys[position], None)
            if raw:
                stamp = raw.partition(b" ")[0].decode()
                self.known[keys[position]] = (f"{stamp} ", parsed(raw))

    def keep(self, stamp: str) -> None:
        """The changes are made."""
        known = self.known
        for key, value in self.changed.items():
            known.pop(key, None)  # so that the oldest come first
            if value is not None:
                known[key] = (stamp, value)
        if len(known) > KEPT + KEPT // 10:  # many at once: to find the oldest takes long each time
            for key in list(islice(known, len(known) - KEPT)):
                del known[key]

    def writes(self, stamp: str) -> tuple[list[str], list[str]]:
        """Names and values of what is set, and names of what is removed."""
        put: list[str] = []
        removed: list[str] = []
        for key, value in self.changed.items():
            if value is None:
                removed.append(key)
            else:
                put += (key, stamp + _text(value))
        return put, removed


def _text(value: Sequence[Any]) -> str:
    """JSON, like `_encode`, which takes thrice as long to get going."""
    parts: list[str] = []
    for item in value:
        if type(item) is int:
            parts.append(str(item))
        elif type(item) is str:
            parts.append(encode_basestring_ascii(item))
        else:
            return _encode(value)
    return f"[{','.join(parts)}]"


class Elsewhere(BaseException):
    """A draft must not wait for what has to be fetched; this is no error of the request's."""


class Draft(NamedTuple):
    """A batch that the server may take: its answers, and its chain and time afterwards."""

    answers: list[Answer | Exception]
    record: str
    seq: int
    last: str
    at: int
    changes: bool


class RedisBooks:
    """
    *body* fetches the text of an entry. With *exact* the requests say what time it is,
    as in a ledger in memory; otherwise each draft has one time, the server's.
    """

    def __init__(self, body: Callable[[int], str], *, exact: bool) -> None:
        self._fetch = body
        self._exact = exact
        self._waits = True
        self._cells = _Shelf()
        self._permits = _Shelf()
        self.cell: Callable[[str], Cell] = self._cells.get
        self.permit: Callable[[str], tuple[int, int] | None] = self._permits.get
        self._undo: list[tuple[_Shelf, str, Any]] = []
        self._rows: list[tuple[str, str, str, str]] = []
        self._number = 0
        self._batch = 0
        self._name = ""
        self.seq: int = 0
        self.last = GENESIS
        self.floor: int = 0

    def write_as(self, number: int, name: str) -> None:
        """Begin the chain of the writer *name*, who has that number in this ledger."""
        self._number, self._name = number, name
        self.seq, self.last = 0, GENESIS

    # --- for `perform`: see Books in base.py ---

    def put(self, key: str, cell: Cell) -> None:
        self._undo.append((self._cells, key, self._cells.put(key, cell)))

    def put_permit(self, permit: str, out: tuple[int, int] | None) -> None:
        self._undo.append((self._permits, permit, self._permits.put(permit, out)))

    @property
    def next(self) -> int:
        return (self._number << WRITER) + self.seq + 1

    def append(self, at: int, rest: str) -> int:
        body = f'{{"at":{at},{rest}'
        number, seq = self.next, self.seq + 1
        hashed = link(self.last, self._name, seq, body)
        self._rows.append((str(number), self.last, hashed, body))
        self.seq, self.last, self.floor = seq, hashed, at
        return number

    def body(self, entry: int) -> str:
        text = str(entry)
        for number, _, _, body in self._rows:
            if number == text:
                return body
        if not self._waits:
            raise Elsewhere
        return self._fetch(entry)

    # --- batches ---

    def draft(
        self, requests: Iterable[Request], chain: tuple[int, str], at: int, *, waits: bool = True
    ) -> Draft:
        """
        The answers to *requests* after the chain's last entry, at the time *at*, which is
        not before any change that is known here. Raises Elsewhere if it must fetch the text
        of an entry, unless it *waits* for that.
        """
        self._waits = waits
        self._cells.begin()
        self._permits.begin()
        self._rows = []
        self.seq, self.last = chain
        self.floor = at
        answers = [self._perform(request) for request in requests]
        changes = bool(self._rows or self._cells.changed or self._permits.changed)
        self._batch += 1
        record = f"{self._batch} {self.seq} {self.last}"
        return Draft(answers, record, self.seq, self.last, self.floor, changes)

    def _perform(self, request: Request) -> Answer | Exception:
        """One answer. An error is that of its request alone, and leaves nothing of it behind."""
        if request.now > self.floor and not self._exact:
            request = request._replace(now=self.floor)  # an earlier time counts as this one anyway
        before = self.seq, self.last, self.floor, len(self._rows)
        self._undo.clear()
        try:
            return perform(request, self)
        except Exception as error:  # noqa: BLE001 - it is raised where the request was made
            for shelf, key, value in reversed(self._undo):
                shelf.put(key, value)
            self.seq, self.last, self.floor, rows = before
            del self._rows[rows:]
            return error

    def arguments(self, draft: Draft) -> list[str]:
        """What commit.lua is told of *draft*, which must be the latest: counts, and what they count."""
        stamp = self._stamp(draft)
        cells, permits = self._cells, self._permits
        set_cells, removed_cells = cells.writes(stamp)
        set_permits, removed_permits = permits.writes(stamp)
        return [
            str(len(cells.looked)),
            str(len(permits.looked)),
            str(len(set_cells) // 2),
            str(len(removed_cells)),
            str(len(set_permits) // 2),
            str(len(removed_permits)),
            str(len(self._rows)),
            *cells.looked,
            *cells.looked.values(),
            *permits.looked,
            *permits.looked.values(),
            *set_cells,
            *removed_cells,
            *set_permits,
            *removed_permits,
            *(text for row in self._rows for text in row),
        ]

    def keep(self, draft: Draft) -> None:
        """The server has taken *draft*, which must be the latest."""
        stamp = self._stamp(draft)
        self._cells.keep(stamp)
        self._permits.keep(stamp)

    def correct(self, cells: Sequence[Any], permits: Sequence[Any]) -> None:
        """The server has not taken the latest draft, because these values are others."""
        self._cells.correct(cells)
        self._permits.correct(permits)

    def _stamp(self, draft: Draft) -> str:
        """What begins every value of the batch, and no value of any other."""
        return f"{self._number}.{draft.record.partition(' ')[0]} "
