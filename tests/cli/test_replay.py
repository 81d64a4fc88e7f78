"""`sluicegate replay`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Gate, Proposal
from sluicegate.journal import GENESIS, link

Run = Callable[..., Any]


def exported(run: Run, file: str = "journal.jsonl") -> list[str]:
    """The lines of an export, which is in *file* as well."""
    assert run("journal", "export", "--output", file, "--force").exit_code == 0
    return Path(file).read_text("utf-8").splitlines()


def rebuilt(lines: list[str], old: str, new: str) -> str:
    """The export with another text in it, and a chain that fits: what an attacker would write."""
    last, told = GENESIS, []
    for line in lines:
        entry = json.loads(line)
        body = json.dumps(entry["entry"], separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        body = body.replace(old, new)
        digest = link(last, entry["writer"], entry["seq"], body)
        told.append(
            f'{{"entry":{body},"hash":"{digest}","prev":"{last}","seq":{entry["seq"]},'
            f'"writer":{json.dumps(entry["writer"])}}}'
        )
        last = digest
    return "\n".join(told) + "\n"


def test_a_journal_that_follows_from_itself(run: Run, desk: Path) -> None:
    """How many decisions were derived, and from how many entries; exit code 0."""
    result = run("replay")
    assert result.exit_code == 0
    assert result.stdout == "equal: 5 decisions follow from 9 entries\n"
    told = json.loads(run("replay", "--json").stdout)
    source = told.pop("source")
    assert source.startswith("sqlite:///")
    assert source.endswith("ledger.db")
    assert told == {
        "ok": True, "entries": 9, "decisions": 5, "difference": None, "skipped": []
    }  # fmt: skip


def test_an_export_is_as_good_as_the_ledger(run: Run, desk: Path) -> None:
    """With --file there need be neither a ledger nor a policy."""
    exported(run)
    for path in (desk / "sluicegate.yaml", *(desk / ".sluicegate").iterdir()):
        path.unlink()
    result = run("replay", "--file", "journal.jsonl", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["source"] == "journal.jsonl"
    assert json.loads(result.stdout)["decisions"] == 5


def test_a_decision_that_does_not_follow(run: Run, desk: Path) -> None:
    """In a chain that was rebuilt around it: its entry, its tool, and both versions; exit code 1."""
    lines = exported(run)
    forged = rebuilt(lines, "outcome_unknown", "in_progress")
    Path("forged.jsonl").write_text(forged, encoding="utf-8")
    result = run("replay", "--file", "forged.jsonl")
    assert result.exit_code == 1
    first, *fields, last = result.stdout.splitlines()
    assert first == "different: entry 4 (issue_refund): the decision is not the one that follows"
    assert fields[0] == "  reasons"
    assert fields[1].startswith(
        "    recorded  in_progress (tools.issue_refund.once): key 'refund:A-1'"
    )
    assert any(line.startswith("    derived   outcome_unknown") for line in fields)
    assert last == "Decisions before it that were equal: 1."
    told = json.loads(run("replay", "--file", "forged.jsonl", "--json").stdout)
    assert told["ok"] is False
    assert told["difference"]["entry"] == 4
    assert [field["name"] for field in told["difference"]["fields"]] == ["reasons"]


def test_an_entry_that_was_changed_in_the_file(run: Run, desk: Path) -> None:
    """Without a chain that fits, its content does not give its hash."""
    lines = exported(run)
    lines[2] = lines[2].replace("no reply", "a reply")
    Path("changed.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = run("replay", "--file", "changed.jsonl")
    assert result.exit_code == 1
    assert "entry 3: it was changed" in result.stdout


def test_what_cannot_be_derived_is_said(run: Run, desk: Path) -> None:
    """Calls with `record: digest` are neither equal nor different, and the exit code is 0."""
    Path("sluicegate.yaml").write_text("version: 1\ntools: {get_order: {record: digest}}\n")
    with Gate("sluicegate.yaml") as gate:
        gate.decide(Proposal("get_order", {}))
    result = run("replay")
    assert result.exit_code == 0
    assert "5 decisions" in result.stdout
    assert "skipped 1, the first at entry 11: get_order has `record: digest`" in result.stdout
    (skipped,) = json.loads(run("replay", "--json").stdout)["skipped"]
    assert (skipped["decisions"], skipped["first"]) == (1, 11)


def test_what_a_model_wrote_cannot_drive_the_terminal(run: Run, desk: Path) -> None:
    """Also not through the name of a tool that is different."""
    forged = rebuilt(exported(run), "unknown_tool", "not_granted")
    Path("forged.jsonl").write_text(forged, encoding="utf-8")
    output = run("replay", "--file", "forged.jsonl").output
    assert "\x1b" not in output
    assert r"entry 9 (delete_\x1b[2Jcustomer)" in output


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        (["--file", "nowhere.jsonl"], "no export at nowhere.jsonl", "journal export"),
        (["--file", "sluicegate.yaml"], "sluicegate.yaml: line 1 is no journal entry", "unchanged"),
        (["--file", "f", "--ledger", "sqlite:///f"], "were both given", "the one that you mean"),
        (["--ledger", "sqlite:///nowhere.db"], "there is no ledger at nowhere.db", "--ledger"),
        (["--ledger", "memory:"], "the ledger of one process", "gate.journal"),
        (["--policy", "nowhere.yaml"], "no policy file at nowhere.yaml", "init"),
    ],
)
def test_wrong_use(run: Run, desk: Path, arguments: list[str], problem: str, hint: str) -> None:
    """Exit code 2, what is wrong, and the way out; nothing is made on the way."""
    result = run("replay", *arguments)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())
    assert hint in " ".join(result.stderr.split())
    told = json.loads(run("replay", *arguments, "--json").stdout)
    assert told["ok"] is False
    assert not Path("nowhere.db").exists()


def test_a_part_of_an_export(run: Run, desk: Path) -> None:
    """What came before the first line is state that nobody knows: it is refused, not guessed."""
    lines = exported(run)
    Path("part.jsonl").write_text("\n".join(lines[3:]), encoding="utf-8")
    result = run("replay", "--file", "part.jsonl")
    assert result.exit_code == 2
    assert "begins with entry 4" in result.stderr
