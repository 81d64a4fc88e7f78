"""The program as a shell runs it: exit codes, plain output, no tracebacks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from sluicegate import Gate, Proposal, __version__

PROGRAM = [sys.executable, "-m", "sluicegate"]
CODE = "from sluicegate.cli import main; main()"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*[39][0-7](?:;\d+)*m")


def environment(**more: str) -> Mapping[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR", "COLUMNS")}
    return {**kept, "TERM": "xterm-256color", **more}


def sluicegate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, env=environment(), timeout=60
    )


def on_a_terminal(*arguments: str, **more: str) -> str:
    """What the program writes to a terminal of 80 columns."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    ours, theirs = pty.openpty()
    command = [*PROGRAM, *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment(**more)) as child:
        os.close(theirs)
        written = b""
        while True:
            try:
                some = os.read(ours, 65_536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not some:
                break
            written += some
        os.close(ours)
        child.wait(timeout=60)
    return written.decode()


def test_help_names_every_command() -> None:
    """A newcomer finds demo, init and check, and the meaning of the exit codes."""
    result = sluicegate("--help")
    assert result.returncode == 0
    for word in ("demo", "init", "check", "schema", "usage", "journal", "--json", "Exit codes"):
        assert word in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        *(["demo"], ["init"], ["check"], ["schema"], ["usage"]),
        *(["journal", "tail"], ["journal", "verify"], ["journal", "export"]),
    ],
    ids=" ".join,
)
def test_every_command_has_examples_and_json(command: list[str]) -> None:
    """--help shows how it is used, as lines that can be copied, and --json is there."""
    told = sluicegate(*command, "--help").stdout
    assert "Examples:" in told
    assert f"    sluicegate {' '.join(command)}" in told
    assert "--json" in told


def test_the_version() -> None:
    """For bug reports."""
    assert sluicegate("--version").stdout == f"sluicegate {__version__}\n"


def test_exit_codes(desk: Path) -> None:
    """0 fine, 1 the answer is no, 2 wrong use; messages on stderr, and never a traceback."""
    (desk / "wrong.yaml").write_text("version: 1\ntools: {a: 3}\n", encoding="utf-8")
    for code, arguments in (
        (0, ["check"]),
        (1, ["check", "wrong.yaml"]),
        (2, ["check", "nowhere.yaml"]),
        (2, ["chekc"]),
        (2, ["usage", "--policy", "wrong.yaml"]),
        (2, ["journal", "verify", "--ledger", "sqlite:///wrong.yaml"]),
        (2, ["journal", "tail", "-n", "many"]),
    ):
        result = sluicegate(*arguments)
        assert result.returncode == code, arguments
        assert "Traceback" not in result.stderr
        assert (result.stderr == "") == (code < 2)


def test_piped_output_is_plain(desk: Path) -> None:
    """No escape sequence goes into a file or a grep."""
    for arguments in (["check"], ["usage"], ["journal", "tail"], ["journal", "verify"]):
        told = sluicegate(*arguments).stdout
        assert "\x1b" not in told
        assert told.strip()


def test_colour_is_for_terminals_that_want_it(desk: Path) -> None:
    """On a terminal there is colour, with NO_COLOR there is none."""
    assert COLOUR.search(on_a_terminal("usage"))
    told = on_a_terminal("usage", NO_COLOR="1")
    assert not COLOUR.search(told)
    assert "tenant acme" in told


def test_on_a_terminal_reasons_stand_below_their_entry(desk: Path) -> None:
    """Long sentences are wrapped under one another, and no line is wider than the screen."""
    told = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal("journal", "tail", COLUMNS="80"))
    lines = told.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 80
    at = next(i for i, line in enumerate(lines) if " deny " in line)
    assert lines[at].endswith("issue_refund  acme/desk · run monday")
    assert lines[at + 1].startswith(" " * 25 + "outcome_unknown: ")


def test_a_reader_may_stop_early(desk: Path) -> None:
    """`… | head` ends the program without a traceback."""
    with Gate("sluicegate.yaml") as gate:
        for _ in range(100):
            gate.decide(Proposal("no_such_tool", {"note": 2_000 * "x"}))
    command = [*PROGRAM, "journal", "export"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        json.loads(child.stdout.readline())
        child.stdout.close()
        errors = child.stderr.read().decode()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_follow_goes_on_with_what_is_decided_meanwhile(desk: Path) -> None:
    """A second process decides while the first one watches; Ctrl-C is a fine end."""
    # A shell that starts a test run in the background lets it ignore Ctrl-C.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", heard + CODE]
    command += ["journal", "tail", "-n", "1", "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["seq"] == 9
        with Gate("sluicegate.yaml") as gate:
            gate.decide(Proposal("no_such_tool", {}))
        assert json.loads(child.stdout.readline())["entry"]["proposal"]["tool"] == "no_such_tool"
        time.sleep(0.1)
        child.send_signal(2)
        assert child.wait(timeout=30) == 0


def test_the_demo_without_its_framework_says_what_to_install(tmp_path: Path) -> None:
    """With the adapter's framework missing: the command that helps, and exit code 2."""
    without = "import sys; sys.modules['langchain'] = None; "
    command = [sys.executable, "-c", without + CODE, "demo"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert 'pip install "sluicegate[langchain]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["nothing", "../x", "cli"])
def test_the_demo_of_an_unknown_framework_is_wrong_use(name: str) -> None:
    """Only adapters are looked for, and nothing else is imported."""
    result = sluicegate("demo", "--framework", name, "--json")
    assert result.returncode == 2
    assert name in json.loads(result.stdout)["error"]
