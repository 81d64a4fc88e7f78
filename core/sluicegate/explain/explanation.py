"""
Every rule that a decision looks at, and what it said: for a proposal now, or for a journal entry.

The decision comes from the gate's own flow (`rehearsal`); the rules are read from the
same request to the ledger, at the moment before it is carried out there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from ..canonical import FrozenDict, freeze
from ..claims import Claim
from ..decision import Decision, Defer, Deny, Reason
from ..entries import claims_of
from ..errors import LedgerError, PluginError
from ..evaluate import evaluate
from ..journal import Entry
from ..ledger.base import Claiming, Ledger
from ..ledger.overlay import Below
from ..past import INPUTS, NotKept, Past
from ..plugins import Objections, Plugins
from ..proposal import Proposal
from ..rehearsal import Asked, Rehearsal
from ..replay import Course
from ..retrace import numbered
from .considered import Considered
from .look import Look, look
from .rows import Case, rows

if TYPE_CHECKING:
    from ..policy.compile import CompiledPolicy

__all__ = ["Explanation", "explain", "explain_entry"]

_NO_FACTS: Final[Mapping[str, Any]] = FrozenDict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """
    A decision with every rule that was considered for it.

    *at* is the time of the decision in µs since 1970 UTC, *entry* its number in the
    journal if it is on record. The ids of permits and requests in *decision* exist only
    then. A call that would wait for a slot or a key is explained as if nothing became free.
    """

    at: int
    proposal: Proposal
    decision: Decision
    rules: tuple[Considered, ...]
    entry: int | None = None

    @property
    def against(self) -> tuple[Considered, ...]:
        """The rules that refuse, or that ask for a person."""
        return tuple(row for row in self.rules if row.verdict in ("refuses", "asks"))

    def __bool__(self) -> NoReturn:
        raise TypeError("an explanation has no truth value; look at its decision and its rules")


def explain(
    policy: CompiledPolicy,
    ledger: Ledger,
    proposal: Proposal,
    now: int,
    *,
    plugins: Plugins | None = None,
) -> Explanation:
    """
    What a gate would decide about *proposal* at *now*, and why; nothing is spent or recorded.

    Plugins are asked for facts, objections and claims, and told nothing.
    """
    asked = None if plugins is None else Asked(plugins)
    return _explained(policy, ledger, proposal, now, asked)


def explain_entry(entries: Iterable[Entry], number: int) -> Explanation:
    """
    The decision that is entry *number* of a journal, explained from the state as it was then.

    *entries* are the whole journal; they are gone through twice where the call was answered
    with an earlier result. Facts and objections of plugins are those on record. Raises
    LedgerError if there is no such decision, or if the journal is broken before it, and
    NotKept where it does not have what it takes (`record: digest`).
    """
    if isinstance(entries, Iterator):
        entries = list(entries)
    past, books, entry = _before(entries, number)
    content = entry.content
    if content["kind"] != "decision":
        raise LedgerError(f"entry {number} is no decision: it is of the kind {content['kind']!r}")
    policy, proposal = past.policy(content), past.proposal(content)
    told = content.get("permit") or content.get("request", "").partition(".")[2] or "replayed"
    found = _explained(
        policy,
        _Then(books, entries),
        proposal,
        content["now"],
        _AsTold(content),
        at=content["at"],
        entry=number,
        permit=str(told),
    )
    _compare(found.decision, content, number)
    return found


def _compare(decision: Decision, content: Mapping[str, Any], number: int) -> None:
    """An explanation of something else than what is on record would explain nothing."""
    recorded = content.get("would") or content["decision"], _codes(content)
    reasons = decision.reasons if isinstance(decision, (Deny, Defer)) else ()
    derived = type(decision).__name__.lower(), [reason.code for reason in reasons]
    if recorded != derived:
        raise NotKept(
            f"entry {number} cannot be explained: on record is {_worded(*recorded)}, and from what the "
            f"journal has follows {_worded(*derived)}; `sluicegate replay` says where they part"
        )


def _codes(content: Mapping[str, Any]) -> list[str]:
    return [reason["code"] for reason in content.get("reasons", ())]


def _worded(word: str, codes: Sequence[str]) -> str:
    return f"{word} ({', '.join(codes)})" if codes else word


class _Then:
    """The books as they were, with the journal as it is: of what is past, nothing changes."""

    def __init__(self, books: Below, entries: Iterable[Entry]) -> None:
        self._entries = entries
        self.floor = 0  # the time of the entry is on record
        self.cell = books.cell

    def body(self, entry: int) -> str:
        """The body of an earlier entry."""
        found = (each.body for number, each in numbered(self._entries) if number == entry)
        body = next(found, None)
        if body is None:
            raise LedgerError(f"the journal has no entry {entry}")
        return body


def _before(entries: Iterable[Entry], number: int) -> tuple[Past, Below, Entry]:
    """What was known before entry *number*, the books as they were, and the entry itself."""
    course = Course()
    for each, entry in numbered(entries):
        if each == number:
            return course.past, course.books, entry
        difference = course.follow(each, entry)
        if difference is not None:
            raise LedgerError(
                f"the journal cannot be followed up to entry {number}: entry {each}: {difference.problem}"
            )
    raise LedgerError(f"the journal has no entry {number}")


class _AsTold(Asked):
    """Plugins that say again what is on record of them."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.names = ()
        self.found = None
        self._entry = entry
        self._given = [
            Reason(**reason) for reason in entry.get("reasons", ()) if reason["code"] in INPUTS
        ]

    def facts(self, proposal: Proposal) -> tuple[Mapping[str, Any], str]:
        for reason in self._given:
            if reason.rule == "plugins":
                raise PluginError(reason.message)
        facts, text = freeze(self._entry["facts"])
        self.found = cast("FrozenDict", facts)
        return self.found, text

    def objections(self, proposal: Proposal, facts: Mapping[str, Any]) -> Objections:
        codes = {reason["code"] for reason in self._entry.get("reasons", ())}
        final = bool(self._entry.get("final")) and "halted" not in codes
        return Objections(tuple(self._given), final)

    def claims(self, proposal: Proposal, facts: Mapping[str, Any]) -> tuple[Claim, ...]:
        return claims_of(self._entry.get("claims", ()))


def _explained(
    policy: CompiledPolicy,
    books: Below,
    proposal: Proposal,
    now: int,
    plugins: Asked | None,
    *,
    at: int | None = None,
    entry: int | None = None,
    permit: str = "explained",
) -> Explanation:
    seen: list[Look] = []

    def before(request: Claiming) -> Claiming:
        request = request._replace(now=request.now if at is None else at)
        seen.append(look(request, rehearsal.books))
        return request

    rehearsal = Rehearsal(policy, books, now, plugins, before, lambda: permit)
    decision = rehearsal.decide(proposal)
    if not seen:  # the gate itself failed: there is nothing to look at but its reasons
        return Explanation(
            at=at or now, proposal=proposal, decision=decision, rules=_bare(decision), entry=entry
        )
    facts = _NO_FACTS if plugins is None else plugins.found
    case = Case(
        policy=policy,
        proposal=proposal,
        verdict=None if facts is None else evaluate(policy, proposal, facts, now),
        look=seen[0],
        decision=decision,
        plugins=() if plugins is None else plugins.names,
    )
    return Explanation(
        at=seen[0].at, proposal=proposal, decision=decision, rules=rows(case), entry=entry
    )


def _bare(decision: Decision) -> tuple[Considered, ...]:
    reasons = decision.reasons if isinstance(decision, (Deny, Defer)) else ()
    return tuple(
        Considered(rule=reason.rule, kind="gate", verdict="refuses", message=reason.message)
        for reason in reasons
    )
