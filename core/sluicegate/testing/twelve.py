"""A script of twelve calls and the decisions that it must get, in whatever framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..proposal import Proposal, Subject
from .scene import Call, turns

__all__ = ["EXPECTED", "POLICY", "SCRIPT", "SUBJECT", "tools"]

SUBJECT: Final = Subject(tenant="acme", user="ada", agent="clerk", roles=("desk",))

POLICY: Final[dict[str, Any]] = {
    "version": 1,
    "tools": {
        "get_order": {"effect": "read"},
        "refund": {
            "args": {"properties": {"amount": {"exclusiveMinimum": 0, "maximum": 500}}},
            "once": {"key": "refund:{order}"},
            "cost": {"eur": "args.amount"},
        },
        "mail": {"rate": "2/h"},
        "purge": {},
    },
    "grants": [{"agent": "clerk", "tools": ["get_*", "refund", "mail"]}],
    "limits": [
        {"budget": "eur", "limit": 600, "per": ["tenant"], "window": "month"},
        {"budget": "calls", "limit": 6, "per": ["run"]},
    ],
}


def tools() -> list[Callable[..., Any]]:
    """The tools of the script."""

    def get_order(order: str) -> str:
        """Look an order up."""
        return f"order {order}"

    def refund(order: str, amount: float, currency: str = "EUR") -> str:
        """Give money back."""
        return f"refunded {amount} {currency} for {order}"

    def mail(to: str, lines: list[str]) -> str:
        """Send a mail."""
        return f"sent {len(lines)} lines to {to}"

    def purge(everything: bool) -> str:
        """Delete things."""
        return "purged"

    return [get_order, refund, mail, purge]


_STEPS: Final[list[tuple[str, dict[str, Any], dict[str, Any], str, tuple[str, ...]]]] = [
    # tool, what the model sends, what the call lacks by its defaults, decision, reasons
    ("get_order", {"order": "A1"}, {}, "permit", ()),
    ("refund", {"order": "A1", "amount": 120.5}, {"currency": "EUR"}, "permit", ()),
    ("refund", {"order": "A1", "amount": 120.5}, {"currency": "EUR"}, "recorded", ()),
    ("refund", {"order": "A1", "amount": 90.5}, {"currency": "EUR"}, "deny", ("key_conflict",)),
    ("refund", {"order": "A2", "amount": 900.5}, {"currency": "EUR"}, "deny", ("args_invalid",)),
    ("refund", {"order": "A3", "amount": 480.5}, {"currency": "EUR"}, "deny", ("budget",)),
    ("get_order", {"ordre": "A3"}, {}, "deny", ("args_unknown", "args_invalid")),
    ("mail", {"to": "ada", "lines": ["a", "b"]}, {}, "permit", ()),
    ("purge", {"everything": True}, {}, "deny", ("not_granted",)),
    ("mail", {"to": "bob", "lines": []}, {}, "permit", ()),
    ("mail", {"to": "eve", "lines": ["é"]}, {}, "deny", ("rate",)),
    ("get_order", {"order": "Ü-9"}, {}, "permit", ()),
]

SCRIPT: Final = turns(
    *(Call(step[0], step[1], f"call-{number}") for number, step in enumerate(_STEPS, 1))
)

EXPECTED: Final = [
    (
        tool,
        decision,
        codes,
        Proposal(tool, {**args, **defaults}, subject=SUBJECT, run="twelve").action,
    )
    for tool, args, defaults, decision, codes in _STEPS
]
