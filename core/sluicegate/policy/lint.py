"""
What is probably not meant in a policy that is otherwise right: rules that never apply.

A pattern under `tools` is never looked for here: the most specific entry wins, and
no set of more specific ones can fit every name that a pattern fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..canonical import Json
from ..glob import is_glob
from .agreement import fits_any, unlisted
from .fault import Fault, Path, spoken
from .limits import BUILT_IN, Budget, Repeat
from .model import Flow, Policy
from .template import parts
from .tool import Tool

__all__ = ["Remark", "problems"]

_FOR: Final[Mapping[str, str]] = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), "number"),
    **dict.fromkeys(("multipleOf",), "number"),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), "string"),
    **dict.fromkeys(("items", "minItems", "maxItems", "uniqueItems", "prefixItems"), "array"),
    **dict.fromkeys(("properties", "required", "additionalProperties"), "object"),
}
"""Which kind of value a keyword is about: for all others it holds without being looked at."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning about the value at *path*. *line* and *column* count from 1, 0 if not known."""

    path: str
    text: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path} {self.text}"


def problems(policy: Policy) -> list[Remark]:
    """What in *policy* can have no effect, or less than it seems to; in the order of the file."""
    faults = [
        *_of_tools(policy),
        *_unreached(policy),
        *_of_grants(policy),
        *_of_limits(policy),
        *_of_repeats(policy),
        *_of_flows(policy),
        *_of_contracts(policy),
    ]
    remarks: list[Remark] = []
    for fault in faults:
        line, column = policy.position(fault.at, on_key=fault.on_key) or (0, 0)
        text = f"{fault.problem}; {fault.hint}" if fault.hint else fault.problem
        remarks.append(Remark(spoken(fault.at), text, line, column))
    return sorted(remarks, key=lambda remark: (remark.line, remark.column))


def _of_tools(policy: Policy) -> Iterator[Fault]:
    for name, tool in policy.tools.items():
        at: Path = ("tools", name)
        for key in ("cost", "once"):
            if tool.effect == "read" and getattr(tool, key):
                yield Fault(
                    f"has effect read, and {key}",
                    "a call that changes, sends or spends something is no read",
                    at=(*at, key),
                    on_key=True,
                )
        if (
            tool.once
            and tool.once.key
            and not any(isinstance(p, tuple) for p in parts(tool.once.key))
        ):
            yield Fault(
                "is the same for every call",
                "name an argument: {order_id}",
                at=(*at, "once", "key"),
            )
        yield from _loose(tool, at)


def _loose(tool: Tool, at: Path) -> Iterator[Fault]:
    """`maximum` says nothing about text: without a type, "5000" passes a maximum of 500."""
    properties: Mapping[str, Json] = (tool.args or {}).get("properties", {})
    for name, schema in properties.items():
        if not isinstance(schema, dict) or not {"type", "enum", "const", "$ref"}.isdisjoint(schema):
            continue
        word = next((word for word in _FOR if word in schema), None)
        if word is not None:
            kind = _FOR[word]
            yield Fault(
                f"holds for every value that is no {kind}",
                f"add type: {kind}",
                at=(*at, "args", "properties", name, word),
                on_key=True,
            )


def _unreached(policy: Policy) -> Iterator[Fault]:
    if policy.grants is None:
        return
    granted = {pattern for grant in policy.grants for pattern in grant.tools}
    for name in policy.tools:
        if not fits_any(name, granted):
            yield Fault("cannot run: no grant is for it", at=("tools", name), on_key=True)


def _of_grants(policy: Policy) -> Iterator[Fault]:
    for i, grant in enumerate(policy.grants or ()):
        yield from _unlisted(policy, grant.tools, ("grants", i, "tools"))


def _of_limits(policy: Policy) -> Iterator[Fault]:
    for i, limit in enumerate(policy.limits):
        if "tools" in limit.model_fields_set:
            yield from _unlisted(policy, limit.tools, ("limits", i, "tools"))
        if isinstance(limit, Budget) and limit.budget != BUILT_IN:
            costly = [name for name, tool in policy.tools.items() if limit.budget in tool.cost]
            if not any(fits_any(name, limit.tools) for name in costly):
                hint = f"{limit.budget} is a cost of {', '.join(costly)}"
                yield Fault("fits no tool that has this cost", hint, at=("limits", i, "tools"))


def _of_repeats(policy: Policy) -> Iterator[Fault]:
    """Repetitions are for runs: a limit that counts for ever, or ends a run at once, surprises."""
    counted: set[str] = set()
    for i, limit in enumerate(policy.limits):
        if not isinstance(limit, Repeat):
            continue
        counted.update(limit.tools)
        yield from _once_is_the_end(limit.repeat, ("limits", i, "repeat"))
        if {"run", "root"}.isdisjoint(limit.per):
            yield Fault(
                "counts the calls of all runs together, and for ever",
                "count each run on its own: per: [run]",
                at=("limits", i, "per" if limit.per else "repeat"),
                on_key=True,
            )
    for name, tool in policy.tools.items():
        at: Path = ("tools", name, "repeat")
        if tool.repeat is not None and not fits_any(name, counted):
            hint = "add one to limits: {repeat: 3, per: [run]}"
            yield Fault("changes nothing: no `repeat` limit is for this tool", hint, at=at)
        elif tool.repeat is not None and tool.repeat is not False:
            yield from _once_is_the_end(tool.repeat, at)


def _once_is_the_end(repeat: int, at: Path) -> Iterator[Fault]:
    if repeat == 1:
        yield Fault(
            "is 1, so the second identical call halts the run, even a retry after a failure",
            "write 2 or more; `once` gives a repeated call the recorded result",
            at=at,
        )


def _of_flows(policy: Policy) -> Iterator[Fault]:
    for i, flow in enumerate(policy.flows):
        for j, label in enumerate(flow.after):
            carriers = [name for name, tool in policy.tools.items() if label in tool.labels]
            if all(_denied(policy.tools[name], flow) for name in carriers):
                yield Fault(
                    f"is {label!r}, which only tools have that this flow denies "
                    f"({', '.join(carriers[:3])}): one of their calls comes before it holds",
                    "a tool that both reads and sends wants a rule of its own",
                    at=("flows", i, "after", j),
                )


def _denied(tool: Tool, flow: Flow) -> bool:
    return not set(tool.labels).isdisjoint(flow.deny)


def _of_contracts(policy: Policy) -> Iterator[Fault]:
    for i, contract in enumerate(policy.contracts):
        if contract.then == contract.when and not is_glob(contract.then):
            yield Fault(
                "is the tool that it has to follow: each call would ask for one more",
                "name another tool",
                at=("contracts", i, "then"),
            )


def _unlisted(policy: Policy, patterns: Iterable[str], at: Path) -> Iterator[Fault]:
    for i, pattern in enumerate(patterns):
        yield from unlisted(pattern, policy.tools, (*at, i))
