"""
What a ledger is, and what a request to it means.

A ledger keeps cells (the state behind claims), the permits that are out, and the
journal. `perform` below is the meaning of every request, written once: it runs
inside a ledger's transaction against that transaction's `Books`. A ledger only
says how books are opened, locked and made durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ..claims import Cell, Claim, Ending, Hold, Refusal, Replay
from ..decision import Reason
from ..errors import LedgerError
from ..journal import Entry

__all__ = [
    "Answer", "Books", "Claiming", "Granted", "Ledger", "Noted", "Noting", "Refused", "Rejected",
    "Replayed", "Request", "Settled", "Settling", "perform",
]  # fmt: skip

# --- requests and answers ---------------------------------------------------------------------


class Claiming(NamedTuple):
    """
    Take all *claims* or none, and record the decision either way.

    *now* and *lease* are in µs. The three texts are the rest of the journal entry
    after its time, for each way in which this can end. A *patient* request that only
    lacks slots is answered without a record: the caller will ask again.
    """

    permit: str
    now: int
    lease: int
    binding: str
    claims: Sequence[Claim]
    granted: str
    refused: Callable[[Sequence[Reason]], str]
    replayed: Callable[[int], str]
    patient: bool = False


class Settling(NamedTuple):
    """End the permit of *hold*, which took *claims*. *entry* is the rest of the journal entry."""

    hold: Hold
    claims: Sequence[Claim]
    now: int
    outcome: Literal["succeeded", "failed", "unknown"]
    used: Mapping[str, int]
    entry: str


class Noting(NamedTuple):
    """Add an entry that claims nothing; with a *mark*, only if nobody did so under that mark before."""

    now: int
    entry: str
    mark: str | None = None


Request: TypeAlias = Claiming | Settling | Noting


class Granted(NamedTuple):
    """All claims are held since *at*; *entry* is the decision's number in the journal."""

    at: int
    entry: int


class Refused(NamedTuple):
    """No claim was taken. *wait* is for how long it makes sense to ask again, in µs; 0 if it does not."""

    at: int
    reasons: tuple[Reason, ...]
    wait: int


class Replayed(NamedTuple):
    """The same call succeeded before; *outcome* is the body of that journal entry."""

    at: int
    outcome: str


class Settled(NamedTuple):
    """The permit is spent."""

    at: int
    entry: int


class Rejected(NamedTuple):
    """The permit cannot be settled, and nothing has changed."""

    problem: str


class Noted(NamedTuple):
    """The entry is in the journal, now or since an earlier time."""

    at: int


Answer: TypeAlias = Granted | Refused | Replayed | Settled | Rejected | Noted


# --- the protocols ----------------------------------------------------------------------------


class Books(Protocol):
    """The state of a ledger within one transaction: read your own writes, all or nothing."""

    @property
    def floor(self) -> int:
        """The latest time that any transaction has seen, in µs: time never falls behind it."""
        ...

    def cell(self, key: str, /) -> Cell: ...
    def put(self, key: str, cell: Cell) -> None: ...
    def permit(self, permit: str, /) -> int | None:
        """When the permit's lease ends, in µs; 0 for one settled as unknown; None if it is not out."""
        ...

    def put_permit(self, permit: str, expires: int | None, entry: int) -> None:
        """Note a permit that is out (0: outcome unknown), with its decision's entry; None forgets it."""
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

    def cells(self, prefix: str) -> Iterable[tuple[str, Sequence[Any]]]:
        """All cells whose key begins with *prefix*, by key."""
        ...

    def entries(self, after: int = 0) -> Iterable[Entry]:
        """The journal in order, beginning after the entry with the number *after*."""
        ...

    def head(self) -> tuple[int, str]:
        """Number and hash of the journal's last entry, as the ledger itself keeps them."""
        ...

    def close(self) -> None: ...


# --- the meaning ------------------------------------------------------------------------------


def perform(request: Request, books: Books) -> Answer:
    """Carry out *request* against *books*. Either all of it happens or nothing does."""
    at = max(books.floor, request.now)
    if type(request) is Claiming:
        return _claim(request, books, at)
    if type(request) is Settling:
        return _settle(request, books, at)
    assert type(request) is Noting  # noqa: S101 - for the type checker
    if request.mark is not None and books.cell(request.mark) is not None:
        return Noted(at)
    entry = books.append(at, request.entry)
    if request.mark is not None:
        books.put(request.mark, (entry,))
    return Noted(at)


def _claim(request: Claiming, books: Books, at: int) -> Answer:
    if books.permit(request.permit) is not None:
        raise LedgerError(f"the permit id {request.permit} is out already; ids must be unique")
    hold = Hold(request.permit, at, at + request.lease, request.binding)
    taken: dict[str, Cell] = {}
    refusals: list[Refusal] = []
    for claim in request.claims:
        key = claim.key
        result = claim.take(taken[key] if key in taken else books.cell(key), hold)
        if type(result) is tuple:
            taken[key] = result
        elif type(result) is Refusal:
            refusals.append(result)
        else:
            assert type(result) is Replay  # noqa: S101 - a claim gives one of the three
            books.append(at, request.replayed(result.entry))
            return Replayed(at, books.body(result.entry))
    if refusals:
        return _refuse(request, books, at, refusals)
    entry = books.append(at, request.granted)
    books.put_permit(request.permit, hold.expires, entry)
    for key, cell in taken.items():
        books.put(key, cell)
    return Granted(at, entry)


def _refuse(request: Claiming, books: Books, at: int, refusals: list[Refusal]) -> Refused:
    reasons = tuple(refusal.reason for refusal in refusals)
    wait = min(refusal.wait for refusal in refusals)
    if not (wait and request.patient):
        books.append(at, request.refused(reasons))
    return Refused(at, reasons, wait)


def _settle(request: Settling, books: Books, at: int) -> Answer:
    hold = request.hold
    expires = books.permit(hold.permit)
    if expires is None:
        return Rejected(
            f"permit {hold.permit} is not out: it was settled before, or another ledger gave it; "
            "each permit is settled once, where it was decided"
        )
    if expires == 0:
        return Rejected(
            f"permit {hold.permit} was settled before, as unknown; a person has to reconcile it"
        )
    if at >= expires:
        return Rejected(
            f"permit {hold.permit} expired {(at - expires) / 1e6:.3f} s ago, so its outcome is on record as unknown; "
            "give the tool a longer `lease` in the policy"
        )
    entry = books.append(at, request.entry)
    ending = Ending(request.outcome, request.used, at, entry)
    for claim in request.claims:
        before = books.cell(claim.key)
        after = claim.settle(before, hold, ending)
        if after is not before:
            books.put(claim.key, after)
    books.put_permit(hold.permit, 0 if request.outcome == "unknown" else None, entry)
    return Settled(at, entry)
