"""Several processes on one ledger, one of them killed: the journal says what each was told."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sluicegate.journal import verify
from sluicegate.ledger import open_ledger
from sluicegate.replay import replay

pytest.importorskip("fcntl", reason="the SQLite ledger locks its file with fcntl")

POLICY = """\
version: 1
tools:
  pay: {cost: {eur: args.eur}, once: {key: "{key}"}, lease: 50ms}
  get: {effect: read, labels: [seen]}
  mail: {labels: [out]}
limits:
  - {budget: eur, limit: 200, per: [tenant], window: day}
  - {concurrency: 3, wait: 20ms}
  - {repeat: 4, per: [run], tools: [mail]}
flows:
  - {name: f, after: [seen], deny: [out]}
"""

WORKER = """
import os, random, signal, sys
from sluicegate import *

name, choice = sys.argv[1], random.Random(sys.argv[1])
with Gate("policy.yaml", "sqlite:///ledger.db") as gate:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(60):
        tool = choice.choice(["pay", "pay", "get", "mail"])
        key = choice.randrange(20)
        args = {"eur": key % 9, "key": f"k{key}"}
        run = f"{name}.{n // 12}"
        decision = gate.decide(Proposal(tool, args, subject=Subject(tenant="t"), run=run))
        if name == "killed" and n == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(decision, Permit) and choice.random() < 0.8:
            outcome = choice.choice([Succeeded(n), Failed("no"), Unknown("?")])
            try:
                gate.settle(decision, outcome)
            except PermitError:
                pass  # its lease was over
"""


def test_processes_and_a_crash(tmp_path: Path) -> None:
    """Their entries are in one order, and every decision follows from those before it."""
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, name],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("one", "two", "killed")
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in running:
        process.communicate(b"go\n", timeout=120)
    assert [process.returncode == 0 for process in running] == [True, True, False]
    with closing(open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        entries = list(ledger.entries())
        assert verify(entries, ledger.head()) is None
    found = replay(entries)
    assert found.difference is None
    assert found.skipped == ()
    assert found.decisions >= 150
    words = {entry.content.get("decision") for entry in entries}
    assert {"permit", "deny", "recorded"} <= words
