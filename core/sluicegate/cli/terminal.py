"""How commands answer: text for people, JSON for programs, and an exit code for both."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..errors import PolicyError, SluicegateError

__all__ = ["NO", "Json", "WrongUse", "answering", "moment", "plain", "print_json", "screen"]

NO: Final = 1
"""Exit code: the answer is no."""

WRONG: Final = 2
"""Exit code: wrong use."""

_PIPED_WIDTH: Final = 120
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class WrongUse(Exception):
    """The command cannot do what it was asked for; *hint* is the way out."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def screen(*, stderr: bool = False) -> Console:
    """A console without magic: text is text, whatever a model put into it."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def print_json(value: object) -> None:
    """*value* as one JSON document."""
    typer.echo(json.dumps(value, indent=2))


def plain(text: object) -> str:
    """*text* on one line, with what a terminal could obey (escapes, bidi marks) made visible."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in str(text)
    )


def moment(micros: int) -> datetime:
    """A time in µs since 1970 as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


@contextmanager
def answering(as_json: bool) -> Generator[None, None, None]:
    """Turn errors that a user can mend into a message with the way out, and exit code 2."""
    try:
        yield
    except WrongUse as error:
        _fail({"error": error.problem, "hint": error.hint}, as_json=as_json)
    except PolicyError as error:
        where = f"{error.file}:{error.line}:{error.column}" if error.line else error.file
        _fail({"error": f"{where}: {error.problem}", "hint": error.hint}, as_json=as_json)
    except (SluicegateError, OSError) as error:
        _fail({"error": str(error), "hint": ""}, as_json=as_json)


def _fail(told: Mapping[str, Any], *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"ok": False, **told})
    else:
        console = screen(stderr=True)
        console.print(Text.assemble(("sluicegate: ", "bold red"), plain(told["error"])))
        for line in str(told["hint"]).splitlines():
            console.print(Padding(Text(plain(line.strip())), (0, 0, 0, 2), expand=False))
    raise typer.Exit(WRONG)
