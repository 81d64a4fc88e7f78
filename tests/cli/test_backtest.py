"""`sluicegate backtest`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

NEW = """\
version: 1
tools:
  get_order: {effect: read, approve: true}
  track_parcel: {effect: read}
  issue_refund:
    cost: {eur: args.eur}
limits:
  - {budget: eur, limit: 30, per: [tenant], window: day}
"""


@pytest.fixture
def new(desk: Path) -> Path:
    """Another policy, beside the one that decided."""
    path = desk / "new.yaml"
    path.write_text(NEW, encoding="utf-8")
    return path


def test_what_would_change(run: Run, new: Path) -> None:
    """Totals, by rule, by tool, and examples with both decisions and why; exit code 1."""
    result = run("backtest", "--policy", "new.yaml")
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == (
        "2 of 5 decisions would change: 1 newly refused, 0 newly permitted, 1 changed otherwise"
    )
    assert "limits[0] 1 0 0" in lines
    assert "tools.get_order.approve 0 0 1" in lines
    assert "issue_refund 1 0 0 1" in lines
    assert "get_order 0 0 1 0" in lines
    assert not any(line.startswith("track_parcel") for line in lines)
    assert "permit → deny entry 2 issue_refund" in lines
    assert any(
        line.startswith("limits[0]: eur for tenant acme has 30 of 30 left") for line in lines
    )
    assert "permit → defer entry 7 get_order" in lines


def test_as_json(run: Run, new: Path) -> None:
    """All of it, with keys that stay."""
    result = run("backtest", "--policy", "new.yaml", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["policy"] == "new.yaml"
    assert told["decisions"] == 5
    assert told["total"] == {"same": 3, "refused": 1, "permitted": 0, "changed": 1}
    assert told["by_rule"]["limits[0]"] == {"same": 0, "refused": 1, "permitted": 0, "changed": 0}
    assert told["by_tool"]["track_parcel"]["same"] == 1
    first, second = told["examples"]
    assert (first["entry"], first["kind"], first["before"], first["after"]) == (
        *(2, "refused", "permit"), "deny"
    )  # fmt: skip
    assert second["rule"] == "tools.get_order.approve"
    assert (told["assumed"], told["unheard"], told["skipped"]) == (0, 0, [])


def test_the_policy_that_decided(run: Run, desk: Path) -> None:
    """It changes nothing; exit code 0. The ledger beside it is the one that is read."""
    result = run("backtest", "--policy", "sluicegate.yaml")
    assert result.exit_code == 0
    assert result.stdout == "no change in 5 decisions\n"


def test_assumptions_are_said(run: Run, new: Path) -> None:
    """A call that is newly permitted has no outcome on record, and the user's words may be missing."""
    text = NEW.replace("limit: 30", "limit: 3000").replace("    cost", "    effect: read\n    cost")
    tool = "  track_parcel: {effect: read, origin: {order_id: [prompt]}}"
    new.write_text(text.replace("  track_parcel: {effect: read}", tool), encoding="utf-8")
    output = " ".join(run("backtest", "--policy", "new.yaml").stdout.split())
    assert "newly permitted, and so without an outcome on record: 1;" in output
    assert "in the user's words, which are not on record: 1;" in output


def test_an_export(run: Run, new: Path) -> None:
    """A journal from elsewhere does as well."""
    run("journal", "export", "--output", "journal.jsonl")
    for path in (new.parent / ".sluicegate").iterdir():
        path.unlink()
    told = run("backtest", "--policy", "new.yaml", "--file", "journal.jsonl", "--json").stdout
    assert json.loads(told)["source"] == "journal.jsonl"
    assert json.loads(told)["total"]["refused"] == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "Missing option"),
        (["--policy", "nowhere.yaml"], "there is no policy file at nowhere.yaml"),
        (["--policy", "wrong.yaml"], "wrong.yaml:2:1"),
        (["--policy", "new.yaml", "--file", "new.yaml"], "line 1 is no journal entry"),
    ],
)
def test_wrong_use(run: Run, new: Path, arguments: list[str], problem: str) -> None:
    """Exit code 2, and what is wrong with it."""
    Path("wrong.yaml").write_text("version: 1\ntolls: {}\n", encoding="utf-8")
    result = run("backtest", *arguments)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())
