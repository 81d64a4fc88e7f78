"""Making a gate: where its policy and its ledger come from, and what it says when it cannot be made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import sluicegate
from sluicegate import (
    Denied,
    Gate,
    LedgerError,
    MemoryLedger,
    NotExecuted,
    Permit,
    Policy,
    PolicyError,
    Proposal,
    Recorded,
    Succeeded,
)
from sluicegate.decision import Defer
from sluicegate.gate import _permitted
from sluicegate.ledger import open_ledger

TEXT = "version: 1\ntools:\n  t: {effect: read}\n  once: {once: {key: k}}\n"


def test_a_policy_comes_from_a_file_a_model_or_a_mapping(tmp_path):
    """The same policy, however it is given, has the same revision."""
    path = tmp_path / "sluicegate.yaml"
    path.write_text(TEXT)
    document = {"version": 1, "tools": {"t": {"effect": "read"}, "once": {"once": {"key": "k"}}}}
    gates = [Gate(source, "memory:") for source in (path, str(path), Policy.parse(TEXT), document)]
    assert len({gate.policy.revision for gate in gates}) == 1
    assert sluicegate.Policy is Policy


def test_the_ledger_lies_beside_the_policy(tmp_path, monkeypatch):
    """By default decisions are durable: in SQLite, in .sluicegate beside the policy file."""
    (tmp_path / "sluicegate.yaml").write_text(TEXT)
    with Gate(tmp_path / "sluicegate.yaml") as gate:
        assert isinstance(gate.decide(Proposal("t", {})), Permit)
    assert (tmp_path / ".sluicegate" / "ledger.db").is_file()
    monkeypatch.chdir(tmp_path)
    with Gate({"version": 1, "tools": {"t": {}}}) as gate:
        assert gate.journal.head()[0] == 2, "the same file: relative to where the program runs"
    assert "Gate(" in repr(gate)


def test_a_ledger_may_lie_in_a_strange_folder(tmp_path):
    """A folder with characters that mean something in a URL is a folder like others."""
    folder = tmp_path / "what? 100%25 #1"
    folder.mkdir()
    (folder / "sluicegate.yaml").write_text(TEXT)
    with Gate(folder / "sluicegate.yaml") as gate:
        assert isinstance(gate.decide(Proposal("t", {})), Permit)
    assert (folder / ".sluicegate" / "ledger.db").is_file()


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("version: 1\ntools: {t: {}}", "text of a policy, not a path"),
        ("nowhere.yaml", "sluicegate init"),
        (Path("nowhere.yaml"), "sluicegate init"),
        ({"version": 2}, "version"),
    ],
)
def test_a_wrong_policy_is_a_policy_error(policy, problem):
    """A policy that cannot be used says what to do about it, and no gate is made."""
    with pytest.raises(PolicyError, match=problem):
        Gate(policy, "memory:")


def test_other_wrong_uses():
    """What is no policy is a TypeError, an unknown ledger a LedgerError, an unknown name an AttributeError."""
    with pytest.raises(TypeError, match="it must be a path"):
        Gate(5, "memory:")
    with pytest.raises(LedgerError, match="no ledger is known for 'mysql'"):
        Gate({"version": 1, "tools": {"t": {}}}, "mysql://localhost")
    assert isinstance(open_ledger("memory:"), MemoryLedger)
    for module in (sluicegate, sluicegate.ledger):
        with pytest.raises(AttributeError, match="nothing"):
            module.nothing  # noqa: B018
    with pytest.raises(Exception, match="waits|WAITING"):
        _permitted(Defer(tool="t", request_id="r", reasons=(), expires_at=1))


class Thing:
    """A result that is no JSON."""


@pytest.mark.parametrize(
    ("result", "complete"),
    [({"a": [1]}, True), (None, True), (Thing(), False), ("x" * 70_000, False)],
)
def test_what_is_recorded_of_a_result(result, complete):
    """A result that is JSON and not too long is recorded; of others the record says that it is not complete."""
    gate = Gate(Policy.parse(TEXT), "memory:")
    assert gate.call(Proposal("once", {}), lambda: result) is result
    again = gate.decide(Proposal("once", {}))
    assert isinstance(again, Recorded)
    assert again.complete is complete
    assert again.result == (result if complete else None)
    assert gate.call(Proposal("once", {}), pytest.fail) == again.result
    assert gate.journal.verify() is None


class Gone(MemoryLedger):
    """A real ledger that cannot be reached once a call runs."""

    def perform(self, request):
        if type(request).__name__ == "Settling":
            raise LedgerError("gone")
        return super().perform(request)


def test_an_async_result_is_not_lost_with_the_ledger():
    """On the asyncio path too, the error has the outcome that could not be recorded."""
    gate = Gate(Policy.parse(TEXT), Gone())

    async def tool():
        return 5

    with pytest.raises(LedgerError) as caught:
        asyncio.run(gate.acall(Proposal("t", {}), tool))
    assert caught.value.outcome == Succeeded(5)


def test_the_tools_own_error_comes_first(caplog):
    """If a tool raises and the ledger is gone as well, the caller gets the tool's error, the log the other."""

    def broken():
        raise NotExecuted("no stock")

    with pytest.raises(NotExecuted, match="no stock"):
        Gate(Policy.parse(TEXT), Gone()).call(Proposal("t", {}), broken)
    assert "could not be recorded" in caplog.text


def test_async_calls_answer_from_the_record():
    """`acall` gives recorded results, takes plain functions, and raises Denied."""
    gate = Gate(Policy.parse(TEXT), "memory:")

    async def main():
        first = await gate.acall(Proposal("once", {}), lambda: "ran")
        second = await gate.acall(Proposal("once", {}), pytest.fail)
        with pytest.raises(Denied):
            await gate.acall(Proposal("nope", {}), pytest.fail)
        return first, second

    assert asyncio.run(main()) == ("ran", "ran")


def test_the_journal_can_be_read_on():
    """The journal is read from any place, from its end, and exported line by line."""
    gate = Gate(Policy.parse(TEXT), "memory:")
    for number in range(5):
        gate.call(Proposal("t", {"n": number}), lambda n: n)
    assert [entry.seq for entry in gate.journal.after(8)] == [9, 10, 11]
    assert [entry.seq for entry in gate.journal.tail(2)] == [10, 11]
    assert len(list(gate.journal.export())) == gate.journal.head()[0] == 11
    assert gate.journal.verify() is None
    gate.ledger.close()
