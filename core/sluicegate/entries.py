"""
The text of journal entries: canonical JSON, put together from parts that are canonical already.

Every text here is the rest of an entry after its time, which only the ledger
knows; the names are in order, so the whole is the canonical form (RFC 8785).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from .canonical import NotCanonical, freeze, quoted
from .claims import Claim
from .decision import Permit, Reason
from .outcome import Failed, Outcome, Succeeded

__all__ = ["Considered", "outcome_entry", "policy_entry"]

LARGEST_RESULT: Final = 65_536
"""Characters of a result that are recorded; a longer one is recorded by its digest."""


class Considered(NamedTuple):
    """What a decision was made from: the same in each entry that it can end in."""

    now: int
    facts: str
    proposal: str
    revision: str
    observe: bool
    claims: str = ""
    """Further claims by plugins, as JSON with a comma behind; the policy's own can be derived again."""

    def permitted(self, permit: str, lease: int) -> str:
        """The entry of a permit."""
        decision, would = self._words("permit")
        return (
            f'{self.claims}"decision":{decision},"facts":{self.facts},"kind":"decision","lease":{lease},'
            f'"now":{self.now},"permit":"{permit}","policy":"{self.revision}","proposal":{self.proposal}{would}}}'
        )

    def refused(self, reasons: Sequence[Reason]) -> str:
        """The entry of a refusal."""
        decision, would = self._words("deny")
        told = ",".join(map(_reason, reasons))
        return (
            f'{self.claims}"decision":{decision},"facts":{self.facts},"kind":"decision","now":{self.now},'
            f'"policy":"{self.revision}","proposal":{self.proposal},"reasons":[{told}]{would}}}'
        )

    def replayed(self, entry: int) -> str:
        """The entry of a call that was answered with the outcome in journal entry *entry*."""
        decision, would = self._words("recorded")
        return (
            f'{self.claims}"decision":{decision},"facts":{self.facts},"kind":"decision","now":{self.now},'
            f'"of":{entry},"policy":"{self.revision}","proposal":{self.proposal}{would}}}'
        )

    def _words(self, decision: str) -> tuple[str, str]:
        return ('"observed"', f',"would":"{decision}"') if self.observe else (f'"{decision}"', "")


def policy_entry(revision: str, document: Mapping[str, Any]) -> str:
    """The entry that keeps a policy, so that its decisions can be derived again."""
    return f'"document":{freeze(dict(document))[1]},"kind":"policy","policy":"{revision}"}}'


def outcome_entry(permit: Permit, outcome: Outcome, used: Mapping[str, int]) -> str:
    """The entry of an outcome; costs are in millionths."""
    costs = ",".join(f"{quoted(name)}:{used[name]}" for name in sorted(used))
    if isinstance(outcome, Succeeded):
        told, result = "", _result(outcome.result)
    else:
        told, result = f'"error":{_error(outcome.error)},', ""
    return f'"cost":{{{costs}}},{told}"kind":"outcome","outcome":"{_word(outcome)}","permit":"{permit.id}"{result}}}'


def plugin_claims(claims: Sequence[Claim]) -> str:
    """Claims that cannot be derived from the policy, by kind and fields."""
    told = [[type(claim).__name__, *(_field(field) for field in claim)] for claim in claims]
    return f'"claims":{freeze(told)[1]},' if told else ""


def _field(value: object) -> object:
    return value.name if isinstance(value, Enum) else value


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, Succeeded):
        return "succeeded"
    return "failed" if isinstance(outcome, Failed) else "unknown"


def _reason(reason: Reason) -> str:
    retry = quoted(reason.retry) if isinstance(reason.retry, str) else freeze(reason.retry)[1]
    return (
        f'{{"code":"{reason.code}","message":{quoted(_printable(reason.message))},'
        f'"retry":{retry},"rule":{quoted(_printable(reason.rule))}}}'
    )


def _error(error: BaseException | str) -> str:
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return quoted(_printable(text[:1000]))


def _printable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _result(result: object) -> str:
    if result is None:
        return ',"result":null'
    try:
        text = freeze(result)[1]
    except NotCanonical:
        return f',"result_type":{quoted(type(result).__qualname__)}'
    if len(text) > LARGEST_RESULT:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f',"result_digest":"sha256:{digest}","result_size":{len(text)}'
    return f',"result":{text}'
