"""
Going through a journal again, entry by entry, with ledger books of one's own.

What a replay and a backtest have in common: cells in memory, the permits that are out,
and the requests that recorded outcomes, notes and people's deeds stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .claims import Approval, Cell, Claim, Hold, Note, Once, Seen
from .decision import Permit, Reason
from .errors import LedgerError
from .evaluate import Allowed
from .journal import Entry, archived
from .ledger.base import Claiming, Settling
from .outcome import Succeeded
from .past import NotKept, Past
from .proposal import Proposal
from .requests import noted

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy

__all__ = [
    "Made", "Numbers", "Pages", "Reader", "Skipped", "Skips", "as_recorded", "ended",
    "made_of", "notes_of", "numbered", "spoken", "stand_in", "word",
]  # fmt: skip


_WRITER: Final = 32
"""Bits of an entry's number that count within its writer; the writer's number is above them."""

_SEQ: Final = (1 << _WRITER) - 1


class Skipped(NamedTuple):
    """Why so many *decisions* could not be derived, the first of them at journal entry *first*."""

    why: str
    decisions: int
    first: int


class Skips:
    """Decisions that could not be derived, counted by why."""

    def __init__(self) -> None:
        self._found: dict[str, list[int]] = {}

    def add(self, why: str, entry: int) -> None:
        """One more, at journal entry *entry*."""
        self._found.setdefault(why, [0, entry])[0] += 1

    def all(self) -> tuple[Skipped, ...]:
        """Each reason once, in the order in which they came up."""
        return tuple(Skipped(why, count, first) for why, (count, first) in self._found.items())


class Reader(Past):
    """A past that is asked several things about one entry, and reads its proposal once."""

    def __init__(self) -> None:
        super().__init__()
        self._entry: Mapping[str, Any] | None = None
        self._proposal: Proposal | None = None

    def proposal(self, entry: Mapping[str, Any]) -> Proposal:
        """The proposal that was decided about. Raises NotKept."""
        if self._proposal is None or entry is not self._entry:
            self._entry, self._proposal = entry, super().proposal(entry)
        return self._proposal


class Pages:
    """
    Books in memory that keep what is still alive, and no journal.

    *number* is that of the journal entry at hand and *text* what it would say. The floor
    is always 0: time has been told already. *bodies* are of entries that may be shown again.
    """

    def __init__(self) -> None:
        self.floor = 0
        self.cells: dict[str, Sequence[Any]] = {}
        self.permits: dict[str, tuple[int, int]] = {}
        self.bodies: dict[int, str] = {}
        self.number = 0
        self.text = ""
        self.cell = self.cells.get
        self.permit = self.permits.get

    def put(self, key: str, cell: Cell) -> None:
        """Change one cell."""
        if cell is None:
            self.cells.pop(key, None)
        else:
            self.cells[key] = cell

    def put_permit(self, permit: str, out: tuple[int, int] | None, /) -> None:
        """Note a permit that is out, or forget it."""
        if out is None:
            self.permits.pop(permit, None)
        else:
            self.permits[permit] = out

    @property
    def next(self) -> int:
        """The number of the entry at hand."""
        return self.number

    def append(self, at: int, rest: str) -> int:
        """Keep the entry's text, until the next one."""
        self.text = f'{{"at":{at},{rest}'
        return self.number

    def body(self, entry: int) -> str:
        """An earlier entry, if it was kept; otherwise an empty one."""
        return self.bodies.get(entry, "{}")


class Made(NamedTuple):
    """A permit that is out: its decision's entry, what it holds, and by which policy."""

    entry: Mapping[str, Any]
    policy: CompiledPolicy
    hold: Hold
    claims: tuple[Claim, ...]

    @property
    def replayable(self) -> bool:
        """Whether a later call may be answered with this one's outcome."""
        return any(type(claim) is Once or type(claim) is Seen for claim in self.claims)


def numbered(entries: Iterable[Entry]) -> Iterator[tuple[int, Entry]]:
    """
    The entries with their numbers: those of the only writer, or the writer's place in the order
    in which they come up, × 2³², and the number there.

    Raises LedgerError if an entry is missing, as far as that shows.
    """
    known: dict[str, tuple[int, int]] = {}
    for entry in entries:
        place, last = known.get(entry.writer, (len(known), 0))
        if entry.seq != last + 1:
            raise _cut(entry.writer, last + 1, entry.seq)
        known[entry.writer] = (place, entry.seq)
        for writer, (seq, _) in archived(entry).items():
            if writer not in known:
                raise _cut(writer, 1, seq + 1)
        yield (place << _WRITER) + entry.seq, entry


def _cut(writer: str, missing: int, seq: int) -> LedgerError:
    if missing == 1:
        return LedgerError(
            f"the journal of {writer!r} begins with entry {seq}: what was used and held before is in the "
            "entries before it; give the whole journal, with --archive where they were archived"
        )
    return LedgerError(
        f"entry {missing} of {writer!r} is missing, and {seq} comes in its place: it was archived while the "
        "journal was read, which takes another try, or see `sluicegate journal verify`"
    )


def spoken(number: int) -> str:
    """The number of an entry for people."""
    writer, seq = number >> _WRITER, number & _SEQ
    return f"{seq} of writer {writer + 1}" if writer else str(seq)


class Numbers:
    """
    How a ledger numbers its entries. With several writers each has a number of its own, which
    shows for the first time where an entry refers to another one.
    """

    def __init__(self) -> None:
        self._writers: dict[int, int] = {}

    def told(self, number: int, recorded: Any) -> int:
        """The ledger's own number of entry *number*, if it can be the *recorded* one."""
        writer, seq = number >> _WRITER, number & _SEQ
        fits = isinstance(recorded, int) and recorded & _SEQ == seq
        if (
            fits
            and writer not in self._writers
            and recorded >> _WRITER not in self._writers.values()
        ):
            self._writers[writer] = recorded >> _WRITER
        return (self._writers.get(writer, writer) << _WRITER) + seq


def word(entry: Mapping[str, Any]) -> str:
    """The decision in an entry: permit, deny, defer or recorded, also where it was only observed."""
    return str(entry.get("would") or entry["decision"])


def made_of(entry: Mapping[str, Any], policy: CompiledPolicy, request: Claiming) -> Made:
    """What a granted *request* has made."""
    at = request.now
    hold = Hold(request.permit, at, at + request.lease, request.binding)
    approval = () if request.approval is None else (request.approval,)
    return Made(entry, policy, hold, (*request.claims, *approval))


def ended(
    made: Made, entry: Mapping[str, Any], used: Mapping[str, int], notes: Sequence[Note]
) -> Settling:
    """The request that the outcome in *entry* stands for."""
    return Settling(
        made.hold, made.claims, entry["at"], entry["outcome"], used, "}", notes, "by" in entry
    )


def notes_of(past: Past, made: Made, result: object) -> tuple[Note, ...]:
    """What the run remembers of a call that has succeeded with *result*."""
    entry, policy = made.entry, made.policy
    rule = policy.rule(entry["proposal"]["tool"])
    if rule is None or rule.notes is None or "args_digest" in entry["proposal"]:
        return ()
    verdict = past.verdict(entry, policy)
    if type(verdict) is not Allowed:
        raise NotKept(f"permit {made.hold.permit}: its policy does not permit the call")
    permit = Permit(
        id=made.hold.permit,
        tool=rule.name,
        args=verdict.args,
        at=made.hold.at,
        expires_at=made.hold.expires,
        claims=(),
        revision=policy.revision,
        binding=made.hold.binding,
        costs=verdict.costs,
        proposal=past.proposal(entry),
        rule=rule,
    )
    return noted(permit, Succeeded(result))


# --- decisions that are taken over as they were recorded ------------------------------------------


class _Silent:
    """The wording of what is not compared."""

    def permitted(self, permit: str, lease: int, approval: str | None, /) -> str:
        return "}"

    def refused(self, reasons: Sequence[Reason], final: bool, /) -> str:
        return "}"

    def deferred(self, request: str, expires: int, reasons: Sequence[Reason], /) -> str:
        return "}"

    def replayed(self, entry: int, /) -> str:
        return "}"


_SILENT: Final = _Silent()
_TAKEN_OVER: Final = Reason("internal_error", "replay", "taken over as it was recorded")


def stand_in(entry: Mapping[str, Any]) -> Proposal:
    """
    A proposal in the place of one whose arguments were not kept: different where they were
    different, so that repetitions are counted all the same.
    """
    said = dict(entry["proposal"])
    said["args"] = {"args_digest": said.pop("args_digest")}
    return Proposal.restored({**said, "schema": None}, None, None)


def as_recorded(
    entry: Mapping[str, Any],
    policy: CompiledPolicy,
    proposal: Proposal,
    claims: Sequence[Claim],
) -> Claiming:
    """A request that can only be answered as it was, so that what comes later can be derived."""
    standing, _ = policy.standing(proposal)
    approval = next((claim for claim in claims if type(claim) is Approval), None)
    others = tuple(claim for claim in claims if type(claim) is not Approval)
    told = tuple(
        Reason(reason["code"], reason["rule"], reason["message"], reason["retry"])
        for reason in entry.get("reasons", ())
    ) or (_TAKEN_OVER,)
    at, decision = entry["at"], word(entry)
    watched = entry["decision"] == "observed"
    request = Claiming("", at, 0, proposal.binding, (), _SILENT, standing=standing, watched=watched)
    if decision == "permit":
        asks = told if "request" in entry else ()
        return request._replace(
            permit=entry["permit"],
            lease=entry["lease"],
            claims=others,
            approval=approval,
            asks=asks,
        )
    if decision == "defer" and approval is not None:
        return request._replace(approval=approval._replace(request=entry["request"]), asks=told)
    return request._replace(reasons=told)
