"""
Deriving every decision of a journal again, from its entries alone.

A decision is pure: policy, proposal, facts, objections, time and what was decided before
give it, byte for byte. All of that is in the journal, so whoever doubts an entry can ask
what the same code would have written in its place.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .canonical import freeze
from .claims import Barrier, Claim, Needs, Note, Traced
from .entries import claims_of
from .errors import LedgerError
from .journal import Entry, link
from .ledger.base import Claiming, Granted, Noting, Rejected, Wording
from .ledger.meaning import perform
from .past import NotKept
from .people import amending_of
from .requests import heard, recalled
from .retrace import (
    Made,
    Numbers,
    Pages,
    Reader,
    Skipped,
    Skips,
    as_recorded,
    ended,
    made_of,
    notes_of,
    numbered,
    stand_in,
    word,
)

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy

__all__ = ["Course", "Difference", "Field", "Rederived", "replay"]

_LONGEST: Final = 2000
_TOO_LARGE: Final = (
    "a result of {} is not in the journal (it was too large, or no JSON), and a later decision of "
    "its run looks at it"
)


class Field(NamedTuple):
    """One field of an entry, as it was recorded and as it was derived; None where it is not there."""

    name: str
    recorded: str | None
    derived: str | None


class Difference(NamedTuple):
    """The first entry that is not what it should be: its number, its tool if it has one, and how."""

    entry: int
    tool: str
    problem: str
    fields: tuple[Field, ...] = ()


class Rederived(NamedTuple):
    """
    How far a journal follows from itself.

    *entries* were read and *decisions* derived again and equal, up to the first
    *difference* if there is one. *skipped* decisions could not be derived: they are
    neither equal nor different.
    """

    entries: int
    decisions: int
    difference: Difference | None
    skipped: tuple[Skipped, ...]


def replay(entries: Iterable[Entry]) -> Rederived:
    """
    Derive each decision again and compare its entry byte for byte; stop at the first difference.

    Outcomes, what users said, facts, objections and what people did are given: they came
    from outside. Memory is needed for what is still alive (cells, permits that are out),
    not for the journal. Raises LedgerError for entries that are no whole journal, and
    PolicyError for a recorded policy that this version cannot compile.
    """
    course = Course()
    read = 0
    difference: Difference | None = None
    journal = numbered(entries)
    for number, entry in journal:
        read += 1
        difference = course.follow(number, entry)
        if difference is not None:
            deque(journal, 0)  # where the beginning is missing a difference proves nothing
            break
    return Rederived(read, course.decisions, difference, course.skips.all())


class Course:
    """
    Where a replay stands after some entries: *past* is what they told, and *books* the state that
    they lead to.
    """

    def __init__(self) -> None:
        self.decisions = 0
        self.skips = Skips()
        self.past = Reader()
        self.books = Pages()
        self._out: dict[str, Made] = {}
        self._watched: dict[str, tuple[Mapping[str, Any], CompiledPolicy]] = {}
        self._numbers = Numbers()
        self._gaps = False
        """Whether permits or requests may be missing here, so that what does not fit is no proof."""
        self._hidden: dict[tuple[str | None, type], str] = {}
        """By outermost run and kind of claim: what the journal does not say of the run."""
        self._shown: dict[tuple[str, str | None], CompiledPolicy] = {}
        self._kept: dict[str, int] = {}
        self._steps: dict[str, Callable[[int, Mapping[str, Any]], Difference | None]] = {
            "policy": self._learn,
            "schema": self._learn,
            "prompt": self._prompt,
            "decision": self._decision,
            "outcome": self._outcome,
            "recalled": self._recalled,
            "approval": self._deed,
            "halt": self._deed,
            "resume": self._deed,
            "swept": self._deed,
            "archived": self._deed,
        }

    def follow(self, number: int, entry: Entry) -> Difference | None:
        """Go on by one entry."""
        if entry.hash != link(entry.prev, entry.writer, entry.seq, entry.body):
            return Difference(number, "", "it was changed: its content does not give its hash")
        self.books.number, self._body = number, entry.body
        try:
            content = entry.content
            return self._steps.get(content["kind"], _unknown)(number, content)
        except (LedgerError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"[:300]
            return Difference(number, "", f"it is no entry that a gate writes ({what})")

    # --- decisions ------------------------------------------------------------------------------

    def _decision(self, number: int, entry: Mapping[str, Any]) -> Difference | None:
        try:
            policy = self.past.policy(entry)
            request = self.past.claiming(entry, policy)
        except NotKept as why:
            self._take_over(number, entry, str(why))
            return None
        self._watch(entry, policy)
        hidden = self._hides(entry, request.claims) if self._hidden else None
        if hidden is not None:
            claims = [claim for claim in request.claims if type(claim) not in _LOOKING]
            claims += [] if request.approval is None else [request.approval]
            proposal = self.past.proposal(entry)
            self._over(number, entry, hidden, policy, as_recorded(entry, policy, proposal, claims))
            return None
        if "of" in entry:
            wording = _Referring(request.wording, self._numbers, entry["of"])
            request = request._replace(wording=wording)
        answer = perform(request, self.books)
        if self.books.text != self._body:
            return _different(number, entry, self._body, self.books.text)
        self.decisions += 1
        if type(answer) is Granted:
            self._out[request.permit] = made_of(entry, policy, request)
        elif word(entry) == "recorded":
            self._shows(entry, policy)
        return None

    def _take_over(self, number: int, entry: Mapping[str, Any], why: str) -> None:
        """Let a decision that cannot be derived have its effect, as far as it was told."""
        policy = self.past.policies.get(entry["policy"])
        if policy is None or "args_digest" not in entry["proposal"]:
            self.skips.add(why, number)
            self._gaps = True
            return
        self._watch(entry, policy)
        claims = claims_of(entry.get("claims", ()))
        request = as_recorded(entry, policy, stand_in(entry), claims)
        self._over(number, entry, why, policy, request)
        if word(entry) == "recorded":
            self._shows(entry, policy)

    def _over(
        self,
        number: int,
        entry: Mapping[str, Any],
        why: str,
        policy: CompiledPolicy,
        request: Claiming,
    ) -> None:
        self.skips.add(why, number)
        if type(perform(request, self.books)) is Granted:
            self._out[request.permit] = made_of(entry, policy, request)
        elif "permit" in entry:
            self._gaps = True

    def _shows(self, entry: Mapping[str, Any], policy: CompiledPolicy) -> None:
        """An earlier result may be shown to the run next; that entry does not name the policy."""
        said = entry["proposal"]
        rule = policy.rule(said["tool"])
        if rule is not None and (rule.labels or rule.notes is not None):
            self._shown[said["tool"], said["root"]] = policy

    # --- what the journal does not say ------------------------------------------------------------

    def _watch(self, entry: Mapping[str, Any], policy: CompiledPolicy) -> None:
        """A call that runs although it would not have been permitted: what it gave is shown to its run."""
        if entry["decision"] == "observed" and word(entry) != "permit":
            self._watched[entry["permit"]] = entry, policy

    def _hide(self, root: str | None, why: str) -> None:
        for kind in (Needs, Traced):
            self._hidden.setdefault((root, kind), why)

    def _hides(self, entry: Mapping[str, Any], claims: Iterable[Claim]) -> str | None:
        root = entry["proposal"]["root"]
        found = (self._hidden.get((root, type(claim))) for claim in claims)
        return next((why for why in found if why is not None), None)

    # --- what came from outside -------------------------------------------------------------------

    def _learn(self, number: int, entry: Mapping[str, Any]) -> None:
        self.past.learn(entry)

    def _prompt(self, number: int, entry: Mapping[str, Any]) -> None:
        self._note(entry, heard(entry["root"], entry["text"]))

    def _note(self, entry: Mapping[str, Any], notes: Iterable[Note]) -> None:
        perform(Noting(entry["at"], "}", notes=tuple(notes)), self.books)

    def _outcome(self, number: int, entry: Mapping[str, Any]) -> Difference | None:
        permit, outcome = entry["permit"], entry["outcome"]
        if permit in self._watched:
            self._show(permit, entry)
            return None
        made = self._out.get(permit)
        if made is None:
            if self._gaps:
                return None
            return Difference(number, "", f"it is an outcome of permit {permit}, which is not out")
        notes: tuple[Note, ...] = ()
        if outcome == "succeeded":
            notes = notes_of(self.past, made, entry.get("result"))
            self._keep(number, made, entry)
        answer = perform(ended(made, entry, entry.get("cost", {}), notes), self.books)
        tool = made.entry["proposal"]["tool"]
        if type(answer) is Rejected:
            return Difference(number, tool, f"it cannot have been recorded: {answer.problem}")
        if outcome != "unknown":
            del self._out[permit]
        return None

    def _show(self, permit: str, outcome: Mapping[str, Any]) -> None:
        """What a call that was only watched has given."""
        entry, policy = self._watched.pop(permit)
        said, done = entry["proposal"], outcome["outcome"] == "succeeded"
        rule = policy.rule(said["tool"])
        kept = "result" in outcome and "args_digest" not in said
        if done and not kept and rule is not None and rule.notes is not None:
            self._hide(said["root"], _TOO_LARGE.format(said["tool"]))
        proposal = stand_in(entry) if "args_digest" in said else self.past.proposal(entry)
        self._note(outcome, recalled(rule, proposal, permit, outcome.get("result"), done))

    def _keep(self, number: int, made: Made, entry: Mapping[str, Any]) -> None:
        """What may be shown to a run again, and what will be missed."""
        said = made.entry["proposal"]
        rule = made.policy.rule(said["tool"])
        if rule is None or rule.notes is None:
            return
        if "result" not in entry or "args_digest" in said:
            self._hide(said["root"], _TOO_LARGE.format(said["tool"]))
        elif made.replayable:
            self.books.bodies[number] = self._body
            self._kept[made.hold.permit] = number

    def _recalled(self, number: int, entry: Mapping[str, Any]) -> Difference | None:
        said = entry["proposal"]
        policy = self._shown.get((said["tool"], said["root"]))
        if policy is None:
            problem = "no decision before it was answered with a recorded result"
            return None if self._gaps else Difference(number, said["tool"], problem)
        body = self.books.body(self._kept.get(entry["permit"], 0))
        proposal = stand_in(entry) if "args_digest" in said else self.past.proposal(entry)
        result = json.loads(body).get("result")
        self._note(entry, recalled(policy.rule(said["tool"]), proposal, entry["permit"], result))
        return None

    def _deed(self, number: int, entry: Mapping[str, Any]) -> Difference | None:
        """What a person did, or housekeeping."""
        answer = perform(amending_of(entry), self.books)
        if type(answer) is Rejected and not self._gaps:
            return Difference(number, "", f"it cannot have been recorded: {answer.problem}")
        return None


class _Referring:
    """A wording that names another entry by its number in the ledger."""

    def __init__(self, inner: Wording, numbers: Numbers, recorded: Any) -> None:
        self.permitted, self.refused, self.deferred = inner.permitted, inner.refused, inner.deferred
        self._inner, self._numbers, self._recorded = inner, numbers, recorded

    def replayed(self, entry: int, /) -> str:
        """The text with the entry's number, as far as it can be known."""
        return self._inner.replayed(self._numbers.told(entry, self._recorded))


_LOOKING: Final = frozenset({Needs, Traced, Barrier})
"""Claims that look at what a run knows, and change nothing."""


def _unknown(number: int, entry: Mapping[str, Any]) -> Difference:
    problem = f"this version of Sluicegate knows no entries of the kind {entry['kind']!r:.80}"
    return Difference(number, "", f"{problem}; replay with the version that wrote it")


# --- what is different ----------------------------------------------------------------------------


def _different(number: int, entry: Mapping[str, Any], recorded: str, derived: str) -> Difference:
    other = json.loads(derived)
    names = sorted(name for name in entry.keys() | other.keys() if _unlike(name, entry, other))
    fields = tuple(Field(name, _told(name, entry), _told(name, other)) for name in names)
    if not fields:
        fields = (Field("text", recorded[:_LONGEST], derived[:_LONGEST]),)
    return Difference(
        number, entry["proposal"]["tool"], "the decision is not the one that follows", fields
    )


def _unlike(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (name in one, one.get(name)) != (name in other, other.get(name))


def _told(name: str, entry: Mapping[str, Any]) -> str | None:
    if name not in entry:
        return None
    value = entry[name]
    if name == "reasons":
        return "; ".join(f"{r['code']} ({r['rule']}): {r['message']}" for r in value)[:_LONGEST]
    return (value if isinstance(value, str) else freeze(value)[1])[:_LONGEST]
