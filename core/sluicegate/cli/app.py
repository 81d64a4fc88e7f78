"""All commands under one name."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from .. import __version__
from . import (
    backtest,
    check,
    demo,
    explain,
    halts,
    housekeep,
    init,
    journal,
    migrate,
    policy_test,
    replay,
    requests,
    run_report,
    schema,
    unknowns,
    usage,
)

__all__ = ["app", "main"]

_HELP = """\
The deterministic control layer between an AI agent and its tools.

The agent proposes, a policy decides, only what it permits runs, and everything is on record.

\b
New here?
  sluicegate demo         one agent, one script, one shop: without a gate and with it
  sluicegate init         write a first policy, with comments
  sluicegate check        say what is wrong with it

Every command has --json. Exit codes: 0 fine, 1 the answer is no, 2 wrong use.
"""

app = typer.Typer(
    name="sluicegate",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: it keeps the line breaks of examples, and pipes well
    pretty_exceptions_enable=False,  # a crash must not print the values of local variables
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("schema")(schema.schema)
app.command("usage")(usage.usage)
app.command("explain")(explain.explain_call)
app.command("test")(policy_test.policy_test)
app.command("pending")(requests.pending)
app.command("approve")(requests.approve)
app.command("reject")(requests.reject)
app.command("unknowns")(unknowns.unknowns)
app.command("reconcile")(unknowns.reconcile)
app.command("halt")(halts.halt)
app.command("resume")(halts.resume)
app.command("halts")(halts.halts)
app.command("housekeep")(housekeep.housekeep)
app.command("migrate")(migrate.migrate)
app.command("replay")(replay.replay)
app.command("backtest")(backtest.backtest)
app.command("run-report")(run_report.run_report)
app.add_typer(journal.app, name="journal")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluicegate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The program `sluicegate`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an old code page is no reason to fail
    app(prog_name="sluicegate")
