"""
What a policy file can say: strict, frozen models and nothing that decides.

A model refuses what is wrong with itself; `Policy` refuses what is wrong between
its parts. The refusals are `Fault`s, which `load` turns into `PolicyError`s with
file, line and column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from ..canonical import FrozenDict, Json, NotCanonical, freeze
from . import values
from .agreement import disagreements
from .base import Model
from .fault import Fault, Path
from .limits import (
    BUILT_IN,
    KINDS,
    AnyLimit,
    Budget,
    Concurrency,
    Depth,
    Limit,
    RateLimit,
    Repeat,
)
from .origin import Mark, Origin
from .tool import Approve, Breaker, Match, Once, OriginRule, Require, Tool
from .units import Rate

__all__ = [
    "BUILT_IN",
    "KINDS",
    "Approve",
    "Breaker",
    "Budget",
    "Concurrency",
    "Contract",
    "Depth",
    "Flow",
    "Grant",
    "Limit",
    "Once",
    "OriginRule",
    "Policy",
    "Rate",
    "RateLimit",
    "Repeat",
    "Require",
    "Tool",
]


class Grant(Model):
    """Who may call what. All parts that are given must fit; one grant that fits is enough."""

    tenant: values.Glob | None = None
    """A name or pattern for the tenant."""

    user: values.Glob | None = None
    """A name or pattern for the user."""

    agent: values.Glob | None = Field(default=None, examples=["support-*"])
    """A name or pattern for the agent."""

    role: values.Glob | None = None
    """A name or pattern that one of the roles must fit."""

    tools: Annotated[values.Globs, AfterValidator(values.not_empty)] = Field(examples=[["get_*"]])
    """Names or patterns of tools."""

    when: values.Condition | None = None
    """A CEL condition that must be true."""


class Flow(Model):
    """What this run may no longer do with what it has seen."""

    name: values.Name = Field(examples=["no-exfiltration"])
    """What refusals call it."""

    after: Annotated[values.Names, AfterValidator(values.some_labels)] = Field(
        examples=[["untrusted", "sensitive"]]
    )
    """Labels: once the run has seen results of tools with all of them."""

    deny: Annotated[values.Names, AfterValidator(values.some_labels)] = Field(
        examples=[["external_send"]]
    )
    """Labels: tools with any of them are refused from then on."""


class Contract(Model):
    """What a run owes: a call that must follow another one before the run ends."""

    when: values.Glob = Field(examples=["issue_refund"])
    """The name or pattern of a tool; each call of it that succeeded asks for another call."""

    then: values.Glob = Field(examples=["send_receipt"])
    """The name or pattern of the tool that must succeed after it."""

    match: Match = Field(default_factory=FrozenDict, examples=[{"order_id": "order_id"}])
    """The argument of the `then` call, and the argument of the `when` call, `result` or
    `result.<path>` that it must be equal to."""


def _named_apart(flows: tuple[Flow, ...]) -> tuple[Flow, ...]:
    known: dict[str, int] = {}
    for i, flow in enumerate(flows):
        first = known.setdefault(flow.name, i)
        if first != i:
            raise Fault(
                f"is {flow.name!r}, as that of flows[{first}]",
                "refusals name the flow; give each a name of its own",
                at=(i, "name"),
            )
    return flows


class Policy(Model):
    """
    Everything that a gate goes by. Default deny: a tool without an entry cannot run.

    Make one with `load`, `parse` or `of`; each raises PolicyError. Two policies
    are equal if their revisions are.
    """

    version: Annotated[Literal[1], BeforeValidator(values.exactly_one)]
    """The version of this format."""

    replies: Literal["full", "short"] = "full"
    """What the model is told about a refusal: full, or short for the code alone."""

    tools: Annotated[Mapping[values.Glob, Tool], AfterValidator(values.some_tools)] = Field(
        json_schema_extra={"minProperties": 1}, examples=[{"search_orders": {"effect": "read"}}]
    )
    """Exact names or patterns; the most specific entry that fits a call counts, and no other."""

    grants: Annotated[tuple[Grant, ...] | None, AfterValidator(values.some_grants)] = Field(
        default=None, strict=False, json_schema_extra={"minItems": 1}
    )
    """Who may call what. Without this section every subject may call every listed tool."""

    limits: tuple[AnyLimit, ...] = Field(default=(), strict=False)
    """Shared limits; every one that fits a call applies."""

    flows: Annotated[tuple[Flow, ...], AfterValidator(_named_apart)] = Field(
        default=(), strict=False
    )
    """What a run may no longer do with what it has seen."""

    contracts: tuple[Contract, ...] = Field(default=(), strict=False)
    """What a run owes before it ends."""

    _document: Mapping[str, Json] = PrivateAttr(default_factory=FrozenDict)
    _revision: str = PrivateAttr(default="")
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @classmethod
    def load(cls, path: str | FilePath) -> Policy:
        """The policy in the file *path*: .yaml, .yml, .toml or .json. Raises PolicyError."""
        from .load import load

        return load(path)

    @classmethod
    def parse(cls, text: str, *, format: str = "yaml", file: str = "<policy>") -> Policy:
        """The policy in *text*: yaml, toml or json. Raises PolicyError, which calls it *file*."""
        from .load import parse

        return parse(text, format=format, file=file)

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Policy:
        """The policy that a plain JSON document says. Raises PolicyError."""
        from .load import of

        return of(document)

    @property
    def revision(self) -> str:
        """
        `sha256:` and the digest of the document's canonical form.

        Comments, the order of keys and the file's format do not count.
        """
        return self._revision

    @property
    def document(self) -> Mapping[str, Json]:
        """The document as plain, frozen JSON."""
        return self._document

    @property
    def source(self) -> str:
        """The name of the file, empty if there is none."""
        return self._origin.file

    @property
    def path(self) -> FilePath | None:
        """The path of the file, None if there is none."""
        return self._origin.path

    def position(self, path: Path, *, on_key: bool = False) -> Mark | None:
        """Where in the file the value at *path* is, as far as that is known."""
        return self._origin.mark(path, on_key=on_key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._revision == other._revision

    def __hash__(self) -> int:
        return hash(self._revision)

    def __repr__(self) -> str:
        return f"<Policy {self.source or 'without a file'}, {self._revision[:19]}…>"

    @model_validator(mode="wrap")
    @classmethod
    def _keep_the_document(
        cls, data: Any, handler: ModelWrapValidatorHandler[Policy], info: ValidationInfo
    ) -> Policy:
        """Freeze the document first, so that the revision is of what was validated."""
        if not isinstance(data, Mapping):
            raise Fault("is no mapping", "begin with: version: 1")
        try:
            document, text = freeze(dict(cast("Mapping[str, object]", data)))
        except NotCanonical as error:
            hint = "accepted: text, numbers, true, false, lists and mappings"
            raise Fault(error.problem, hint, at=error.path) from None
        document = cast("dict[str, Json]", document)
        Fault.refuse(_empties(document, ()))
        policy = handler(document)
        policy._document = document
        policy._revision = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        policy._origin = info.context if isinstance(info.context, Origin) else Origin()
        Fault.refuse(disagreements(policy))
        return policy


def _empties(value: Json, path: Path) -> Iterator[Fault]:
    """
    Values that somebody forgot to write.

    An empty `when:` must not mean "always", nor an empty `grants:` "everybody".
    Inside a JSON Schema null is a value like others.
    """
    in_schema = len(path) == 3 and path[0] == "tools" and path[2] == "args"
    if value is None:
        defaults = path[:-1] == ("tools",)
        hint = "write {} for the defaults" if defaults else "write a value, or remove it"
        yield Fault("is empty", hint, at=path, on_key=isinstance(path[-1], str))
    elif isinstance(value, dict) and not in_schema:
        for key, item in value.items():
            yield from _empties(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _empties(item, (*path, i))
