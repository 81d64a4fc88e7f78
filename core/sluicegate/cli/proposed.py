"""A proposal written down: in a file, on a command line, in a policy test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args

from pydantic import ConfigDict, Field, ValidationError

from ..canonical import NotCanonical, loads
from ..policy import read_json, read_yaml
from ..policy.base import Model
from ..policy.fault import Fault, accepted, shown
from ..policy.origin import Misplaced, Origin
from ..proposal import Proposal, Subject
from .terminal import WrongUse

__all__ = ["Proposed", "Who", "document", "from_json", "read"]

LARGEST: Final = 4_194_304
"""The largest file that is read, in bytes."""

_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}

M = TypeVar("M", bound=Model)


class Who(Model):
    """The subject of a call."""

    tenant: str | None = None
    user: str | None = None
    agent: str | None = None
    roles: tuple[str, ...] = Field(default=(), strict=False)

    def subject(self) -> Subject:
        """The same as a Subject."""
        return Subject(tenant=self.tenant, user=self.user, agent=self.agent, roles=self.roles)


class Proposed(Model):
    """One tool call, in the words of `Proposal`."""

    model_config = ConfigDict(protected_namespaces=())

    tool: str
    args: Mapping[str, Any] = Field(default_factory=dict)
    subject: Who | None = None
    run: str | None = None
    call_id: str | None = None
    tool_schema: Mapping[str, Any] | None = Field(default=None, alias="schema")
    parent: str | None = None
    root: str | None = None
    depth: int = 0
    source: str = ""
    turn: str | None = None
    tools: tuple[tuple[str, ...], ...] = Field(default=(), strict=False)
    prompt: str | None = None

    def proposal(self, who: Who | None = None, run: str | None = None) -> Proposal:
        """The proposal; *who* and *run* where it names none. Raises WrongUse."""
        try:
            return Proposal(
                self.tool,
                self.args,
                subject=(self.subject or who or Who()).subject(),
                run=self.run if "run" in self.model_fields_set else run,
                call_id=self.call_id,
                schema=self.tool_schema,
                parent=self.parent,
                root=self.root,
                depth=self.depth,
                source=self.source,
                turn=self.turn,
                tools=self.tools,
                prompt=self.prompt,
            )
        except (ValueError, TypeError) as error:
            raise WrongUse(f"{self.tool!r:.80} cannot be proposed like this: {error}") from None


def read(path: Path, model: type[M], what: str) -> M:
    """The *what* in a YAML or JSON file; raises PolicyError with the place, or WrongUse."""
    if not path.is_file():
        raise WrongUse(f"there is no {what} at {path}", "name another with its path")
    content = path.read_bytes()
    if len(content) > LARGEST:
        raise WrongUse(f"{path} is larger than {LARGEST:,} bytes", "split it into several files")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongUse(f"{path} is no UTF-8: {error.reason}", "save the file as UTF-8") from None
    return document(text, model, str(path), json=path.suffix.lower() == ".json")


def document(text: str, model: type[M], file: str, *, json: bool = False) -> M:
    """The document in *text*, which errors call *file*; raises PolicyError with the place."""
    origin = Origin(file, None, text)
    try:
        found, marks = (read_json.read if json else read_yaml.read)(text)
    except Misplaced as trouble:
        raise origin.misplaced(trouble) from None
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise Origin(file, None, text, marks).error(_faults(error, model)) from None


def from_json(text: str, what: str) -> Mapping[str, Any]:
    """The JSON object in *text*; raises WrongUse."""
    try:
        found = loads(text)
    except NotCanonical as error:
        raise WrongUse(f"{what} is no JSON: {error}", """write {"order_id": "A-1"}""") from None
    if not isinstance(found, Mapping):
        raise WrongUse(f"{what} is no JSON object", """write {"order_id": "A-1"}""")
    return cast("Mapping[str, Any]", found)


def _faults(error: ValidationError, model: type[Model]) -> Iterator[Fault]:
    for detail in error.errors(include_url=False):
        path, kind = tuple(detail["loc"]), detail["type"]
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Fault):
            yield from cause.under(path)
        elif kind == "extra_forbidden":
            names = [str(name) for name in _names(model, path)]
            yield Fault("is no key here", accepted(path[-1], names), at=path, on_key=True)
        elif kind == "missing":
            yield Fault("is missing", f"write {path[-1]}: …" if path else "", at=path)
        elif kind == "literal_error":
            choices = str(detail.get("ctx", {})["expected"]).replace("'", "")
            yield Fault(f"is {shown(detail['input'])}", f"accepted: {choices}", at=path)
        elif kind in _WANTED:
            wanted = f"it must be {_WANTED[kind]}"
            yield Fault(f"is {shown(detail['input'])}; {wanted}", at=path)
        else:
            yield Fault(f"is {shown(detail['input'])}: {detail['msg']}", at=path)


def _names(model: type[Model], path: tuple[int | str, ...]) -> list[str]:
    """The keys that the model which *path* leads into would have taken."""
    for part in path[:-1]:
        if isinstance(part, int):
            continue
        field = next(f for n, f in model.model_fields.items() if part in (n, f.alias))
        model = next(each for each in _models(field.annotation))
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
