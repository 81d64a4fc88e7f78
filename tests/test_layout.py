"""The shape of the repository is a promise; these tests keep it."""

from __future__ import annotations

import ast
import inspect
import io
import re
import subprocess
import sys
import tokenize
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sluicegate import hookspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = sorted(
    path
    for top in ("core", "adapters")
    for path in (ROOT / top).iterdir()
    if path.is_dir() and path.name != "__pycache__"
)
MODULES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
ADAPTERS = [path for path in PACKAGES if path.parent.name == "adapters"]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
HOOKS = {
    name: list(inspect.signature(function).parameters)
    for name, function in vars(hookspec).items()
    if name.startswith("sluicegate_")
}

LINES_OF_AN_ADAPTER = {
    "sluicegate_autogen": 680,
    "sluicegate_crewai": 350,
    "sluicegate_langchain": 620,
}
"""
Lines of code, without imports, docstrings and comments. The aim is 300: what is above it
is ways that the framework has of calling a tool. These numbers may only fall.
"""
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 40


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_package_is_listed_for_the_wheel() -> None:
    """What is not listed works in an editable install and is missing from the wheel."""
    listed = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(listed) == [relative(path) for path in PACKAGES]


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(tmp_path: Path) -> None:
    """Modules, py.typed and data files are shipped, and no folder above them is."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        shipped = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert sorted(shipped) == sorted(
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and not re.search(r"/__pycache__/|/\.", path.as_posix())
    )


def test_core_and_adapters_are_folders_and_no_packages() -> None:
    """An __init__.py there would give every module a second name."""
    assert not list(ROOT.glob("*/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_is_typed(package: Path) -> None:
    """Without py.typed the type checkers of a user see Any."""
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()


def test_every_requirement_has_exactly_one_lower_bound() -> None:
    """The sessions that test the oldest versions read them from these bounds."""
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        wanted += requirements if extra != "all" else []
    bound = re.compile(r"[\w.-]+(\[[\w,]+\])?>=[\d.]+(,<[\d.]+)?(; .+)?")
    assert [text for text in wanted if not bound.fullmatch(text)] == []


def test_the_extra_all_names_every_other_extra() -> None:
    """`all` means all."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    named = re.search(r"\[(.+)\]", extras["all"][0])
    assert named is not None
    assert set(named[1].split(",")) == extras.keys() - {"all"}


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_arguments(name: str) -> None:
    """docs/hooks.md has a heading for each hook, with its signature as it is in the code."""
    text = (ROOT / "docs/hooks.md").read_text("utf-8")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    signature = f"{name}({', '.join(HOOKS[name])})"
    assert [line for line in headings if signature in line], f"no heading has {signature}"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test_by_its_name(name: str) -> None:
    """For `sluicegate_facts` there is a `test_hook_facts` or a `test_hook_facts_…`."""
    wanted = re.compile(rf"def test_hook_{name.removeprefix('sluicegate_')}(_\w+)?\(")
    files = (ROOT / "tests").rglob("test_*.py")
    assert any(wanted.search(path.read_text("utf-8")) for path in files)


def test_there_are_hooks_to_look_at() -> None:
    """The two tests above must not pass because nothing was found."""
    assert len(HOOKS) >= 5


@pytest.mark.parametrize("package", ADAPTERS, ids=lambda path: path.name)
def test_an_adapter_stays_small(package: Path) -> None:
    """An adapter that grows is deciding something that belongs into the core (a demo decides nothing)."""
    files = [path for path in package.rglob("*.py") if path.name != "demo.py"]
    lines = sum(lines_of_code(path.read_text("utf-8")) for path in files)
    assert lines <= LINES_OF_AN_ADAPTER[package.name]


def lines_of_code(text: str) -> int:
    quiet = {
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER
    }  # fmt: skip
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {n for t in tokens if t.type not in quiet for n in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, (ast.Import, ast.ImportFrom)) or said:
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_files_and_functions_stay_short(module: Path) -> None:
    """A file over 400 lines wants splitting; a function over 40 wants a name for its middle."""
    text = module.read_text("utf-8")
    assert len(text.splitlines()) <= LINES_OF_A_FILE
    too_long = [
        f"{name} has {lines} lines"
        for name, lines in functions(ast.parse(text))
        if lines > LINES_OF_A_FUNCTION
    ]
    assert too_long == []


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each function with the number of lines of its body, the docstring left out."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            last = node.end_lineno or node.lineno
            yield node.name, last - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("file", TESTS, ids=relative)
def test_every_test_says_which_behaviour_it_pins(file: Path) -> None:
    """A test without a sentence leaves its reader to guess what may be changed."""
    tests = [
        node
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    ]
    assert [test.name for test in tests if not ast.get_docstring(test)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_python_example_hides_from_the_tests(document: Path) -> None:
    """Only ```python fences at the start of a line are run; one under another name never fails."""
    text = document.read_text("utf-8")
    fences = re.findall(r"^([ >]*)```(\w+)", text, re.MULTILINE)
    hidden = {"py", "py3", "pycon", "python3", "doctest", "ipython"}
    assert [name for _, name in fences if name.lower() in hidden] == []
    assert [indent for indent, name in fences if name == "python" and indent] == []
