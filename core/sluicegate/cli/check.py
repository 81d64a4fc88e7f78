"""`sluicegate check`: what is wrong with a policy, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..amount import shown
from ..errors import PolicyError
from ..policy.compile import CompiledPolicy
from ..policy.lint import Remark, problems
from ..policy.model import Budget, Concurrency, Depth, Policy, RateLimit, Repeat
from ..policy.units import in_words
from .sources import DEFAULT, policy_file
from .terminal import NO, Json, answering, plain, print_json, screen

__all__ = ["check"]

_TOKEN: Final = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s:,{}\[\]]+")
_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_MOST_NAMES: Final = 30
_SHORT_REVISION: Final = 23


def check(
    path: Annotated[Path, typer.Argument(metavar="POLICY", help="The policy file.")] = DEFAULT,
    strict: Annotated[bool, typer.Option("--strict", help="Let a warning be a no, too.")] = False,
    as_json: Json = False,
) -> None:
    """
    Say what is wrong with a policy, and where.

    A good policy is summed up. Warnings are about rules that can have no effect.
    Exit code 1: it is wrong, or there are warnings and --strict.

    \b
    Examples:
      sluicegate check
      sluicegate check policies/desk.yaml --strict
      sluicegate check --json | jq .warnings
    """
    with answering(as_json):
        policy_file(path)
        try:
            policy = Policy.load(path)
            CompiledPolicy(policy)
        except PolicyError as error:
            _refuse(error, path, as_json=as_json)
            raise typer.Exit(NO) from None
        warnings = problems(policy)
        if as_json:
            print_json(_summary(path, policy, warnings, strict=strict))
        else:
            _show(path, policy, warnings)
        if warnings and strict:
            raise typer.Exit(NO)


# --- a policy that is wrong ----------------------------------------------------------------------


def _refuse(error: PolicyError, path: Path, *, as_json: bool) -> None:
    if as_json:
        told = {
            name: getattr(error, name)
            for name in ("file", "line", "column", "problem", "text", "hint")
        }
        print_json({"ok": False, **told})
        return
    out = screen()
    where = f"{error.file}:{error.line}:{error.column}" if error.line else error.file
    out.print(Text.assemble((f"{plain(where)}: ", "bold"), (plain(error.problem), "red")))
    if error.line:
        out.print(_excerpt(path, error.line, error.column), soft_wrap=True)
    for line in error.hint.splitlines():
        out.print(Padding(Text(plain(line.strip())), (0, 0, 0, 2), expand=False))


def _excerpt(path: Path, line: int, column: int) -> Text:
    """The line, with a caret under the word that is to blame."""
    lines = _BREAK.split(path.read_text("utf-8-sig"))
    source = lines[line - 1] if line <= len(lines) else ""
    start = max(0, column - 61)
    before, rest = (
        plain_width(source[start : column - 1]),
        plain_width(source[column - 1 : column + 59]),
    )
    token = _TOKEN.match(rest)
    number = f"{line:>5} "
    carets = "^" * max(1, cell_len(token[0]) if token else 1)
    margin = " " * len(number)
    return Text.assemble(
        (f"\n{number}│ ", "dim"), before, rest,
        (f"\n{margin}│ ", "dim"), " " * cell_len(before), (carets, "bold red"), "\n",
    )  # fmt: skip


def plain_width(text: str) -> str:
    """*text* with every character at a place where a caret can point to."""
    return "".join(char if char.isprintable() else " " for char in text)


# --- a policy that is right ----------------------------------------------------------------------


def _summary(path: Path, policy: Policy, warnings: list[Remark], *, strict: bool) -> dict[str, Any]:
    return {
        "ok": not (warnings and strict),
        "file": str(path),
        "revision": policy.revision,
        "tools": {name: tool.effect for name, tool in policy.tools.items()},
        "limits": list(_limits(policy)),
        "grants": None if policy.grants is None else len(policy.grants),
        "warnings": [
            {"path": w.path, "text": w.text, "line": w.line, "column": w.column} for w in warnings
        ],
    }


def _show(path: Path, policy: Policy, warnings: list[Remark]) -> None:
    out = screen()
    fine = Text.assemble((f"{plain(path)}: ", "bold"), ("no mistakes", "green"))
    if warnings:
        count = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}"
        fine = Text.assemble(fine, ", ", (count, "yellow"))
    out.print(fine)
    _show_summary(out, policy)
    for warning in warnings:
        where = f"{path}:{warning.line}:{warning.column}" if warning.line else str(path)
        text = Text.assemble(
            (f"{plain(where)}: ", "yellow"), plain(f"{warning.path} {warning.text}")
        )
        out.print(Padding(text, (0, 0, 0, 2), expand=False))


def _show_summary(out: Console, policy: Policy) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for effect in ("read", "idempotent", "write"):
        names = [name for name, tool in policy.tools.items() if tool.effect == effect]
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            table.add_row(effect, plain(", ".join(names[:_MOST_NAMES]) + more))
    for i, limit in enumerate(_limits(policy)):
        table.add_row("" if i else "limits", plain(limit))
    grants = "every subject may call every listed tool"
    if policy.grants is not None:
        grants = f"{len(policy.grants)}; what none of them covers is refused"
    table.add_row("grants", grants)
    table.add_row("revision", f"{policy.revision[:_SHORT_REVISION]}…")
    out.print(Padding(table, (0, 0, 0, 2), expand=False))


def _limits(policy: Policy) -> Iterator[str]:
    """Each limit in words."""
    for limit in policy.limits:
        if isinstance(limit, Budget):
            text = f"{shown(limit.limit)} {limit.budget}"
            text += f" a {limit.window}" if limit.window else " in all"
        elif isinstance(limit, RateLimit):
            text = f"{limit.rate.count} calls in {in_words(limit.rate.period)}"
            text += f", {limit.burst} at once" if limit.burst else ""
        elif isinstance(limit, Concurrency):
            text = f"{limit.concurrency} calls at the same time"
        elif isinstance(limit, Repeat):
            text = f"{limit.repeat} identical calls"
        else:
            text = f"{limit.depth} runs inside one another"
        per = () if isinstance(limit, Depth) else limit.per
        text += f" for each {' and '.join(per)}" if per else ""
        yield text + (f" ({', '.join(limit.tools)})" if limit.tools != ("*",) else "")
