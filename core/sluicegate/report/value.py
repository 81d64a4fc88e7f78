"""The report of a run: values that say what was done and what was not, and their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..amount import Micros, shown

__all__ = ["COUNTS", "Call", "Owed", "Report", "Spent", "State", "Tally", "Waiting", "on_one_line"]

State: TypeAlias = Literal[
    "open", "succeeded", "failed", "unknown", "recorded", "refused", "deferred"
]
"""What became of a proposal."""

COUNTS: Final = (
    *("permitted", "succeeded", "failed", "unknown", "open", "recorded", "refused"),
    "deferred",
)
"""What a tally counts, in the order in which it is told."""

_MOST_LINES: Final = 10
"""Lines of one kind in the text for a model; how many more there are is said."""

_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One proposal of the run. *entry* is its decision's number in the journal.

    *args* is their canonical text, cut to what can be shown; `sha256:…` where the journal keeps
    none. *at* is in µs since 1970 UTC. *error* is what a call ended with that did not succeed.
    """

    tool: str
    args: str
    state: State
    entry: int
    at: int
    run: str | None
    permit: str = ""
    error: str = ""

    def __str__(self) -> str:
        permit = f"permit {self.permit}, " if self.permit else ""
        return f"{on_one_line(self.tool)} {on_one_line(self.args)} ({permit}entry {self.entry})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """
    A call that a contract asks for and that has not succeeded.

    *call* is the one that asks for it; where its own state is unknown or open, nobody can
    say that nothing is owed. *then* is a name or pattern of tools, and *match* has what the
    arguments of the missing call must be, as canonical JSON. *missing* says what there is
    instead, and *way_out* what to do.
    """

    contract: str
    call: Call
    then: str
    match: tuple[tuple[str, str], ...]
    missing: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.contract}: {self.call} {self.missing}; {self.way_out}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """
    A call for which a person was asked, and which was not made since.

    *expires* is in µs since 1970 UTC. An approved call has to be made again, an expired
    request too.
    """

    call: Call
    request: str
    expires: int
    state: Literal["pending", "approved", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """
    What the run used of a metered resource, in millionths.

    *settled* is on record, unknown outcomes included; *held* belongs to calls under way and
    to those that were never settled.
    """

    name: str
    settled: Micros
    held: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """
    How many calls of one tool there were, by what became of them.

    *permitted* is the sum of succeeded, failed, unknown and open.
    """

    tool: str
    permitted: int = 0
    succeeded: int = 0
    failed: int = 0
    unknown: int = 0
    open: int = 0
    recorded: int = 0
    refused: int = 0
    deferred: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What a run has done and what it has not, sub-agents included, at the time of the report.

    *owed* is what `contracts` ask for and nothing has answered. *failed* are calls that failed
    and that no identical call, or one with the same key, has mended. *unknown* are calls of
    which nobody knows whether they took effect, *open* those under way, *waiting* those that
    need a person. *refused* counts reasons by code. *began* and *ended* are the times of the
    run's first and last entry, in µs since 1970 UTC; None if the journal has nothing of it.
    *brief* keeps all but numbers and names out of the text (the policy's `replies: short`).
    """

    run: str
    began: int | None
    ended: int | None
    owed: tuple[Owed, ...]
    failed: tuple[Call, ...]
    unknown: tuple[Call, ...]
    open: tuple[Call, ...]
    waiting: tuple[Waiting, ...]
    refused: Mapping[str, int]
    spent: tuple[Spent, ...]
    calls: tuple[Tally, ...]
    brief: bool = False

    @property
    def fulfilled(self) -> bool:
        """Whether the run certainly owes nothing: contracts alone decide."""
        return not self.owed

    @property
    def clean(self) -> bool:
        """Whether nothing is left over either: all that was begun has succeeded, and is known to."""
        return self.fulfilled and not (self.failed or self.unknown or self.open or self.waiting)

    def render(self) -> str:
        """The report as a model and people should read it."""
        first = _verdict(self)
        if self.brief:
            return first
        return "\n".join([first, *_details(self), *_sums(self)])


def on_one_line(text: str, longest: int = _LONGEST) -> str:
    """*text* without line ends and without what a terminal could obey: a model chose it."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in cut
    )


def _verdict(report: Report) -> str:
    run, owed = on_one_line(report.run), report.owed
    if report.began is None:
        return f"Run {run} has done nothing that is in this journal, so it owes nothing."
    if owed:
        names = ", ".join(_counted(f"{on_one_line(one.then)}" for one in owed))
        return f"UNFINISHED: run {run} owes {_calls(len(owed))}: {names}."
    if report.clean:
        return f"FULFILLED: run {run} owes nothing, and nothing is left over."
    left = [
        f"{len(found)} {word}"
        for word, found in (
            ("failed", report.failed),
            ("unknown", report.unknown),
            ("under way", report.open),
            ("waiting for a person", report.waiting),
        )
        if found
    ]
    return f"FULFILLED: run {run} owes nothing; left over: {', '.join(left)}."


def _details(report: Report) -> Iterator[str]:
    yield from _some(f"- owed by {one}" for one in report.owed)
    failed = Counter((call.tool, call.args) for call in report.failed)
    last = {(call.tool, call.args): call for call in report.failed}
    yield from _some(
        f"- failed, and not mended since: {on_one_line(tool)} {on_one_line(args)}, "
        f"{_times(failed[tool, args])}, the last with {on_one_line(call.error) or 'no message'} "
        f"(entry {call.entry}); make it succeed, or tell the user that it did not"
        for (tool, args), call in last.items()
    )
    yield from _some(
        f"- unknown: {call}; do not repeat it: a person has to find out and reconcile it"
        for call in report.unknown
    )
    yield from _some(f"- under way: {call}; wait for its end" for call in report.open)
    yield from _some(f"- waiting: {one.call}; {_answer(one)}" for one in report.waiting)


def _answer(one: Waiting) -> str:
    if one.state == "approved":
        return f"request {one.request} was approved: make the same call again"
    if one.state == "expired":
        return f"request {one.request} has expired: make the same call again to ask anew"
    return f"a person has to answer request {one.request} first"


def _sums(report: Report) -> Iterator[str]:
    if report.calls:
        sums = {name: sum(getattr(tally, name) for tally in report.calls) for name in COUNTS}
        yield f"Calls: {', '.join(f'{number} {name}' for name, number in sums.items() if number)}."
    if report.refused:
        yield f"Refused for: {', '.join(f'{code} {n}' for code, n in report.refused.items())}."
    if report.spent:
        told = ", ".join(
            f"{one.name} {shown(one.settled)}"
            + (f" and {shown(one.held)} held" if one.held else "")
            for one in report.spent
        )
        yield f"Spent: {told}."


def _some(lines: Iterable[str]) -> Iterator[str]:
    """The first of *lines*, and how many there are besides."""
    known = list(lines)
    yield from known[:_MOST_LINES]
    if len(known) > _MOST_LINES:
        yield f"- … and {len(known) - _MOST_LINES} more"


def _counted(names: Iterable[str]) -> list[str]:
    counted = Counter(names).most_common()
    told = [name if number == 1 else f"{name} ({number}×)" for name, number in counted]
    more = len(told) - _MOST_LINES
    return told if more <= 0 else [*told[:_MOST_LINES], f"{more} other tools"]


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number} calls"
