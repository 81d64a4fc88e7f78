"""A process that is killed between a tool's effect and the record of its outcome."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from sluicegate import Deny, Gate, Permit, Proposal, SystemClock

pytest.importorskip("fcntl", reason="the SQLite ledger locks its file with fcntl")

POLICY = {
    "version": 1,
    "tools": {
        "pay": {"effect": "write", "lease": "30s"},
        "pay_once": {"effect": "write", "lease": "30s", "once": {"key": "pay:{order}"}},
        "look": {"effect": "read", "lease": "30s"},
        "put": {"effect": "idempotent", "lease": "30s", "once": {"key": "put:{order}"}},
    },
    "limits": [
        {"budget": "calls", "limit": 2, "per": ["run"]},
        {"concurrency": 1, "per": ["run"]},
    ],
}

CHILD = """
import json, os, signal, sys
from sluicegate import Gate, Proposal

policy, ledger, effects, tool, call_id = json.loads(sys.argv[1])

def body(order):
    with open(effects, "a") as file:
        file.write(f"{tool} {order}\\n")
        file.flush()
        os.fsync(file.fileno())
    os.kill(os.getpid(), signal.SIGKILL)

Gate(policy, ledger).call(Proposal(tool, {"order": "A1"}, run="r1", call_id=call_id), body)
"""


class Later(SystemClock):
    """The clock of this machine, some seconds ahead: nobody has to wait for a lease."""

    def __init__(self, seconds):
        self.ahead = seconds * 1_000_000

    def now(self):
        return super().now() + self.ahead


@pytest.mark.parametrize("call_id", ["c1", None])
@pytest.mark.parametrize(
    ("tool", "code"),
    [("pay", "outcome_unknown"), ("pay_once", "outcome_unknown"), ("look", None), ("put", None)],
)
def test_a_call_that_was_killed_after_its_effect(tmp_path, tool, code, call_id):
    """A write whose process was killed is refused afterwards; what may be repeated runs again."""
    effects, ledger = tmp_path / "effects", f"sqlite:///{tmp_path / 'ledger.db'}"
    given = json.dumps([POLICY, ledger, str(effects), tool, call_id])
    child = subprocess.run([sys.executable, "-c", CHILD, given], check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert effects.read_text() == f"{tool} A1\n"
    again = Proposal(tool, {"order": "A1"}, run="r1", call_id=call_id)
    with Gate(POLICY, ledger) as gate:
        at_once = gate.decide(again)
        assert isinstance(at_once, Deny), (
            "while the lease lasts, the killed call may still be running"
        )
    with Gate(POLICY, ledger, clock=Later(60)) as gate:
        decision = gate.decide(again)
        if code is None:
            assert isinstance(decision, Permit)
        else:
            assert {reason.code for reason in decision.reasons} == {code}
            other = gate.decide(Proposal(tool, {"order": "A2"}, run="r1"))
            assert isinstance(other, Permit), "its slot came back with the lease"
        (calls,) = (row for row in gate.usage() if row.name == "calls")
        assert calls.left == 0, "what the killed call used stays used"
        assert gate.journal.verify() is None
    assert effects.read_text() == f"{tool} A1\n"
