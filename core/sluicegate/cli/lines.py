"""Journal entries as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..journal import Entry
from .terminal import moment, plain

__all__ = ["Line", "Lines", "show"]

STYLES: Final[Mapping[str, str]] = {
    "permit": "green",
    "succeeded": "green",
    "recorded": "cyan",
    "defer": "bold cyan",
    "approve": "green",
    "reject": "red",
    "halt": "bold red",
    "resume": "green",
    "schema": "dim",
    "swept": "dim",
    "archived": "dim",
    "prompt": "dim",
    "recalled": "dim",
    "deny": "red",
    "failed": "yellow",
    "unknown": "bold yellow",
    "observed": "magenta",
    "policy": "dim",
}
_PARTS: Final = ("tenant", "user", "agent", "run")
_WORD_WIDTH: Final = 9
_LONGEST_PROMPT: Final = 60
_LONGEST_ERROR: Final = 300
_KNOWN: Final = 100_000


class Line(NamedTuple):
    """One entry: when (µs since 1970 UTC), what became of which tool, for whom, and why."""

    at: int
    word: str
    tool: str
    who: str
    why: tuple[str, ...]


class Lines:
    """Reads entries in their order, and remembers which tool a permit was for."""

    def __init__(self) -> None:
        self._tools: dict[str, str] = {}

    def read(self, entry: Entry) -> Line:
        """*entry* as a line."""
        content = entry.content
        at = int(content["at"])
        if content["kind"] == "decision":
            return self._decision(at, content)
        if content["kind"] == "outcome":
            permit = str(content["permit"])
            tool = self._tools.get(permit, f"permit {permit[:12]}")
            error = str(content.get("error", ""))[:_LONGEST_ERROR]
            return Line(
                at, str(content["outcome"]), plain(tool), "", (plain(error),) if error else ()
            )
        return self._other(at, content)

    def _other(self, at: int, content: Mapping[str, Any]) -> Line:
        kind = str(content["kind"])
        if kind in ("approval", "halt", "resume"):
            return _by_a_person(at, kind, content)
        if kind == "prompt":
            said = plain(str(content["text"])[:_LONGEST_PROMPT])
            return Line(at, kind, said, plain(f"run {content['root']}"), ())
        if kind == "swept":
            return Line(at, kind, f"{len(content['keys'])} cells that are over", "", ())
        if kind == "archived":
            told = f"{content['entries']} entries, segment {content['segment']}"
            return Line(at, kind, told, "", ())
        if kind == "recalled":
            return Line(at, kind, plain(content["proposal"]["tool"]), _who(content["proposal"]), ())
        return Line(
            at, kind, str(content.get("policy") or content.get("schema") or "")[:19], "", ()
        )

    def _decision(self, at: int, content: Mapping[str, Any]) -> Line:
        proposal = content["proposal"]
        tool = str(proposal["tool"])
        if "permit" in content:
            if len(self._tools) >= _KNOWN:
                self._tools.clear()
            self._tools[str(content["permit"])] = tool
        why = [f"{reason['code']}: {reason['message']}" for reason in content.get("reasons", ())]
        if "would" in content:
            why.insert(0, f"only watched; enforced, it would be: {content['would']}")
        return Line(
            at, str(content["decision"]), plain(tool), _who(proposal), tuple(map(plain, why))
        )


def _by_a_person(at: int, kind: str, content: Mapping[str, Any]) -> Line:
    if kind == "approval":
        word, about, why = content["verdict"], f"request {content['request']}", content["note"]
    else:
        scope = content["scope"]
        parts = [f"{part} {scope[part]}" for part in _PARTS if part in scope]
        word, about, why = kind, ", ".join(parts) or "everything", content["reason"]
    return Line(at, word, plain(about), plain(f"by {content['by']}"), (plain(why),) if why else ())


def _who(proposal: Mapping[str, Any]) -> str:
    """Tenant, user and agent with slashes between, and the run."""
    subject = proposal["subject"]
    parts = [subject[name] for name in ("tenant", "user", "agent") if subject[name]]
    run = [f"run {proposal['run']}"] if proposal["run"] else []
    return plain(" · ".join(["/".join(parts), *run] if parts else run))


def show(out: Console, line: Line) -> None:
    """Print *line*: on a terminal with its reasons below, elsewhere as one line to search in."""
    when = f"{moment(line.at):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    word = (f"{line.word:<{_WORD_WIDTH}}", STYLES.get(line.word, ""))
    if not out.is_terminal:
        why = " | ".join(line.why)
        text = f"{when}Z  {line.word:<{_WORD_WIDTH}}  {line.tool}  {line.who or '-'}  {why}"
        out.print(text.rstrip(), soft_wrap=True)
        return
    who = f"  {line.who}" if line.who else ""
    out.print(Text.assemble((when, "dim"), "  ", word, "  ", (line.tool, "bold"), (who, "dim")))
    for reason in line.why:
        out.print(Padding(Text(reason), (0, 0, 0, len(when) + 2)))
