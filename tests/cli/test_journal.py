"""`sluicegate journal tail`, `verify` and `export`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Gate
from sluicegate.ledger import open_ledger

Run = Callable[..., Any]

URL = "sqlite:///.sluicegate/ledger.db"


def tamper(*statements: str) -> None:
    with closing(sqlite3.connect(".sluicegate/ledger.db")) as db, db:
        for statement in statements:
            assert db.execute(statement).rowcount > 0


# --- tail ------------------------------------------------------------------------------------------


def test_tail_shows_a_line_for_each_entry(run: Run, desk: Path) -> None:
    """Piped: time in UTC, decision or outcome, tool, who, and why, each entry on one line."""
    lines = run("journal", "tail").stdout.splitlines()
    words = [line.split()[2] for line in lines]
    assert words == [
        *("policy", "permit", "unknown", "deny", "permit", "failed", "permit", "succeeded", "deny")
    ]
    assert lines[2].startswith("2100-01-01 12:00:01.000Z  unknown    issue_refund")
    assert lines[2].endswith("TimeoutError: no reply from the bank")
    assert "acme/desk · run monday  outcome_unknown: " in lines[3]


def test_tail_takes_a_number(run: Run, desk: Path) -> None:
    """An outcome has its tool's name even if its decision is further up."""
    lines = run("journal", "tail", "-n", "2").stdout.splitlines()
    assert lines[0].split()[2:4] == ["succeeded", "get_order"]
    assert len(lines) == 2
    assert run("journal", "tail", "-n", "0").stdout == ""


def test_tail_as_json_is_what_export_writes(run: Run, desk: Path) -> None:
    """One form of an entry for programs, not two."""
    lines = run("journal", "tail", "--json").stdout
    assert lines == run("journal", "export").stdout
    assert [json.loads(line)["seq"] for line in lines.splitlines()] == list(range(1, 10))


def test_what_a_model_wrote_cannot_drive_the_terminal(run: Run, desk: Path) -> None:
    """The name of a tool is the model's to choose; its escape sequences are shown, not obeyed."""
    output = run("journal", "tail").stdout
    assert "\x1b" not in output
    assert r"delete_\x1b[2Jcustomer" in output


def test_a_watched_call_is_shown_as_watched(run: Run, desk: Path) -> None:
    """A gate that only observes lets things run; nobody must read that as a permit."""
    from sluicegate import Proposal

    with Gate("sluicegate.yaml", observe=True) as gate:
        gate.decide(Proposal("delete_everything", {}))
    last = run("journal", "tail", "-n", "1").stdout
    assert " observed " in last
    assert "it would be: deny" in last
    assert " permit " not in last


# --- verify ----------------------------------------------------------------------------------------


def test_a_whole_chain_is_told_with_its_head(run: Run, desk: Path) -> None:
    """Number and hash of the last entry, in the form that --head takes."""
    result = run("journal", "verify")
    with closing(open_ledger(URL)) as books:
        seq, digest = books.head()
    assert result.exit_code == 0
    assert "9 entries" in result.stdout
    assert f"{seq}:{digest}" in result.stdout
    assert run("journal", "verify", "--head", f"{seq}:{digest}").exit_code == 0


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (
            ["UPDATE journal SET body = replace(body, '40', '41') WHERE seq = 4"],
            "entry 4 was changed",
        ),
        (
            ["UPDATE journal SET body = replace(body, 'C-2', 'C-3') WHERE seq = 9"],
            "entry 9 was changed",
        ),
        (["DELETE FROM journal WHERE seq = 5"], "entry 5 is missing"),
        (["DELETE FROM journal WHERE seq = 1"], "entry 1 is missing"),
        (
            [
                "UPDATE journal SET seq = 100 WHERE seq = 3",
                "UPDATE journal SET seq = 3 WHERE seq = 4",
                "UPDATE journal SET seq = 4 WHERE seq = 100",
            ],
            "entry 3 was changed",
        ),
        (["UPDATE head SET seq = 12"], "entry 10 is missing"),
    ],
    ids=["changed", "last changed", "missing", "first missing", "swapped", "cut off"],
)
def test_the_first_bad_entry_is_named(
    run: Run, desk: Path, statements: list[str], problem: str
) -> None:
    """Even if the ledger itself refuses to be opened for it; exit code 1."""
    tamper(*statements)
    result = run("journal", "verify")
    assert result.exit_code == 1
    assert f"broken: {problem}" in result.stdout
    told = json.loads(run("journal", "verify", "--json").stdout)
    assert told["ok"] is False
    assert told["broken"]["problem"].startswith(problem)


def test_a_head_that_was_kept_finds_a_rebuilt_chain(run: Run, desk: Path) -> None:
    """Another hash at that place, or no entry there, although the chain itself is whole."""
    rebuilt = run("journal", "verify", "--head", f"4:{'ab' * 32}")
    assert rebuilt.exit_code == 1
    assert "entry 4 is not the one you kept" in rebuilt.stdout
    shorter = run("journal", "verify", "--head", f"12:{'ab' * 32}")
    assert shorter.exit_code == 1
    assert "entry 12 is missing" in shorter.stdout


def test_a_head_in_another_form_is_wrong_use(run: Run, desk: Path) -> None:
    """It must not pass because it could not be compared."""
    assert run("journal", "verify", "--head", "9").exit_code == 2


def test_a_file_that_is_no_ledger_is_wrong_use(run: Run, desk: Path) -> None:
    """A broken chain is a no; a file that never was a ledger is neither yes nor no."""
    with closing(sqlite3.connect("other.db")) as db, db:
        db.execute("CREATE TABLE journal (seq)")
    result = run("journal", "verify", "--ledger", "sqlite:///other.db")
    assert result.exit_code == 2
    assert "other.db" in result.output


# --- export and the ledger -------------------------------------------------------------------------


def test_export_writes_a_file_once(run: Run, desk: Path) -> None:
    """As many lines as entries, each with what its hash covers; --force to overwrite."""
    result = run("journal", "export", "--output", "journal.jsonl", "--json")
    assert json.loads(result.stdout) == {"ok": True, "file": "journal.jsonl", "entries": 9}
    lines = [json.loads(line) for line in Path("journal.jsonl").read_text("utf-8").splitlines()]
    assert [line["prev"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert run("journal", "export", "--output", "journal.jsonl").exit_code == 2
    assert run("journal", "export", "--output", "journal.jsonl", "--force").exit_code == 0


@pytest.mark.parametrize("command", ["tail", "verify", "export"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:///nowhere.db", "there is no ledger at nowhere.db"),
        ("memory:", "only that process"),
        ("mysql://db/x", "no ledger is known for 'mysql'"),
    ],
)
def test_without_a_ledger_the_use_is_wrong(
    run: Run, desk: Path, command: str, url: str, problem: str
) -> None:
    """The message says what is missing, and nothing is created."""
    result = run("journal", command, "--ledger", url)
    assert result.exit_code == 2
    assert problem in " ".join(result.output.split())
    assert not Path("nowhere.db").exists()


def test_with_a_ledger_no_policy_is_needed(run: Run, desk: Path) -> None:
    """A journal can be looked at where its policy is not."""
    Path("sluicegate.yaml").unlink()
    assert run("journal", "verify", "--ledger", URL).exit_code == 0
    missing = run("journal", "verify")
    assert missing.exit_code == 2
    assert "no policy file" in missing.output
