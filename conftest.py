"""The examples of README.md and docs/ are tests: each document in an empty directory of its own."""

from __future__ import annotations

import os
import tempfile
from doctest import ELLIPSIS
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser


def write_file(example: Example) -> None:
    """Make the file that a YAML block shows, if its first line is a comment with the name."""
    name = example.parsed.partition("\n")[0].removeprefix("# ").strip()
    if name.endswith(".yaml") and name == Path(name).name:
        Path(name).write_text(example.parsed, encoding="utf-8")


def enter_empty_directory(namespace: dict[str, Any]) -> None:
    namespace["_came_from"] = os.getcwd()
    namespace["_directory"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_directory"].name)


def leave_directory(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_came_from"])
    namespace["_directory"].cleanup()


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("yaml", write_file),
        PythonCodeBlockParser(doctest_optionflags=ELLIPSIS),
    ],
    patterns=["README.md", "docs/*.md"],
    excludes=["*/README.md"],
    setup=enter_empty_directory,
    teardown=leave_directory,
).pytest()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--at-least",
        type=int,
        default=0,
        metavar="N",
        help="fail unless N tests were collected: a run of almost nothing must not pass",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted, found = session.config.getoption("--at-least"), len(session.items)
    if found < wanted:
        raise pytest.UsageError(f"collected {found} tests, wanted at least {wanted}")
