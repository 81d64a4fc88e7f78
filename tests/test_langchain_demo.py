"""`sluicegate demo` and `examples/langchain_agent.py`, as a newcomer runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain")

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-c", "from sluicegate.cli import main; main()"]
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
NO_KEYS = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}


def python(*arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [*arguments],
        capture_output=True,
        text=True,
        env={**NO_KEYS, **NO_NETWORK, **environment},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the demo tells a program, and how long it took."""
    begun = time.monotonic()
    keep = tmp_path_factory.mktemp("demo") / "kept"
    told = json.loads(python(*PROGRAM, "demo", "--json", "--keep", str(keep)))
    return {**told, "seconds": time.monotonic() - begun, "keep": keep}


def calls(told: Any, run: str, step: int) -> list[tuple[Any, str]]:
    return [(c["args"], c["answer"]) for c in told[run]["calls"] if c["step"] == step]


def test_it_is_over_soon(told: Any) -> None:
    """Somebody who wants to see it has 20 seconds."""
    assert told["ok"] is True
    assert told["seconds"] < 20


def test_a_misspelt_argument_becomes_the_default_without_a_gate(told: Any) -> None:
    """500 cups become one, reported as a success; the gate names the argument, and 500 are ordered."""
    cups = [
        [row["quantity"] for row in told[run]["tables"]["orders"] if row["product"] == "cup"]
        for run in ("without", "with")
    ]
    assert cups == [[1], [500]]
    (first, refusal), (second, _) = calls(told, "with", 1)
    assert (first, second) == (
        {"product": "cup", "quantiy": 500},
        {"product": "cup", "quantity": 500},
    )
    assert "did you mean 'quantity'?" in refusal


def test_a_lost_reply_is_paid_twice_without_a_gate(told: Any) -> None:
    """The tool committed and then failed; the gate refuses the repetition because it may have worked."""
    paid = [
        [row["eur"] for row in told[run]["tables"]["refunds"] if row["order_id"] == "A-1"]
        for run in ("without", "with")
    ]
    assert paid == [[40, 40], [40]]
    assert "outcome_unknown" in calls(told, "with", 2)[1][1]


def test_a_retry_storm_is_billed_without_a_gate(told: Any) -> None:
    """Twenty requests, or the five that the policy's rate allows; then the model is told when to come back."""
    assert len(told["without"]["tables"]["carrier_calls"]) == 20
    assert len(told["with"]["tables"]["carrier_calls"]) == 5
    assert "The same call may be made again in" in calls(told, "with", 3)[-1][1]


def test_parallel_calls_overrun_the_limit_without_a_gate(told: Any) -> None:
    """The tool checks the limit itself, but all of them look before any has paid."""
    spent = [
        sum(row["eur"] for row in told[run]["tables"]["refunds"]) for run in ("without", "with")
    ]
    assert spent[0] > 200
    assert spent[1] == 160
    refused = [answer for _, answer in calls(told, "with", 4) if "budget" in answer]
    assert len(refused) == 2


def test_a_note_deletes_a_customer_without_a_gate(told: Any) -> None:
    """A tool that the policy does not list cannot run, whoever asks for it."""
    ids = [[row["id"] for row in told[run]["tables"]["customers"]] for run in ("without", "with")]
    assert ids == [["C-1", "C-3"], ["C-1", "C-2", "C-3"]]
    assert "unknown_tool" in calls(told, "with", 5)[-1][1]


def test_the_decisions_come_with_their_reasons(told: Any) -> None:
    """Each of the five is refused for its own reason, from the journal."""
    codes = [reason["code"] for entry in told["decisions"] for reason in entry["reasons"]]
    assert codes == [
        *("args_unknown", "outcome_unknown", "rate", "budget", "budget", "unknown_tool")
    ]


def test_what_was_kept_can_be_looked_at(told: Any) -> None:
    """The folder has the policy and its ledger, so that every other command works in it."""
    policy = str(told["keep"] / "sluicegate.yaml")
    assert json.loads(python(*PROGRAM, "journal", "verify", "--policy", policy, "--json"))["ok"]
    usage = json.loads(python(*PROGRAM, "usage", "--policy", policy, "--json"))["usage"]
    assert usage[0]["used"] == 160_000_000


def test_a_folder_that_exists_is_left_alone(told: Any) -> None:
    """The demo never writes into a folder of yours."""
    result = subprocess.run([*PROGRAM, "demo", "--keep", str(told["keep"])], capture_output=True)
    assert result.returncode == 2


@pytest.mark.parametrize(("columns", "beside"), [(80, True), (64, False)])
def test_the_runs_stand_side_by_side_where_they_fit(columns: int, beside: bool) -> None:
    """On a narrow terminal one stands above the other, and no line is wider than the screen."""
    lines = python(*PROGRAM, "demo", COLUMNS=str(columns)).splitlines()
    assert max(map(len, lines)) <= columns
    assert any("without a gate" in line and "with Sluicegate" in line for line in lines) is beside
    assert any(line.startswith("1  A misspelt argument ───") for line in lines)
    text = "\n".join(lines)
    for wanted in ("quantiy=500", "orders", "refunds", "carrier_calls", "customers", "Next"):
        assert wanted in text


def test_the_example_leaves_the_same_shop_behind(told: Any) -> None:
    """It is the same scene: one readable file, with a policy file beside it."""
    text = python(sys.executable, str(ROOT / "examples/langchain_agent.py"))
    for fact in told["facts"]:
        [line] = [line for line in text.splitlines() if line.strip().startswith(fact["what"] + " ")]
        assert line.split()[-1] == str(fact["with"])
        if fact["what"] != "EUR refunded today":  # how many race past the tool's own check
            assert line.split()[-2] == str(fact["without"])
