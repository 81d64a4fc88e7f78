"""`sluicegate demo --framework crewai` and `examples/crewai_crew.py`, as a newcomer runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-c", "from sluicegate.cli import main; main()"]
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
NOTHING_SET = {
    name: value
    for name, value in os.environ.items()
    if not name.endswith("_API_KEY") and not name.startswith(("CREWAI", "OTEL", "XDG"))
}


def python(home: Path, *arguments: str) -> str:
    result = subprocess.run(
        [*arguments],
        capture_output=True,
        text=True,
        env={**NOTHING_SET, **NO_NETWORK, "HOME": str(home)},
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the demo tells a program."""
    return json.loads(
        python(tmp_path_factory.mktemp("home"), *PROGRAM, "demo", "--framework", "crewai", "--json")
    )


def test_the_demo_goes_the_same_way_in_a_crew(told: Any) -> None:
    """The five things that go wrong without a gate are refused with one, for the same reasons as elsewhere."""
    assert told["ok"] is True
    codes = [reason["code"] for entry in told["decisions"] for reason in entry["reasons"]]
    assert codes == [
        *("args_unknown", "outcome_unknown", "rate", "budget", "budget", "unknown_tool")
    ]
    facts = {fact["what"]: (fact["without"], fact["with"]) for fact in told["facts"]}
    assert facts["cups ordered"] == (1, 500)
    assert facts["EUR refunded for A-1"] == (80, 40)
    assert facts["calls to the carrier"] == (20, 5)
    assert facts["customers"] == (2, 3)


def test_the_example_leaves_the_same_shop_behind(told: Any, tmp_path: Path) -> None:
    """It is the same scene: one readable file, with a policy file beside it."""
    text = python(tmp_path, sys.executable, str(ROOT / "examples/crewai_crew.py"))
    for fact in told["facts"]:
        [line] = [line for line in text.splitlines() if line.strip().startswith(fact["what"] + " ")]
        assert line.split()[-1] == str(fact["with"])
        if fact["what"] != "EUR refunded today":  # how many race past the tool's own check
            assert line.split()[-2] == str(fact["without"])
