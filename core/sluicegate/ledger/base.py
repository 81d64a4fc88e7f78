"""
What a ledger is, and what it is asked.

A ledger keeps cells (the state behind claims), the permits that are out, and the
journal. What a request means is written once, in `meaning.perform`: it runs
inside a ledger's transaction against that transaction's `Books`. A ledger only
says how books are opened, locked and made durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ..claims import Approval, Cell, Claim, Hold, Note, Standing
from ..decision import Reason
from ..journal import Entry

__all__ = [
    "Amended", "Amending", "Answer", "Books", "Claiming", "Deferred", "Granted", "Ledger", "Noted",
    "Noting", "Out", "Refused", "Rejected", "Replayed", "Request", "Settled", "Settling", "Wording",
]  # fmt: skip

# --- requests and answers ---------------------------------------------------------------------


class Wording(Protocol):
    """The rest of a decision's journal entry after its time, for each way in which it can end."""

    def permitted(self, permit: str, lease: int, approval: str | None, /) -> str: ...
    def refused(self, reasons: Sequence[Reason], final: bool, /) -> str: ...
    def deferred(self, request: str, expires: int, reasons: Sequence[Reason], /) -> str: ...
    def replayed(self, entry: int, /) -> str: ...


class Claiming(NamedTuple):
    """
    Take all *claims* or none, and record the decision either way.

    *now* and *lease* are in µs. A *patient* request that only lacks slots is answered
    without a record: the caller will ask again.

    *standing* is looked at and counted whatever else is decided. *reasons* are those for
    which the call is refused already; *final* says that they end the run. Where *asks* is
    not empty, or a claim says so, a person's *approval* is needed on top of all claims; of
    a call that is merely *watched* nobody is asked.
    """

    permit: str
    now: int
    lease: int
    binding: str
    claims: Sequence[Claim]
    wording: Wording
    patient: bool = False
    standing: Sequence[Standing] = ()
    reasons: Sequence[Reason] = ()
    final: bool = False
    approval: Approval | None = None
    asks: Sequence[Reason] = ()
    watched: bool = False


class Settling(NamedTuple):
    """
    End the permit of *hold*, which took *claims*, and write *notes* of what came of it.

    *entry* is the rest of the journal entry. With *reconciled* the outcome is that of a
    permit which is on record as unknown, and of no other.
    """

    hold: Hold
    claims: Sequence[Claim]
    now: int
    outcome: Literal["succeeded", "failed", "unknown"]
    used: Mapping[str, int]
    entry: str
    notes: Sequence[Note] = ()
    reconciled: bool = False


class Noting(NamedTuple):
    """
    Add an entry that claims nothing, and write *notes*; with a *mark*, only if nobody did
    so under that mark before.
    """

    now: int
    entry: str
    mark: str | None = None
    notes: Sequence[Note] = ()


class Amending(NamedTuple):
    """
    Change the cells under *keys* as a person says, and record it.

    *amend* is pure: from the cells and the time to the cells afterwards, or to why not.
    """

    now: int
    keys: tuple[str, ...]
    amend: Callable[[tuple[Cell, ...], int], Sequence[Cell] | str]
    entry: str


Request: TypeAlias = Claiming | Settling | Noting | Amending


class Granted(NamedTuple):
    """All claims are held since *at*; *entry* is the decision's number in the journal."""

    at: int
    entry: int


class Refused(NamedTuple):
    """No claim was taken. *wait* is for how long it makes sense to ask again, in µs; 0 if it does not."""

    at: int
    reasons: tuple[Reason, ...]
    wait: int
    final: bool = False


class Deferred(NamedTuple):
    """No claim was taken: a person has to say yes to *request* first, before *expires*."""

    at: int
    request: str
    expires: int
    reasons: tuple[Reason, ...]


class Replayed(NamedTuple):
    """The same call succeeded before; *outcome* is the body of that journal entry."""

    at: int
    outcome: str


class Settled(NamedTuple):
    """The permit is spent."""

    at: int
    entry: int


class Rejected(NamedTuple):
    """It cannot be done, and nothing has changed."""

    problem: str


class Noted(NamedTuple):
    """The entry is in the journal, now or since an earlier time."""

    at: int


class Amended(NamedTuple):
    """The cells are changed."""

    at: int
    entry: int


Answer: TypeAlias = Granted | Refused | Deferred | Replayed | Settled | Rejected | Noted | Amended


class Out(NamedTuple):
    """
    A permit that is out: until when, in µs (0: settled as unknown), and its decision's
    number in the journal.
    """

    permit: str
    expires: int
    entry: int


# --- the protocols ----------------------------------------------------------------------------


class Books(Protocol):
    """The state of a ledger within one transaction: read your own writes, all or nothing."""

    @property
    def floor(self) -> int:
        """The latest time that any transaction has seen, in µs: time never falls behind it."""
        ...

    def cell(self, key: str, /) -> Cell: ...
    def put(self, key: str, cell: Cell) -> None: ...
    @property
    def next(self) -> int:
        """The number that the next journal entry will have."""
        ...

    def permit(self, permit: str, /) -> tuple[int, int] | None:
        """When the permit's lease ends, in µs (0 for one settled as unknown), and its decision's entry."""
        ...

    def put_permit(self, permit: str, out: tuple[int, int] | None, /) -> None:
        """Note a permit that is out; None forgets it."""
        ...

    def append(self, at: int, rest: str) -> int:
        """Add the entry `{"at":<at>,<rest>` to the journal; its number, counted from 1."""
        ...

    def body(self, entry: int) -> str: ...


class Ledger(Protocol):
    """
    Keeps cells, permits and the journal; safe for threads, and for asyncio.

    Every method raises LedgerError if the ledger cannot be used, and then nothing
    has changed, or the change is undone before the claimed permit could be used.
    """

    @property
    def floor(self) -> int:
        """The latest time seen so far, as far as this process knows, in µs."""
        ...

    def perform(self, request: Request) -> Answer:
        """Carry out *request* in one transaction, and return when it is durable."""
        ...

    async def aperform(self, request: Request) -> Answer:
        """The same without blocking the event loop; a cancelled claim holds nothing afterwards."""
        ...

    def cell(self, key: str) -> Cell:
        """One cell, as it is now."""
        ...

    def look(self, keys: Sequence[str]) -> Sequence[Cell]:
        """Several cells, in the order of their keys."""
        ...

    def out(self) -> Iterable[Out]:
        """All permits that are out."""
        ...

    def cells(self, prefix: str) -> Iterable[tuple[str, Sequence[Any]]]:
        """All cells whose key begins with *prefix*, by key."""
        ...

    def entries(self, after: int = 0) -> Iterable[Entry]:
        """The journal in order, beginning after the entry with the number *after*."""
        ...

    def body(self, entry: int) -> str:
        """The body of the journal entry with this number."""
        ...

    def head(self) -> tuple[int, str]:
        """Place in the journal and hash of its last entry, as the ledger itself keeps them."""
        ...

    def heads(self) -> Mapping[str, tuple[int, str]]:
        """By writer: number and hash of its last entry, as the ledger itself keeps them."""
        ...

    def close(self) -> None: ...
