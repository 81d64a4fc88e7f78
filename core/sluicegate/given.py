"""What a gate is given by a program, checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .canonical import is_object
from .decision import Permit
from .errors import PolicyError
from .ledger import Ledger, open_beside, open_ledger
from .outcome import Failed, Outcome, Succeeded, Unknown
from .proposal import Proposal

if TYPE_CHECKING:
    from .policy.model import Policy

__all__ = ["ledger_given", "outcome_given", "permit_given", "policy_given", "proposal_given"]


def policy_given(source: object) -> Policy:
    """The policy that *source* means; raises PolicyError or TypeError."""
    from .policy.model import Policy

    if isinstance(source, Policy):
        return source
    if isinstance(source, str) and "\n" in source:
        raise PolicyError(
            "this is the text of a policy, not a path", hint="write Gate(Policy.parse(text), …)"
        )
    if isinstance(source, (str, Path)):
        return Policy.load(source)
    if is_object(source):
        return Policy.of(source)
    raise TypeError(
        f"policy is a {type(source).__qualname__}; it must be a path, a Policy or a mapping"
    )


def ledger_given(ledger: str | Ledger | None, policy: Policy) -> Ledger:
    """The ledger that is meant, by default the one beside the policy; raises LedgerError."""
    if ledger is None:
        return open_beside(policy.path)
    return open_ledger(ledger) if isinstance(ledger, str) else ledger


def proposal_given(value: object) -> Proposal:
    """*value*, if it is a proposal; raises TypeError."""
    if not isinstance(value, Proposal):
        raise TypeError(f"{value!r:.80} is no Proposal")
    return value


def permit_given(value: object) -> Permit:
    """*value*, if it is a permit; raises TypeError."""
    if not isinstance(value, Permit):
        raise TypeError(f"{value!r:.80} is no Permit; only a Permit can be settled")
    return value


def outcome_given(value: object) -> Outcome:
    """*value*, if it is an outcome; raises TypeError."""
    if not isinstance(value, (Succeeded, Failed, Unknown)):
        raise TypeError(f"{value!r:.80} is no outcome; give Succeeded(…), Failed(…) or Unknown(…)")
    return value
