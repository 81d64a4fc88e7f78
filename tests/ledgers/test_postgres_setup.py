"""The servers that docs/ledgers.md and examples/compose.yaml start are fit for a durable ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pg_server
import pytest
import yaml
from pg_ledgers import opened
from requested import granted, quota

ROOT = Path(__file__).resolve().parents[2]
SETTING = re.compile(r"-c ?(\w+)=(\w+)")


def composed() -> Any:
    """The server in the compose file."""
    compose = yaml.safe_load((ROOT / "examples/compose.yaml").read_text("utf-8"))
    return compose["services"]["postgres"]


def in_compose() -> str:
    """Its command."""
    return " ".join(composed()["command"])


def in_docs() -> str:
    """The plain command of the page."""
    text = (ROOT / "docs/ledgers.md").read_text("utf-8").replace("\\\n", " ")
    [line] = re.findall(r"^pg_ctl .*$", text, re.MULTILINE)
    return str(line)


def watched() -> list[str]:
    """The statements of the page's table of what to watch."""
    text = (ROOT / "docs/ledgers.md").read_text("utf-8").partition("## Monitoring")[2]
    return re.findall(r"`(SELECT [^`]*)`", text)


def test_what_is_to_be_watched_can_be_asked() -> None:
    """Each statement of the table runs on a ledger's database."""
    with opened() as ledger:
        granted(ledger, "p", quota(1))
        asked = watched()
        assert len(asked) >= 5
        for statement in asked:
            here = re.sub(r"\bsluicegate(?='|\.)", ledger.address.namespace, statement)
            here = here.replace(f"= '{ledger.address.namespace}' GROUP", "= 'sluicegate' GROUP")
            found = pg_server.execute(pg_server.shared(), here)
            assert found or "pg_stat_replication" in statement


@pytest.mark.skipif("SLUICEGATE_TEST_POSTGRES" in pg_server.os.environ, reason="no server of ours")
def test_the_command_line_of_the_compose_file_starts_a_server() -> None:
    """Every argument there is a setting that the server takes and has, and a ledger opens in it."""
    program, *arguments = composed()["command"]
    assert program == "postgres"
    settings = dict(argument.removeprefix("-c").split("=") for argument in arguments)
    assert [f"-c{name}={value}" for name, value in settings.items()] == arguments
    server = pg_server.Server(**settings).start()
    for name, value in settings.items():
        assert pg_server.execute(server.url(), f"SHOW {name}") == [(value,)]
    encoding = composed()["environment"]["POSTGRES_INITDB_ARGS"].removeprefix("--encoding=")
    assert pg_server.execute(server.url(), "SHOW server_encoding") == [(encoding,)]
    with opened(url=server.url()) as ledger:
        granted(ledger, "p", quota(1))
    server.remove()


@pytest.mark.skipif("SLUICEGATE_TEST_POSTGRES" in pg_server.os.environ, reason="no server of ours")
def test_the_server_that_is_shown_is_durable() -> None:
    """With the settings of both, which are the same, a ledger of the default durability opens and grants."""
    given, same = dict(SETTING.findall(in_compose())), dict(SETTING.findall(in_docs()))
    assert given == same
    assert given["fsync"] == given["full_page_writes"] == "on"
    server = pg_server.Server(**given).start()
    with opened(url=server.url()) as ledger:
        granted(ledger, "p", quota(1))
    server.remove()
