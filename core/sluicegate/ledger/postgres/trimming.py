"""Taking the oldest entries out of the journal, beside whoever commits: no lock is waited for by them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Final

from ...errors import LedgerError
from .address import Address
from .locks import lock_of
from .reading import PAGE, Reading

__all__ = ["forget", "trim"]

_PAUSE: Final = 0.005
_PATIENCE: Final = 1.0
"""Seconds to wait for entries that are being committed: decisions may have to wait as long."""

_WRITERS: Final = "SELECT name, number, seq FROM {ns}.writers"
_SETTLED: Final = "SELECT {ns}.settled(), has_table_privilege('{ns}.journal', 'DELETE')"
_PLACES: Final = """
SELECT position, number FROM {ns}.journal
WHERE position > %s AND position <= %s ORDER BY position LIMIT %s
"""
_BEHIND: Final = """
SELECT EXISTS (SELECT FROM {ns}.journal WHERE position > %s),
       EXISTS (SELECT FROM {ns}.journal WHERE position > %s AND number = ANY (%s::bigint[]))
"""
# One message, so one transaction even behind a pooler. Its own lock keeps two of a kind apart:
# each of them removes what the other one keeps first.
_ALONE: Final = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT set_config('lock_timeout', %s, true),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                                        ELSE current_setting('synchronous_commit') END, true);
SELECT pg_advisory_xact_lock(%s);
"""
# A position can be given to a new row only. See schema.sql for what a negative one is.
_TRIM: Final = """
WITH kept AS (
    DELETE FROM {ns}.journal WHERE position > 0 AND position <= %s AND number = ANY (%s::bigint[])
    RETURNING position, number, prev, hash, body
)
INSERT INTO {ns}.journal (position, number, prev, hash, body) OVERRIDING SYSTEM VALUE
SELECT -position, number, prev, hash, body FROM kept;
DELETE FROM {ns}.journal WHERE position > 0 AND position <= %s;
COMMIT
"""
_FORGET: Final = """
DELETE FROM {ns}.journal WHERE position < 0 AND number = ANY (%s::bigint[]);
COMMIT
"""


def trim(
    reading: Reading, address: Address, upto: Mapping[str, int], keep: Collection[int]
) -> None:
    """
    Remove each writer's entries up to that number of its chain, in one transaction.

    What is removed is a beginning of the journal that is complete, and what is left begins
    with an entry that readers see. So it waits a little for entries on their way. Raises LedgerError.
    """
    ends, staying = _ends(reading, address, upto), frozenset(keep)
    deadline = time.monotonic() + min(_PATIENCE, address.timeout)
    while True:
        complete = _complete(reading, address)
        last, kept, more = _covered(reading, complete, ends, staying)
        ((behind, left),) = reading.rows(_BEHIND, last, last, [*ends.values()])
        if left and more:
            raise LedgerError(
                f"the entries to remove from {address} are not the oldest of its journal"
            )
        if more or not (last or left):
            break
        if not behind:
            raise LedgerError(
                f"the entries to remove from {address} are all that its journal has; leave one at least"
            )
        if time.monotonic() > deadline:
            raise LedgerError(
                f"nothing was removed from the journal of {address}: the entries behind are still "
                "being committed, and readers would see none; try again"
            )
        time.sleep(_PAUSE)
    if last:
        reading.rows(_ALONE + _TRIM, *_alone(address), last, kept, last)


def forget(reading: Reading, address: Address, numbers: Collection[int]) -> None:
    """Remove these entries, if they were only kept. Raises LedgerError."""
    if numbers:
        _complete(reading, address)
        reading.rows(_ALONE + _FORGET, *_alone(address), [*numbers])


def _ends(reading: Reading, address: Address, upto: Mapping[str, int]) -> dict[int, int]:
    """By the number of the writer: that of its last entry to go. Raises LedgerError."""
    known = {name: (number, seq) for name, number, seq in reading.rows(_WRITERS)}
    ends: dict[int, int] = {}
    for name, end in upto.items():
        if name not in known:
            raise LedgerError(f"the journal of {address} has no writer {name!r:.80}")
        number, seq = known[name]
        if end > seq:
            raise LedgerError(
                f"entry {end} of writer {name} is not there; its last is {seq}: nothing was removed "
                f"from the journal of {address}"
            )
        ends[number] = (number << 32) + end
    return ends


def _complete(reading: Reading, address: Address) -> int:
    """The position up to which the journal is complete, if this role may shorten it at all."""
    ((end, may),) = reading.rows(_SETTLED)
    if not may:
        raise LedgerError(
            f"this role may not shorten the journal of {address}: GRANT DELETE ON "
            f"{address.namespace}.journal to it, or use one that has it (see docs/postgres.md)"
        )
    found: int = end
    return found


def _covered(
    reading: Reading, complete: int, ends: Mapping[int, int], keep: Collection[int]
) -> tuple[int, list[int], bool]:
    """
    The last position before which everything goes, what is kept of that, and whether an
    entry that stays comes next.
    """
    last, kept = 0, list[int]()
    while page := reading.rows(_PLACES, last, complete, PAGE):
        for position, number in page:
            if number > ends.get(number >> 32, -1):
                return last, kept, True
            last = position
            if number in keep:
                kept.append(number)
    return last, kept, False


def _alone(address: Address) -> tuple[str, int]:
    return f"{max(1, int(address.timeout * 900))}", lock_of(address.namespace, "trim")
