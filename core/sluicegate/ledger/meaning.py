"""What each request to a ledger means: written once, for all ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..claims import (
    Asked,
    Cell,
    Claim,
    Ending,
    Hold,
    Note,
    Refusal,
    Repeat,
    Replay,
    Run,
    Taken,
    Traced,
    Turns,
)
from ..claims.base import build
from ..claims.standing import TASK
from ..decision import Reason
from ..errors import LedgerError
from .base import (
    Amended,
    Amending,
    Answer,
    Books,
    Claiming,
    Deferred,
    Granted,
    Noted,
    Noting,
    Refused,
    Rejected,
    Replayed,
    Request,
    Settled,
    Settling,
)

__all__ = ["keys", "perform"]

_CELL: Final = 4
"""Where the cell of an approval keeps the journal entry of its request."""


def perform(request: Request, books: Books) -> Answer:
    """Carry out *request* against *books*. Either all of it happens or nothing does."""
    at = max(books.floor, request.now)
    if type(request) is Claiming:
        return _claim(request, books, at)
    if type(request) is Settling:
        return _settle(request, books, at)
    if type(request) is Amending:
        return _amend(request, books, at)
    assert type(request) is Noting  # noqa: S101 - for the type checker
    if request.mark is not None and books.cell(request.mark) is not None:
        return Noted(at)
    notes = _written(request.notes, books, at, books.next)
    entry = books.append(at, request.entry)
    if request.mark is not None:
        notes[request.mark] = (entry,)
    _put(books, notes)
    return Noted(at)


def keys(request: Request) -> list[str]:
    """All keys of cells that *request* may look at or change, for ledgers that have to lock them."""
    found: list[str] = []
    if type(request) is Claiming:
        found += [standing.key for standing in request.standing]
        found += _keys_of(request.claims)
        found += [request.approval.key] if request.approval is not None else []
    elif type(request) is Settling:
        found += [*_keys_of(request.claims), *(note.key for note in request.notes)]
    elif type(request) is Amending:
        found += request.keys
    elif type(request) is Noting:
        found += [note.key for note in request.notes]
        found += [request.mark] if request.mark is not None else []
    return sorted(set(found))


def _keys_of(claims: Sequence[Claim]) -> list[str]:
    return [
        key
        for claim in claims
        for key in (claim.keys if isinstance(claim, Traced) else (claim.key,))
    ]


def _put(books: Books, cells: dict[str, Cell]) -> None:
    for key, cell in cells.items():
        books.put(key, cell)


# --- claiming ---------------------------------------------------------------------------------


def _claim(request: Claiming, books: Books, at: int) -> Answer:
    if books.permit(request.permit) is not None:
        raise LedgerError(f"the permit id {request.permit} is out already; ids must be unique")
    hold = build(Hold, (request.permit, at, at + request.lease, request.binding))
    changed: dict[str, Cell] = {}
    refusals = _meet(request, books, at, changed) if request.standing else []
    reasons = [refusal.reason for refusal in refusals] if refusals else []
    reasons += request.reasons
    taken: dict[str, Cell] = {}
    for claim in request.claims:
        key = ""
        if isinstance(claim, Traced):
            result: Taken = claim.trace([books.cell(key) for key in claim.keys])
        else:
            key = claim.key
            result = claim.take(taken[key] if key in taken else books.cell(key), hold)
        if type(result) is tuple:
            taken[key] = result
        elif type(result) is Refusal:
            refusals.append(result)
            reasons.append(result.reason)
        elif type(result) is Replay:
            if not request.reasons and all(refusal.ask for refusal in refusals):
                _put(books, changed)
                books.append(at, request.wording.replayed(result.entry))
                return Replayed(at, books.body(result.entry))
        elif result is not None:
            raise LedgerError(f"a {type(claim).__name__} among the claims gave {result!r:.80}")
    if request.reasons or (refusals and not all(refusal.ask for refusal in refusals)):
        return _refuse(request, books, at, refusals, reasons, changed)
    approved = None
    if reasons or request.asks:
        answer = _ask(request, books, hold, (*request.asks, *reasons), changed)
        if not isinstance(answer, str):
            return answer
        approved = answer
    entry = books.append(at, request.wording.permitted(request.permit, request.lease, approved))
    books.put_permit(request.permit, (hold.expires, entry))
    _put(books, changed)
    _put(books, taken)
    return build(Granted, (at, entry))


def _meet(request: Claiming, books: Books, at: int, changed: dict[str, Cell]) -> list[Refusal]:
    """Look at what stands, whatever is decided; its cells go into *changed*."""
    refusals: list[Refusal] = []
    approval = request.approval
    asked_for = approval is not None and approval.granted(books.cell(approval.key), at)
    ended = request.reasons[0].message if request.final else None
    for standing in request.standing:
        before = books.cell(standing.key)
        after, refusal = standing.meet(before, at)
        if after is not before:
            changed[standing.key] = after
        if refusal is None:
            continue
        if type(standing) is Repeat or type(standing) is Turns:
            if asked_for:
                continue  # a person has said yes to this very call
            if refusal.final:
                ended = refusal.reason.message
        if refusal.reason.rule == TASK and any(r.reason.rule == TASK for r in refusals):
            continue  # the runs around were narrowed by the same list
        refusals.append(refusal)
    if ended is not None:
        for run in request.standing:
            if type(run) is Run and run.own:
                known = changed[run.key] if run.key in changed else books.cell(run.key)
                if known is None or known[2] is None:  # the first reason is the one that stays
                    changed[run.key] = run.halt(known, at, ended)
    return refusals


def _refuse(
    request: Claiming,
    books: Books,
    at: int,
    refusals: list[Refusal],
    reasons: Sequence[Reason],
    changed: dict[str, Cell],
) -> Refused:
    wait = 0
    if not request.reasons:
        wait = min(refusal.wait for refusal in refusals if not refusal.ask)
    final = request.final or any(refusal.final for refusal in refusals)
    if not (wait and request.patient):
        books.append(at, request.wording.refused(reasons, final))
        _put(books, changed)
    return Refused(at, tuple(reasons), wait, final)


def _ask(
    request: Claiming,
    books: Books,
    hold: Hold,
    reasons: tuple[Reason, ...],
    changed: dict[str, Cell],
) -> Refused | Deferred | str:
    """The name of the request that a person has said yes to and that is spent now, or the answer."""
    approval = request.approval
    assert approval is not None  # noqa: S101 - who lets claims ask gives them somebody to ask
    at = hold.at
    answer = approval.take(books.cell(approval.key), hold)
    if type(answer) is Refusal:
        others = [reason for reason in reasons if reason.code != "approval_required"]
        return _refuse(request, books, at, [answer], (answer.reason, *others), changed)
    if type(answer) is Asked:
        if answer.lapsed is not None:
            message = f"request {answer.lapsed} has expired without being used; a new one was made"
            reasons = (Reason("approval_expired", approval.rule, message, "approval"), *reasons)
        text = request.wording.deferred(answer.request, answer.expires, reasons)
        entry = books.append(at, text)
        _put(books, changed)
        if answer.new and not request.watched:
            cell = answer.cell
            books.put(approval.key, (*cell[:_CELL], entry, *cell[_CELL + 1 :]))
        return Deferred(at, answer.request, answer.expires, reasons)
    assert not isinstance(answer, (Refusal, Asked))  # noqa: S101 - it is the cell afterwards
    changed[approval.key] = answer
    return str(answer[1])


# --- settling and the rest ----------------------------------------------------------------------


def _settle(request: Settling, books: Books, at: int) -> Answer:
    hold = request.hold
    out = books.permit(hold.permit)
    expires = None if out is None else out[0]
    problem = _unfit(request, expires, at)
    if problem is not None:
        return Rejected(f"permit {hold.permit} {problem}")
    entry = books.next
    ending = build(Ending, (request.outcome, request.used, at, entry, expires == 0))
    changed: dict[str, Cell] = {}
    for claim in request.claims:
        if isinstance(claim, Traced):
            continue  # it has only looked
        key = claim.key
        before = changed[key] if key in changed else books.cell(key)
        after = claim.settle(before, hold, ending)
        if after is not before:
            changed[key] = after
    if request.notes:
        changed.update(_written(request.notes, books, at, entry, changed))
    books.append(at, request.entry)
    _put(books, changed)
    books.put_permit(hold.permit, (0, out[1]) if out and request.outcome == "unknown" else None)
    return build(Settled, (at, entry))


def _unfit(request: Settling, expires: int | None, at: int) -> str | None:
    """Why the permit cannot be settled in this way."""
    if expires is None:
        return (
            "is not out: it was settled before, or another ledger gave it; "
            "each permit is settled once, where it was decided"
        )
    if request.reconciled:
        if at < expires:
            return f"is still held, for {(expires - at) / 1e6:.0f} s at most; it is no unknown outcome yet"
        return None
    if expires == 0:
        return "was settled before, as unknown; a person has to reconcile it"
    if at >= expires:
        return (
            f"expired {(at - expires) / 1e6:.3f} s ago, so its outcome is on record as unknown; "
            "give the tool a longer `lease` in the policy"
        )
    return None


def _written(
    notes: Sequence[Note], books: Books, at: int, entry: int, known: dict[str, Cell] | None = None
) -> dict[str, Cell]:
    """The cells that *notes* change."""
    changed: dict[str, Cell] = {}
    for note in notes:
        key = note.key
        if key in changed:
            before = changed[key]
        else:
            before = known[key] if known and key in known else books.cell(key)
        changed[key] = note.write(before, at, entry)
    return changed


def _amend(request: Amending, books: Books, at: int) -> Answer:
    before = tuple(books.cell(key) for key in request.keys)
    after = request.amend(before, at)
    if isinstance(after, str):
        return Rejected(after)
    entry = books.append(at, request.entry)
    _put(books, dict(zip(request.keys, after, strict=True)))
    return Amended(at, entry)
