"""What an agent wants to do, and on whose behalf: frozen before it is judged."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, cast

from .canonical import FrozenDict, NotCanonical, freeze, is_object, loads, quoted
from .decision import Reason
from .schema import Schema

__all__ = ["Proposal", "Subject", "checked_name", "narrowed"]

_LONGEST: Final = 1000
_EMPTY: Final = FrozenDict()
_RESTORED: Final = ("tool", "run", "call_id", "parent", "root", "depth", "source", "turn")
_NOT_CANONICAL: Final = "args_not_canonical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    Who acts: a tenant's user, through an agent, in some roles.

    Every part may be missing; a rule that needs a missing part refuses. Raises
    ValueError or TypeError for parts that are no short text.
    """

    tenant: str | None = None
    user: str | None = None
    agent: str | None = None
    roles: tuple[str, ...] = ()
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = cast("object", self.roles)  # callers may write a list or a set
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise TypeError(f"roles is {given!r}; it must be a list of texts")
        roles = tuple(
            sorted({checked_name(role, "a role") for role in cast("Iterable[object]", given)})
        )
        object.__setattr__(self, "roles", roles)
        parts = (("agent", self.agent), ("tenant", self.tenant), ("user", self.user))
        texts = {
            name: quoted(checked_name(part, name)) if part is not None else "null"
            for name, part in parts
        }
        texts["roles"] = "[" + ",".join(map(quoted, roles)) + "]"
        text = ",".join(f'"{name}":{texts[name]}' for name in sorted(texts))
        object.__setattr__(self, "text", "{" + text + "}")


_NOBODY: Final = Subject()


class Proposal:
    """
    One tool call that an agent proposes, deep-frozen at the door.

    *args* are JSON values; they are copied, so that nothing that happens to the
    original later can change what is decided or what runs. Arguments without a
    canonical form (NaN, a lone surrogate, a 401-digit integer …) leave `args` empty
    and say so in `defect`; the gate refuses such a proposal with the reason in `flaw`.
    An adapter that cannot tell what is proposed, or by whom, gives the *flaw* itself.

    *run* names the agent's run and *call_id* the call in it, by the framework's own
    id; an empty call id means that the framework should have given one and did not.
    *schema* is the tool's own JSON Schema as the model was shown it. *parent* is the
    run that started this one, *root* the outermost of them, *within* those between the two,
    from the outside in, and *depth* the number of runs around this one. *source* says which adapter saw the call.

    *turn* names the message of the model that the call came in. *tools* are the lists of
    names and patterns to which the run was narrowed. *prompt* is what the user said, as
    far as it is known here; it is no part of the canonical form, because the journal
    keeps it once for a run.
    """

    __slots__ = (
        "_binding",
        "args",
        "args_text",
        "call_id",
        "defect",
        "depth",
        "flaw",
        "parent",
        "prompt",
        "raw",
        "root",
        "run",
        "schema",
        "source",
        "subject",
        "text",
        "tool",
        "tools",
        "turn",
        "within",
    )

    tool: str
    args: Mapping[str, Any]
    args_text: str
    subject: Subject
    run: str | None
    call_id: str | None
    schema: Schema | None
    parent: str | None
    root: str | None
    depth: int
    source: str
    turn: str | None
    tools: tuple[tuple[str, ...], ...]
    within: tuple[str, ...]
    prompt: str | None
    defect: str | None
    flaw: Reason | None
    raw: Mapping[str, Any]
    """The arguments as they came, only where there is a defect: for a gate that merely observes."""
    _binding: str | None
    text: str
    """The canonical form (RFC 8785); the schema is in it by its digest."""

    def __init__(
        self,
        tool: str,
        args: Mapping[str, Any],
        *,
        subject: Subject = _NOBODY,
        run: str | None = None,
        call_id: str | None = None,
        schema: Mapping[str, Any] | Schema | None = None,
        parent: str | None = None,
        root: str | None = None,
        depth: int = 0,
        source: str = "",
        turn: str | None = None,
        tools: Collection[Iterable[str]] = (),
        within: Collection[str] = (),
        prompt: str | None = None,
        defect: str | None = None,
        flaw: Reason | None = None,
    ) -> None:
        if not isinstance(subject, Subject):
            raise TypeError(f"subject is a {type(subject).__qualname__}; it must be a Subject")
        if type(depth) is not int or depth < 0:
            raise ValueError(f"depth is {depth!r}; it must be an integer of 0 or more")
        frozen, text, defect = _door(args, flaw.message if flaw is not None else defect)
        tool_name, odd = _from_model(tool, "the tool's name")
        call, odd_call = (
            _from_model(call_id, "the call id") if call_id is not None else (None, None)
        )
        defect = defect or odd or odd_call
        put = object.__setattr__
        put(self, "defect", defect)
        put(self, "flaw", flaw if flaw is not None or defect is None else _not_canonical(defect))
        put(self, "tool", tool_name)
        put(self, "args", frozen)
        put(self, "raw", args if self.defect and isinstance(args, Mapping) else _EMPTY)
        put(self, "args_text", text)
        put(self, "subject", subject)
        put(self, "run", run if run is None else checked_name(run, "run"))
        put(self, "call_id", call)
        put(self, "schema", schema if schema is None else Schema.of(schema))
        put(self, "parent", parent if parent is None else checked_name(parent, "parent"))
        put(
            self,
            "root",
            checked_name(root, "root") if root is not None else self.parent or self.run,
        )
        put(self, "depth", depth)
        put(self, "source", checked_name(source, "source") if source else "")
        put(self, "turn", turn if turn is None else checked_name(turn, "turn"))
        put(self, "tools", _lists(tools) if tools else ())
        put(self, "within", tuple(checked_name(r, "a run in within") for r in within))
        put(self, "prompt", prompt if prompt is None else _said(prompt))
        put(self, "_binding", None)
        put(self, "text", self._canonical())

    @classmethod
    def parse(cls, tool: str, text: str | bytes, **others: Any) -> Proposal:
        """A proposal from arguments as JSON text; a duplicate key in it is a defect."""
        try:
            args = loads(text)
        except NotCanonical as error:
            return cls(tool, {}, defect=str(error), **others)
        return cls(tool, cast("Mapping[str, Any]", args), **others)

    @classmethod
    def restored(
        cls, record: Mapping[str, Any], schema: Schema | None, flaw: Reason | None
    ) -> Proposal:
        """
        The proposal whose canonical form says *record*, as it is in a journal.

        *schema* is the one with the recorded digest. *flaw* is why the call was refused
        where an adapter could not tell what it was.
        """
        given: dict[str, Any] = {name: record.get(name) for name in _RESTORED}
        subject = Subject(**record["subject"])
        defect = record.get("defect") if flaw is None else None
        args: dict[str, Any] = record["args"] if defect is None and flaw is None else {}
        made = cls(
            args=args, subject=subject, schema=schema, defect=defect, flaw=flaw,
            tools=record.get("tools", ()), within=record.get("within", ()), **given,
        )  # fmt: skip
        if record["args"] is not None and args is not record["args"]:
            # the arguments were fine, and the name or the id was not
            frozen, text = freeze(record["args"])
            for name, value in (("args", frozen), ("args_text", text)):
                object.__setattr__(made, name, value)
            object.__setattr__(made, "text", made._canonical())
        return made

    @property
    def digest(self) -> str:
        """SHA-256 over the whole canonical form."""
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def digests(self) -> str:
        """The canonical form with the digest of the arguments in their place."""
        digest = hashlib.sha256(self.args_text.encode()).hexdigest()
        return self.text.replace(
            f'{{"args":{self.args_text}', f'{{"args_digest":"sha256:{digest}"', 1
        )

    @property
    def action(self) -> str:
        """SHA-256 over tool, args, subject and run: what an approval is bound to."""
        text = (
            f'{{"args":{self.args_text},"run":{_optional(self.run)},'
            f'"subject":{self.subject.text},"tool":{quoted(self.tool)}}}'
        )
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def binding(self) -> str:
        """SHA-256 over tool and args alone, in hexadecimal: what a key is bound to."""
        known = self._binding
        if known is None:
            known = hashlib.sha256(f"{quoted(self.tool)}{self.args_text}".encode()).hexdigest()
            object.__setattr__(self, "_binding", known)
        return known

    def running(self, args: Mapping[str, Any]) -> Proposal:
        """
        The call that runs with *args*, where the policy has dropped some of those proposed.

        What was dropped must not tell two calls apart that do the same.
        """
        if args is self.args:
            return self
        return Proposal(self.tool, args, subject=self.subject, run=self.run)

    def _canonical(self) -> str:
        defect = f'"defect":{quoted(self.defect)},' if self.defect else ""
        if self.flaw is not None and self.flaw.code != _NOT_CANONICAL:
            defect += f'"defect_code":"{self.flaw.code}",'
        return (
            f'{{"args":{self.args_text},"call_id":{_optional(self.call_id)},{defect}"depth":{self.depth},'
            f'"parent":{_optional(self.parent)},"root":{_optional(self.root)},"run":{_optional(self.run)},'
            f'"schema":{_optional(self.schema.digest if self.schema is not None else None)},'
            f'"source":{quoted(self.source)},"subject":{self.subject.text},"tool":{quoted(self.tool)}'
            f"{self._rarely()}}}"
        )

    def _rarely(self) -> str:
        """What most calls lack, so that their digests do not depend on it."""
        if self.turn is None and not self.tools and not self.within:
            return ""
        lists = ",".join(f"[{','.join(map(quoted, names))}]" for names in self.tools)
        tools = f',"tools":[{lists}]' if self.tools else ""
        turn = f',"turn":{quoted(self.turn)}' if self.turn is not None else ""
        return (
            tools
            + turn
            + (f',"within":[{",".join(map(quoted, self.within))}]' if self.within else "")
        )

    def __copy__(self) -> Proposal:
        return self

    def __deepcopy__(self, memo: object) -> Proposal:
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a proposal is frozen; {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a proposal is frozen; {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proposal) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Proposal({self.text})"


def _door(args: Any, defect: str | None) -> tuple[FrozenDict, str, str | None]:
    """The frozen copy of *args* and its text, or what is wrong with the call."""
    if defect is None:
        try:
            found = freeze(args if type(args) is dict else _plain(args))  # pyright: ignore[reportUnknownArgumentType]
            return *found, None  # type: ignore[return-value]
        except NotCanonical as error:
            return _EMPTY, "null", str(error)
    if not defect:
        raise ValueError("defect is empty; say what is wrong, or leave it out")
    return _EMPTY, "null", _from_model(defect, "the defect")[0]


def _not_canonical(defect: str) -> Reason:
    message = f"{defect}; only plain JSON can be decided about"
    return Reason(_NOT_CANONICAL, "proposal", message)


def _optional(text: str | None) -> str:
    return "null" if text is None else quoted(text)


def checked_name(value: object, what: str) -> str:
    """*value*, if it is a usable name given by the program; its fault otherwise."""
    if type(value) is not str:
        raise TypeError(f"{what} is {value!r:.80}; it must be a str")
    if not value or len(value) > _LONGEST:
        raise ValueError(f"{what} has {len(value)} characters; it must have 1 to {_LONGEST}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} is {value!r:.80}, which has a lone surrogate") from None
    return value


def narrowed(
    outer: tuple[tuple[str, ...], ...], tools: Iterable[str]
) -> tuple[tuple[str, ...], ...]:
    """*outer* and one more list of names and patterns of tools; raises TypeError or ValueError."""
    if isinstance(tools, str):
        raise TypeError(f"tools is the text {tools!r}; it must be a list of names: [{tools!r}]")
    names = tuple(sorted({checked_name(name, "a name in tools") for name in tools}))
    return outer if names in outer else (*outer, names)


def _lists(tools: Collection[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    found: tuple[tuple[str, ...], ...] = ()
    for names in tools:
        found = narrowed(found, names)
    return found


def _from_model(value: object, what: str) -> tuple[str, str | None]:
    """A name that the model chose: kept in a printable form, with what is wrong with it."""
    if type(value) is not str:
        raise TypeError(f"{what} is {value!r:.80}; it must be a str")
    if value.isascii() and len(value) <= _LONGEST:
        return value, None
    safe = value[:_LONGEST].encode("utf-8", "backslashreplace").decode()[:_LONGEST]
    if len(value) > _LONGEST:
        return safe, f"{what} has {len(value)} characters; at most {_LONGEST} are accepted"
    return safe, None if safe == value else f"{what} has a lone surrogate: {safe!r:.80}"


def _said(prompt: object) -> str:
    """The user's words as a journal can keep them, so that they are remembered as they are kept."""
    if not isinstance(prompt, str):
        raise TypeError(f"prompt is a {type(prompt).__qualname__}; it must be a str")
    return str(prompt) if prompt.isascii() else prompt.encode("utf-8", "backslashreplace").decode()


def _plain(args: object) -> dict[Any, Any]:
    """A dict with the items of *args*, which may be any mapping, read once."""
    if not is_object(args):
        raise NotCanonical(
            f"is a {type(args).__qualname__}; arguments must be an object with named values"
        )
    pairs = list(args.items())
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise NotCanonical("has a key twice; one of the two would be lost")
    return plain
