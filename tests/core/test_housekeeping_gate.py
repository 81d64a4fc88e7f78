"""A gate keeps house on its way: bounded, in both colours, and not if it is told so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluicegate import Gate, MemoryLedger, Permit, Proposal, Subject, Succeeded
from sluicegate.housekeeping import Keep
from sluicegate.replay import replay
from sluicegate.testing import FakeClock, counted_ids

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {"pay": {"cost": {"eur": 1}}},
    "limits": [{"budget": "eur", "limit": 9, "per": ["user"], "window": "hour"}],
}


def call(n: int) -> Proposal:
    """A payment by a user of its own."""
    return Proposal("pay", {"n": n}, subject=Subject(user=f"u{n}"), run="r", call_id=f"c{n}")


def spend(gate: Gate, clock: FakeClock, *, awaited: bool) -> None:
    """Five hundred payments, one a minute."""

    async def one_by_one() -> None:
        for n in range(500):
            permit = await gate.adecide(call(n))
            assert isinstance(permit, Permit)
            await gate.asettle(permit, Succeeded(n))
            clock.advance(60)

    if awaited:
        asyncio.run(one_by_one())
        return
    for n in range(500):
        permit = gate.decide(call(n))
        assert isinstance(permit, Permit)
        gate.settle(permit, Succeeded(n))
        clock.advance(60)


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize(
    ("housekeeping", "least", "most"),
    [(True, 500, 850), (Keep(calls=0), 60, 450), (False, 1002, 1002)],
)
def test_a_gate_keeps_house_on_its_way(
    housekeeping: bool | Keep, least: int, most: int, awaited: bool
) -> None:
    """What is over goes while calls are made, for as long as it is said; the journal follows from itself."""
    clock, ledger = FakeClock(), MemoryLedger()
    gate = Gate(POLICY, ledger, clock=clock, ids=counted_ids(), housekeeping=housekeeping)
    spend(gate, clock, awaited=awaited)
    assert least <= len(list(ledger.cells(""))) <= most
    assert replay(ledger.entries()).difference is None


def test_the_same_calls_are_swept_in_the_same_way() -> None:
    """Housekeeping is a matter of how many calls were made, so a journal is the same each time."""
    heads: list[tuple[int, str]] = []
    for _ in range(2):
        clock, ledger = FakeClock(), MemoryLedger()
        gate = Gate(POLICY, ledger, clock=clock, ids=counted_ids())
        spend(gate, clock, awaited=False)
        heads.append(ledger.head())
    assert heads[0] == heads[1]
