"""From a file, a text or a document to a `Policy`; every mistake is one PolicyError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from ..errors import PolicyError
from . import read_json, read_toml, read_yaml
from .complaints import faults_of
from .fault import accepted
from .model import Policy
from .origin import Marks, Misplaced, Origin, mark_at, starts_of_lines

__all__ = ["LARGEST", "load", "of", "parse"]

LARGEST: Final = 1_048_576
"""The largest policy file, in bytes."""

_READERS: Final[Mapping[str, Callable[[str], tuple[Any, Marks]]]] = {
    "yaml": read_yaml.read,
    "json": read_json.read,
    "toml": read_toml.read,
}
_FORMATS: Final = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
_START: Final = "`sluicegate init` writes a starter policy with comments"


def load(path: str | FilePath) -> Policy:
    """The policy in the file *path*, whose suffix says the format; raises PolicyError."""
    path = FilePath(path)
    file = str(path)
    format = _FORMATS.get(path.suffix.lower())
    if format is None:
        hint = f"accepted: {', '.join(_FORMATS)}"
        raise PolicyError(
            f"a policy file cannot end in {path.suffix or 'nothing'}", file=file, hint=hint
        )
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise PolicyError("there is no policy file here", file=file, hint=_START) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PolicyError(f"the policy file cannot be read: {reason}", file=file) from None
    return _parsed(_decoded(content, file), format, Origin(file, path))


def parse(text: str, *, format: str = "yaml", file: str = "<policy>") -> Policy:
    """The policy in *text* (yaml, toml or json), which errors call *file*; raises PolicyError."""
    if format not in _READERS:
        raise PolicyError(
            f"there is no format {format!r}", file=file, hint=accepted(format, _READERS)
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        mark = mark_at(starts_of_lines(text), error.start)
        raise PolicyError(
            "a lone surrogate is no character", file=file, line=mark.line, column=mark.column
        ) from None
    return _parsed(text, format, Origin(file))


def of(document: Mapping[str, object]) -> Policy:
    """The policy that the plain JSON *document* says; raises PolicyError, without positions."""
    return _built(document, Origin())


def _decoded(content: bytes, file: str) -> str:
    if len(content) > LARGEST:
        raise _too_large(file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        mark = mark_at(starts_of_lines(before), len(before))
        raise PolicyError(
            f"byte 0x{content[error.start]:02x} is not UTF-8",
            file=file,
            line=mark.line,
            column=mark.column,
            hint="save the file as UTF-8",
        ) from None


def _parsed(text: str, format: str, origin: Origin) -> Policy:
    origin = replace(origin, text=text)
    if len(text.encode()) > LARGEST:
        raise _too_large(origin.file)
    try:
        document, marks = _READERS[format](text)
    except Misplaced as trouble:
        raise origin.misplaced(trouble) from None
    return _built(document, replace(origin, marks=marks))


def _too_large(file: str) -> PolicyError:
    hint = "one pattern such as get_* can stand for many tools"
    return PolicyError(f"the policy is larger than {LARGEST:,} bytes", file=file, hint=hint)


def _built(document: Any, origin: Origin) -> Policy:
    if document is None or document == {}:
        raise PolicyError("the policy is empty", file=origin.file or "<policy>", hint=_START)
    try:
        return Policy.model_validate(document, context=origin)
    except ValidationError as error:
        raise origin.error(faults_of(error)) from None
