"""Copying a ledger into another one: all of it, equal in everything, or nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluicegate import (
    Defer,
    Deny,
    Failed,
    Gate,
    LedgerError,
    MemoryLedger,
    Permit,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
)
from sluicegate.journal import GENESIS, verify
from sluicegate.ledger import Ledger
from sluicegate.ledger.base import Noting, Out
from sluicegate.ledger.holdings import Holdings
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.migrate import Copied, NotEqual, migrate
from sluicegate.replay import replay
from sluicegate.testing import FakeClock, counted_ids

POLICY: dict[str, Any] = {
    "version": 1,
    "tools": {
        "get": {"effect": "read", "labels": ["secret"]},
        "pay": {
            "once": {"key": "pay:{n}", "within": "9d"},
            "cost": {"eur": 7},
            "requires": [{"tool": "get"}],
        },
        "wire": {"approve": True},
        "send": {"labels": ["external"]},
    },
    "limits": [
        {"budget": "eur", "limit": 40, "per": ["tenant"], "window": "day"},
        {"concurrency": 4},
        {"repeat": 3, "per": ["run"]},
    ],
    "flows": [{"name": "f", "after": ["secret"], "deny": ["external"]}],
}
Make = Callable[[str], Ledger]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make an empty ledger of a kind; the same name again is another one."""
    made: list[Ledger] = []

    def one(kind: str) -> Ledger:
        path = tmp_path / f"{len(made)}.db"
        ledger = MemoryLedger() if kind == "memory" else SqliteLedger(path, durability="process")
        made.append(ledger)
        return ledger

    yield one
    for ledger in made:
        ledger.close()


def call(tool: str, n: int = 0) -> Proposal:
    """A call of a tool, with an id of its own."""
    who = Subject(tenant="acme")
    return Proposal(tool, {"n": n}, subject=who, run="r", call_id=f"{tool}{n}", prompt="pay it")


def gate_on(ledger: Ledger, day: int = 0) -> Gate:
    """A gate whose clock has gone on by some days, with ids of its own."""
    clock = FakeClock()
    clock.advance(86_400 * day)
    return Gate(POLICY, ledger, clock=clock, ids=counted_ids(f"day{day}-"))


def lived(ledger: Ledger) -> Ledger:
    """A ledger with something of everything: done, failed, unknown, under way, waiting, halted."""
    gate = gate_on(ledger)
    for proposal, outcome in (
        (call("get"), Succeeded({"n": 0})),
        (call("pay", 1), Succeeded({"paid": 1})),
        (call("pay", 2), Failed("no money")),
        (call("pay", 3), Unknown("lost")),
        (call("pay", 4), None),
    ):
        permit = gate.decide(proposal)
        assert isinstance(permit, Permit)
        if outcome is not None:
            gate.settle(permit, outcome)
    assert isinstance(gate.decide(call("pay", 1)), Recorded)
    assert isinstance(gate.decide(call("wire", 1)), Defer)
    request = gate.decide(call("wire", 2))
    assert isinstance(request, Defer)
    gate.approve(request.request_id, by="ada")
    gate.halt(user="eve", by="ada", reason="on holiday")
    return ledger


def goes_on(ledger: Ledger) -> list[str]:
    """What a gate says on the next days."""
    said: list[str] = []
    for day in (0, 1, 10):
        gate = gate_on(ledger, day + 100)
        for proposal in (
            *(call("pay", n) for n in (1, 2, 3, 4, 5, 6, 7)),
            *(call("wire", n) for n in (1, 2)),
            call("send"),
        ):
            decision = gate.decide(proposal)
            said.append(repr(decision))
            if isinstance(decision, Permit):
                gate.settle(decision, Succeeded("ok"))
        said += map(repr, (gate.pending(), gate.unknowns(), gate.halts(), gate.usage()))
    return said


@pytest.mark.parametrize("source", ["memory", "sqlite"])
@pytest.mark.parametrize("target", ["memory", "sqlite"])
def test_a_copy_is_equal_and_goes_on_like_its_source(make: Make, source: str, target: str) -> None:
    """Cells, permits, time, heads and entries; a replay says the same; so do all later decisions."""
    old, new = lived(make(source)), make(target)
    found = migrate(old, new)
    entries = list(old.entries())
    assert found == Copied(len(entries), len(list(old.cells(""))), 2, 1)
    assert list(new.entries()) == entries
    assert new.heads() == old.heads()
    assert new.floor == old.floor
    assert sorted(new.out()) == sorted(old.out())
    assert dict(in_json(new)) == dict(in_json(old))
    assert replay(new.entries()) == replay(old.entries())
    assert goes_on(new) == goes_on(old)
    assert verify(new.entries(), new.heads()) is None
    assert list(new.entries()) == list(old.entries())
    assert replay(new.entries()).difference is None


def in_json(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """The cells of a ledger; one in memory has tuples in them."""
    return ((key, json.dumps(cell)) for key, cell in ledger.cells(""))


def test_a_copy_in_a_file_is_there_for_the_next_process(make: Make, tmp_path: Path) -> None:
    """Closed and opened again, it has everything, and its chain goes on."""
    old = lived(make("memory"))
    path = tmp_path / "new.db"
    ledger = SqliteLedger(path)
    migrate(old, ledger)
    ledger.perform(Noting(5, '"kind":"prompt","root":"r","text":"x"}'))
    ledger.close()
    again = SqliteLedger(path)
    assert again.head()[0] == old.head()[0] + 1
    assert Gate(POLICY, again).journal.verify() is None
    assert dict(in_json(again)) == dict(in_json(old))
    again.close()


def test_an_open_ledger_sees_what_was_copied_into_it(make: Make, tmp_path: Path) -> None:
    """Another process that had opened the empty file begins with what is there now."""
    path = tmp_path / "new.db"
    waiting, filled = SqliteLedger(path), SqliteLedger(path)
    assert waiting.cell("run|r") is None
    migrate(lived(make("memory")), filled)
    assert waiting.cell("run|r") is not None
    assert isinstance(gate_on(waiting).decide(call("pay", 1)), Recorded)
    for ledger in (waiting, filled):
        ledger.close()


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_ledger_that_has_something_is_not_written_to(make: Make, kind: str) -> None:
    """Another history, and the very same one: refused, and as it was."""
    old, other = lived(make("memory")), make(kind)
    gate_on(other, 3).decide(call("get"))
    before = list(other.entries())
    with pytest.raises(LedgerError, match="is not empty"):
        migrate(old, other)
    with pytest.raises(LedgerError, match="the same ledger"):
        migrate(other, other)
    assert list(other.entries()) == before
    holdings = Holdings({"w": 0}, {"w": (0, GENESIS)}, 1, (), (), (), ())
    with pytest.raises(LedgerError, match="is not empty"):
        other.restore(holdings)  # type: ignore[attr-defined]


def test_there_must_be_something_to_copy(make: Make) -> None:
    """An empty ledger is more likely a wrong name."""
    with pytest.raises(LedgerError, match="there is nothing to copy"):
        migrate(make("sqlite"), make("memory"))


def test_the_same_file_twice_is_the_same_ledger(make: Make, tmp_path: Path) -> None:
    """Opened under two names, too."""
    old = make("sqlite")
    assert isinstance(old, SqliteLedger)
    lived(old)
    link = tmp_path / "link.db"
    link.symlink_to(old.path)
    other = SqliteLedger(link)
    with pytest.raises(LedgerError, match="the same ledger"):
        migrate(old, other)
    other.close()


def test_a_journal_that_does_not_verify_is_not_copied(make: Make) -> None:
    """Somebody has changed an entry of the source: it is named, and the target stays empty."""
    old, new = make("sqlite"), make("sqlite")
    assert isinstance(old, SqliteLedger)
    lived(old)
    old.close()
    with sqlite3.connect(old.path) as file:
        file.execute("UPDATE journal SET body = body || ' ' WHERE seq = 5")
    file.close()
    with pytest.raises(LedgerError, match="entry 5 was changed"):
        migrate(SqliteLedger(old.path), new)
    assert (new.head()[0], list(new.cells(""))) == (0, [])


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [({"a": 0, "b": 1}, "2 writers, each with a chain"), ({"a": 3}, "has the number 3")],
)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_fleets_journal_does_not_fit_into_one_chain(
    make: Make, kind: str, numbers: dict[str, int], problem: str
) -> None:
    """Numbers in cells and in entries say which writer's entry is meant; nothing rewrites them."""
    new = make(kind)
    with pytest.raises(LedgerError, match=problem):
        new.restore(Holdings(numbers, {}, 1, (), (), (), ()))  # type: ignore[attr-defined]
    assert new.head()[0] == 0


class Torn(MemoryLedger):
    """A source that cannot be read to its end."""

    def cells(self, prefix: str) -> Any:
        yield from super().cells(prefix)[:3]
        if not prefix:
            raise LedgerError("the disk is gone")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_breaks_on_the_way_leaves_the_target_empty(make: Make, kind: str) -> None:
    """Not an entry, not a cell; the next attempt with a whole source works."""
    torn, new = Torn(), make(kind)
    lived(torn)
    with pytest.raises(LedgerError, match="the disk is gone"):
        migrate(torn, new)
    assert (new.head()[0], list(new.cells("")), list(new.out())) == (0, [], [])
    assert migrate(lived(make("memory")), new).permits == 2


KILLED = """
import os, signal, sys
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.migrate import migrate

def tell(what, count):
    if what == "cells copied":
        os.kill(os.getpid(), signal.SIGKILL)

migrate(SqliteLedger(sys.argv[1]), SqliteLedger(sys.argv[2]), tell)
"""


def test_a_copy_that_is_killed_leaves_the_file_empty(make: Make, tmp_path: Path) -> None:
    """All entries were written and some cells; nothing of it is there, and the next attempt works."""
    old, path = make("sqlite"), tmp_path / "new.db"
    assert isinstance(old, SqliteLedger)
    lived(old)
    for n in range(1100):
        old.perform(Noting(old.floor, '"kind":"prompt","root":"r","text":"x"}', f"prompt|r|{n}"))
    arguments = [sys.executable, "-c", KILLED, str(old.path), str(path)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    new = SqliteLedger(path)
    assert (new.head()[0], list(new.cells("")), new.out()) == (0, [], [])
    assert migrate(old, new).cells > 1100
    new.close()


class Lossy(MemoryLedger):
    """A target that drops one cell, one permit or time."""

    loses = ""

    def restore(self, holdings: Holdings) -> None:
        cells, permits = list(holdings.cells), list(holdings.permits)
        floor = holdings.floor - 1 if self.loses == "floor" else holdings.floor
        if self.loses == "cell":
            cells.pop()
        elif self.loses == "permit":
            permits[0] = Out(permits[0].permit, permits[0].expires + 1, permits[0].entry)
        super().restore(holdings._replace(cells=cells, permits=permits, floor=floor))


@pytest.mark.parametrize("loses", ["cell", "permit", "floor"])
def test_a_copy_that_is_not_equal_cannot_be_used(loses: str) -> None:
    """It is told, and every call that the copy is asked about is refused and says why."""
    old, new = lived(MemoryLedger()), Lossy()
    new.loses = loses
    with pytest.raises(NotEqual):
        migrate(old, new)
    decision = gate_on(new, 1).decide(call("get"))
    assert isinstance(decision, Deny)
    assert decision.reasons[0].code == "halted"
    assert "not equal to its source" in decision.reasons[0].message


class Busy(MemoryLedger):
    """A source that somebody still uses: while it is read, a decision is made."""

    def out(self) -> list[Out]:
        found = super().out()
        self.perform(Noting(self.floor, '"kind":"prompt","root":"r","text":"x"}'))
        return found


def test_a_source_that_is_still_used_is_found_out() -> None:
    """What was decided meanwhile is not in the copy, so the copy is not used."""
    old, new = Busy(), MemoryLedger()
    lived(old)
    with pytest.raises(NotEqual, match="stop what uses it"):
        migrate(old, new)
    assert isinstance(gate_on(new, 1).decide(call("get")), Deny)


def test_it_says_how_far_it_is() -> None:
    """For each thousand: entries and cells, copied and compared."""
    old = MemoryLedger()
    for n in range(2500):
        old.perform(Noting(n, '"kind":"prompt","root":"r","text":"x"}', f"prompt|r|{n}"))
    told: list[tuple[str, int]] = []
    migrate(old, MemoryLedger(), lambda what, count: told.append((what, count)))
    assert told == [
        (f"{what} {did}", count)
        for did in ("copied", "compared")
        for what in ("entries", "cells")
        for count in (1000, 2000)
    ]
