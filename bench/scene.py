"""What is measured: one tool with schema, budget, rate, slot, key, repetitions and call id."""

from __future__ import annotations

from sluicegate import Gate, Permit, Proposal, Schema, Subject, Succeeded

POLICY = {
    "version": 1,
    "tools": {
        "refund": {
            "args": {"properties": {"amount": {"exclusiveMinimum": 0, "maximum": 500}}},
            "once": {"key": "refund:{order}", "within": "24h"},
            "cost": {"eur": "args.amount"},
            "concurrency": 1000,
        }
    },
    "limits": [
        {"budget": "eur", "limit": 9_000_000_000, "per": ["tenant"], "window": "day"},
        {"rate": "1000000/s", "per": ["tenant"]},
        {"repeat": 3, "per": ["run"]},
    ],
}
UNSETTLED = {
    **POLICY,
    "tools": {"refund": {k: v for k, v in POLICY["tools"]["refund"].items() if k != "concurrency"}},
}
"""The same without a slot: for rows that only decide, and so would fill any number of slots."""

SCHEMA = Schema(
    {
        "type": "object",
        "properties": {
            "order": {"type": "string"},
            "amount": {"type": "number"},
            "note": {"type": "string"},
        },
        "required": ["order", "amount"],
    }
)
SUBJECT = Subject(tenant="acme", user="ada", agent="support-1")


def proposal(number: int, who: str = "") -> Proposal:
    """A fresh call that the policy permits."""
    args = {"order": f"A{who}-{number}", "amount": 12, "note": "arrived broken"}
    return Proposal(
        "refund",
        args,
        subject=SUBJECT,
        run=f"run-{number // 50}",
        call_id=f"c{who}{number}",
        schema=SCHEMA,
    )


def decide_only(gate: Gate, given: Proposal) -> Permit:
    """Decide one call; anything but a permit is an error of the benchmark."""
    permit = gate.decide(given)
    if not isinstance(permit, Permit):
        raise RuntimeError(f"not permitted: {permit}")
    return permit


def settle(gate: Gate, permit: Permit) -> None:
    """Say that the call went well."""
    gate.settle(permit, Succeeded({"refunded": 12}))


def spend(gate: Gate, given: Proposal) -> None:
    """Decide and settle one call."""
    settle(gate, decide_only(gate, given))


def entry_size() -> int:
    """How many bytes a decision and its outcome add to the journal, on average."""
    gate = Gate(POLICY, "memory:")
    spend(gate, proposal(1))
    return sum(len(entry.body) for entry in gate.journal.tail(2)) // 2 + 128
