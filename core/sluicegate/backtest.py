"""
Deciding the proposals of a journal by another policy: what would change?

Its limit is in the nature of it. An agent that is refused goes on differently, and what it
would have proposed then is not in any journal. A backtest answers "what would this policy
have said to these calls?" and not "what would have happened?".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .claims import Note, Once
from .decision import Reason
from .entries import claims_of
from .housekeeping import swept_one_by_one
from .journal import Entry
from .ledger.base import Answer, Claiming, Deferred, Granted, Noting, Refused, Replayed
from .ledger.meaning import perform
from .past import NotKept
from .people import amending_of
from .policy.compile import CompiledPolicy
from .policy.model import Policy
from .requests import heard, recalled
from .retrace import (
    Made,
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

__all__ = ["Backtest", "Change", "Kind", "Tally", "backtest"]

Kind: TypeAlias = Literal["same", "refused", "permitted", "changed"]
"""Newly refused, newly permitted, or otherwise changed: deferred, or answered with a recorded result."""

_EXAMPLES: Final = 3


class Tally(NamedTuple):
    """How many decisions stay the same, are newly refused, newly permitted, or change otherwise."""

    same: int = 0
    refused: int = 0
    permitted: int = 0
    changed: int = 0

    def plus(self, kind: Kind) -> Tally:
        """One more."""
        return self._replace(**{kind: getattr(self, kind) + 1})

    @property
    def changes(self) -> int:
        """All that are not the same."""
        return self.refused + self.permitted + self.changed


class Change(NamedTuple):
    """
    One decision that changes: from the word *before* to the word *after*, at a journal entry.

    *rule* is the place in one of the policies that makes the difference, and *reason* what
    it said: in the new policy, or for a call that is newly permitted in the old one.
    """

    entry: int
    tool: str
    kind: Kind
    before: str
    after: str
    rule: str
    reason: str


class Backtest(NamedTuple):
    """
    What another policy would have said.

    Each changed decision is counted under one rule, that of its first reason. *examples*
    are the first few changes of each kind by each rule. For *assumed* calls, which were
    not permitted and now are, the journal has no outcome: they count as successes that
    ended at once and used what they were expected to cost. In *unheard* decisions a
    value might have come from the user's words, and the journal does not have these.
    """

    decisions: int
    total: Tally
    by_rule: Mapping[str, Tally]
    by_tool: Mapping[str, Tally]
    examples: tuple[Change, ...]
    assumed: int
    unheard: int
    skipped: tuple[Skipped, ...]


def backtest(entries: Iterable[Entry], policy: Policy) -> Backtest:
    """
    Decide every recorded proposal by *policy*, in the order, at the times and with the facts recorded.

    The state is the one that *policy* leads to: what it refuses uses nothing. Outcomes are
    the recorded ones where both policies permit a call; what people decided holds
    where the same action waits for it. Entries of a gate that only observed count by what
    they would have been. Raises LedgerError for entries that are no whole journal, and
    PolicyError for a policy that cannot be compiled.
    """
    course = _Course(CompiledPolicy(policy))
    for number, entry in numbered(entries):
        course.follow(number, entry)
    return course.result()


class _Course:
    """Where a backtest stands after some entries."""

    def __init__(self, policy: CompiledPolicy) -> None:
        self._policy = policy
        self._past = Reader()
        self._pages = Pages()
        self._out: dict[str, Made] = {}
        self._skips = Skips()
        self._total = Tally()
        self._by_rule: dict[str, Tally] = {}
        self._by_tool: dict[str, Tally] = {}
        self._examples: dict[tuple[Kind, str], list[Change]] = {}
        self._assumed = 0
        self._unheard = 0
        self._heard: set[str] = set()

    def result(self) -> Backtest:
        """What was found so far."""
        found = [change for changes in self._examples.values() for change in changes]
        return Backtest(
            sum(self._total),
            self._total,
            dict(sorted(self._by_rule.items(), key=lambda item: (-item[1].changes, item[0]))),
            dict(sorted(self._by_tool.items(), key=lambda item: (-item[1].changes, item[0]))),
            tuple(sorted(found)),
            self._assumed,
            self._unheard,
            self._skips.all(),
        )

    def follow(self, number: int, entry: Entry) -> None:
        """Go on by one entry."""
        self._pages.number, self._body = number, entry.body
        content = entry.content
        kind = content["kind"]
        if kind == "decision":
            self._decision(number, content)
        elif kind == "outcome":
            self._outcome(number, content)
        elif kind in ("policy", "schema"):
            self._past.learn(content)
        elif kind == "prompt":
            self._heard.add(content["root"])
            self._note(content["at"], heard(content["root"], content["text"]))
        elif kind != "recalled":  # that a result is shown again is decided anew
            self._deed(content)

    def _note(self, at: int, notes: Iterable[Note]) -> None:
        perform(Noting(at, "}", notes=tuple(notes)), self._pages)

    def _deed(self, entry: Mapping[str, Any]) -> None:
        """What a person did, or housekeeping, as far as there is something to do it to."""
        if entry["kind"] == "swept":
            for request in swept_one_by_one(entry):
                perform(request, self._pages)
            return
        if entry["kind"] == "approval":
            cell = self._pages.cell(amending_of(entry).keys[0])
            if cell is None:
                return
            entry = {**entry, "request": cell[1]}  # the same action, if not the same request
        perform(amending_of(entry), self._pages)

    # --- decisions ------------------------------------------------------------------------------

    def _decision(self, number: int, entry: Mapping[str, Any]) -> None:
        try:
            request = self._past.claiming(entry, self._policy)
        except NotKept as why:
            self._skips.add(str(why), number)
            if "args_digest" in entry["proposal"]:
                claims = claims_of(entry.get("claims", ()))
                taken = as_recorded(entry, self._policy, stand_in(entry), claims)
                if type(perform(taken, self._pages)) is Granted:
                    self._out[taken.permit] = made_of(entry, self._policy, taken)
            return
        own = "permit" in entry  # then its own outcome may be on record
        if request.permit and not own:
            request = request._replace(permit=f"backtest-{number}")
        answer = perform(request, self._pages)
        self._count(number, entry, request, answer)
        if type(answer) is Granted:
            made = made_of(entry, self._policy, request)
            if own:
                self._out[request.permit] = made
            else:
                self._assume(entry, made)
        elif type(answer) is Replayed:
            content = json.loads(answer.outcome)  # empty where the run remembers nothing of it
            permit, result = content.get("permit", ""), content.get("result")
            proposal = self._past.proposal(entry)
            self._note(
                entry["at"], recalled(self._policy.rule(proposal.tool), proposal, permit, result)
            )

    def _assume(self, entry: Mapping[str, Any], made: Made) -> None:
        """Nobody knows what would have become of the call: that it worked, and at once, is assumed."""
        self._assumed += 1
        outcome = {"at": entry["at"], "outcome": "succeeded"}
        perform(ended(made, outcome, {}, notes_of(self._past, made, None)), self._pages)

    def _count(
        self, number: int, entry: Mapping[str, Any], request: Claiming, answer: Answer
    ) -> None:
        before, after = word(entry), _word(answer)
        kind = _kind(before, after)
        tool = entry["proposal"]["tool"]
        self._total = self._total.plus(kind)
        self._by_tool[tool] = self._by_tool.get(tool, Tally()).plus(kind)
        reasons = answer.reasons if isinstance(answer, (Refused, Deferred)) else ()
        self._unheard += self._lacks_words(entry, reasons)
        if kind == "same":
            return
        rule, reason = _why(entry, request, answer, reasons)
        self._by_rule[rule] = self._by_rule.get(rule, Tally()).plus(kind)
        examples = self._examples.setdefault((kind, rule), [])
        if len(examples) < _EXAMPLES:
            examples.append(Change(number, tool, kind, before, after, rule, reason))

    def _lacks_words(self, entry: Mapping[str, Any], reasons: Iterable[Reason]) -> bool:
        said = entry["proposal"]
        rule = self._policy.rule(said["tool"])
        if rule is None or not rule.prompted or said["root"] in self._heard:
            return False
        return any(reason.code == "origin" for reason in reasons)

    # --- outcomes -------------------------------------------------------------------------------

    def _outcome(self, number: int, entry: Mapping[str, Any]) -> None:
        permit, outcome = entry["permit"], entry["outcome"]
        made = self._out.get(permit)
        if made is None:
            return  # it was not permitted here
        notes: tuple[Note, ...] = ()
        if outcome == "succeeded":
            notes = notes_of(self._past, made, entry.get("result"))
            rule = self._policy.rule(made.entry["proposal"]["tool"])
            if made.replayable and rule is not None and (rule.labels or rule.notes is not None):
                self._pages.bodies[number] = self._body
        perform(ended(made, entry, self._used(made, entry.get("cost", {})), notes), self._pages)
        if outcome != "unknown":
            del self._out[permit]

    def _used(self, made: Made, recorded: Mapping[str, int]) -> Mapping[str, int]:
        """What was really used. What is only the old policy's expectation, the new one's replaces."""
        if not recorded or "args_digest" in made.entry["proposal"]:
            return recorded
        try:
            verdict = self._past.verdict(made.entry, self._past.policy(made.entry))
        except NotKept:
            return recorded
        expected: Mapping[str, int] = getattr(verdict, "costs", {})
        return {name: used for name, used in recorded.items() if used != expected.get(name)}


# --- what changes, and by which rule ----------------------------------------------------------------


def _word(answer: Answer) -> str:
    if type(answer) is Granted:
        return "permit"
    if type(answer) is Replayed:
        return "recorded"
    return "defer" if type(answer) is Deferred else "deny"


def _kind(before: str, after: str) -> Kind:
    if before == after:
        return "same"
    if after == "deny":
        return "refused"
    return "permitted" if after == "permit" and before in ("deny", "defer") else "changed"


def _why(
    entry: Mapping[str, Any], request: Claiming, answer: Answer, reasons: tuple[Reason, ...]
) -> tuple[str, str]:
    """The rule that makes the difference, and what it said."""
    if reasons:
        return reasons[0].rule, reasons[0].message
    if type(answer) is Replayed:
        once = (claim.rule for claim in request.claims if type(claim) is Once)
        return next(once, "call_id"), "the identical call has succeeded before"
    told = entry.get("reasons", ())
    if told:
        return str(told[0]["rule"]), str(told[0]["message"])
    return "recorded", f"it was answered with the outcome in entry {entry.get('of')}"
