"""Where commands find the ledger, and what they print of its address."""

from __future__ import annotations

import pytest

from sluicegate.cli.sources import without_secrets


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("sqlite:////a/b.db?durability=process", "sqlite:////a/b.db?durability=process"),
        ("redis://h:6379/0?namespace=acme", "redis://h:6379/0?namespace=acme"),
        ("redis://u:hidden@h:1/0", "redis://u:***@h:1/0"),
        ("redis://:hidden@h/0", "redis://:***@h/0"),
        ("redis://u:hid@den/1@h/0", "redis://u:***@h/0"),
        ("redis://u:hid?den@h/0", "redis://***"),
        (
            "postgresql://u@h/d?password=hidden&timeout=2",
            "postgresql://u@h/d?password=***&timeout=2",
        ),
        (
            "postgresql://h/d?sslpassword=hidden&sslkey=hidden",
            "postgresql://h/d?sslpassword=***&sslkey=***",
        ),
    ],
)
def test_no_secret_is_printed(url: str, printed: str) -> None:
    """Neither one in the address nor one among the options, however it is written."""
    assert without_secrets(url) == printed
