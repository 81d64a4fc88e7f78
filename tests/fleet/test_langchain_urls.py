"""
The same example, the same policies and the same agents on every ledger, by changing one URL.

What is decided must not depend on where it is kept: a program that was written on a SQLite file
runs on a server as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import incident_scene
import pytest
import test_incidents
from example_scene import KINDS, assert_holds, url_of

from sluicegate import Gate, Proposal
from sluicegate.cli.scene import FACTS, Script
from sluicegate.cli.shop import Shop, policy_text
from sluicegate.replay import replay
from sluicegate_langchain.demo import play

INCIDENTS = sorted(name for name in vars(test_incidents) if re.match(r"test_i\d\d_", name))
SHIFTY = re.compile(r"\b[0-9a-f]{32}\b|[\d.]+ s\b|\d+ h \d+ min|\b\d+ min\b")
"""What is different each time: ids of permits, and how long to wait."""


def decisions(kind: str, folder: Path) -> list[Any]:
    """What the gate of the demo's scene decided, in words, and what is in the shop afterwards."""
    shop = Shop(folder / f"{kind}.db")
    policy = folder / "policy.yaml"
    policy.write_text(policy_text(), encoding="utf-8")
    with Gate(policy, ledger=url_of(kind, folder)) as gate:
        play(shop, Script(), gate)
        assert gate.journal.verify() is None
        assert replay(gate.journal).difference is None
        found: list[Any] = [
            (
                entry.content["proposal"]["tool"],
                entry.content["decision"],
                entry.content.get("final"),
                [
                    (r["code"], r["rule"], told(r["message"]))
                    for r in entry.content.get("reasons", ())
                ],
            )
            for entry in gate.journal
            if entry.content["kind"] == "decision"
        ]
        # A rate recovers while we look.
        left = [(r.name, r.used, r.left) for r in gate.usage() if r.name != "attempts"]
    # Four refunds go out at once: which of them come first is nobody's promise.
    return [sorted(found, key=str), left, [fact.value(shop) for fact in FACTS]]


def told(message: str) -> str:
    """Without what is different each time."""
    return SHIFTY.sub("…", message)


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What is decided without any storage."""
    return decisions("memory", tmp_path_factory.mktemp("memory"))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_ledger_gives_the_same_decisions(
    kind: str, in_memory: list[Any], tmp_path: Path
) -> None:
    """The demo's agent is told the same, in the same words, and the shop ends the same."""
    found = decisions(kind, tmp_path)
    assert found == in_memory
    assert len(found[0]) == 16
    assert {decision for _, decision, *_ in found[0]} == {"permit", "deny"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_runs_on_every_ledger(kind: str, tmp_path: Path) -> None:
    """Its option is the only change: five things go wrong without a gate, and none with it."""
    assert_holds("langchain_agent.py", url_of(kind, tmp_path), tmp_path)


@pytest.mark.parametrize("incident", INCIDENTS)
@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_incident_ends_well_on_every_ledger(
    kind: str, incident: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ten policies stop the same calls for the same reasons wherever their state is kept."""
    where: list[str] = []

    def gate_for(name: str, ledger: str = "", **more: Any) -> Gate:
        # One scene opens its gate anew for each run: all of them share one ledger.
        where.append(where[0] if where else url_of(kind, tmp_path))
        return Gate(incident_scene.POLICIES / f"{name}.yaml", where[0], **more)

    monkeypatch.setattr(test_incidents, "gate_for", gate_for)
    play_it = getattr(test_incidents, incident)
    needs_cel = any(mark.name == "skipif" and mark.args[0] for mark in play_it.pytestmark)
    if needs_cel:
        pytest.skip("no CEL package supports Python 3.10")
    more = {"tmp_path": tmp_path} if "tmp_path" in play_it.__annotations__ else {}
    play_it(gated=True, **more)
    assert where


def test_there_are_incidents_to_play() -> None:
    """The test above must not pass because nothing was found."""
    assert len(INCIDENTS) == 10


@pytest.mark.parametrize("kind", KINDS[1:])
def test_two_gates_at_one_url_share_a_budget(kind: str, tmp_path: Path) -> None:
    """The URL is all that two programs must agree on: what one has spent, the other cannot."""
    policy = {
        "version": 1,
        "tools": {"pay": {"cost": {"eur": 60}}},
        "limits": [{"budget": "eur", "limit": 100}],
    }
    url = url_of(kind, tmp_path)
    with Gate(policy, url) as one, Gate(policy, url) as two:
        assert one.call(Proposal("pay", {}), lambda: "paid") == "paid"
        refused = two.decide(Proposal("pay", {}))
    assert [reason.code for reason in getattr(refused, "reasons", ())] == ["budget"]
