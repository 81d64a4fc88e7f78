"""Requests as a gate would make them, in a few words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sluicegate.claims import Claim, Hold, Once, Quota, Slot
from sluicegate.decision import Reason
from sluicegate.ledger.base import Answer, Claiming, Granted, Ledger, Noting, Settling

NOW = 1_790_000_000_000_000
SECOND = 1_000_000
LEASE = 60 * SECOND


def quota(limit: int, amount: int = 1, key: str = "quota") -> Quota:
    """A claim on a budget without a window."""
    return Quota(key, "limits[0]", "calls", amount, limit, None, "")


def slot(limit: int, wait: int = 0, key: str = "slot") -> Slot:
    """A claim on one of so many slots."""
    return Slot(key, "limits[1]", limit, wait, "")


def once(key: str = "once") -> Once:
    """A claim on a key that may succeed once."""
    return Once(key, "tools.t.once", "the key", None, False)


def text(**content: object) -> str:
    """A journal entry after its time."""
    return json.dumps(content, separators=(",", ":"), sort_keys=True).removeprefix("{")


def claiming(
    permit: str,
    *claims: Claim,
    now: int = NOW,
    lease: int = LEASE,
    binding: str = "b",
    patient: bool = False,
) -> Claiming:
    """A request for a permit."""
    return Claiming(permit, now, lease, binding, claims, Plain(permit), patient)


class Plain(NamedTuple):
    """The entries of a decision, in as few words as possible."""

    permit: str

    def permitted(self, permit: str, lease: int, approval: str | None) -> str:
        return text(kind="decision", permit=permit)

    def refused(self, reasons: Sequence[Reason], final: bool) -> str:
        return text(codes=[reason.code for reason in reasons], kind="decision")

    def deferred(self, request: str, expires: int, reasons: Sequence[Reason]) -> str:
        return text(kind="decision", request=request)

    def replayed(self, entry: int) -> str:
        return text(kind="decision", replayed=entry)


def settling(
    request: Claiming,
    granted: Answer,
    outcome: str = "succeeded",
    used: Mapping[str, int] | None = None,
    now: int | None = None,
) -> Settling:
    """The end of a permit that *request* was granted."""
    assert isinstance(granted, Granted), granted
    hold = Hold(request.permit, granted.at, granted.at + request.lease, request.binding)
    entry = text(kind="outcome", outcome=outcome, permit=request.permit)
    at = granted.at if now is None else now
    return Settling(hold, request.claims, at, outcome, used or {}, entry)  # type: ignore[arg-type]


def noting(now: int = NOW, mark: str | None = None) -> Noting:
    """An entry that claims nothing."""
    return Noting(now, text(kind="policy"), mark)


def granted(ledger: Ledger, permit: str, *claims: Claim, **more: Any) -> tuple[Claiming, Granted]:
    """Claim, and insist on a permit."""
    request = claiming(permit, *claims, **more)
    answer = ledger.perform(request)
    assert isinstance(answer, Granted), answer
    return request, answer


def state(ledger: Ledger) -> list[tuple[str, list[Any]]]:
    """All cells, as JSON would have them."""
    return [(key, list(cell)) for key, cell in ledger.cells("")]


def record(ledger: Ledger) -> list[dict[str, Any]]:
    """All entries of the journal, read."""
    return [entry.content for entry in ledger.entries()]
