"""All that a program shows of a ledger's URL, for the tests that look for its password there."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from sluicegate import Deny, Gate, LedgerError, Permit, Proposal, Succeeded
from sluicegate.cli.app import app

FRONT, BACK = "Zq7hid", "den9Wx"
"""The password's two halves: a part of it is too much already."""

BETWEEN = (
    *("", "/", "#", "?", "@", ":", "%", "%zz", "%de", " ", "\n", "[", "]", "&", "=", "é", "\\"),
    *("'", '"', "\0", "?a=", "?timeout=", "?namespace=", "//", "@/", "/@", "\udc80", "%00", "%0A"),
)
"""What may stand between them, as somebody writes it who does not know of quoting."""

COMMANDS = (
    *("usage", "pending", "unknowns", "replay", "journal tail", "journal verify"),
    *("journal export", "halt --by ada --reason hold", "resume --by ada"),
)
POLICY = "version: 1\ntools: {pay: {once: {key: '{order}'}}}\nlimits: [{budget: calls, limit: 9}]\n"


def passwords() -> list[str]:
    """As they are, and quoted as they must be."""
    plain = [f"{FRONT}{sign}{BACK}" for sign in BETWEEN]
    return [*plain, *(quote(one, safe="") for one in plain if one.isprintable())]


def policy_in(folder: Path) -> Path:
    """A policy file."""
    path = folder / "sluicegate.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def command(line: str, url: str, policy: Path) -> str:
    """What a command prints, on both outputs; a crash shows what Python would show of it."""
    given = [*line.split(), "--ledger", url, "--policy", str(policy)]
    result = CliRunner().invoke(app, given)
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.output
    return result.output + told(result.exception)


def told(error: BaseException) -> str:
    """All that a traceback shows of an error and of what led to it."""
    return "".join(traceback.format_exception(error)) + repr(error)


def assert_hidden(*texts: object) -> None:
    """Neither half is in any of them."""
    for text in map(str, texts):
        lowered = text.lower()  # as hosts are
        assert FRONT.lower() not in lowered, text
        assert BACK.lower() not in lowered, text


def refused(url: str, policy: Path) -> None:
    """It leads nowhere, and neither a gate nor a command shows why with its password."""
    with pytest.raises(LedgerError) as caught:
        Gate(policy, ledger=url)
    assert_hidden(told(caught.value), command("usage", url, policy))


def used(url: str, policy: Path, caplog: pytest.LogCaptureFixture) -> Gate:
    """A gate on a server that is there, after a call: nothing that it has or says shows the password."""
    caplog.set_level(logging.DEBUG)
    gate = Gate(policy, ledger=url)
    permit = gate.decide(Proposal("pay", {"order": "A-1"}))
    assert isinstance(permit, Permit)
    gate.settle(permit, Succeeded("paid"))
    kept = [entry.body for entry in gate.journal]
    assert len(kept) >= 3
    ledger: Any = gate.ledger
    assert_hidden(repr(gate), repr(ledger), repr(vars(ledger)), permit, *kept, ledger.heads())
    for line in COMMANDS:
        said = command(line, url, policy)
        assert said.strip(), line
        assert_hidden(said, command(f"{line} --json", url, policy))
    assert_hidden(caplog.text)
    return gate


def unavailable(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """When the server has gone, neither the refusal nor a log line shows the password."""
    decision = gate.decide(Proposal("pay", {"order": "A-2"}))
    assert isinstance(decision, Deny)
    assert [reason.code for reason in decision.reasons] == ["ledger_unavailable"]
    assert_hidden(decision, decision.render(), decision.reasons, caplog.text)
    with pytest.raises(LedgerError) as caught:
        gate.usage()
    assert_hidden(told(caught.value))
