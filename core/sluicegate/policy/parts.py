"""The parts of a call that limits are counted by (`per`) and that keys are made of (`once`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ..canonical import freeze, is_object, quoted
from ..decision import Code, Reason
from ..proposal import Proposal
from .template import parts

if TYPE_CHECKING:
    from .rules import Call

__all__ = ["MissingPart", "Part", "Scoper", "at_path", "filled", "part", "scoper"]

_SHOWN: Final = 60
"""Characters of a value that a message shows."""


class MissingPart(Exception):
    """The call lacks a part that a rule needs, so the rule cannot be kept: a refusal."""

    def __init__(self, name: str, problem: str = "is missing") -> None:
        self.name = name
        self.problem = problem
        super().__init__(name)

    def reason(self, rule: str) -> Reason:
        if self.name.startswith("args."):
            code: Code = "args_invalid"
            way_out = f"send {self.name} as a string, a number or a boolean"
        elif self.name in ("run", "root"):
            code = "missing_subject"
            way_out = "give the proposal a run, or use sluicegate.context(run=…)"
        else:
            code = "missing_subject"
            way_out = f"give the subject a {self.name}, or use sluicegate.context({self.name}=…)"
        return Reason(
            code, rule, f"{rule} is counted by {self.name}, which {self.problem}; {way_out}"
        )


class Part(NamedTuple):
    """One name of a `per`, and how to read it from a call."""

    name: str
    read: Callable[[Proposal, Mapping[str, Any]], str | None]


def part(name: str, *, around: bool = False) -> Part:
    """
    The part called *name*: tenant, user, agent, run, root, tool or args.<path>.

    With *around* the run is the outermost one: what its sub-agents use is used by it.
    """
    if name.startswith("args."):
        path = tuple(name.split(".")[1:])

        def argument(_: Proposal, args: Mapping[str, Any]) -> str | None:
            return _scalar(name, at_path(args, path))

        return Part(name, argument)
    own = name in ("run", "root", "tool")
    of = attrgetter("root" if around and name == "run" else name if own else f"subject.{name}")

    def attribute(proposal: Proposal, _: Mapping[str, Any]) -> str | None:
        found: str | None = of(proposal)
        return found

    return Part(name, attribute)


Scoper: TypeAlias = Callable[[Proposal, Mapping[str, Any]], tuple[str, str]]


def scoper(names: Sequence[str], *, around: bool = False) -> Scoper:
    """A function that gives the parts called *names* as the end of a key and as words; it raises MissingPart."""
    parts_of = tuple(part(name, around=around) for name in names)
    if not parts_of:
        return lambda proposal, args: ("", "")
    if len(parts_of) == 1:  # the common limit, and worth half a microsecond
        return _single(parts_of[0])

    def scope(proposal: Proposal, args: Mapping[str, Any]) -> tuple[str, str]:
        key = ""
        words: list[str] = []
        for name, read in parts_of:
            value = read(proposal, args)
            if value is None:
                raise MissingPart(name)
            key += f"|{name}={quoted(value)}"
            words.append(f"{name} {_cut(value)}")
        return key, " for " + ", ".join(words)

    return scope


def _single(one: Part) -> Scoper:
    name, read = one
    before, words = f"|{name}=", f" for {name} "

    def scope(proposal: Proposal, args: Mapping[str, Any]) -> tuple[str, str]:
        value = read(proposal, args)
        if value is None:
            raise MissingPart(name)
        return before + quoted(value), words + (value if len(value) <= _SHOWN else _cut(value))

    return scope


def _cut(value: str) -> str:
    return value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"


def filled(text: str | None) -> Callable[[Call], str]:
    """A function that fills *text* from a call; without a text: the tool and all its arguments."""
    if text is None:
        return lambda call: f"{call.proposal.tool}:{call.proposal.running(call.args).binding}"
    pieces = parts(text)
    if len(pieces) == 2 and isinstance(pieces[0], str) and len(pieces[1]) == 1:
        return _prefixed(pieces[0], str(pieces[1][0]))

    def fill(call: Call) -> str:
        found = ""
        for piece in pieces:
            if isinstance(piece, str):
                found += piece
                continue
            name = "args." + ".".join(piece)
            value = _scalar(name, at_path(call.args, piece))
            if value is None:
                raise MissingPart(name)
            found += value
        return found

    return fill


def _prefixed(prefix: str, name: str) -> Callable[[Call], str]:
    """The common key, "refund:{order_id}", without a loop."""

    def fill(call: Call) -> str:
        value = _scalar(f"args.{name}", call.args.get(name))
        if value is None:
            raise MissingPart(f"args.{name}")
        return prefix + value

    return fill


def at_path(args: Any, path: tuple[str, ...]) -> Any:
    """The value at *path* in nested objects; None if there is none."""
    for name in path:
        if not is_object(args) or name not in args:
            return None
        args = args[name]
    return args


def _scalar(name: str, value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    if isinstance(value, (dict, list)):
        raise MissingPart(name, f"is {'an object' if isinstance(value, dict) else 'a list'}")
    return freeze(value)[1]
