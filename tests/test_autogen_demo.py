"""`sluicegate demo --framework autogen` and `examples/autogen_team.py`, as a newcomer runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-c", "from sluicegate.cli import main; main()"]
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
NO_KEYS = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}


def python(*arguments: str) -> str:
    result = subprocess.run(
        [*arguments], capture_output=True, text=True, env={**NO_KEYS, **NO_NETWORK}, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def told() -> Any:
    """What the demo tells a program."""
    return json.loads(python(*PROGRAM, "demo", "--framework", "autogen", "--json"))


def test_the_gate_holds_in_a_team(told: Any) -> None:
    """Each of the five goes wrong in a bare team, and none of them behind the gate."""
    assert (told["ok"], told["framework"]) == (True, "autogen")
    bare = {fact["what"]: fact["without"] for fact in told["facts"]}
    held = {fact["what"]: fact["with"] for fact in told["facts"]}
    assert (bare["cups ordered"], held["cups ordered"]) == (1, 500)
    assert (bare["EUR refunded for A-1"], held["EUR refunded for A-1"]) == (80, 40)
    assert (bare["calls to the carrier"], held["calls to the carrier"]) == (20, 5)
    assert held["EUR refunded today"] == 160
    assert (bare["customers"], held["customers"]) == (2, 3)


def test_the_decisions_are_those_of_every_framework(told: Any) -> None:
    """Each of the five is refused for its own reason, as in the other frameworks."""
    codes = [reason["code"] for entry in told["decisions"] for reason in entry["reasons"]]
    assert codes == [
        *("args_unknown", "outcome_unknown", "rate", "budget", "budget", "unknown_tool")
    ]


def test_the_example_leaves_the_same_shop_behind(told: Any) -> None:
    """It is the same scene: one readable file, with a policy file beside it."""
    text = python(sys.executable, str(ROOT / "examples/autogen_team.py"))
    for fact in told["facts"]:
        [line] = [line for line in text.splitlines() if line.strip().startswith(fact["what"] + " ")]
        assert line.split()[-1] == str(fact["with"])
        if fact["what"] != "EUR refunded today":  # how many race past the tool's own check
            assert line.split()[-2] == str(fact["without"])


def test_the_demo_shows_how_a_team_is_wired() -> None:
    """What it tells at the end is what the adapter offers."""
    text = python(*PROGRAM, "demo", "--framework", "autogen")
    assert "GateWorkbench(tools, gate, subject=…)" in text
    assert "an AutoGen team" in text
