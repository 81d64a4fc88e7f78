"""A folder with a policy and some history, and the commands run in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sluicegate import Failed, Gate, Permit, Proposal, Subject, Succeeded, Unknown
from sluicegate.cli.app import app
from sluicegate.testing import FakeClock, counted_ids

NOON = 4_102_488_000_000_000
"""2100-01-01 12:00 UTC: the ledger's clock never falls behind, so today's date does not matter."""

POLICY = """\
version: 1
tools:
  get_order: {effect: read}
  track_parcel: {effect: read, rate: 5/min}
  issue_refund:
    effect: write
    once: {key: "refund:{order_id}"}
    cost: {eur: args.eur}
limits:
  - {budget: eur, limit: 200, per: [tenant], window: day}
  - {budget: calls, limit: 50, per: [run]}
  - {concurrency: 4}
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `sluicegate` with these arguments; what it gives has exit_code, stdout and output."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def desk(folder: Path) -> Path:
    """The folder of an order desk: a policy, and a ledger with eight entries after the policy's."""
    (folder / "sluicegate.yaml").write_text(POLICY, encoding="utf-8")
    clock, subject = FakeClock(NOON), Subject(tenant="acme", agent="desk")
    with Gate("sluicegate.yaml", clock=clock, ids=counted_ids()) as gate:

        def propose(tool: str, call: str, **args: object) -> Permit:
            clock.advance(1)
            proposal = Proposal(tool, args, subject=subject, run="monday", call_id=call)
            return gate.decide(proposal)  # type: ignore[return-value]

        gate.settle(
            propose("issue_refund", "c1", order_id="A-1", eur=40),
            Unknown(TimeoutError("no reply from the bank")),
        )
        propose("issue_refund", "c2", order_id="A-1", eur=40)
        gate.settle(propose("track_parcel", "c3", order_id="A-2"), Failed(OSError("503")))
        gate.settle(propose("get_order", "c4", order_id="A-3"), Succeeded("A-3: 2 teapots"))
        propose("delete_\x1b[2Jcustomer", "c5", id="C-2")
    return folder
