"""`sluicegate check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

Run = Callable[..., Any]

WRONG = """\
version: 1
tools:
  get_order: {effect: raed}
  refund:
    onec: {key: "refund:{order_id}"}
"""
IDLE = """\
version: 1
tools:
  get_order: {effect: read}
  refund: {effect: write}
grants:
  - {agent: "support-*", tools: [get_order]}
"""


def written(text: str, name: str = "sluicegate.yaml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_policy_is_summed_up(run: Run, desk: Path) -> None:
    """Tools by what they do, limits in words, and the revision, with exit code 0."""
    result = run("check")
    assert result.exit_code == 0
    for wanted in (
        "sluicegate.yaml: no mistakes",
        "get_order, track_parcel",
        "200 eur a day for each tenant",
        "50 calls in all for each run",
        "4 calls at the same time",
        "every subject may call every listed tool",
        "sha256:",
    ):
        assert wanted in result.stdout


def test_the_summary_as_json(run: Run, desk: Path) -> None:
    """Programs get the same, with the whole revision."""
    told = json.loads(run("check", "--json").stdout)
    assert told["ok"] is True
    assert told["tools"] == {"get_order": "read", "track_parcel": "read", "issue_refund": "write"}
    assert len(told["revision"]) == len("sha256:") + 64
    assert told["grants"] is None
    assert told["warnings"] == []


def test_a_mistake_is_shown_with_its_place_and_the_nearest_name(run: Run, folder: Path) -> None:
    """file:line:column as editors know it, what was meant, what is accepted, and further mistakes."""
    written(WRONG)
    result = run("check")
    assert result.exit_code == 1
    first = result.stdout.splitlines()[0]
    assert first.startswith("sluicegate.yaml:3:23: ")
    assert "'raed'" in first
    assert "did you mean read? accepted: read, idempotent, write" in result.stdout
    assert "line 5: tools.refund.onec" in result.stdout


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("  refund: {onec: 3}", "onec"),
        ("  'zurück 退款': {onec: 3}", "onec"),
        ("  " + "x" * 130 + ": {onec: 3}", "onec"),
        ("  refund: {effect: 'wirte'}", "'wirte'"),
    ],
)
def test_a_caret_is_under_the_word_that_is_to_blame(
    run: Run, folder: Path, line: str, word: str
) -> None:
    """Also behind wide characters, and in a line that is too long to be shown whole."""
    written(f"version: 1\ntools:\n{line}\n")
    lines = run("check").stdout.splitlines()
    below = next(i for i, text in enumerate(lines) if "^" in text)
    shown, carets = lines[below - 1], lines[below]
    assert carets.strip(" │") == "^" * cell_len(word)
    assert cell_len(shown[: shown.index(word)]) == cell_len(carets[: carets.index("^")])


def test_a_mistake_as_json(run: Run, folder: Path) -> None:
    """An editor or a bot gets every part on its own."""
    written(WRONG)
    result = run("check", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (told["ok"], told["file"], told["line"], told["column"]) == (
        False,
        "sluicegate.yaml",
        3,
        23,
    )
    assert "raed" in told["problem"]
    assert told["hint"].startswith("did you mean read?")


def test_a_mistake_that_only_shows_when_compiled_is_found(run: Run, folder: Path) -> None:
    """What would fail when the gate is made fails here."""
    limit = "  - {budget: calls, limit: 5, per: [run]}\n"
    written(f"version: 1\ntools: {{a: {{}}}}\nlimits:\n{limit}{limit}")
    result = run("check")
    assert result.exit_code == 1
    assert "limits[1] counts the same as limits[0]" in result.stdout


def test_warnings_are_a_no_only_if_asked(run: Run, folder: Path) -> None:
    """A rule that can have no effect is told with its place; --strict makes it exit code 1."""
    written(IDLE)
    result = run("check")
    assert result.exit_code == 0
    assert "no mistakes, 1 warning" in result.stdout
    assert "sluicegate.yaml:4:3: tools.refund cannot run: no grant is for it" in result.stdout
    strict = run("check", "--strict", "--json")
    assert strict.exit_code == 1
    assert json.loads(strict.stdout)["warnings"][0]["path"] == "tools.refund"


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_without_a_file_the_use_is_wrong(run: Run, folder: Path, name: str) -> None:
    """A path that is no file is exit code 2, not a policy with a mistake."""
    result = run("check", name)
    assert result.exit_code == 2
    assert "sluicegate init" in result.output
    told = run("check", name, "--json")
    assert told.exit_code == 2
    assert json.loads(told.stdout)["ok"] is False


def test_text_from_the_file_cannot_drive_the_terminal(run: Run, folder: Path) -> None:
    """A policy from a pull request may hold escape sequences; they are shown, not obeyed."""
    written('{"version": 1, "tools": {"a\\u001b[2J\\u202e": 3}}', "policy.json")
    output = run("check", "policy.json").output
    assert "\x1b" not in output
    assert "\u202e" not in output
