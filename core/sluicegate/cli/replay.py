"""`sluicegate replay`: does every decision of a journal follow from it?"""

from __future__ import annotations

import typer
from rich.text import Text

from ..replay import Difference, Rederived
from ..replay import replay as rederive
from ..retrace import spoken
from .recorded import ExportFile, entries_of, show_skipped
from .sources import DEFAULT, ArchiveFolder, LedgerUrl, PolicyFile
from .terminal import NO, Json, answering, plain, print_json, screen

__all__ = ["replay"]


def replay(
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    file: ExportFile = None,
    archive: ArchiveFolder = None,
    as_json: Json = False,
) -> None:
    """
    Derive every recorded decision again, and name the first that does not follow.

    Policies, proposals, facts and times are taken from the journal; the decisions are
    derived and compared byte for byte. Calls of tools with `record: digest` cannot be
    derived and are counted apart. Exit code 1: there is a difference.

    \b
    Examples:
      sluicegate replay
      sluicegate replay --archive /srv/archive
      sluicegate replay --file journal.jsonl
      sluicegate replay --json | jq .difference
    """
    with answering(as_json):
        read = entries_of(ledger, policy, file, archive, "replaying", quiet=as_json)
        with read as (source, entries):
            found = rederive(entries)
        if as_json:
            print_json(_json(source, found))
        else:
            _show(found)
        if found.difference is not None:
            raise typer.Exit(NO)


def _json(source: str, found: Rederived) -> dict[str, object]:
    difference = found.difference
    told = None
    if difference is not None:
        fields = [field._asdict() for field in difference.fields]
        told = {**difference._asdict(), "fields": fields}
    return {
        "ok": difference is None,
        "source": source,
        "entries": found.entries,
        "decisions": found.decisions,
        "difference": told,
        "skipped": [skipped._asdict() for skipped in found.skipped],
    }


def _show(found: Rederived) -> None:
    out = screen()
    if found.difference is None:
        told = f": {found.decisions} decisions follow from {found.entries} entries"
        out.print(Text.assemble(("equal", "green"), told))
    else:
        _show_difference(found.difference)
        out.print(f"Decisions before it that were equal: {found.decisions}.")
    show_skipped(found.skipped)


def _show_difference(difference: Difference) -> None:
    out = screen()
    tool = f" ({plain(difference.tool)})" if difference.tool else ""
    told = f": entry {spoken(difference.entry)}{tool}: {plain(difference.problem)}"
    out.print(Text.assemble(("different", "bold red"), told))
    for name, recorded, derived in difference.fields:
        out.print(f"  {name}")
        out.print(Text.assemble(("    recorded  ", "dim"), _cell(recorded)))
        out.print(Text.assemble(("    derived   ", "dim"), _cell(derived)))


def _cell(text: str | None) -> str:
    return "(it is not there)" if text is None else plain(text)
