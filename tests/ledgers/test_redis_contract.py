"""A ledger on Redis keeps what every ledger promises (test_contract.py), against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis_server import namespace, shared
from test_contract import *  # noqa: F403 - its tests, for the ledger below

from sluicegate.journal import verify
from sluicegate.ledger import Ledger
from sluicegate.ledger.redis import RedisLedger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """A new ledger that takes the time from its requests."""
    made = RedisLedger(shared(), namespace=namespace(), exact_time=True)
    yield made
    assert verify(made.entries(), made.head()) is None
    made.close()
