"""A ledger that has lived, to be copied to another one, and all that it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from sluicegate import Gate, Permit, Proposal, Recorded, Subject, Succeeded, Unknown
from sluicegate.ledger import Ledger
from sluicegate.ledger.holdings import Holdings, Restorable
from sluicegate.ledger.trimming import Trimmable
from sluicegate.testing import counted_ids

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"pay": {"once": {"key": "pay:{n}"}, "cost": {"eur": 7}}},
    "limits": [{"budget": "eur", "limit": 700, "per": ["tenant"]}],
}


def call(n: object) -> Proposal:
    """A payment; its key may hold anything."""
    return Proposal("pay", {"n": f"\0{n}ü"}, subject=Subject(tenant='a"\0'), run="r")


def lived(ledger: Ledger, prefix: str = "a") -> Ledger:
    """A ledger with payments done, unknown and under way, and one that was shown again."""
    gate = Gate(POLICY, ledger, ids=counted_ids(f"{prefix}-"))
    for n, outcome in enumerate((Succeeded({"n": 0}), Unknown("lost"), None)):
        permit = gate.decide(call(f"{prefix}{n}"))
        assert isinstance(permit, Permit)
        if outcome is not None:
            gate.settle(permit, outcome)
    assert isinstance(gate.decide(call(f"{prefix}0")), Recorded)
    return ledger


def in_json(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """The cells of a ledger; one in memory has tuples in them."""
    return ((key, json.dumps(cell)) for key, cell in ledger.cells(""))


class Server(Ledger, Restorable, Trimmable, Protocol):
    """A ledger that can be shortened and copied."""


def holdings(ledger: Server) -> Holdings:
    """All that a ledger has."""
    return Holdings(
        writers=ledger.writers(),
        heads=ledger.heads(),
        floor=ledger.floor,
        entries=ledger.entries(),
        kept=ledger.kept(),
        cells=ledger.cells(""),
        permits=ledger.out(),
    )
