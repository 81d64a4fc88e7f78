"""The pages of docs/ are complete, and every policy on them is one."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sluicegate import Policy
from sluicegate.cli.app import app
from sluicegate.policy.compile import CompiledPolicy
from sluicegate.policy.lint import problems
from sluicegate.policy.model import (
    Approve,
    Breaker,
    Budget,
    Concurrency,
    Contract,
    Depth,
    Flow,
    Grant,
    Once,
    OriginRule,
    RateLimit,
    Repeat,
    Require,
    Tool,
)

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{i}")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for i, block in enumerate(BLOCK.findall(path.read_text("utf-8")))
    if re.search(r"^version:", block, re.MULTILINE)
]
MODELS = (
    *(Policy, Tool, Require, Once, Breaker, OriginRule, Approve, Grant, Flow, Contract),
    *(Budget, RateLimit, Concurrency, Repeat, Depth),
)
KEYS = sorted(
    {
        (model.__name__, field.alias or name)
        for model in MODELS
        for name, field in model.model_fields.items()
    }
)
COMMANDS: list[list[str]] = [
    *(["demo"], ["init"], ["check"], ["schema"], ["usage"]),
    *(["journal", "tail"], ["journal", "verify"], ["journal", "export"]),
]


@pytest.mark.parametrize("text", BLOCKS)
def test_every_policy_in_the_docs_is_right(text: str) -> None:
    """Without mistakes, without warnings, and ready to decide."""
    if sys.version_info < (3, 11) and re.search(r"==|[<>!]=| [<>] |double\(", text):
        pytest.skip("no release of CEL supports Python 3.10")
    policy = Policy.parse(text)
    CompiledPolicy(policy)
    assert problems(policy) == []


def test_there_are_policies_to_look_at() -> None:
    """The test above must not pass because nothing was found."""
    assert len(BLOCKS) >= 12


@pytest.mark.parametrize(("model", "key"), KEYS)
def test_every_key_is_documented(model: str, key: str) -> None:
    """A key that the models know and the reference does not would be found by accident only."""
    text = (ROOT / "docs/policy.md").read_text("utf-8")
    assert re.search(rf"`{key}`|\b{key}: ", text), f"{model}.{key} is not in docs/policy.md"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_is_documented(command: list[str]) -> None:
    """What --help lists is in docs/cli.md, under the heading of the command or for all of them."""
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    common, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    [section] = [s for s in sections if s.startswith(f"`sluicegate {' '.join(command)}")]
    told: Any = CliRunner().invoke(app, [*command, "--help"]).stdout
    options = set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", told, re.MULTILINE)) - {"--help"}
    assert options
    assert {option for option in options if option not in section + common} == set()
