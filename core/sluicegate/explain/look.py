"""What a request to the ledger finds, at the moment before it is carried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..claims import (
    Cell,
    Claim,
    Hold,
    Labels,
    Refusal,
    Repeat,
    Replay,
    Standing,
    Taken,
    Traced,
    Turns,
)
from ..ledger.base import Claiming
from ..ledger.overlay import Overlay

__all__ = ["Look", "Looked", "Stood", "look"]


class Looked(NamedTuple):
    """One claim with what it finds, and what it would answer."""

    claim: Claim
    cells: Sequence[Cell]
    answer: Taken

    @property
    def rule(self) -> str | None:
        """The rule that it comes from; labels are no rule that could refuse."""
        return None if isinstance(self.claim, Labels) else self.claim.rule


class Stood(NamedTuple):
    """What stands for every call: its cell, and its no, unless a person has said yes to this very call."""

    standing: Standing
    cell: Cell
    refusal: Refusal | None
    agreed: bool = False


class Look(NamedTuple):
    """A request to the ledger at the moment before it is carried out."""

    request: Claiming
    at: int
    standing: tuple[Stood, ...]
    claims: tuple[Looked, ...]
    """As far as they are looked at: an earlier result ends it, if nothing spoke against the call."""
    asked: Cell


def look(request: Claiming, books: Overlay) -> Look:
    """What *request* will find in *books*; nothing is changed."""
    at = max(books.floor, request.now)
    approval = request.approval
    asked = None if approval is None else books.cell(approval.key)
    agreed = approval is not None and approval.granted(asked, at)
    standing = tuple(_stood(each, books.cell(each.key), at, agreed) for each in request.standing)
    against = bool(request.reasons) or any(each.refusal is not None for each in standing)
    claims = tuple(_claims(request, books, at, against))
    return Look(request, at, standing, claims, asked)


def _stood(standing: Standing, cell: Cell, at: int, agreed: bool) -> Stood:
    refusal = standing.meet(cell, at)[1]
    if refusal is not None and agreed and isinstance(standing, (Repeat, Turns)):
        return Stood(standing, cell, None, agreed=True)
    return Stood(standing, cell, refusal)


def _claims(request: Claiming, books: Overlay, at: int, against: bool) -> Iterator[Looked]:
    hold = Hold(request.permit, at, at + request.lease, request.binding)
    taken: dict[str, Cell] = {}
    for claim in request.claims:
        cells: list[Cell]
        if isinstance(claim, Traced):
            cells = [books.cell(key) for key in claim.keys]
            answer: Taken = claim.trace(cells)
        else:
            key = claim.key
            cells = [taken[key] if key in taken else books.cell(key)]
            answer = claim.take(cells[0], hold)
            if type(answer) is tuple:
                taken[key] = answer
        yield Looked(claim, cells, answer)
        against = against or (isinstance(answer, Refusal) and not answer.ask)
        if isinstance(answer, Replay) and not against:
            return
