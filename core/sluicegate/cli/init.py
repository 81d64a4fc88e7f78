"""`sluicegate init`: a first policy, with comments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, TypeGuard

import typer

from ..policy.model import Policy
from ..policy.starter import starter
from .sources import DEFAULT
from .terminal import Json, WrongUse, answering, print_json, screen

__all__ = ["init"]

_SCHEMA_KEYS: Final = ("parameters", "input_schema", "inputSchema", "args_schema")
"""Where OpenAI, Anthropic and MCP put a tool's JSON Schema."""


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = DEFAULT,
    tools: Annotated[
        str | None,
        typer.Option("--tools", metavar="NAMES", help="Names of your tools, with commas between."),
    ] = None,
    tools_file: Annotated[
        Path | None,
        typer.Option(
            "--tools-file",
            metavar="FILE",
            help="JSON: your tools as models see them (OpenAI, Anthropic, MCP), or {name: schema}.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Json = False,
) -> None:
    """
    Write a first policy, with comments.

    Names that begin with get_, list_, read_ or search_ are taken for reads, all
    others for writes: look at each of them.

    \b
    Examples:
      sluicegate init
      sluicegate init --tools get_order,issue_refund
      sluicegate init policies/desk.yaml --tools-file tools.json
    """
    with answering(as_json):
        wanted = _wanted(tools, tools_file)
        try:
            text = starter(wanted)
        except ValueError as error:
            raise WrongUse(str(error), "write the names as the model sees them") from None
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise WrongUse(f"{path} is no name for a YAML file", "let it end in .yaml")
        _write(path, text, force=force)
        names = list(Policy.load(path).tools)
        if as_json:
            print_json({"ok": True, "file": str(path), "tools": names})
            return
        out = screen()
        out.print(f"{path} lists {len(names)} tools: {', '.join(names)}")
        out.print(
            "Next: say for each of them what it may do, then `sluicegate check`.", style="dim"
        )


def _wanted(names: str | None, file: Path | None) -> Mapping[str, Any]:
    if names is not None and file is not None:
        raise WrongUse("--tools and --tools-file both name the tools", "use one of the two")
    if file is not None:
        return _schemas(file)
    return {name.strip(): None for name in (names or "").split(",") if name.strip()}


def _schemas(file: Path) -> Mapping[str, Any]:
    """The tools in *file*, each with its JSON Schema."""
    try:
        content: Any = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WrongUse(f"{file} cannot be read as JSON: {error}") from None
    found: Mapping[str, Any] = {}
    with suppress(KeyError, TypeError, AttributeError):  # another form: said below
        tools: Any = content if _is_list(content) else content.get("tools")
        found = dict(_described(tools)) if _is_list(tools) else _plain(content)
    if not found:
        raise WrongUse(
            f"{file} lists no tools in a form that is known here",
            'write {"get_order": {…its JSON Schema…}}, or a list of {"name": …, "parameters": …}',
        )
    return found


def _is_list(content: Any) -> TypeGuard[list[Any]]:
    return isinstance(content, list)


def _described(tools: list[Any]) -> Iterator[tuple[str, Any]]:
    for tool in tools:
        if isinstance(tool, str):
            yield tool, None
            continue
        described = tool.get("function", tool)
        schema = next((described[key] for key in _SCHEMA_KEYS if key in described), None)
        yield str(described["name"]), schema if isinstance(schema, dict) else None


def _plain(content: Any) -> dict[str, Any]:
    return {name: schema if isinstance(schema, dict) else None for name, schema in content.items()}


def _write(path: Path, text: str, *, force: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise WrongUse(f"{path} exists", "--force overwrites it; or give another path") from None
