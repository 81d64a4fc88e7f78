"""No password of a Redis ledger's URL is shown, whatever is wrong with the URL or the server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from redis_server import Server, startable
from secret_scene import BACK, FRONT, passwords, policy_in, refused, unavailable, used

FORMS = (
    "redis://user:{}@127.0.0.1:1/0?timeout=0.02",
    "redis://:{}@127.0.0.1:1?timeout=0.02",
    "redis://user:{}@127.0.0.1:port/0?timeout=0.02",
    "redis://user:{}@127.0.0.1:99999/0?timeout=0.02&what=this",
    "redis://user:{}/0",
    "rediss://user:{}@127.0.0.1:1/0?timeout=0.02&ssl_password={}&ssl_cert_reqs=all",
    "redis://127.0.0.1:1/0?timeout=0.02&password={}",
    "unix://user:{}@/nowhere/redis.sock?timeout=0.02",
    "redis:user:{}@127.0.0.1:1/0",
    "redsi://user:{}@127.0.0.1:1/0",
)


@pytest.mark.parametrize("form", FORMS)
def test_no_redis_url_shows_its_secret(form: str, tmp_path: Path) -> None:
    """However a password is written: in no error, traceback or output of a command is a half of it."""
    policy = policy_in(tmp_path)
    for password in passwords():
        if "@" in password and form == "redis://user:{}/0":
            continue  # what is behind the @ is a host then, and nothing else can be meant
        refused(form.replace("{}", password), policy)


@pytest.mark.skipif(not startable(), reason="no server by pip for this machine")
def test_a_redis_server_in_use_shows_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither journal, log, names of objects nor commands have it; nor does the refusal when it dies."""
    secret = f"{FRONT}/:?#@% {BACK}"
    server = Server(requirepass=secret)
    address = server.url.removeprefix("redis://")
    url = f"redis://:{quote(secret, safe='')}@{address}?timeout=0.5"
    gate = used(url, policy_in(tmp_path), caplog)
    server.kill()
    unavailable(gate, caplog)
    gate.close()
    server.remove()
