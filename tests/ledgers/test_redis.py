"""A Redis ledger's address, and the servers that it accepts."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis_server import Proxy, Server, namespace, shared, startable
from requested import claiming, granted, noting, once, quota, record, settling, state
from test_redis_equals_memory import sound

from sluicegate.errors import LedgerError
from sluicegate.ledger import MemoryLedger
from sluicegate.ledger.base import Refused, Replayed, Settled
from sluicegate.ledger.redis import RedisLedger
from sluicegate.migrate import migrate

WORKER = Path(__file__).with_name("redis_worker.py")
SECRET = "s3cret/with#signs"
needs_server = pytest.mark.skipif(not startable(), reason="no server by pip for this machine")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server whose settings the tests may change."""
    made = Server(appendfsync="always")
    yield made
    made.remove()


def told(error: BaseException) -> str:
    """All that a traceback would show of an error."""
    return "".join(traceback.format_exception(error)) + repr(error)


# --- addresses ----------------------------------------------------------------------------------


def test_a_url_has_all_options() -> None:
    """One line of configuration names server, namespace, patience and what must be durable."""
    space = namespace()
    url = f"{shared()}?namespace={space}&timeout=0.5&require_durable=no&db=0"
    one, two = RedisLedger.at(url), RedisLedger(shared(), namespace=space)
    granted(one, "p", quota(1))
    assert isinstance(two.perform(claiming("q", quota(1))), Refused)
    other = RedisLedger(shared(), namespace=namespace())
    granted(other, "q", quota(1))
    for ledger in (one, two, other):
        ledger.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "redis://h:6379/0?speed=high",
            "redis://h:6379/0 has an unknown option 'speed'; the options",
        ),
        ("redis://h?timeout=soon", "timeout is 'soon'; it must be a number of seconds above 0"),
        ("redis://h?timeout=0", "timeout is 0.0; it must be a number of seconds above 0"),
        ("redis://h?require_durable=maybe", "require_durable is 'maybe'; it must be yes or no"),
        ("redis://h?namespace=a&namespace=b", "gives 'namespace' twice"),
        ("redis://h?namespace=a{b}", "the namespace 'a{b}' must have 1 to 64 letters"),
        ("redis://h?namespace=", "the namespace '' must have 1 to 64 letters"),
        ("http://h", "http://… is no address of a Redis server; write redis://host:6379/0"),
    ],
)
def test_a_url_that_means_nothing_is_refused(url: str, problem: str) -> None:
    """Before anything is sent, with what to write instead."""
    with pytest.raises(LedgerError) as caught:
        RedisLedger.at(url)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:{}@127.0.0.1:1/0?timeout=0.1",
        "redis://user:{}@127.0.0.1:1/0?timeout=0.1&what={}",
        "redis://:{}@127.0.0.1:1/x?timeout=0.1",
        "redis://user:{}@127.0.0.1:none/0?timeout=0.1",
        "rediss://user:{}@127.0.0.1:1/0?timeout=0.1&ssl_cert_reqs=all",
        "unix://user:{}@/nowhere?timeout=0.1",
        "http://user:{}@127.0.0.1:1/0",
        "redis://[user:{}@127.0.0.1/0",
    ],
)
@pytest.mark.parametrize(
    "secret", [SECRET, "s3cret%2Fwith%23signs", "12?s3cret", "12@s3cret", "12#s3cret"]
)
def test_no_error_shows_the_secret_of_a_url(url: str, secret: str) -> None:
    """However wrong an address is, its password is in no message, cause or traceback."""
    with pytest.raises(LedgerError) as caught:
        RedisLedger.at(url.replace("{}", secret))
    shown = told(caught.value)
    for piece in (SECRET, secret, "s3cret", "with%23signs"):
        assert piece not in shown


@needs_server
def test_a_wrong_password_is_an_error_without_it() -> None:
    """Neither the wrong nor the right one is shown, and nothing is kept of either."""
    guarded = Server(requirepass=SECRET)
    address = guarded.url.removeprefix("redis://")
    wrong = f"redis://:{'wrong' * 2}@{address}"
    with pytest.raises(LedgerError, match="put the right user and password into the URL") as caught:
        RedisLedger.at(wrong)
    assert "wrongwrong" not in told(caught.value)
    with pytest.raises(LedgerError, match="put the right user and password into the URL"):
        RedisLedger.at(guarded.url)
    quoted = SECRET.replace("/", "%2F").replace("#", "%23")
    ledger = RedisLedger.at(f"redis://:{quoted}@{address}?namespace=a")
    granted(ledger, "p", quota(1))
    assert repr(ledger) == f"RedisLedger(the ledger 'a' at {guarded.url})"
    kept = json.dumps([record(ledger), state(ledger), list(ledger.heads())])
    assert "s3cret" not in kept + told(LedgerError(ledger))
    ledger.close()
    guarded.remove()


def test_a_server_that_is_not_there_is_an_error_in_time() -> None:
    """A wrong address shows from the first line of a program."""
    begun = time.monotonic()
    with pytest.raises(
        LedgerError, match=r"127\.0\.0\.1:1/0 did not answer within 0\.2 s .*refused"
    ):
        RedisLedger("redis://127.0.0.1:1/0", timeout=0.2)
    assert time.monotonic() - begun < 2


# --- servers ------------------------------------------------------------------------------------


@needs_server
def test_a_server_that_evicts_is_refused(server: Server) -> None:
    """What was spent must not be removed to make room: the error has the setting."""
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(LedgerError, match="CONFIG SET maxmemory-policy noeviction"):
            RedisLedger(server.url, timeout=0.5)
        client.config_set("maxmemory-policy", "noeviction")
    RedisLedger(server.url, timeout=0.5).close()


@needs_server
@pytest.mark.parametrize(
    ("settings", "durability"),
    [
        ({"appendonly": "yes", "appendfsync": "always"}, "power"),
        ({"appendfsync": "everysec"}, "second"),
        ({"appendfsync": "always", "no-appendfsync-on-rewrite": "yes"}, "second"),
        ({"appendfsync": "no"}, "memory"),
        ({"appendonly": "no"}, "memory"),
    ],
)
def test_durability_is_named_and_can_be_required(
    server: Server, settings: dict[str, str], durability: str
) -> None:
    """A ledger says what its answers survive, and require_durable runs on nothing weaker."""
    usual = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
    with server.client() as client:
        try:
            for name, value in settings.items():
                client.config_set(name, value)
            ledger = RedisLedger(server.url, timeout=0.5)
            assert ledger.durability == durability
            assert ledger.server.startswith(("valkey ", "redis "))
            ledger.close()
            if durability == "power":
                RedisLedger(server.url, require_durable=True).close()
            else:
                with pytest.raises(LedgerError, match="`CONFIG SET appendfsync always`"):
                    RedisLedger(server.url, require_durable=True, timeout=0.5)
        finally:
            for name, value in usual.items():
                client.config_set(name, value)


@needs_server
def test_a_server_that_was_made_weaker_is_refused_when_it_is_back(server: Server) -> None:
    """Each new connection is looked over: a failover must not lead to a weaker server unseen."""
    ledger = RedisLedger(server.url, require_durable=True, timeout=0.5)
    granted(ledger, "p", quota(9, key=namespace()))
    with server.client() as client:
        client.config_set("appendfsync", "everysec")
        client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(LedgerError, match="require_durable forbids it"):
            ledger.perform(noting())
        client.config_set("appendfsync", "always")
    ledger.perform(noting())
    ledger.close()


def documented(space: str) -> list[str]:
    """The permissions of docs/redis.md for a namespace."""
    text = (Path(__file__).parents[2] / "docs/redis.md").read_text("utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("ACL SETUSER agent"))
    return line.replace("acme", space).split()[3:]


@needs_server
def test_who_copies_a_ledger_needs_two_permissions_more(server: Server) -> None:
    """To see that there is nothing, and to remove what could not be finished."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "mover", *documented("moved"))
        source, place = MemoryLedger(), server.url.removeprefix("redis://")
        granted(source, "p", quota(1))
        target = RedisLedger.at(f"redis://mover:password@{place}?namespace=moved")
        with pytest.raises(LedgerError, match="'exists' command.*; grant it to the user"):
            migrate(source, target)
        client.execute_command("ACL", "SETUSER", "mover", "+exists", "+unlink")
    assert migrate(source, target).entries == 1
    target.close()


@needs_server
def test_a_user_with_few_permissions_is_enough(server: Server) -> None:
    """The permissions in docs/redis.md will do; without CONFIG GET durability is not assumed."""
    permissions = documented("few")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "agent", *permissions)
        permissions.remove("+config|get")
        client.execute_command("ACL", "SETUSER", "reticent", *permissions)
        client.execute_command("ACL", "SETUSER", "blind", "on", ">password", "~*", "+ping", "+type")
    place = f"password@{server.url.removeprefix('redis://')}?timeout=0.5&namespace"
    for user, durability in (("agent", "power"), ("reticent", "unknown")):
        ledger = RedisLedger.at(f"redis://{user}:{place}=few")
        assert ledger.durability == durability
        request, answer = granted(ledger, user, quota(9), once(user))
        assert isinstance(ledger.perform(settling(request, answer)), Settled)
        assert isinstance(ledger.perform(claiming("q", once(user))), Replayed)
        assert [len(ledger.cells(user)), ledger.out()] == [1, []]
        sound(ledger)
        ledger.close()
    ledger = RedisLedger.at(f"redis://agent:{place}=few&require_durable=yes")
    first = next(iter(ledger.entries()))
    ledger.trim({first.writer: 1}, [1])
    assert list(ledger.kept()) == [(1, first)]
    ledger.forget([1])
    ledger.close()
    for user, space, problem in (
        (
            "reticent",
            "few&require_durable=yes",
            "does not say whether an answer is on disk; permit",
        ),
        ("blind", "few", "does not say which version it is; permit the ledger's user INFO"),
        ("agent", "another", "permission.*; grant it to the user"),
    ):
        with pytest.raises(LedgerError, match=problem):
            RedisLedger.at(f"redis://{user}:{place}={space}")


@needs_server
def test_a_socket_of_this_machine_will_do() -> None:
    """unix:///path reaches a server that listens on no port."""
    near = Server(unixsocket="near.sock")
    ledger = RedisLedger.at(f"unix://{near.folder}/near.sock?namespace=a&db=1")
    granted(ledger, "p", quota(1))
    assert repr(ledger) == f"RedisLedger(the ledger 'a' at unix://{near.folder}/near.sock)"
    with near.client() as client:
        assert client.execute_command("SELECT", 1)
    ledger.close()
    near.remove()


@needs_server
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_tls_is_verified_with_the_options_of_the_url(server: Server, tmp_path: Path) -> None:
    """rediss:// with a certificate that one trusts works, and with another it does not."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    proxy = Proxy(server, context)
    url = proxy.url.replace("redis://", "rediss://")
    ledger = RedisLedger.at(f"{url}?ssl_ca_certs={certificate}&namespace={namespace()}")
    granted(ledger, "p", quota(1))
    ledger.close()
    with pytest.raises(LedgerError, match="CERTIFICATE_VERIFY_FAILED"):
        RedisLedger.at(f"{url}?timeout=0.3")
    proxy.close()


@needs_server
def test_a_value_that_no_ledger_wrote_is_an_error(server: Server) -> None:
    """It is not taken for a free limit, and requests that do not touch it go on."""
    space = namespace()
    ledger = RedisLedger(server.url, namespace=space)
    granted(ledger, "p", quota(1))
    with server.client() as client:
        client.hset(f"{{sluicegate:{space}}}:cells", "quota", "0")
    for _ in range(2):
        with pytest.raises(LedgerError, match="has a value that no ledger wrote: b'0'"):
            ledger.perform(claiming("q", quota(1)))
    with pytest.raises(LedgerError, match="has a value that no ledger wrote"):
        ledger.cell("quota")
    granted(ledger, "r", quota(1, key="other"))
    assert asyncio.run(ledger.aperform(noting())) is not None
    ledger.close()


def test_keys_of_something_else_are_left_alone() -> None:
    """A namespace that holds other kinds of values is refused before anything is written there."""
    space = namespace()
    with Redis.from_url(shared()) as client:
        client.set(f"{{sluicegate:{space}}}:journal", "a diary")
        with pytest.raises(
            LedgerError, match="has a string under .*:journal, where a ledger has a stream"
        ):
            RedisLedger(shared(), namespace=space)
        assert client.get(f"{{sluicegate:{space}}}:journal") == b"a diary"


@needs_server
def test_a_node_of_a_cluster_will_do() -> None:
    """All keys of a namespace are in one slot: the script runs where the cluster keeps it."""
    node = Server(cluster_enabled="yes")
    with node.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        for _ in range(200):
            if b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"):
                break
            time.sleep(0.05)
    ledger = RedisLedger(node.url)
    request, answer = granted(ledger, "p", quota(1), once())
    assert isinstance(ledger.perform(settling(request, answer)), Settled)
    sound(ledger)
    ledger.close()
    node.remove()


def test_a_database_is_a_number() -> None:
    """The client takes database 0 for any other name, and two ledgers would be one."""
    with pytest.raises(
        LedgerError, match=r"names the database 'production'; databases of Redis are numbers"
    ):
        RedisLedger.at("redis://127.0.0.1:1/production")
