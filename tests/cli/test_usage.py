"""`sluicegate usage`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_each_limit_is_a_row(run: Run, desk: Path) -> None:
    """For whom, of what, used, held, left and limit, and when it is full again in UTC."""
    result = run("usage")
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert rows["limits[0]"] == [
        *("limits[0]", "tenant", "acme", "eur", "40", "0", "160", "200"),
        *("2100-01-02", "00:00"),
    ]
    assert rows["limits[1]"][1:] == ["run", "monday", "calls", "2", "0", "48", "50"]
    assert rows["tools.track_parcel.rate"][1:7] == [
        "tool",
        "track_parcel",
        "attempts",
        "1",
        "0",
        "4",
    ]


def test_the_rows_as_json(run: Run, desk: Path) -> None:
    """Amounts in millionths and times in µs, as in the Python API."""
    told = json.loads(run("usage", "--json").stdout)
    assert told["ok"] is True
    assert told["ledger"].startswith("sqlite:///")
    assert told["usage"][0] == {
        "rule": "limits[0]",
        "kind": "quota",
        "name": "eur",
        "scope": {"tenant": "acme"},
        "limit": 200_000_000,
        "used": 40_000_000,
        "held": 0,
        "left": 160_000_000,
        "resets_at": 4_102_531_200_000_000,
    }


def test_rows_can_be_chosen_by_whom_they_are_for(run: Run, desk: Path) -> None:
    """What is not counted by that part is shown as well: it concerns everybody."""
    told = json.loads(run("usage", "--tenant", "other", "--json").stdout)
    assert "limits[0]" not in [row["rule"] for row in told["usage"]]
    assert "limits[0]" in told["idle"]


def test_a_limit_that_nobody_used_is_named(run: Run, desk: Path) -> None:
    """A row that is missing would look like a limit that is not there."""
    policy = Path("sluicegate.yaml")
    more = "  - {rate: 9/s, tools: [get_order], per: [user]}\n"
    policy.write_text(policy.read_text("utf-8") + more, encoding="utf-8")
    assert "Nothing counted yet: limits[3]" in run("usage").stdout


def test_a_policy_without_limits_says_so(run: Run, desk: Path) -> None:
    """An empty table would look like an error."""
    Path("sluicegate.yaml").write_text("version: 1\ntools: {get_order: {}}\n", encoding="utf-8")
    assert run("usage").stdout == "The policy has no limits.\n"


def test_looking_makes_no_ledger(run: Run, desk: Path) -> None:
    """A ledger that is not there is an error with a way out, and is still not there afterwards."""
    result = run("usage", "--ledger", "sqlite:///nowhere.db")
    assert result.exit_code == 2
    assert "there is no ledger at nowhere.db" in result.output
    assert not Path("nowhere.db").exists()


def test_a_policy_with_a_mistake_is_wrong_use(run: Run, desk: Path) -> None:
    """The place of the mistake is told, without a traceback."""
    Path("sluicegate.yaml").write_text("version: 2\ntools: {a: {}}\n", encoding="utf-8")
    result = run("usage", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"].startswith("sluicegate.yaml:1:10: ")
