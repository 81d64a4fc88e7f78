"""`sluicegate explain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sluicegate.cli.app import app

Run = Callable[..., Any]


def entries_of(run: Run) -> list[Any]:
    return [json.loads(line) for line in run("journal", "export").stdout.splitlines()]


def refund(run: Run, order: str, eur: float, *more: str) -> Any:
    args = json.dumps({"order_id": order, "eur": eur})
    who = ("--tenant", "acme", "--run", "monday")
    return run("explain", "issue_refund", "--args", args, *who, *more)


def rules(told: Any) -> dict[str, Any]:
    return {rule["rule"]: rule for rule in told["rules"]}


def test_a_call_is_explained_rule_by_rule(run: Run, desk: Path) -> None:
    """The decision, then what each rule says; a refusal is exit code 1."""
    result = refund(run, "A-9", 170)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("deny issue_refund  1 of 9 rules that were looked at are against it")
    [budget] = [line for line in lines if "limits[0]" in line]
    assert budget.split()[:4] == ["refuses", "limits[0]", "eur", "for"]
    assert any(line.split()[:2] == ["passes", "limits[1]"] for line in lines)


def test_the_explanation_as_json(run: Run, desk: Path) -> None:
    """Everything that the table has, and the numbers of each limit."""
    result = refund(run, "A-9", 1.5, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["decision"]) == (0, True, "permit")
    assert (told["tool"], told["entry"], told["reasons"]) == ("issue_refund", None, [])
    assert told["ledger"].startswith("sqlite:///")
    assert rules(told)["limits[0]"] == {
        "rule": "limits[0]",
        "kind": "budget",
        "verdict": "passes",
        "message": (
            "eur for tenant acme: 40 used and 0 held of 200, 160 left, this call needs 1.50; "
            "resets 00:00 UTC"
        ),
        "value": "40",
        "limit": "200",
        "left": {
            "used": 40_000_000,
            "held": 0,
            "limit": 200_000_000,
            "resets_at": 4_102_531_200_000_000,
            "left": 160_000_000,
        },
    }


def test_what_happened_before_counts(run: Run, desk: Path) -> None:
    """The refund whose outcome is unknown is refused, and the row of its key says why."""
    told = json.loads(refund(run, "A-1", 40, "--json").stdout)
    assert [reason["code"] for reason in told["reasons"]] == ["outcome_unknown"]
    assert rules(told)["tools.issue_refund.once"]["verdict"] == "refuses"


def test_explaining_leaves_the_ledger_alone(run: Run, desk: Path) -> None:
    """Looking changes nothing: the journal is as long as before."""
    before = run("journal", "export").stdout
    run("explain", "get_order")
    run("explain", "--entry", 3)
    assert run("journal", "export").stdout == before


def test_a_journal_entry_is_explained_as_things_were_then(run: Run, desk: Path) -> None:
    """The second refund was refused because the first one's outcome was unknown."""
    entries = entries_of(run)
    denied = [each for each in entries if each["entry"].get("decision") == "deny"]
    number = denied[0]["seq"]
    result = run("explain", "--entry", number, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["entry"], told["decision"]) == (1, number, "deny")
    assert told["reasons"] == next(
        each["entry"]["reasons"] for each in entries if each["seq"] == number
    )
    shown = run("explain", "--entry", number).stdout
    assert f"journal entry {number}" in shown.splitlines()[0]


def test_a_tool_name_from_a_model_cannot_speak_to_the_terminal(run: Run, desk: Path) -> None:
    """Its control characters are made visible."""
    [number] = [each["seq"] for each in entries_of(run) if "delete_" in json.dumps(each)]
    shown = run("explain", "--entry", number).stdout
    assert "\x1b" not in shown
    assert "delete_\\x1b[2Jcustomer" in shown


def test_without_a_ledger_nothing_has_happened_yet(run: Run, desk: Path, tmp_path: Path) -> None:
    """A new policy can be explained before any gate was made; none is made for it."""
    fresh = tmp_path / "fresh" / "sluicegate.yaml"
    fresh.parent.mkdir()
    fresh.write_text((desk / "sluicegate.yaml").read_text("utf-8"), encoding="utf-8")
    result = run("explain", "get_order", "--run", "r", "--tenant", "acme", "--policy", fresh)
    assert result.exit_code == 0
    assert "There is no ledger yet" in result.stdout
    assert list(fresh.parent.iterdir()) == [fresh]


def test_a_ledger_that_was_named_must_be_there(run: Run, desk: Path) -> None:
    """Another ledger than the one that was meant would give another answer."""
    result = run("explain", "get_order", "--ledger", "sqlite:///nowhere.db")
    assert result.exit_code == 2
    assert "there is no ledger at nowhere.db" in result.output


PROPOSAL = {
    "tool": "get_order",
    "args": {"order_id": "A-1"},
    "subject": {"tenant": "acme", "roles": ["intern"]},
    "run": "r",
    "schema": {"properties": {"id": {}}},
}


@pytest.mark.parametrize("name", ["call.json", "call.yaml"])
def test_a_proposal_can_come_from_a_file(run: Run, desk: Path, name: str) -> None:
    """JSON is YAML too; the tool's own schema counts."""
    Path(name).write_text(json.dumps(PROPOSAL), encoding="utf-8")
    told = json.loads(run("explain", "--proposal", name, "--json").stdout)
    assert [reason["code"] for reason in told["reasons"]] == ["args_unknown"]


def test_a_proposal_can_come_from_stdin(desk: Path) -> None:
    """A dash means stdin, as everywhere."""
    text = json.dumps({"tool": "get_order", "run": "r", "subject": {"tenant": "acme"}})
    result = CliRunner().invoke(app, ["explain", "--proposal", "-", "--json"], input=text)
    assert json.loads(result.stdout)["decision"] == "permit"


@pytest.mark.parametrize(
    ("document", "said", "hint"),
    [
        ("tool: get_order\nargz: {}\n", "call.yaml:2:1: argz is no key here", "did you mean args?"),
        ("args: {}\n", "tool is missing", "write tool: …"),
        ("tool: get_order\nargs: 5\n", "call.yaml:2:7: args is 5; it must be a mapping", ""),
        ("tool: t\nsubject: {name: x}\n", "subject.name is no key here", "accepted: tenant, user"),
        ("tool: get_order\ndepth: 1.5\n", "depth is 1.5", ""),
        ("tool: get_order\ntool: other\n", "call.yaml:2:1", ""),
        ("tool: get_order\ndepth: -1\n", "'get_order' cannot be proposed like this: depth is -1", ""),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_has_a_place_and_a_way_out(
    run: Run, desk: Path, document: str, said: str, hint: str
) -> None:
    """Wrong use, with line and column where there is one."""
    Path("call.yaml").write_text(document, encoding="utf-8")
    result = run("explain", "--proposal", "call.yaml")
    assert result.exit_code == 2
    assert said in result.output
    assert hint in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "takes one of TOOL, --proposal and --entry, not none"),
        (("get_order", "--entry", "3"), "not TOOL and --entry"),
        (("--entry", "3", "--tenant", "acme"), "so --tenant says nothing"),
        (("--proposal", "call.json", "--args", "{}"), "so --args says nothing"),
        (("get_order", "--args", "[1]"), "--args is no JSON object"),
        (("get_order", "--args", "{"), "--args is no JSON"),
        (("--proposal", "nowhere.json"), "there is no proposal at nowhere.json"),
        (("--entry", "99"), "the journal has no entry 99"),
        (("--entry", "1"), "entry 1 is no decision"),
        (("get_order", "--tenant", ""), "cannot be proposed like this: tenant has 0 characters"),
    ],
)
def test_wrong_use_is_exit_code_2(
    run: Run, desk: Path, arguments: tuple[str, ...], said: str
) -> None:
    """With what is wrong, and never a guess at what was meant."""
    result = run("explain", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_file_that_cannot_be_read_is_wrong_use(run: Run, desk: Path) -> None:
    """Too large, or no UTF-8: with the way out."""
    Path("call.json").write_bytes(b'{"tool": "\xff"}')
    assert "call.json is no UTF-8" in run("explain", "--proposal", "call.json").output
    Path("call.json").write_bytes(b" " * 4_194_305)
    assert "is larger than 4,194,304 bytes" in run("explain", "--proposal", "call.json").output


def test_a_wide_terminal_has_two_more_columns(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found and what is allowed, which are in the messages anyway."""
    monkeypatch.setenv("COLUMNS", "180")
    lines = refund(run, "A-9", 170).stdout.splitlines()
    assert any(line.split() == ["says", "rule", "found", "allowed", "why"] for line in lines)
    [budget] = [line for line in lines if "limits[0]" in line]
    assert budget.split()[:4] == ["refuses", "limits[0]", "40", "200"]


def test_the_help_has_examples(run: Run) -> None:
    """What to type is easier copied than derived."""
    told = run("explain", "--help").stdout
    assert "sluicegate explain --entry 1042" in told
