"""`sluicegate explain`: every rule that a decision looks at, and what it says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..clock import SystemClock
from ..decision import Decision, Defer, Deny, Permit, Recorded
from ..explain import Considered, Explanation, explain, explain_entry
from ..journal import Journal
from ..ledger import Ledger, MemoryLedger
from ..policy.compile import CompiledPolicy
from ..policy.model import Policy
from .proposed import Proposed, Who, document, from_json, read
from .recorded import refuse_shortened
from .sources import (
    DEFAULT,
    ArchiveFolder,
    LedgerUrl,
    PolicyFile,
    existing_ledger,
    location,
    policy_file,
)
from .terminal import NO, Json, WrongUse, answering, moment, plain, print_json, screen

__all__ = ["decision_word", "explain_call"]

_WIDE: Final = 140
"""Columns from which on there is room for what is in the messages anyway."""

STYLES: Final[Mapping[str, str]] = {
    "passes": "green",
    "refuses": "bold red",
    "asks": "yellow",
    "skipped": "dim",
    "permit": "green",
    "recorded": "cyan",
    "deny": "bold red",
    "defer": "yellow",
}


def explain_call(
    tool: Annotated[
        str | None, typer.Argument(metavar="TOOL", help="The tool that would be called.")
    ] = None,
    args: Annotated[
        str | None, typer.Option(metavar="JSON", help="Its arguments, as a JSON object.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="For which tenant.")] = None,
    user: Annotated[str | None, typer.Option(help="For which user.")] = None,
    agent: Annotated[str | None, typer.Option(help="By which agent.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="In which role; may be repeated.")] = None,
    run: Annotated[str | None, typer.Option(help="In which run.")] = None,
    call_id: Annotated[str | None, typer.Option(help="The id of the call.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What the user said.")] = None,
    proposal: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The whole proposal, as YAML or JSON; - is stdin."),
    ] = None,
    entry: Annotated[
        int | None,
        typer.Option(metavar="N", help="A decision in the journal, as things were then."),
    ] = None,
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    archive: ArchiveFolder = None,
    as_json: Json = False,
) -> None:
    """
    Say what the gate would decide about a call, and what each rule says to it.

    Nothing is spent or recorded. Plugins are not asked. Without a ledger it is
    explained as if nothing had happened yet. Exit code 1: it would not run.

    \b
    Examples:
      sluicegate explain get_order --args '{"order_id": "A-1"}' --tenant acme
      sluicegate explain --proposal call.json --json | jq '.rules[] | select(.verdict == "refuses")'
      sluicegate explain --entry 1042
    """
    with answering(as_json):
        own = {"--args": args, "--call-id": call_id, "--prompt": prompt}
        whose = {"--tenant": tenant, "--user": user, "--agent": agent, "--role": role, "--run": run}
        _one_of({"TOOL": tool, "--proposal": proposal, "--entry": entry})
        if entry is not None:
            _without("--entry", {**own, **whose})
            url: str | None
            url, books = existing_ledger(ledger, policy, archive)
            with closing(books):
                refuse_shortened(books, archive)
                found = explain_entry(Journal(books), entry)
        else:
            if archive is not None:
                raise WrongUse("--archive is read for --entry only", "leave it out")
            if tool is None:
                _without("--proposal", own)
            call = _whole(str(proposal)) if tool is None else _call(tool, args, call_id, prompt)
            who = Who(tenant=tenant, user=user, agent=agent, roles=tuple(role or ()))
            asked = call.proposal(who, run)
            compiled = CompiledPolicy(Policy.load(policy_file(policy)))
            url, books = _books(ledger, policy)
            with closing(books):
                now = max(SystemClock().now(), books.floor)
                found = explain(compiled, books, asked, now)
        if as_json:
            print_json(_json(found, policy, url))
        else:
            _show(found, url)
        if not isinstance(found.decision, (Permit, Recorded)):
            raise typer.Exit(NO)


def decision_word(decision: Decision) -> str:
    """A decision as the journal calls it: permit, deny, defer, recorded."""
    return type(decision).__name__.lower()


def _one_of(given: Mapping[str, object]) -> None:
    there = [name for name, value in given.items() if value is not None]
    if len(there) != 1:
        raise WrongUse(
            f"explain takes one of TOOL, --proposal and --entry, not {' and '.join(there) or 'none'}",
            "`sluicegate explain --help` has examples",
        )


def _without(whole: str, given: Mapping[str, object]) -> None:
    """What is in the proposal already cannot be said again beside it."""
    there = [name for name, value in given.items() if value is not None]
    if there:
        raise WrongUse(
            f"{whole} has a proposal of its own, so {there[0]} says nothing", "leave it out"
        )


def _call(tool: str, args: str | None, call_id: str | None, prompt: str | None) -> Proposed:
    return Proposed(
        tool=tool, args=from_json(args or "{}", "--args"), call_id=call_id, prompt=prompt
    )


def _whole(place: str) -> Proposed:
    if place == "-":
        return document(sys.stdin.read(), Proposed, "<stdin>")
    return read(Path(place), Proposed, "proposal")


def _books(url: str | None, policy: Path) -> tuple[str | None, Ledger]:
    """The ledger; an empty one where the default ledger is not there yet."""
    file = location(url, policy)[1]
    if url is None and file is not None and not file.exists():
        return None, MemoryLedger()
    return existing_ledger(url, policy)


# --- for programs ---------------------------------------------------------------------------------


def _json(found: Explanation, policy: Path, url: str | None) -> dict[str, Any]:
    decision = found.decision
    return {
        "ok": isinstance(decision, (Permit, Recorded)),
        "policy": str(policy),
        "ledger": url,
        "at": found.at,
        "entry": found.entry,
        "tool": decision.tool,
        "decision": decision_word(decision),
        "final": isinstance(decision, Deny) and decision.final,
        "reasons": [asdict(reason) for reason in _reasons(decision)],
        "rules": [_row(rule) for rule in found.rules],
    }


def _row(rule: Considered) -> dict[str, Any]:
    told = asdict(rule)
    if rule.left is not None:
        told["left"]["left"] = rule.left.left
    return told


def _reasons(decision: Decision) -> tuple[Any, ...]:
    return decision.reasons if isinstance(decision, (Deny, Defer)) else ()


# --- for people -----------------------------------------------------------------------------------


def _show(found: Explanation, url: str | None) -> None:
    out = screen()
    word = decision_word(found.decision)
    against = len(found.against)
    looked = sum(rule.verdict != "skipped" for rule in found.rules)
    when = f"{moment(found.at):%Y-%m-%d %H:%M:%S} UTC"
    head = Text.assemble(
        (word, STYLES[word]), " ", (plain(found.decision.tool), "bold"),
        (f"  {against} of {looked} rules that were looked at are against it", "dim"),
        (f", at {when}", "dim"),
    )  # fmt: skip
    if found.entry is not None:
        head.append(f", journal entry {found.entry}", "dim")
    out.print(head)
    if url is None and found.entry is None:
        out.print(
            Text("There is no ledger yet: explained as if nothing had happened.", style="dim")
        )
    _table(out, found)


def _table(out: Console, found: Explanation) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", border_style="dim")
    table.add_column("says", no_wrap=True)
    table.add_column("rule", overflow="fold", max_width=34)
    wide = out.width >= _WIDE
    if wide:
        table.add_column("found", overflow="fold", max_width=24)
        table.add_column("allowed", overflow="fold", max_width=24)
    table.add_column("why", overflow="fold", ratio=1)
    for rule in found.rules:
        table.add_row(
            Text(rule.verdict, style=STYLES[rule.verdict]),
            plain(rule.rule),
            *([plain(rule.value or ""), plain(rule.limit or "")] if wide else []),
            Text(plain(rule.message), style="dim" if rule.verdict == "skipped" else ""),
        )
    out.print(table)
