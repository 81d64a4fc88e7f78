"""The servers that docs/ledgers.md and examples/compose.yaml start are fit for a durable ledger."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from redis_server import Server, startable
from requested import granted, quota

from sluicegate.ledger import open_ledger
from sluicegate.ledger.redis import RedisLedger

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a b/c#d"


def settings(words: list[str]) -> dict[str, str]:
    """The settings of a command line, without the place that it serves."""
    assert words[0] == "valkey-server"
    found = dict(zip(words[1::2], words[2::2], strict=True))
    given = {name.removeprefix("--"): text for name, text in found.items()}
    return {name: text for name, text in given.items() if name not in ("port", "bind", "dir")}


def in_compose() -> list[str]:
    """The command of the compose file, with a password that needs quoting."""
    compose = yaml.safe_load((ROOT / "examples/compose.yaml").read_text("utf-8"))
    words: list[str] = compose["services"]["valkey"]["command"]
    return [re.sub(r"\$\{VALKEY_PASSWORD:.*\}", PASSWORD, word) for word in words]


def in_docs() -> list[str]:
    """The plain command of the page."""
    text = (ROOT / "docs/ledgers.md").read_text("utf-8").replace("\\\n", " ")
    [line] = re.findall(r"^valkey-server .*$", text, re.MULTILINE)
    return shlex.split(line)


def watched() -> list[list[str]]:
    """The commands of the page's table of what to watch."""
    text = (ROOT / "docs/ledgers.md").read_text("utf-8").partition("## Monitoring")[2]
    return [line.split() for line in re.findall(r"`valkey-cli ([a-z][^`]*)`", text)]


@pytest.mark.skipif(not startable(), reason="no server by pip for this machine")
def test_what_is_to_be_watched_can_be_asked() -> None:
    """Each command of the table is one of the server's, and counts what the ledger keeps."""
    server = Server()
    ledger = open_ledger(server.url)
    granted(ledger, "p", quota(1))
    asked = watched()
    assert len(asked) >= 7
    with server.client() as client:
        replies = {" ".join(words): client.execute_command(*words) for words in asked}
    assert replies["ping"]
    assert {name for name, reply in replies.items() if not reply and "slowlog" not in name} == set()
    for name in ("cells", "permits", "journal"):
        assert any(f":{name}" in command for command in replies)
    ledger.close()
    server.remove()


@pytest.mark.skipif(not startable(), reason="no server by pip for this machine")
@pytest.mark.parametrize("words", [in_compose, in_docs], ids=["compose", "docs"])
def test_the_server_that_is_shown_is_durable(
    words: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied as it stands, it is accepted by a ledger that demands to lose nothing with the power."""
    assert callable(words)
    given = settings(words())
    monkeypatch.setattr("redis_server.SETTINGS", {})  # no more than is shown
    server = Server(**given)
    secret = quote(given.get("requirepass", ""), safe="")
    place = server.url.replace("redis://", f"redis://:{secret}@" if secret else "redis://")
    ledger = open_ledger(f"{place}?require_durable=yes&timeout=2")
    assert isinstance(ledger, RedisLedger)
    assert ledger.durability == "power"
    granted(ledger, "p", quota(1))
    ledger.close()
    server.remove()
