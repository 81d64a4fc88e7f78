"""A URL of a server is read in one way, or refused without being shown."""

from __future__ import annotations

import pytest

from sluicegate.errors import LedgerError
from sluicegate.ledger.url import unambiguous


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://:secret@host:6379/0?namespace=acme&timeout=2",
        "rediss://user:a%2Fb%3Fc%23d%40e@[::1]:6379/0?ssl_ca_certs=/etc/ca.pem",
        "redis://[fe80::1%25eth0]:6379",
        "unix:///run/valkey/valkey.sock?db=1",
        "unix://user:secret@/run/valkey.sock",
        "postgresql:///gate",
        "postgresql://user:sécret@db:5432/gate?sslmode=verify-full&sslrootcert=",
        "postgresql://user@h1:5432,[::1]:5433,h3/gate?target_session_attrs=read-write",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/gate?options=-c search_path=a",
    ],
)
def test_a_url_of_a_server_is_left_as_it_is(url: str) -> None:
    """Whatever redis-py and libpq can read, they get to read."""
    assert unambiguous(url) is url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://u:a/b@host/0", "cannot be read: it has a second @, an @ behind the host"),
        ("redis://u:a?b@host/0", "cannot be read"),
        ("redis://u:a#b@host/0", "cannot be read"),
        ("redis://u:a@b@host/0", "cannot be read"),
        ("postgresql://host/db?password=a@b", "cannot be read"),
        ("postgresql:u:ab@host", "cannot be read"),
        ("redis://u:a%zb@host", "a % that is not followed by two hexadecimal digits"),
        ("redis://u:ab%", "a % that is not followed by two hexadecimal digits"),
        ("redis://u:a%debb@host", "has bytes after % that are no UTF-8"),
        ("redis://u:a%00b@host", "stands for a character that cannot be printed"),
        ("redis://u:a\nb@host", "has a character that cannot be printed"),
        ("redis://u:a\udc80b@host", "has a character that cannot be printed"),
        ("redis://user:ab", "has a host or a port that is none"),
        ("redis://host:123456", "has a host or a port that is none"),
        ("redis://[::1/0", "has a host or a port that is none"),
        ("postgresql://host/db?password=a&b", "has an option without a value"),
        ("postgresql://host/db?a%20b=1", "has an option without a value"),
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str, problem: str) -> None:
    """The error says what is wrong and how to write it, and quotes nothing."""
    with pytest.raises(LedgerError) as caught:
        unambiguous(url)
    text = str(caught.value)
    assert problem in text
    assert "/ as %2F, ? as %3F, # as %23, @ as %40" in text
    assert url not in text
    assert "ab" not in text.replace("value / as", "")
