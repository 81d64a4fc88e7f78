"""
What a policy wants remembered of a run: steps done, labels seen, values that came up.

A run's memory belongs to its outermost run, so that sub-agents share it. Rules that
look at it become claims; what a call adds to it becomes notes.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from ..canonical import MAX_DEPTH, NotCanonical, freeze, is_object, loads
from ..claims import Barrier, Claim, Done, Labels, Needs, Note, Traced
from ..claims.marks import labels_key
from ..decision import Reason
from ..glob import matches
from ..proposal import Proposal
from ..recall import bucket, came
from .model import Policy, Tool
from .parts import MissingPart, at_path
from .rules import Call, Maker, Makers, Noter
from .tool import OriginRule, Require

__all__ = ["Memory"]

_log: Final = logging.getLogger("sluicegate")
_UNREAD: Final = (
    "a result of %.120r cannot be read (%s); its run remembers nothing more of it, and what needs "
    "that is refused"
)

_MOST_VALUES: Final = 200
"""So many values of one call are traced at most."""

_MOST_STEPS: Final = 256
"""So many steps at most are noted of one result: a list in it makes one of each element."""

Path: TypeAlias = tuple[str, ...]


class Memory:
    """What the rules of one policy remember."""

    def __init__(self, policy: Policy) -> None:
        required = [require for entry in policy.tools.values() for require in entry.requires]
        self._steps = {
            _step(require): (require.tool, _paths(require.match.values())) for require in required
        }
        self._sources = sorted(
            {
                source
                for entry in policy.tools.values()
                for origin in entry.origin.values()
                for source in origin.sources
                if source != "prompt" and not source.startswith("facts.")
            }
        )
        self._flows = [(f"flows[{i}]", flow) for i, flow in enumerate(policy.flows)]
        self._watched = {label for flow in policy.flows for label in flow.after}

    def labels(self, entry: Tool) -> tuple[str, ...]:
        """The labels of a tool that a flow looks at."""
        return tuple(label for label in entry.labels if label in self._watched)

    def makers(self, rule: str, entry: Tool) -> Iterator[Maker]:
        """Claims on what was done and seen before."""
        for index, require in enumerate(entry.requires):
            yield _needs(f"{rule}.requires[{index}]", require)
        for where, flow in self._flows:
            denied = ", ".join(label for label in entry.labels if label in flow.deny)
            if denied:
                yield _barrier(where, flow.name, flow.after, denied)
        labels = self.labels(entry)
        if labels:
            yield _labelled(f"{rule}.labels", labels)

    def origin(self, rule: str, entry: Tool) -> Makers | None:
        """Claims on where values came from, one for each value; None if the tool has no such rule."""
        rules = [
            (f"{rule}.origin.{name}", name, tuple(name.split(".")), origin)
            for name, origin in entry.origin.items()
        ]
        if not rules:
            return None

        def make(call: Call) -> Iterator[Claim | Reason]:
            for where, name, path, origin in rules:
                yield from _traced(where, name, list(_given(call.args, path)), origin, call)

        return make

    def notes(self, tool: str) -> Noter | None:
        """What the success of a call of *tool* adds to the memory of its run."""
        steps = [(step, paths) for step, (of, paths) in self._steps.items() if matches(of, tool)]
        sources = [source for source in self._sources if matches(source, tool)]
        if not steps and not sources:
            return None

        def note(call: Call, result: object) -> Iterator[Note]:
            root = call.proposal.root
            if root is None:
                return
            found: list[Note] = []
            try:
                for step, paths in steps:
                    found += _done(root, step, paths, call.args, result)
                for source in sources:
                    found += came(root, source, call.proposal.turn, result)
            except Exception as error:  # noqa: BLE001 - what is not remembered is refused
                # Neither its words nor a traceback: both could show what is in the result.
                _log.warning(_UNREAD, call.proposal.tool, type(error).__name__)
            yield from found

        return note


def _root(proposal: Proposal, rule: str) -> str | Reason:
    return MissingPart("run").reason(rule) if proposal.root is None else proposal.root


# --- order ------------------------------------------------------------------------------------


def _paths(names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(tuple(name.split(".")) for name in sorted(names))


def _step(require: Require) -> str:
    """What all rules have in common that look for the same call: its tool, and what is compared."""
    text = "\n".join((require.tool, *sorted(require.match.values())))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _key(root: str, step: str, values: Sequence[str]) -> str:
    return f"step|{root}|{step}|{hashlib.sha256(chr(10).join(values).encode()).hexdigest()[:32]}"


def _needs(rule: str, require: Require) -> Maker:
    step = _step(require)
    pairs = sorted((theirs, tuple(own.split("."))) for own, theirs in require.match.items())

    def make(call: Call) -> Claim | Reason | None:
        root = _root(call.proposal, rule)
        if type(root) is Reason:
            return root
        texts: list[str] = []
        for _, own in pairs:
            value = at_path(call.args, own)
            if value is None:
                return MissingPart(f"args.{'.'.join(own)}").reason(rule)
            texts.append(freeze(value)[1])
        told = ", ".join(
            f"{name} {text[:60]}" for (name, _), text in zip(pairs, texts, strict=True)
        )
        wanted = f"{require.tool} with {told}" if told else require.tool
        return Needs(_key(str(root), step, texts), rule, call.proposal.tool, wanted)

    return make


def _done(
    root: str, step: str, paths: tuple[Path, ...], args: Mapping[str, Any], result: object
) -> Iterator[Note]:
    call = {"args": args, "result": _read(result)}
    wanted = [path if path[0] == "result" else ("args", *path) for path in paths]
    rows = _rows(call, dict.fromkeys(wanted))
    for row in itertools.islice(rows, _MOST_STEPS):
        yield Done(_key(root, step, [row[path] for path in wanted]))


def _read(result: object) -> object:
    """A result as JSON: frameworks hand it on as text."""
    if isinstance(result, str):
        try:
            return loads(result)
        except NotCanonical:
            return result
    return result


def _rows(
    value: Any, paths: Iterable[Path], at: Path = (), left: int = MAX_DEPTH
) -> Iterator[dict[Path, str]]:
    """
    The canonical texts of what is at *paths* in *value*, which is itself at *at*.

    A list on the way stands for its elements, one at a time: what is read of the same
    element belongs together.
    """
    if isinstance(value, (list, tuple)):
        for item in cast("Sequence[Any]", value) if left else ():
            yield from _rows(item, paths, at, left - 1)
        return
    inner: dict[str, list[Path]] = {}
    found: list[list[dict[Path, str]]] = []
    for path in paths:
        if path == at:
            found.append([{path: text} for text in _text(value)])
        else:
            inner.setdefault(path[len(at)], []).append(path)
    for name, beyond in inner.items():
        known = is_object(value) and name in value
        below = _rows(value[name], beyond, (*at, name), left) if known else ()
        found.append(list(itertools.islice(below, _MOST_STEPS)))
    for parts in itertools.product(*found):
        yield {path: text for part in parts for path, text in part.items()}


def _text(value: object) -> Iterator[str]:
    try:
        if value is not None:
            yield freeze(value)[1]
    except NotCanonical:
        return


# --- labels -----------------------------------------------------------------------------------


def _barrier(rule: str, name: str, after: tuple[str, ...], denied: str) -> Maker:
    def make(call: Call) -> Claim | Reason | None:
        root = _root(call.proposal, rule)
        if type(root) is Reason:
            return root
        proposal = call.proposal
        key = labels_key(str(root))
        return Barrier(key, rule, name, proposal.tool, after, denied, proposal.turn)

    return make


def _labelled(rule: str, labels: tuple[str, ...]) -> Maker:
    def make(call: Call) -> Claim | Reason | None:
        root = _root(call.proposal, rule)
        if type(root) is Reason:
            return root
        return Labels(labels_key(str(root)), labels, call.proposal.tool, call.proposal.turn)

    return make


# --- origin -----------------------------------------------------------------------------------


def _given(value: Any, path: Path) -> Iterator[object]:
    """
    All values at *path*; a list on the way stands for its elements.

    What stands where an object should is looked at itself: nobody knows what the tool makes of it.
    """
    if not path:
        yield value
    elif is_object(value):
        if path[0] in value:
            yield from _given(value[path[0]], path[1:])
    elif isinstance(value, list):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _given(item, path)
    else:
        yield value


def _traced(
    rule: str, name: str, values: list[object], origin: OriginRule, call: Call
) -> Iterator[Claim | Reason]:
    from ..provenance import digest, sought

    root = _root(call.proposal, rule)
    if type(root) is Reason:
        yield root
        return
    atoms = sought(values)
    if len(atoms) > _MOST_VALUES:
        message = (
            f"{name} has {len(atoms)} values, and at most {_MOST_VALUES} can be traced to where "
            "they came from; make several calls"
        )
        yield Reason("origin", rule, message)
        return
    lost = next((shown for shown, forms in atoms if not forms), None)
    if lost is not None:
        message = (
            f"{name} has {lost}, which cannot be traced to where it came from; send less at once"
        )
        yield Reason("origin", rule, message)
        return
    facts = _in_facts(origin, call.facts)
    for shown, forms in atoms:
        if not facts.isdisjoint(forms):
            continue
        digests = tuple(digest(form) for form in forms)
        yield Traced(
            tuple(bucket(str(root), form) for form in digests),
            rule,
            f"{name} {shown!r}",
            digests,
            origin.sources,
            call.proposal.turn,
            _words(origin.sources),
            origin.otherwise == "approve",
        )


def _in_facts(origin: OriginRule, facts: Mapping[str, Any]) -> frozenset[str]:
    from ..provenance import found

    forms: frozenset[str] = frozenset()
    for source in origin.sources:
        if source.startswith("facts."):
            value = at_path(facts, tuple(source.split(".")[1:]))
            forms |= found(value).values if value is not None else frozenset()
    return forms


def _words(sources: Sequence[str]) -> str:
    told = [
        "the user's words"
        if source == "prompt"
        else source
        if source.startswith("facts.")
        else f"an earlier result of {source}"
        for source in sources
    ]
    return " or ".join(told)
