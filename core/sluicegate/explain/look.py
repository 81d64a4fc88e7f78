"""What a request to the ledger finds, at the moment before it is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..claims import Cell, Claim, Hold, Labels, Refusal, Standing, Taken, Traced
from ..ledger.base import Claiming
from ..ledger.overlay import Overlay

__all__ = ["Look", "Looked", "look"]


class Looked(NamedTuple):
    """One claim with what it finds, and what it would answer."""

    claim: Claim
    cells: Sequence[Cell]
    answer: Taken

    @property
    def rule(self) -> str | None:
        """The rule that it comes from; labels are no rule that could refuse."""
        return None if isinstance(self.claim, Labels) else self.claim.rule


class Look(NamedTuple):
    """A request to the ledger at the moment before it is carried out."""

    request: Claiming
    at: int
    standing: tuple[tuple[Standing, Cell, Refusal | None], ...]
    claims: tuple[Looked, ...]
    asked: Cell


def look(request: Claiming, books: Overlay) -> Look:
    """What *request* will find in *books*; nothing is changed."""
    at = max(books.floor, request.now)
    hold = Hold(request.permit, at, at + request.lease, request.binding)
    standing = tuple(
        (each, cell, each.meet(cell, at)[1])
        for each in request.standing
        for cell in (books.cell(each.key),)
    )
    taken: dict[str, Cell] = {}
    claims: list[Looked] = []
    for claim in request.claims:
        if isinstance(claim, Traced):
            cells: list[Cell] = [books.cell(key) for key in claim.keys]
            claims.append(Looked(claim, cells, claim.trace(cells)))
            continue
        key = claim.key
        cell = taken[key] if key in taken else books.cell(key)
        answer = claim.take(cell, hold)
        if type(answer) is tuple:
            taken[key] = answer
        claims.append(Looked(claim, (cell,), answer))
    asked = None if request.approval is None else books.cell(request.approval.key)
    return Look(request, at, standing, tuple(claims), asked)
