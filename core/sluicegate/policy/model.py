"""
What a policy file can say: strict, frozen models and nothing that decides.

A model refuses what is wrong with itself; `Policy` refuses what is wrong between
its parts. The refusals are `Fault`s, which `load` turns into `PolicyError`s with
file, line and column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Tag,
    ValidationInfo,
    model_validator,
)

from ..canonical import FrozenDict, Json, NotCanonical, freeze
from . import values
from .fault import Fault, Path, accepted
from .glob import is_glob, ties
from .origin import Mark, Origin
from .units import Rate

__all__ = [
    "BUILT_IN",
    "KINDS",
    "NOT_YET",
    "Budget",
    "Concurrency",
    "Grant",
    "Limit",
    "Once",
    "Policy",
    "Rate",
    "RateLimit",
    "Tool",
]

BUILT_IN: Final = "calls"
"""The resource of which every permitted call costs 1."""

KINDS: Final = ("budget", "rate", "concurrency")
"""The kinds of limits, each named by the key that makes it one."""

NOT_YET: Final[Mapping[str, frozenset[str]]] = {
    "policy": frozenset({"flows", "contracts"}),
    "tool": frozenset({"requires", "breaker", "origin", "approve", "record"}),
    "limit": frozenset({"repeat", "depth"}),
}
"""Keys of the design that this version refuses by name: a rule is never ignored."""

_MOST_GLOBS: Final = 500

Per = Annotated[tuple[values.Part, ...], Field(strict=False), AfterValidator(values.distinct)]
Globs = Annotated[tuple[values.Glob, ...], Field(strict=False), AfterValidator(values.distinct)]
Names = Annotated[tuple[values.Name, ...], Field(strict=False), AfterValidator(values.distinct)]


class _Model(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        validate_default=False,
        use_attribute_docstrings=True,
    )


class Once(_Model):
    """At most once for each key, across runs and processes, within a tenant."""

    key: values.Template | None = Field(
        default=None, examples=["refund:{order_id}", "{customer.id}/{month}"]
    )
    """What the action is about, with arguments in braces. Default: all arguments."""

    within: values.Span | None = Field(default=None, examples=["24h"])
    """For how long a key stays used. Default: forever."""


class Tool(_Model):
    """One tool, or all tools whose names fit a pattern."""

    effect: Literal["read", "idempotent", "write"] = "write"
    """read: no side effect; idempotent: safe to repeat with equal arguments; write: not safe."""

    args: values.ArgumentSchema | None = Field(
        default=None, examples=[{"properties": {"amount": {"type": "number", "maximum": 500}}}]
    )
    """JSON Schema (2020-12) of the arguments; the tool's own schema must hold as well."""

    unknown_args: Literal["deny", "drop", "allow"] = "deny"
    """What to do with arguments that the tool never declared."""

    when: values.Condition | None = Field(default=None, examples=["args.currency == 'EUR'"])
    """A CEL condition over args, subject, facts, run and now that must be true."""

    once: Once | None = None
    """At most once, across runs and processes."""

    cost: values.Costs = Field(
        default_factory=FrozenDict, examples=[{"eur": "args.amount", "emails": 1}]
    )
    """Metered resources that a call uses: a name and a number or an expression."""

    concurrency: values.Count | None = None
    """How many calls of this tool may run at the same time."""

    rate: values.RateText | None = None
    """How often this tool may be called."""

    on_error: Literal["unknown", "failed"] | None = None
    """What an exception means. Default: unknown for write, failed for the rest."""

    lease: values.Span = Field(default=300_000_000, json_schema_extra={"default": "5m"})
    """How long a permit lives; a call that has not ended by then is an unknown outcome."""

    labels: Names = ()
    """Words of your own that rules can refer to."""


class Grant(_Model):
    """Who may call what. All parts that are given must fit; one grant that fits is enough."""

    tenant: values.Glob | None = None
    """A name or pattern for the tenant."""

    user: values.Glob | None = None
    """A name or pattern for the user."""

    agent: values.Glob | None = Field(default=None, examples=["support-*"])
    """A name or pattern for the agent."""

    role: values.Glob | None = None
    """A name or pattern that one of the roles must fit."""

    tools: Annotated[Globs, AfterValidator(values.not_empty)] = Field(examples=[["get_*"]])
    """Names or patterns of tools."""

    when: values.Condition | None = None
    """A CEL condition that must be true."""


class _Limit(_Model):
    per: Per = Field(default=(), examples=[["tenant"], ["run", "args.account"]])
    """What each has a limit of its own: tenant, user, agent, run, root, tool, args.<name>."""

    tools: Annotated[Globs, AfterValidator(values.not_empty)] = Field(default=("*",))
    """The tools that share this limit."""


class Budget(_Limit):
    """At most so much of a metered resource in each window, or ever."""

    budget: values.Name = Field(examples=["eur", "calls"])
    """A name from the `cost` of tools, or `calls`, of which every call costs 1."""

    limit: values.Amount = Field(examples=[1000, "0.25"])
    """How much, in the unit of the cost."""

    window: Literal["minute", "hour", "day", "week", "month"] | None = None
    """When the budget is full again, in UTC. Default: never."""


class RateLimit(_Limit):
    """At most so many calls in a period, on average, with bursts."""

    rate: values.RateText
    """How often: 20/s, 10/min, 3/10s."""

    burst: values.Count | None = None
    """How many may come at once. Default: the number in `rate`."""


class Concurrency(_Limit):
    """At most so many calls at the same time."""

    concurrency: values.Count
    """How many."""

    wait: values.Pause = Field(default=0, json_schema_extra={"default": "0s"})
    """How long a call may wait for its turn before it is refused."""


def _kind_of(entry: object) -> str | None:
    if isinstance(entry, Mapping):
        return next((kind for kind in KINDS if kind in entry), None)
    return None


Limit: TypeAlias = Budget | RateLimit | Concurrency
_AnyLimit = Annotated[
    Annotated[Budget, Tag("budget")]
    | Annotated[RateLimit, Tag("rate")]
    | Annotated[Concurrency, Tag("concurrency")],
    Discriminator(_kind_of, custom_error_type="no_kind", custom_error_message="has no kind"),
]


class Policy(_Model):
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

    limits: tuple[_AnyLimit, ...] = Field(default=(), strict=False)
    """Shared limits; every one that fits a call applies."""

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
        return policy

    @model_validator(mode="after")
    def _parts_agree(self) -> Policy:
        Fault.refuse([*_ties(self.tools), *_idle_budgets(self)])
        return self


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


def _ties(tools: Mapping[str, Tool]) -> Iterator[Fault]:
    globs = [name for name in tools if is_glob(name)]
    if len(globs) > _MOST_GLOBS:
        yield Fault(
            f"has {len(globs)} patterns", f"at most {_MOST_GLOBS}", at=("tools",), on_key=True
        )
        return
    order = {name: i for i, name in enumerate(globs)}
    for pair in islice(ties(globs), 10):
        first, second = sorted(pair, key=order.__getitem__)
        yield Fault(
            f"and {first} are equally specific, and some names fit both",
            "the pattern with more literal characters wins; make one of the two longer",
            at=("tools", second),
            on_key=True,
        )


def _idle_budgets(policy: Policy) -> Iterator[Fault]:
    names = {BUILT_IN, *(name for tool in policy.tools.values() for name in tool.cost)}
    for i, limit in enumerate(policy.limits):
        if isinstance(limit, Budget) and limit.budget not in names:
            yield Fault(
                f"is {limit.budget!r}, which no tool costs, so this limit would never apply",
                accepted(limit.budget, sorted(names)),
                at=("limits", i, "budget"),
            )
