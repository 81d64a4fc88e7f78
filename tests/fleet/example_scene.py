"""The examples, as somebody runs them on a ledger of his own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from test_langchain_fleet import address

KINDS = ("memory", "sqlite", "redis", "postgres")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REFUSED = ["args_unknown", "outcome_unknown", "rate", "budget", "budget", "unknown_tool"]
LEFT = ["500", "40", "5", "160", "3"]
"""What is in the shop's database in the end, if the gate has held: see `sluicegate demo`."""


def url_of(kind: str, folder: Path) -> str:
    """A new ledger of this kind."""
    return "memory:" if kind == "memory" else address(kind, folder)


def assert_holds(example: str, url: str, home: Path) -> None:
    """Run it with that URL: five things are refused, for the reasons that they have on every ledger."""
    unset = re.compile(r"_API_KEY$|^CREWAI|^OTEL|^XDG")
    environment = {name: value for name, value in os.environ.items() if not unset.search(name)}
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / example), "--ledger", url],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(home)},
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    refused = result.stdout.partition("What the gate refused")[2].partition("What is in")[0]
    assert re.findall(r"^  \w+: (\w+):", refused, re.MULTILINE) == REFUSED
    table = result.stdout.partition("without, with\n")[2].split("\n")
    assert [line.split()[-1] for line in table if line.strip()] == LEFT
