"""`sluicegate pending`, `approve`, `reject`: what waits for a person's yes, and the answer."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..desk import Asking
from ..errors import PermitError
from ..gate import Gate
from ..proposal import Subject
from .sources import DEFAULT, LedgerUrl, PolicyFile, existing_ledger, policy_file
from .terminal import NO, Json, answering, moment, plain, print_json, screen

__all__ = ["By", "answered", "approve", "arguments", "opened", "pending", "reject", "whose", "you"]

By = Annotated[
    str | None,
    typer.Option("--by", help="Who says so.  [default: your login name]", show_default=False),
]
Note = Annotated[str, typer.Option("--note", help="Why, for the journal.")]
RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST", help="The request, as `pending` lists it.")
]


def pending(policy: PolicyFile = DEFAULT, ledger: LedgerUrl = None, as_json: Json = False) -> None:
    """
    List the calls that wait for a person's yes, oldest first.

    A yes is for exactly the action shown, for one call, until the request expires.
    In JSON times are in µs since 1970 UTC.

    \b
    Examples:
      sluicegate pending
      sluicegate pending --json | jq -r '.pending[].id'
      sluicegate approve 997c503d23b6fbe1.7222b5b1 --note "checked with the customer"
    """
    with answering(as_json):
        with opened(policy, ledger) as gate:
            found = gate.pending()
        if as_json:
            print_json({"ok": True, "pending": [_told(asking) for asking in found]})
            return
        _show(found)


def approve(
    request: RequestId,
    by: By = None,
    note: Note = "",
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Say yes: exactly that action may run once, if the policy still permits it then.

    \b
    Examples:
      sluicegate approve 997c503d23b6fbe1.7222b5b1
      sluicegate approve 997c503d23b6fbe1.7222b5b1 --by ada --note "checked with the customer"
    """
    with answering(as_json), opened(policy, ledger) as gate:
        who = you(by)
        answered(
            as_json,
            lambda: gate.approve(request, by=who, note=note),
            f"{who} approved {request}: the same call may run once",
        )


def reject(
    request: RequestId,
    by: By = None,
    note: Note = "",
    policy: PolicyFile = DEFAULT,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """
    Say no, or take back a yes that was not used yet.

    \b
    Examples:
      sluicegate reject 997c503d23b6fbe1.7222b5b1 --note "wrong account"
    """
    with answering(as_json), opened(policy, ledger) as gate:
        who = you(by)
        answered(
            as_json,
            lambda: gate.reject(request, by=who, note=note),
            f"{who} rejected {request}: the model is told so",
        )


def opened(policy: Any, ledger: str | None) -> Gate:
    """The gate of a policy at a ledger that is there."""
    policy_file(policy)
    return Gate(policy, existing_ledger(ledger, policy)[1])


def you(by: str | None) -> str:
    """Who says so: the name given, or that of whoever is logged in."""
    if by is None:
        with suppress(OSError, KeyError, ImportError):
            by = getpass.getuser()
    return by or "somebody at the command line"


def answered(as_json: bool, deed: Any, said: str) -> None:
    """Do it and say so; where there is nothing to be done, the answer is no."""
    try:
        deed()
    except PermitError as error:
        if as_json:
            print_json({"ok": False, "error": str(error)})
        else:
            screen(stderr=True).print(Text(plain(error), style="red"))
        raise typer.Exit(NO) from error
    if as_json:
        print_json({"ok": True})
    else:
        screen().print(Text(plain(said)))


def whose(subject: Subject, run: str | None) -> str:
    """Tenant, user and agent with slashes between, and the run."""
    parts = [part for part in (subject.tenant, subject.user, subject.agent) if part]
    return plain(" · ".join(filter(None, ("/".join(parts), f"run {run}" if run else ""))))


def arguments(args: Any) -> str:
    """Arguments on one line."""
    if args is None:
        return "(kept as a digest)"
    return plain(", ".join(f"{name}={value!r}" for name, value in args.items()))


def _told(asking: Asking) -> dict[str, Any]:
    who = asking.subject
    return {
        "id": asking.id,
        "tool": asking.tool,
        "args": None if asking.args is None else dict(asking.args),
        "subject": {
            "tenant": who.tenant,
            "user": who.user,
            "agent": who.agent,
            "roles": [*who.roles],
        },
        "run": asking.run,
        "reasons": [
            {"code": reason.code, "rule": reason.rule, "message": reason.message}
            for reason in asking.reasons
        ],
        "asked_at": asking.asked_at,
        "expires_at": asking.expires_at,
    }


def _show(found: Sequence[Asking]) -> None:
    out = screen()
    if not found:
        out.print("Nothing waits for an answer.")
        return
    for asking in found:
        out.print(Text.assemble((plain(asking.id), "bold"), f"  {plain(asking.tool)}"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
        table.add_row("  with", arguments(asking.args))
        table.add_row("  for", whose(asking.subject, asking.run))
        for reason in asking.reasons:
            table.add_row("  because", plain(reason.message))
        asked, expires = moment(asking.asked_at), moment(asking.expires_at)
        table.add_row(
            "  asked", f"{asked:%Y-%m-%d %H:%M} UTC, expires {expires:%Y-%m-%d %H:%M} UTC"
        )
        out.print(table)
    out.print(Text("Answer with: sluicegate approve ID · sluicegate reject ID", style="dim"))
