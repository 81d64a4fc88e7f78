"""How the demo looks: the two runs side by side, what they left in the database, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..journal import Entry
from .lines import STYLES
from .scene import FACTS, STEPS, TASK, Said, Script
from .shop import TABLES, Shop
from .terminal import plain

__all__ = ["Played", "Show", "show"]

_SIDE_BY_SIDE: Final = 78
"""Columns from which on the two runs fit beside each other."""
_WIDEST: Final = 132
_WITHOUT: Final = "without a gate"
_WITH: Final = "with Sluicegate"


@dataclass(frozen=True, slots=True)
class Played:
    """What one run said and left behind."""

    said: Sequence[Said]
    closing: str
    facts: Sequence[int]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]

    @classmethod
    def of(cls, script: Script, shop: Shop) -> Played:
        """The run of *script* in *shop*."""
        tables = {name: shop.rows(name) for name in TABLES}
        return cls(script.said, script.closing, [fact.value(shop) for fact in FACTS], tables)

    def told(self) -> dict[str, Any]:
        """The run as JSON."""
        calls = [
            {
                "step": s.call.step + 1,
                "tool": s.call.tool,
                "args": dict(s.call.args),
                "answer": s.answer,
            }
            for s in self.said
        ]
        return {"calls": calls, "tables": self.tables}


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """All that the demo has to show."""

    about: str
    wiring: tuple[str, str]
    before: Sequence[int]
    without: Played
    gated: Played
    entries: Sequence[Entry]
    whole: bool

    @property
    def held(self) -> bool:
        """Whether the database is as it should be behind the gate, and the journal is whole."""
        right = [fact.right(n) for fact, n in zip(FACTS, self.gated.facts, strict=True)]
        return self.whole and all(right)


def show(out: Console, result: Show, *, kept: Path | None) -> None:
    """Print the whole demo."""
    out.width = min(out.width, _WIDEST)
    out.print(Text("\nOne agent, one script, one shop. Twice.\n", style="bold"))
    out.print(_pairs([("agent", result.about), ("task", TASK)]))
    for number, step in enumerate(STEPS):
        out.print(Padding(_heading(f"{number + 1}  {step.title}"), (1, 0, 0, 0)))
        out.print(Padding(Text(step.story, style="dim"), (0, 0, 1, 3)))
        out.print(Padding(_runs(out, result, number), (0, 0, 0, 3)))
    out.print(Padding(_heading("What the model reports"), (1, 0, 1, 0)))
    reports = (Text(played.closing) for played in (result.without, result.gated))
    out.print(Padding(_beside(out, *reports), (0, 0, 0, 3)))
    out.print(Padding(_heading("What is in the shop's database"), (1, 0, 0, 0)))
    out.print(Padding(_database(result), (0, 0, 0, 2)))
    out.print(_heading("What the gate decided, and why"))
    out.print(Padding(_decisions(result.entries), (1, 0, 1, 3)))
    whole = "every entry follows the one before" if result.whole else "the chain is broken"
    out.print(Text(f"   From the journal: {len(result.entries)} entries, {whole}.\n", style="dim"))
    out.print(_heading("Next"))
    out.print(Padding(_pairs(_next(result, kept)), (1, 0, 1, 3)))


def _next(result: Show, kept: Path | None) -> Iterator[tuple[str, str]]:
    yield "sluicegate init", "write a policy for your own tools"
    yield result.wiring
    if kept is not None:
        yield f"sluicegate journal tail --policy {kept / 'sluicegate.yaml'}", ""


def _heading(text: str) -> RenderableType:
    return Rule(Text(text, style="bold"), align="left", style="dim", characters="─")


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, text in rows:
        table.add_row(name, Text(text))
    return table


# --- the two runs ---------------------------------------------------------------------------------


def _runs(out: Console, result: Show, step: int) -> RenderableType:
    left = _transcript([s for s in result.without.said if s.call.step == step])
    right = _transcript([s for s in result.gated.said if s.call.step == step])
    return _beside(out, left, right)


def _beside(out: Console, left: RenderableType, right: RenderableType) -> RenderableType:
    """Both runs next to each other, or one above the other where it is too narrow for that."""
    if out.width < _SIDE_BY_SIDE:
        return Group(Text(_WITHOUT, "dim"), left, Text(""), Text(_WITH, "dim"), right)
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(Text(_WITHOUT, "dim"), Text(_WITH, "dim"))
    table.add_row(left, right)
    return table


def _transcript(said: Sequence[Said]) -> RenderableType:
    lines: list[RenderableType] = []
    for (call, answer), same in groupby(
        said, lambda s: (_called(s.call.tool, s.call.args), _short(s))
    ):
        times = len(list(same))
        repeated = Text(f"  × {times}", "yellow") if times > 1 else Text("")
        lines += [Text.assemble(call, repeated), Padding(answer, (0, 0, 0, 2))]
    return Group(*lines)


def _called(tool: str, args: Mapping[str, Any]) -> str:
    told = (f"{name}={_value(value)}" for name, value in args.items())
    return plain(f"{tool}({', '.join(told)})")


def _value(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\w-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _short(said: Said) -> Text:
    if said.refused:
        codes = [
            line[2:].partition(":")[0] for line in said.answer.splitlines() if line.startswith("- ")
        ]
        return Text(f"refused: {', '.join(codes)}", "red")
    answer = plain(said.answer)
    failed = answer.startswith("Error")
    return Text(answer, "yellow" if failed else "green")


# --- what they left behind ------------------------------------------------------------------------


def _database(result: Show) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", border_style="dim")
    table.add_column("table", style="dim", no_wrap=True)
    table.add_column("what")
    for name in ("wanted", "before", "without", "with gate"):
        table.add_column(name, justify="right")
    columns = zip(FACTS, result.before, result.without.facts, result.gated.facts, strict=True)
    for fact, before, *after in columns:
        judged = [Text(str(n), "green" if fact.right(n) else "bold red") for n in after]
        table.add_row(fact.table, fact.text, fact.wanted, Text(str(before), "dim"), *judged)
    return table


def _decisions(entries: Iterable[Entry]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = (_row(entry.content) for entry in entries if entry.content["kind"] == "decision")
    for (word, call, why), same in groupby(rows):
        times = len(list(same))
        called = Text(f"{call}  × {times}" if times > 1 else call)
        table.add_row(Text(word, STYLES.get(word, "")), called)
        if why:
            table.add_row("", Text(why, "dim"))
    return table


def _row(content: Mapping[str, Any]) -> tuple[str, str, str]:
    proposal = content["proposal"]
    why = "\n".join(plain(f"{r['code']}: {r['message']}") for r in content.get("reasons", ()))
    return content["decision"], _called(proposal["tool"], proposal["args"] or {}), why
