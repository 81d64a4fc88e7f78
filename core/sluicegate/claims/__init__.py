"""
Claims on shared state, as pure arithmetic.

A claim is a frozen value with two functions:

    take(cell, hold)            → the cell afterwards, None if it stays as it is, a refusal, or an earlier result
    settle(cell, hold, ending)  → the cell afterwards

A cell is what a ledger keeps under the claim's `key`: a tuple of JSON values, or
None where there is nothing. A ledger loads all cells of a batch under one lock,
takes every claim, and writes all of them or none. Nothing else changes state, so
limits are exact under any interleaving. These laws hold for each kind:

- a refusal changes nothing;
- after a failure, what was taken is given back exactly (a rate counts attempts, a breaker
  failures, labels what was shown: these stay);
- after an unknown outcome, nothing is given back;
- a lease that has expired counts as an unknown outcome (a closed breaker does not see it).

What must count refused proposals too is `Standing`, and what is remembered of a
run when a call ends is a `Note`.
"""

from __future__ import annotations

from typing import TypeAlias

from .approval import Approval, Asked
from .base import SECOND, Cell, Ending, Hold, Refusal, Replay, Taken
from .breaker import Breaker
from .keys import ENDINGS, ONCE, Once, Seen, Unsettled
from .marks import Barrier, Came, Done, Labels, Needs, Note, Shown, Traced
from .quota import Quota
from .rate import Rate
from .slot import Slot
from .standing import HALTS, Halts, Narrowing, Repeat, Run, Standing, Turns

__all__ = [
    "ENDINGS", "HALTS", "ONCE", "SECOND", "Approval", "Asked", "Barrier", "Breaker", "Came", "Cell",
    "Claim", "Done", "Ending", "Halts", "Hold", "Labels", "Narrowing", "Needs", "Note", "Once",
    "Quota", "Rate", "Refusal", "Repeat", "Replay", "Run", "Seen", "Shown", "Slot", "Standing",
    "Taken", "Traced", "Turns", "Unsettled",
]  # fmt: skip

Claim: TypeAlias = (
    Quota
    | Rate
    | Slot
    | Once
    | Seen
    | Unsettled
    | Breaker
    | Needs
    | Labels
    | Barrier
    | Traced
    | Approval
)
"""Traced looks at several cells (`trace`), and Approval is asked for last: its `take` is told apart."""
