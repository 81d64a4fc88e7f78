"""No password of a PostgreSQL ledger's URL is shown, whatever is wrong with the URL or the server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pg_server
import pytest
from pg_proxy import Proxy
from secret_scene import BACK, FRONT, passwords, policy_in, refused, unavailable, used

FORMS = (
    "postgresql://user:{}@127.0.0.1:1/gate?timeout=0.5",
    "postgres://:{}@127.0.0.1:1/gate?timeout=0.5",
    "postgresql://user:{}@127.0.0.1:1,127.0.0.1:2/gate?timeout=0.5",
    "postgresql://user:{}@127.0.0.1:port/gate?timeout=0.5",
    "postgresql://user:{}@127.0.0.1:1/gate?timeout=0.5&what=this",
    "postgresql://user:{}/0",
    "postgresql://127.0.0.1:1/gate?timeout=0.5&user=u&password={}",
    "postgresql://127.0.0.1:1/gate?timeout=0.5&sslpassword={}&sslmode=quite",
    "postgresql:user:{}@127.0.0.1:1/gate",
    "postgers://user:{}@127.0.0.1:1/gate",
)


@pytest.mark.parametrize("form", FORMS)
def test_no_postgres_url_shows_its_secret(form: str, tmp_path: Path) -> None:
    """However a password is written: in no error, traceback or output of a command is a half of it."""
    policy = policy_in(tmp_path)
    for password in passwords():
        if "@" in password and form == "postgresql://user:{}/0":
            continue  # what is behind the @ is a host then, and nothing else can be meant
        if form.count("&") and "namespace=" in password:
            continue  # behind an & this is the option of that name, whoever meant it otherwise
        refused(form.replace("{}", password), policy)


def test_a_postgres_server_in_use_shows_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither journal, log, names of objects nor commands have it; nor does the refusal when it dies."""
    url = pg_server.fresh()
    parts = pg_server.parameters(url)
    proxy = Proxy(str(parts["host"]), int(str(parts["port"])))
    secret = quote(f"{FRONT}/:?#@% {BACK}", safe="")
    _, _, rest = url.partition("://")
    user, _, place = rest.partition("@")
    behind = place.partition("/")[2]
    way = (
        f"postgresql://{user.partition(':')[0]}:{secret}@127.0.0.1:{proxy.port}/{behind}&timeout=1"
    )
    gate = used(way, policy_in(tmp_path), caplog)
    proxy.fault = "refuse"
    proxy.cut()
    unavailable(gate, caplog)
    gate.close()
    proxy.close()
    pg_server.drop(url)
