"""The same history gives the same journal, byte for byte, in any process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HISTORY = """
import random, sys
from sluicegate import *
from sluicegate.testing import FakeClock, counted_ids

policy = {
    "version": 1,
    "tools": {
        "get_*": {"effect": "read"},
        "refund": {"once": {"key": "r:{order}", "within": "1h"}, "cost": {"eur": "args.amount"}, "rate": "9/min"},
        "send": {"concurrency": 2, "on_error": "failed"},
    },
    "grants": [{"agent": "a*", "tools": ["*"]}, {"role": "x", "tools": ["get_*"]}],
    "limits": [
        {"budget": "eur", "limit": 500, "per": ["tenant"], "window": "hour"},
        {"budget": "calls", "limit": 40, "per": ["run"]},
        {"concurrency": 3, "per": ["tenant"]},
    ],
}
clock, ids, choice = FakeClock(), counted_ids(), random.Random(7)
ledger = MemoryLedger() if sys.argv[1] == "memory" else None
gate = Gate(policy, ledger or sys.argv[1], clock=clock, ids=ids)
out = []
schema = {"type": "object", "properties": {"order": {"type": "string"}, "amount": {"type": "number"}}}
for number in range(300):
    tool = choice.choice(["refund", "send", "get_x", "nope", "refund"])
    args = {"order": f"A{choice.randrange(9)}", "amount": choice.choice([1, 2.5, 100, "x"])}
    if choice.random() < 0.1:
        args["extra"] = {"b", "a"} if choice.random() < 0.5 else 1
    subject = Subject(tenant=choice.choice(["t1", "t2"]), agent=choice.choice(["a1", "b1"]), roles=["y", "x"])
    call_id = f"c{choice.randrange(200)}"
    p = Proposal(tool, args, subject=subject, run=f"r{number // 50}", call_id=call_id, schema=schema)
    d = gate.decide(p)
    clock.advance(choice.choice([0, 0.5, 30, -5]))
    if isinstance(d, Permit):
        out.append(d)
    if out and choice.random() < 0.6:
        permit = out.pop(choice.randrange(len(out)))
        outcome = choice.choice([Succeeded({"n": number, "a": [1.0, "é"]}), Failed("no"), Unknown(ValueError("x"))])
        try:
            gate.settle(permit, outcome)
        except PermitError:
            pass
assert gate.journal.verify() is None
kinds = {e.content.get("decision") or e.content["kind"] for e in gate.journal}
assert kinds >= {"policy", "permit", "deny", "recorded", "outcome"}, kinds
for entry in gate.journal:
    print(entry.body)
"""


def journal(seed: str, ledger: str) -> bytes:
    env = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", HISTORY, ledger],
        env=env,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_two_processes_write_the_same_journal():
    """With time and ids injected, processes with different hash seeds write identical journals."""
    first = journal("1", "memory")
    assert first.count(b"\n") > 300
    assert journal("2", "memory") == first


def test_the_ledger_makes_no_difference(tmp_path):
    """The same history in SQLite gives the same entries as in memory."""
    pytest.importorskip("fcntl", reason="the SQLite ledger locks its file with fcntl")
    assert journal("3", f"sqlite:///{tmp_path / 'ledger.db'}") == journal("1", "memory")
