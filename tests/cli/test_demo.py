"""`sluicegate demo` with a framework of twenty lines; test_langchain_demo.py has the real one."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

FRAMEWORK = """
import inspect
from concurrent.futures import ThreadPoolExecutor

from sluicegate import Denied, Proposal, Subject

ABOUT = "A loop and a few threads"
WIRING = ("gate.call(proposal, tool)", "instead of tool(**args)")
ACME = Subject(tenant="acme")


def play(shop, script, gate):
    tools = {tool.__name__: tool for tool in shop.tools}

    def carry_out(call):
        tool = tools[call.tool]
        names = set(inspect.signature(tool).parameters)
        known = {name: value for name, value in call.args.items() if name in names}
        try:
            if gate is None:
                return tool(**known)  # as frameworks do: what it does not know, it drops
            schema = {"properties": {name: {} for name in names}}
            proposal = Proposal(call.tool, call.args, subject=ACME, run="demo", schema=schema)
            return gate.call(proposal, tool)
        except (Denied, OSError) as error:
            return str(error) if isinstance(error, Denied) else f"Error: {error}"

    calls = script.next([])
    with ThreadPoolExecutor(8) as threads:
        while calls:
            calls = script.next(list(threads.map(carry_out, calls)))
"""


@pytest.fixture
def plain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a framework that is installed, with an adapter that has the demo."""
    package = folder / "site" / "sluicegate_plain"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "demo.py").write_text(FRAMEWORK, encoding="utf-8")
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    for name in ("sluicegate_plain", "sluicegate_plain.demo"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # that of another test
    return "plain"


def test_any_adapter_can_play_the_scene(run: Run, plain: str) -> None:
    """The demo knows no framework: what it needs is ABOUT, WIRING and play."""
    result = run("demo", "--framework", plain, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["framework"]) == (0, True, "plain")
    numbers = [(fact["without"], fact["with"]) for fact in told["facts"]]
    assert numbers == [(1, 500), (80, 40), (20, 5), (320, 160), (2, 3)]
    assert [len(told[side]["calls"]) for side in ("without", "with")] == [29, 16]


def test_it_shows_both_runs_the_database_and_the_reasons(run: Run, plain: str) -> None:
    """Side by side: calls and answers, then the tables, then decisions, then what to do next."""
    result = run("demo", "--framework", plain, "--keep", "kept")
    assert result.exit_code == 0
    told = result.stdout
    order = [
        *("A loop and a few threads", "1  A misspelt argument", "5  A tool that the task never"),
        *("What the model reports", "What is in the shop's database", "carrier_calls"),
        *(
            "What the gate decided, and why",
            "outcome_unknown: ",
            " entries, every entry follows",
            "Next",
        ),
        *("gate.call(proposal, tool)", "sluicegate journal tail --policy"),
    ]
    places = [told.index(text) for text in order]
    assert places == sorted(places)
    assert "track_parcel(order_id=A-2)  × 20" in told
    assert {path.name for path in Path("kept").iterdir()} == {
        *("before.db", "without.db", "with.db", "sluicegate.yaml", ".sluicegate")
    }


def test_one_run_above_the_other_on_a_narrow_screen(
    run: Run, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is cut off and no line is wider than the screen."""
    monkeypatch.setenv("COLUMNS", "64")
    lines = run("demo", "--framework", plain).stdout.splitlines()
    assert max(map(len, lines)) <= 64
    assert not any("without a gate" in line and "with Sluicegate" in line for line in lines)


def test_a_gate_that_does_not_hold_is_a_no(run: Run, plain: str) -> None:
    """An adapter that forgets the gate is found out by what the shop's database says."""
    module = Path("site/sluicegate_plain/demo.py")
    module.write_text(FRAMEWORK.replace("if gate is None:", "if True:"), encoding="utf-8")
    result = run("demo", "--framework", plain, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_a_folder_of_yours_is_left_alone(run: Run, plain: str) -> None:
    """The demo makes its folder itself, or does not begin."""
    Path("mine").mkdir()
    result = run("demo", "--framework", plain, "--keep", "mine")
    assert result.exit_code == 2
    assert list(Path("mine").iterdir()) == []
