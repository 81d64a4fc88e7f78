"""`sluicegate run-report`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Failed, Gate, Outcome, Permit, Proposal, Succeeded, Unknown
from sluicegate.testing import FakeClock, counted_ids

Run = Callable[..., Any]

NOON = 4_102_488_000_000_000
"""2100-01-01 12:00 UTC: later than the program's own clock, which then stands still there."""

POLICY = """\
version: 1
tools:
  issue_refund: {cost: {eur: args.eur}}
  "send_*": {effect: idempotent}
contracts:
  - {when: issue_refund, then: send_receipt, match: {order_id: order_id}}
"""


@pytest.fixture
def shop(folder: Path) -> Callable[..., None]:
    """A policy with a contract, and a function that makes calls in runs of it."""
    (folder / "sluicegate.yaml").write_text(POLICY, encoding="utf-8")
    clock, ids = FakeClock(NOON), counted_ids()

    def call(run: str, tool: str, outcome: Outcome | None, **args: object) -> None:
        clock.advance(1)
        with Gate("sluicegate.yaml", clock=clock, ids=ids) as gate:
            decision = gate.decide(Proposal(tool, args, run=run))
            if outcome is not None:
                assert isinstance(decision, Permit)
                clock.advance(1)
                gate.settle(decision, outcome)

    return call


def test_what_is_owed_is_exit_code_1(run: Run, shop: Callable[..., None]) -> None:
    """A script that ends with this command does not call five failed sends a success."""
    shop("monday", "issue_refund", Succeeded("ok"), order_id="A-1", eur=40)
    for _ in range(5):
        shop("monday", "send_receipt", Failed(OSError("503")), order_id="A-1")
    result = run("run-report", "monday")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "unfinished run monday 2100-01-01 12:00:01 to 2100-01-01 12:00:12 UTC" in text
    assert 'owed: 1 contracts[0]: issue_refund {"eur":40,"order_id":"A-1"} (permit permit-1' in text
    assert 'call send_receipt with order_id "A-1"' in text
    assert "failed, not mended: 5" in text
    assert "issue_refund 1 1 -" in text
    assert "send_receipt 5 - 5" in text
    assert "spent: eur 40" in text
    shop("monday", "send_receipt", Succeeded("sent"), order_id="A-1")
    result = run("run-report", "monday")
    assert result.exit_code == 0
    assert result.stdout.startswith("fulfilled  run monday")


def test_something_left_over_is_no_debt(run: Run, shop: Callable[..., None]) -> None:
    """Contracts alone decide about the exit code; what is unknown or under way is told."""
    shop("monday", "send_mail", Unknown(TimeoutError("no reply")), to="ann")
    shop("monday", "send_mail", None, to="bob")
    shop("monday", "nope", None)
    result = run("run-report", "monday")
    assert result.exit_code == 0
    assert result.stdout.startswith("fulfilled, with something left over")
    assert "outcome unknown: 1" in result.stdout
    assert "TimeoutError: no reply" in result.stdout
    assert "under way: 1" in result.stdout
    assert "refused for: unknown_tool 1" in result.stdout


def test_the_report_as_json(run: Run, shop: Callable[..., None]) -> None:
    """Amounts in millionths and times in µs, as in the Python API."""
    shop("monday", "issue_refund", Succeeded("ok"), order_id="A-1", eur=40)
    result = run("run-report", "monday", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (told["ok"], told["fulfilled"], told["clean"]) == (False, False, False)
    assert told["ledger"].startswith("sqlite:///")
    assert (told["run"], told["began"]) == ("monday", NOON + 1_000_000)
    (owed,) = told["owed"]
    assert owed["match"] == [["order_id", '"A-1"']]
    assert owed["call"]["permit"] == "permit-1"
    assert told["spent"] == [{"name": "eur", "settled": 40_000_000, "held": 0}]
    assert told["calls"][0]["succeeded"] == 1
    assert told["refused"] == {}


def test_a_run_of_which_there_is_nothing_is_wrong_use(run: Run, shop: Callable[..., None]) -> None:
    """A misspelt name must not look like a run that owes nothing."""
    shop("monday", "issue_refund", Succeeded("ok"), order_id="A-1", eur=40)
    result = run("run-report", "mon\x1b[2Jday")
    assert result.exit_code == 2
    assert "nothing of a run" in result.output
    assert "\x1b" not in result.output
    assert run("run-report", "").exit_code == 2
    assert run("run-report").exit_code == 2
    told = json.loads(run("run-report", "tuesday", "--json").stdout)
    assert told["ok"] is False
    assert "journal tail" in told["hint"]


def test_the_contracts_are_those_of_the_file(run: Run, shop: Callable[..., None]) -> None:
    """A contract that was added later is asked of earlier runs too, and a mistake is told with its place."""
    shop("monday", "send_mail", Succeeded("ok"), to="ann")
    assert run("run-report", "monday").exit_code == 0
    file = Path("sluicegate.yaml")
    more = "  - {when: send_mail, then: send_copy}\n"
    file.write_text(POLICY + more, encoding="utf-8")
    assert run("run-report", "monday").exit_code == 1
    file.write_text("version: 2\ntools: {a: {}}\n", encoding="utf-8")
    result = run("run-report", "monday")
    assert result.exit_code == 2
    assert "sluicegate.yaml:1:10" in result.output


def test_looking_makes_no_ledger(run: Run, shop: Callable[..., None]) -> None:
    """A ledger that is not there is an error with a way out, and is still not there afterwards."""
    result = run("run-report", "monday", "--ledger", "sqlite:///nowhere.db")
    assert result.exit_code == 2
    assert "there is no ledger at nowhere.db" in result.output
    assert not Path("nowhere.db").exists()


def test_what_a_model_wrote_cannot_drive_the_terminal(run: Run, shop: Callable[..., None]) -> None:
    """Names of tools and arguments are shown, not obeyed, and long lists are cut."""
    for number in range(60):
        shop("monday", f"delete_\x1b[2J{number:02}", None, evil="\x1b]0;x\x07")
    orders = [f"\x1b[2J\n{number}" for number in range(55)]
    shop("monday", "issue_refund", Succeeded("ok"), order_id=orders, eur=1)
    result = run("run-report", "monday")
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert r"delete_\x1b[2J00" in result.stdout
    assert "… and 5 more; --json has all" in result.stdout
    assert "… 11 more tools" in " ".join(result.stdout.split())
    assert "issue_refund 1 1" in " ".join(result.stdout.split())  # made-up names come last
