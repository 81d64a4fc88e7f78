"""`sluicegate init` and `sluicegate schema`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from sluicegate import Policy

Run = Callable[..., Any]

SCHEMA = {"type": "object", "properties": {"order_id": {"type": "string"}}}


def test_the_starter_passes_its_own_check(run: Run, folder: Path) -> None:
    """What init writes has no mistakes and no warnings."""
    assert run("init").exit_code == 0
    assert run("check", "--strict").exit_code == 0


def test_a_file_is_never_overwritten_unless_forced(run: Run, folder: Path) -> None:
    """Somebody's policy is worth more than a starter."""
    path = folder / "sluicegate.yaml"
    path.write_text("mine", encoding="utf-8")
    refused = run("init")
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert path.read_text("utf-8") == "mine"
    assert run("init", "--force").exit_code == 0
    assert Policy.load(path)


def test_it_takes_names(run: Run, folder: Path) -> None:
    """A name that begins like a read becomes a read, all others writes."""
    result = run("init", "desk/policy.yaml", "--tools", "get_order, issue_refund", "--json")
    told = json.loads(result.stdout)
    assert told == {
        "ok": True,
        "file": str(Path("desk/policy.yaml")),
        "tools": ["get_order", "issue_refund"],
    }
    tools = Policy.load("desk/policy.yaml").tools
    assert {name: tool.effect for name, tool in tools.items()} == {
        "get_order": "read",
        "issue_refund": "write",
    }


@pytest.mark.parametrize(
    "content",
    [
        {"refund": SCHEMA},
        ["refund"],
        [{"name": "refund", "input_schema": SCHEMA}],
        [{"type": "function", "function": {"name": "refund", "parameters": SCHEMA}}],
        {"tools": [{"name": "refund", "inputSchema": SCHEMA}]},
    ],
    ids=["plain", "names", "anthropic", "openai", "mcp"],
)
def test_it_takes_tools_as_models_are_shown_them(run: Run, folder: Path, content: Any) -> None:
    """The lists that frameworks and providers use can be handed over as they are."""
    Path("tools.json").write_text(json.dumps(content), encoding="utf-8")
    assert run("init", "--tools-file", "tools.json").exit_code == 0
    assert list(Policy.load("sluicegate.yaml").tools) == ["refund"]
    if content != ["refund"]:
        assert "order_id" in Path("sluicegate.yaml").read_text("utf-8")


@pytest.mark.parametrize("content", ["no json", "3", "[]", "{}", '[{"title": "x"}]', "[[1]]"])
def test_a_tools_file_that_lists_no_tools_is_wrong_use(
    run: Run, folder: Path, content: str
) -> None:
    """The message shows a form that is accepted, and nothing is written."""
    Path("tools.json").write_text(content, encoding="utf-8")
    result = run("init", "--tools-file", "tools.json")
    assert result.exit_code == 2
    assert "tools.json" in result.output
    assert not Path("sluicegate.yaml").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tools", "a", "--tools-file", "tools.json"],
        ["--tools-file", "nowhere.json"],
        ["--tools", "two\nlines"],
        ["policy.toml"],
    ],
)
def test_what_cannot_be_written_is_wrong_use(run: Run, folder: Path, arguments: list[str]) -> None:
    """Nothing is written unless it can be what was asked for."""
    assert run("init", *arguments).exit_code == 2
    assert list(folder.iterdir()) == []


def test_the_schema_accepts_the_starter_and_finds_a_typo(run: Run, folder: Path) -> None:
    """An editor that uses it underlines an unknown key and nothing else."""
    run("init")
    document = yaml.safe_load(Path("sluicegate.yaml").read_text("utf-8"))
    valid = jsonschema_rs.validator_for(json.loads(run("schema").stdout)).is_valid
    assert valid(document)
    document["tools"]["issue_refund"]["onec"] = {}
    assert not valid(document)
