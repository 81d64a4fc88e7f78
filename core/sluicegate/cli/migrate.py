"""`sluicegate migrate FROM TO`: copy a ledger into an empty one of another kind, and verify it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.text import Text

from ..ledger import open_ledger
from ..migrate import Copied, NotEqual
from ..migrate import migrate as copy
from .sources import DEFAULT, existing_ledger, without_secrets
from .terminal import NO, Json, WrongUse, answering, plain, print_json, screen

__all__ = ["migrate"]


def migrate(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the ledger to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty or new ledger.")],
    as_json: Json = False,
) -> None:
    """
    Copy a ledger that nothing uses into an empty one, and verify the copy.

    Stop all gates first. Cells, permits that are out and the journal are copied as they are,
    and compared afterwards; then use the copy only. Exit code 1: the copy is not equal, and
    everything in it is halted.

    \b
    Examples:
      sluicegate migrate sqlite:///.sluicegate/ledger.db postgresql://gate@db/agents
      sluicegate migrate sqlite:////srv/old.db "sqlite:////mnt/new.db?timeout=30"
    """
    with answering(as_json):
        if target == "memory:":
            raise WrongUse("memory: ends with this command", "name a ledger that stays")
        try:
            where, found = _copied(source, target, quiet=as_json)
        except NotEqual as unequal:
            if as_json:
                print_json({"ok": False, "problem": str(unequal)})
            else:
                screen().print(Text.assemble(("not equal", "bold red"), f": {plain(unequal)}"))
                screen().print("Everything in the copy is halted. Remove it, and copy anew.")
            raise typer.Exit(NO) from None
        if as_json:
            print_json({"ok": True, **where, **found._asdict()})
            return
        told = (
            f": {found.entries} entries of {found.writers} writers, {found.cells} cells and "
            f"{found.permits} permits that are out"
        )
        screen().print(Text.assemble(("equal", "green"), told))
        screen().print("From now on use the copy only.")


def _copied(source: str, target: str, *, quiet: bool) -> tuple[dict[str, str], Copied]:
    """What was copied, with the names of both ledgers as they may be shown."""
    shown, books = existing_ledger(source, DEFAULT)
    err = screen(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    try:
        into = open_ledger(target)
        try:
            hidden = quiet or not err.is_terminal
            with Progress(*columns, console=err, transient=True, disable=hidden) as bar:
                task = bar.add_task("verifying")
                found = copy(
                    books,
                    into,
                    lambda what, count: bar.update(task, description=f"{count} {what}"),
                )
        finally:
            into.close()
    finally:
        books.close()
    return {"source": shown, "target": without_secrets(target)}, found
