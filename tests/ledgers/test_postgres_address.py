"""URLs of PostgreSQL ledgers: what they say, and that their secrets stay in them."""

from __future__ import annotations

import logging
import traceback

import pg_server
import pytest
from pg_ledgers import opened
from requested import claiming, quota, record

from sluicegate.errors import LedgerError
from sluicegate.ledger.postgres import PostgresLedger
from sluicegate.ledger.postgres.address import Address

SECRET = "s3/cr:et@%"
QUOTED = "s3%2Fcr%3Aet%40%25"


def test_a_url_says_all_there_is_to_say() -> None:
    """Our options are ours; all others are libpq's and reach it as they are."""
    url = (
        f"postgresql://user:{QUOTED}@db.example:6432/gate?namespace=acme&timeout=2&connections=8&clock=caller"
        "&durability=process&migrate=no&sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem"
    )
    address = Address.read(url)
    assert address[1:] == ("acme", 2.0, 8, "process", "caller", False)
    assert address.parts["password"] == SECRET
    assert address.parts["sslmode"] == "verify-full"
    assert address.parts["sslrootcert"] == "/etc/ca.pem"
    assert str(address) == "postgresql://user@db.example:6432/gate (namespace acme)"
    assert Address.read("postgresql:///gate")[1:] == ("sluicegate", 5.0, 4, "power", "server", True)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("timeout=0", "timeout is '0' in the URL of the ledger; it must be a number of seconds"),
        ("timeout=soon", "timeout is 'soon'"),
        ("timeout=nan", "timeout is 'nan'"),
        ("connections=1.5", "connections is '1.5' .* a whole number from 1 to 64"),
        ("connections=65", "connections is '65'"),
        ("namespace=Acme", "namespace is 'Acme' .* 1 to 48 of a-z, 0-9 and _"),
        ("namespace=pg_acme", "not with pg_"),
        ("namespace=a%22b", "namespace is 'a\"b'"),
        ("namespace=a&namespace=b", "gives 'namespace' twice"),
        ("durability=none", "durability is 'none' .* power or process"),
        ("clock=mine", "clock is 'mine' .* server or caller"),
        ("migrate=maybe", "migrate is 'maybe' .* yes or no"),
        ("pool_size=3", "cannot be read: .*pool_size.*with the options clock, connections"),
    ],
)
def test_a_url_that_means_nothing_is_refused(query: str, problem: str) -> None:
    """With the option, what it may be, and no secret."""
    with pytest.raises(LedgerError, match=problem) as caught:
        PostgresLedger.at(f"postgresql://user:{QUOTED}@127.0.0.1:1/gate?{query}")
    assert_no_secret(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{QUOTED}@127.0.0.1:1/gate",
        f"postgresql://user:{QUOTED}@no-such-host.invalid/gate",
        f"postgresql://user:{QUOTED}@127.0.0.1:port/gate",
        f"postgresql://user:{QUOTED}@[::1/gate",
        f"postgresql://user:{QUOTED}%zz@127.0.0.1:1/gate",
        f"postgresql://127.0.0.1:1/gate?user=u&password={QUOTED}",
        f"postgresql://127.0.0.1:1/gate?password={QUOTED}&nothing=1",
        f"postgresql://127.0.0.1:1/gate?sslpassword={QUOTED}&sslmode=quite",
    ],
)
def test_a_server_that_cannot_be_reached_is_told_without_the_secret(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error, nor what led to it, nor a log line has it."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LedgerError) as caught:
        PostgresLedger.at(url + ("&" if "?" in url else "?") + "timeout=1")
    assert_no_secret(caught.value)
    assert_secret_free(caplog.text)


def test_a_ledger_that_works_shows_its_secret_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither its name, nor its errors, nor its log, nor its journal has it."""
    caplog.set_level(logging.DEBUG)
    with opened(f"&timeout=1&password={QUOTED}") as ledger:
        assert ledger.address.parts["password"] == SECRET
        assert_secret_free(repr(ledger), str(ledger.address), repr(ledger.address))
        ledger.perform(claiming("p", quota(9)))
        with pytest.raises(LedgerError, match="permit id p is out already") as caught:
            ledger.perform(claiming("p", quota(9)))
        assert_no_secret(caught.value)
        pg_server.execute(
            pg_server.shared(), f"ALTER TABLE {ledger.address.namespace}.cells RENAME TO c"
        )
        with pytest.raises(LedgerError, match="the namespace was dropped or is") as caught:
            ledger.perform(claiming("q", quota(9)))
        assert_no_secret(caught.value)
        pg_server.execute(
            pg_server.shared(), f"ALTER TABLE {ledger.address.namespace}.c RENAME TO cells"
        )
        assert_secret_free(str(record(ledger)), caplog.text)


def assert_no_secret(error: BaseException) -> None:
    """Not in the text, and not in that of any error behind it."""
    assert_secret_free(str(error), repr(error), *traceback.format_exception(error))


def assert_secret_free(*texts: str) -> None:
    for text in texts:
        lines = [
            line
            for line in text.splitlines()
            if not line.strip().startswith(("PostgresLedger.at(", "url"))
        ]
        assert not any(
            form in line for form in (SECRET, QUOTED, "s3/cr", "s3%2F") for line in lines
        )
