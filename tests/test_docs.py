"""The pages of docs/ are complete, and every policy on them is one."""

from __future__ import annotations

import re
import shlex
import sys
from doctest import ELLIPSIS
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from typer.testing import CliRunner

from sluicegate import Policy
from sluicegate.cli.app import app
from sluicegate.decision import CODES
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
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{i}")
    for path in PAGES
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
    *([command.name] for command in app.registered_commands if command.name),
    *(["journal", "tail"], ["journal", "verify"], ["journal", "export"]),
]
CONSOLE = "```console\n$ sluicegate "
RUN = (ROOT / "README.md", ROOT / "docs/people.md")
"""The pages whose commands are run."""
SHIFTY = re.compile(
    r"(?P<id>[0-9a-f]{16,}(?:\.[0-9a-f]+)?)|(?P<time>\d{4}-\d\d-\d\d|\d\d:\d\d(?::\d\d)?)|\.\.\."
)
"""What is different each time: the ids of permits and requests, times, and what is left out."""


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
    heading = re.compile(rf"`sluicegate {' '.join(command)}[` ]")
    [section] = [section for section in sections if heading.match(section)]
    told: Any = CliRunner().invoke(app, [*command, "--help"]).stdout
    options = set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", told, re.MULTILINE)) - {"--help"}
    assert options
    assert {option for option in options if option not in section + common} == set()


def test_there_are_commands_to_look_at() -> None:
    """The test above must not pass because nothing was found."""
    assert len(COMMANDS) >= 20


def test_every_page_can_be_found_from_the_readme() -> None:
    """And what it links to is there."""
    linked = set(re.findall(r"\]\(([\w./-]+)", (ROOT / "README.md").read_text("utf-8")))
    assert {page.relative_to(ROOT).as_posix() for page in PAGES[1:]} - linked == set()
    assert [name for name in sorted(linked) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    text = page.read_text("utf-8")
    for name, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", text):
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The names by which the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_the_readme_names_every_reason() -> None:
    """What the model may read is in the table of what is enforced, and nothing else is."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = re.findall(r"^\|.*\|(.*)\|$", text.partition("## What is enforced")[2], re.MULTILINE)
    named = {code for cell in table for code in re.findall(r"`([a-z_]+)`", cell)}
    assert named == CODES


def test_every_incident_has_its_paragraph() -> None:
    """Each policy that a test plays is linked to where the incident is told."""
    told = set(
        re.findall(
            r"examples/incidents/([\w-]+\.yaml)", (ROOT / "docs/incidents.md").read_text("utf-8")
        )
    )
    assert told == {path.name for path in (ROOT / "examples/incidents").glob("*.yaml")}


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_every_command_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the policies of the page, its first examples and those of the same section."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    parsers = [
        CodeBlockParser("yaml", write),
        PythonCodeBlockParser(doctest_optionflags=ELLIPSIS),
        CodeBlockParser("console", Shell()),
    ]
    text = page.read_text("utf-8")
    assert CONSOLE in text
    sections = list(re.finditer(r"(?:\A|^## )(?:.(?!^## ))*", text, re.MULTILINE | re.DOTALL))
    wanted = [s.span() for s in sections if s.start() == 0 or CONSOLE in s[0]]
    for example in Sybil(parsers).parse(page).examples():
        in_section = any(start <= example.start < end for start, end in wanted)
        if in_section or text[example.start :].startswith("```yaml"):
            example.evaluate()


def write(example: Example) -> None:
    """Make the file that a YAML block shows, if its first line is a comment with the name."""
    name = example.parsed.partition("\n")[0].removeprefix("# ").strip()
    if re.fullmatch(r"[\w-]+\.yaml", name):
        Path(name).write_text(example.parsed, encoding="utf-8")


class Shell:
    """Runs the commands of console blocks; an id that a page shows stands for the one that came."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}

    def __call__(self, example: Example) -> None:
        for command in re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]:
            line, _, shown = command.partition("\n")
            for told, real in self.ids.items():
                line = line.replace(told, real)
            self.compare(_plain(shown), _plain(self.run(*shlex.split(line))))

    def run(self, program: str, *arguments: str) -> str:
        assert program == "sluicegate"
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    def compare(self, shown: str, printed: str) -> None:
        pattern, at, new = "", 0, list[str]()
        for found in SHIFTY.finditer(shown):
            pattern += re.escape(shown[at : found.start()])
            at = found.end()
            if found["time"]:
                pattern += r"[\d:-]+"
            elif not found["id"]:
                pattern += ".*?"
            elif found["id"] in self.ids:
                pattern += re.escape(self.ids[found["id"]])
            elif found["id"] in new:
                pattern += rf"(?P=id{new.index(found['id'])})"
            else:
                pattern += rf"(?P<id{len(new)}>[0-9a-f.]+)"
                new.append(found["id"])
        match = re.fullmatch(pattern + re.escape(shown[at:]), printed, re.DOTALL)
        assert match is not None, f"shown:\n{shown}\nprinted:\n{printed}"
        self.ids |= {told: match[f"id{i}"] for i, told in enumerate(new)}


def _plain(text: str) -> str:
    """Without empty lines, and with one space where a table has many."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(filter(None, lines))
