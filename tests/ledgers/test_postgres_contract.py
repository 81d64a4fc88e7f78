"""A PostgreSQL ledger keeps what every ledger promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pg_ledgers import opened
from test_contract import *  # noqa: F403 - every one of them

from sluicegate.ledger import Ledger


@pytest.fixture(params=["&connections=1", "&connections=4", "&durability=process"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """A new ledger that takes the time of each request."""
    with opened(f"&clock=caller{request.param}") as made:
        yield made
