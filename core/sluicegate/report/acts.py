"""What one run did: its proposals in the order of the journal, each with what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from ..canonical import freeze
from ..journal import Entry
from .value import Call, State

__all__ = ["ABSENT", "Act", "Acts", "Moment"]

ABSENT: Final = object()
"""Stands for a result that the journal does not have."""

_LONGEST_ARGS: Final = 120
_ENDS: Final[Mapping[str, State]] = {
    "permit": "open",
    "recorded": "recorded",
    "deny": "refused",
    "defer": "deferred",
}

Moment: TypeAlias = tuple[int, int]
"""A time in µs since 1970 UTC, and the place in the journal among those of the same time."""


class Act(NamedTuple):
    """
    One proposal. *began* is when it was decided about; *ended* when its effect was over at
    the latest, None while it is under way.

    *content* is the journal entry of the decision, and *text* the canonical form of the
    arguments, or their digest. *cost* is None until the call is settled.
    """

    content: Mapping[str, Any]
    text: str
    entry: int
    began: Moment
    ended: Moment | None
    state: State
    result: object = ABSENT
    error: str = ""
    cost: Mapping[str, int] | None = None

    @property
    def said(self) -> Mapping[str, Any]:
        """The proposal, as the journal has it."""
        said: Mapping[str, Any] = self.content["proposal"]
        return said

    @property
    def tool(self) -> str:
        return str(self.said["tool"])

    @property
    def args(self) -> Mapping[str, Any] | None:
        """The arguments; None where the journal keeps none."""
        args: Mapping[str, Any] | None = self.said.get("args")
        return args

    @property
    def codes(self) -> list[str]:
        """Why it was refused."""
        return list(dict.fromkeys(reason["code"] for reason in self.content.get("reasons", ())))

    def call(self) -> Call:
        """The act as it is told."""
        text = self.text if len(self.text) <= _LONGEST_ARGS else self.text[:_LONGEST_ARGS] + "…"
        return Call(
            tool=self.tool,
            args=text,
            state=self.state,
            entry=self.entry,
            at=self.began[0],
            run=self.said["run"],
            permit=str(self.content.get("permit", "")),
            error=self.error,
        )


class Acts:
    """
    The acts of *run* and of the runs inside it, as far as entries were shown to `learn`.

    A run is inside another if the other is its parent or its outermost run.
    """

    def __init__(self, run: str) -> None:
        self.all: list[Act] = []
        self.answers: dict[str, str] = {}
        """What people said to requests: approve or reject."""
        self.first: int | None = None
        self.last: int | None = None
        self._run = run
        self._runs = {run}
        self._permits: dict[str, int] = {}
        self._place = 0

    def learn(self, entry: Entry) -> None:
        """Take note of one entry; they come in the order of the journal."""
        self._place += 1
        content = entry.content
        kind = content["kind"]
        if kind == "decision" and self._ours(content["proposal"]):
            self._decided(entry.seq, content)
        elif kind == "outcome" and content["permit"] in self._permits:
            self._settled(content)
        elif kind == "approval":
            self.answers[content["request"]] = content["verdict"]

    def until(self, now: int) -> list[Act]:
        """All acts as they stand at *now*: whose lease has ended unsettled is unknown."""
        return [_lapsed(act, now) if act.state == "open" else act for act in self.all]

    def _ours(self, said: Mapping[str, Any]) -> bool:
        ours = said["root"] == self._run or said["run"] == self._run or said["parent"] in self._runs
        if ours and said["run"] is not None:  # without one it is around nothing
            self._runs.add(said["run"])
        return ours

    def _decided(self, entry: int, content: Mapping[str, Any]) -> None:
        said, now = content["proposal"], (content["at"], self._place)
        if "permit" in content:  # also what an observing gate lets run, whatever it thought of it
            state: State = "open"
            self._permits[content["permit"]] = len(self.all)
        else:
            state = _ENDS[content["decision"]]
        text = said["args_digest"] if "args_digest" in said else freeze(said["args"])[1]
        ended = None if state == "open" else now
        self.all.append(Act(content, text, entry, now, ended, state))
        self._seen(content["at"])

    def _settled(self, content: Mapping[str, Any]) -> None:
        place = self._permits[content["permit"]]
        act, at = self.all[place], content["at"]
        ended = act.ended or (at, self._place)
        if act.ended is None and "by" in content:  # found out long after its lease had ended
            ended = (_expires(act), 0)
        self.all[place] = act._replace(
            ended=ended,
            state=content["outcome"],
            result=content.get("result", ABSENT),
            error=content.get("error", ""),
            cost=content["cost"],
        )
        self._seen(at)

    def _seen(self, at: int) -> None:
        self.first = at if self.first is None else self.first
        self.last = at


def _expires(act: Act) -> int:
    return int(act.content["at"]) + int(act.content["lease"])


def _lapsed(act: Act, now: int) -> Act:
    expires = _expires(act)
    if now < expires:
        return act
    return act._replace(state="unknown", ended=(expires, 0), error="it was never settled")
