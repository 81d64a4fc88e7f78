"""
The text of journal entries: canonical JSON, put together from parts that are canonical already.

Every text here is the rest of an entry after its time, which only the ledger
knows; the names are in order, so the whole is the canonical form (RFC 8785).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final, NamedTuple, cast, get_args

from .canonical import NotCanonical, freeze, quoted
from .claims import Claim, Quota
from .decision import Permit, Reason
from .outcome import Failed, Outcome, Succeeded
from .schema import Schema
from .window import Window

__all__ = [
    "Considered", "amending_entry", "claims_of", "outcome_entry", "policy_entry", "prompt_entry",
    "recalled_entry", "schema_entry", "told_claims",
]  # fmt: skip

_KINDS: Final = {kind.__name__: kind for kind in get_args(Claim)}

DIGEST: Final = "(kept as a digest)"
"""What is in the place of a message that could show arguments."""

LARGEST_RESULT: Final = 65_536
"""Characters of a result that are recorded; a longer one is recorded by its digest."""


class Considered(NamedTuple):
    """
    What a decision was made from: the same in each entry that it can end in.

    *claims* are further claims by plugins, as JSON with a comma behind; the policy's own
    can be derived again. Where only digests are kept they cannot, and all claims are there;
    then messages are left out, since they show arguments. *watched* is the permit under
    which an observed call runs all the same, for *lease* µs. *stops* says that a plugin's
    objection ends the run.
    """

    now: int
    facts: str
    proposal: str
    revision: str
    observe: bool
    claims: str = ""
    record: str = ""
    watched: str = ""
    lease: int = 0
    stops: bool = False

    def permitted(self, permit: str, lease: int, approval: str | None = None) -> str:
        """The entry of a permit; *approval* is the request that a person has said yes to."""
        decision, would = self._words("permit")
        asked = "" if approval is None else f',"request":{quoted(approval)}'
        return (
            f'{self.claims}"decision":{decision},"facts":{self.facts},"kind":"decision","lease":{lease},'
            f'"now":{self.now},"permit":"{permit}","policy":"{self.revision}","proposal":{self.proposal}'
            f"{self.record}{asked}{would}}}"
        )

    def refused(self, reasons: Sequence[Reason], final: bool = False) -> str:
        """The entry of a refusal; a *final* one ends the run."""
        decision, would = self._words("deny")
        lease, permit = self._runs()
        ends = '"final":true,' if final else ""
        stops = ',"stops":true' if self.stops else ""
        return (
            f'{self.claims}"decision":{decision},"facts":{self.facts},{ends}"kind":"decision",{lease}'
            f'"now":{self.now},{permit}"policy":"{self.revision}","proposal":{self.proposal},'
            f'"reasons":{self._reasons(reasons)}{self.record}{stops}{would}}}'
        )

    def deferred(self, request: str, expires: int, reasons: Sequence[Reason]) -> str:
        """The entry of a call for which a person is asked first."""
        decision, would = self._words("defer")
        lease, permit = self._runs()
        return (
            f'{self.claims}"decision":{decision},"expires":{expires},"facts":{self.facts},"kind":"decision",'
            f'{lease}"now":{self.now},{permit}"policy":"{self.revision}","proposal":{self.proposal},'
            f'"reasons":{self._reasons(reasons)}{self.record},"request":{quoted(request)}{would}}}'
        )

    def replayed(self, entry: int) -> str:
        """The entry of a call that was answered with the outcome in journal entry *entry*."""
        decision, would = self._words("recorded")
        lease, permit = self._runs()
        return (
            f'{self.claims}"decision":{decision},"facts":{self.facts},"kind":"decision",{lease}'
            f'"now":{self.now},"of":{entry},{permit}"policy":"{self.revision}","proposal":{self.proposal}{self.record}{would}}}'
        )

    def _runs(self) -> tuple[str, str]:
        """An observed call runs, whatever was decided: under which permit, and for how long."""
        return (
            (f'"lease":{self.lease},', f'"permit":"{self.watched}",') if self.watched else ("", "")
        )

    def _reasons(self, reasons: Sequence[Reason]) -> str:
        if self.record:
            reasons = [Reason(r.code, r.rule, DIGEST, r.retry) for r in reasons]
        return f"[{','.join(map(_reason, reasons))}]"

    def _words(self, decision: str) -> tuple[str, str]:
        return ('"observed"', f',"would":"{decision}"') if self.observe else (f'"{decision}"', "")


def schema_entry(schema: Schema) -> str:
    """The entry that keeps a tool's own schema."""
    return f'"document":{schema.text},"kind":"schema","schema":"{schema.digest}"}}'


def prompt_entry(root: str, prompt: str) -> str:
    """The entry that keeps what the user said in a run."""
    return f'"kind":"prompt","root":{quoted(root)},"text":{quoted(_printable(prompt))}}}'


def recalled_entry(permit: str, proposal: str) -> str:
    """The entry which says that the result of an earlier call was shown to another run."""
    return f'"kind":"recalled","permit":{quoted(permit)},"proposal":{proposal}}}'


def amending_entry(kind: str, **told: Any) -> str:
    """The entry of what a person did: an approval, a halt."""
    return freeze({"kind": kind, **told})[1].removeprefix("{")


def policy_entry(revision: str, document: Mapping[str, Any]) -> str:
    """The entry that keeps a policy, so that its decisions can be derived again."""
    return f'"document":{freeze(dict(document))[1]},"kind":"policy","policy":"{revision}"}}'


def outcome_entry(
    permit: Permit, outcome: Outcome, used: Mapping[str, int], by: str | None = None
) -> str:
    """The entry of an outcome; costs are in millionths. *by* found it out where it was unknown."""
    costs = ",".join([f"{quoted(name)}:{used[name]}" for name in sorted(used)])
    if isinstance(outcome, Succeeded):
        told, result = "", _result(outcome.result, LARGEST_RESULT if not permit.digest else -1)
    else:
        told, result = f'"error":{_error(outcome.error, permit.digest)},', ""
    who = "" if by is None else f'"by":{quoted(_printable(by))},'
    return (
        f'{who}"cost":{{{costs}}},{told}"kind":"outcome","outcome":"{_word(outcome)}",'
        f'"permit":"{permit.id}"{result}}}'
    )


def told_claims(claims: Sequence[Claim]) -> str:
    """Claims that cannot be derived from the policy, by kind and fields; see `claims_of`."""
    told = [[type(claim).__name__, *map(_field, claim)] for claim in claims]
    return f'"claims":{freeze(told)[1]},' if told else ""


def claims_of(told: Sequence[Sequence[Any]]) -> tuple[Claim, ...]:
    """The claims that `told_claims` has written down."""
    return tuple(_claim(kind, fields) for kind, *fields in told)


def _claim(kind: str, fields: list[Any]) -> Claim:
    values: list[Any] = [_frozen(field) for field in fields]
    claim = _KINDS[kind](*values)
    if isinstance(claim, Quota) and isinstance(claim.window, str):
        claim = claim._replace(window=Window[claim.window])
    return cast("Claim", claim)


def _frozen(value: Any) -> Any:
    return tuple(cast("Any", value)) if isinstance(value, list) else value


def _field(value: object) -> object:
    if isinstance(value, tuple):
        return list(cast("tuple[object, ...]", value))
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


def _error(error: BaseException | str, digest: bool) -> str:
    if isinstance(error, str):
        text = "an error" if digest else error
    else:
        text = type(error).__name__
        if not digest:  # a message can have anything in it
            with suppress(Exception):  # and an error need not have one
                text = f"{text}: {error}"
    return quoted(_printable(text[:1000]))


def _printable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _result(result: object, largest: int) -> str:
    if result is None:
        return ',"result":null'
    try:
        text = freeze(result)[1]
    except NotCanonical:
        return f',"result_type":{quoted(type(result).__qualname__)}'
    if len(text) > largest:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f',"result_digest":"sha256:{digest}","result_size":{len(text)}'
    return f',"result":{text}'
