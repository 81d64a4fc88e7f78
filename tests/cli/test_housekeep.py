"""`sluicegate housekeep`: what is over goes, and the command says what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Gate, Permit, Proposal, Subject, Succeeded
from sluicegate.testing import FakeClock

Run = Callable[..., Any]

POLICY = """\
version: 1
tools:
  pay: {once: {key: "pay:{order}"}, cost: {eur: 1}}
limits:
  - {budget: eur, limit: 200, per: [tenant], window: day}
  - {rate: 20/min, per: [tenant]}
  - {repeat: 3, per: [run]}
"""


@pytest.fixture
def old(folder: Path) -> Path:
    """The folder of a till whose only payment was in January 2026."""
    (folder / "sluicegate.yaml").write_text(POLICY, encoding="utf-8")
    with Gate("sluicegate.yaml", clock=FakeClock()) as gate:
        who = Subject(tenant="acme")
        call = Proposal("pay", {"order": "A1"}, subject=who, run="monday", call_id="c1")
        decision = gate.decide(call)
        assert isinstance(decision, Permit)
        gate.settle(decision, Succeeded("paid"))
    return folder


def cells() -> set[str]:
    """The kinds of cells in the ledger."""
    with Gate("sluicegate.yaml") as gate:
        return {key.partition("|")[0] for key, _ in gate.ledger.cells("")}


def test_it_removes_what_is_over_and_says_what(run: Run, old: Path) -> None:
    """By kind, for people and for programs; what could still matter stays."""
    shown = run("housekeep", "--dry-run")
    assert shown.exit_code == 0
    assert "5 would be removed of 7 cells" in shown.stdout
    told = json.loads(run("housekeep", "--json").stdout)
    kinds = {"quota": 1, "rate": 1, "repeat": 1, "run": 1, "seen": 1}
    assert (told["ok"], told["looked"], told["removed"]) == (True, 7, 5)
    assert told["by_kind"] == kinds
    assert cells() == {"once", "policy"}
    assert json.loads(run("housekeep", "--json").stdout)["removed"] == 0


def test_a_dry_run_changes_nothing(run: Run, old: Path) -> None:
    """Not a cell, and not an entry of the journal."""
    before = cells()
    told = json.loads(run("housekeep", "--dry-run", "--json").stdout)
    assert (told["dry_run"], told["removed"]) == (True, 5)
    assert cells() == before
    assert "swept" not in run("journal", "tail").stdout


def test_what_is_kept_can_be_kept_longer(run: Run, old: Path) -> None:
    """Runs and call ids, each for as long as is said."""
    told = json.loads(run("housekeep", "--keep-runs", "9000d", "--json").stdout)
    assert set(told["by_kind"]) == {"quota", "rate", "seen"}
    told = json.loads(run("housekeep", "--keep-calls", "9000d", "--json").stdout)
    assert set(told["by_kind"]) == {"repeat", "run"}


def test_the_journal_says_it_and_follows_from_itself(run: Run, old: Path) -> None:
    """One line for the batch; replay derives the decisions as before."""
    run("housekeep")
    assert "swept      5 cells that are over" in run("journal", "tail").stdout
    assert run("journal", "verify").exit_code == 0
    assert run("replay").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--keep-runs", "soon"), "--keep-runs is 'soon', which is no duration"),
        (("--keep-calls", "30"), "--keep-calls is '30', which is no duration"),
        (("--ledger", "memory:"), "memory: is the ledger of one process"),
        (("--ledger", "sqlite:///none.db"), "there is no ledger at none.db"),
    ],
)
def test_wrong_use_has_a_way_out(
    run: Run, old: Path, arguments: tuple[str, ...], problem: str
) -> None:
    """Exit code 2, and the problem by its name."""
    shown = run("housekeep", *arguments)
    assert shown.exit_code == 2
    assert problem in " ".join(shown.output.split())
