"""`sluicegate migrate FROM TO`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluicegate.ledger.sqlite import SqliteLedger

Run = Callable[..., Any]
OLD = "sqlite:///.sluicegate/ledger.db"


def test_a_ledger_is_copied_and_works(run: Run, desk: Path) -> None:
    """The commands say the same about the copy as about its source."""
    told = run("migrate", OLD, "sqlite:///new.db")
    assert told.exit_code == 0
    assert "equal: 9 entries of 1 writers" in told.stdout
    for command in (("usage",), ("journal", "verify"), ("replay",), ("journal", "tail")):
        one, other = (run(*command, "--ledger", url).stdout for url in (OLD, "sqlite:///new.db"))
        assert one == other
        assert one


def test_programs_get_numbers(run: Run, desk: Path) -> None:
    """With --json: what was copied, from where to where."""
    told = json.loads(run("migrate", OLD, "sqlite:///new.db", "--json").stdout)
    assert (told["entries"], told["writers"]) == (9, 1)
    assert (told["ok"], told["source"], told["target"]) == (True, OLD, "sqlite:///new.db")
    assert told["cells"] > 5


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((OLD, OLD), "both are the same ledger"),
        ((OLD, "memory:"), "memory: ends with this command"),
        (("memory:", "sqlite:///new.db"), "memory: is the ledger of one process"),
        (("sqlite:///none.db", "sqlite:///new.db"), "there is no ledger at none.db"),
        ((OLD, "mysql://x"), "no ledger is known"),
    ],
)
def test_wrong_use_has_a_way_out(
    run: Run, desk: Path, arguments: tuple[str, str], problem: str
) -> None:
    """Exit code 2, and what is wrong."""
    shown = run("migrate", *arguments)
    assert shown.exit_code == 2
    assert problem in " ".join(shown.output.split())


def test_a_second_copy_is_refused(run: Run, desk: Path) -> None:
    """A target that has gone on must not be overwritten."""
    run("migrate", OLD, "sqlite:///new.db")
    run("halt", "--all", "--by", "ada", "--ledger", "sqlite:///new.db")
    shown = run("migrate", OLD, "sqlite:///new.db")
    assert shown.exit_code == 2
    assert "is not empty" in shown.output


def test_a_copy_that_is_not_equal_is_a_no(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1: it says so, and that the copy is of no use."""
    floor = SqliteLedger.restore
    monkeypatch.setattr(
        SqliteLedger,
        "restore",
        lambda self, holdings: floor(self, holdings._replace(cells=list(holdings.cells)[1:])),
    )
    shown = run("migrate", OLD, "sqlite:///new.db")
    assert shown.exit_code == 1
    assert "not equal: cells compared" in shown.stdout
    assert "everything" in run("halts", "--ledger", "sqlite:///new.db").stdout
    told = json.loads(run("migrate", OLD, "sqlite:///other.db", "--json").stdout)
    assert (told["ok"], "cells compared" in told["problem"]) == (False, True)
