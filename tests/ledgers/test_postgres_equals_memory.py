"""A PostgreSQL ledger means what a ledger in memory means: the same history, the same answers."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pg_server
from hypothesis import given, settings
from hypothesis import strategies as st
from pg_ledgers import again, opened
from test_sqlite_equals_memory import Player, alone, histories, together

from sluicegate.ledger import MemoryLedger
from sluicegate.ledger.base import Request


def timed(request: Request, at: int) -> Request:
    """The same request at another time."""
    return request._replace(now=at)


@settings(max_examples=25)
@given(histories, st.booleans())
def test_every_history_has_the_same_answers_cells_and_journal(
    history: list[tuple[str, list[Any]]], at_once: bool
) -> None:
    """
    With one connection, closed and opened again in between, asked one by one or all at once:
    entry for entry it is the ledger in memory, whichever way the times step.
    """
    with opened("&clock=caller&connections=1&durability=process") as ledger:
        made = ledger
        writer = "the only one"
        name = ledger.address.namespace
        pg_server.execute(pg_server.shared(), f"SELECT * FROM {name}.enlist('{writer}')")
        pg_server.execute(pg_server.shared(), f"UPDATE {name}.writers SET free = true")
        memory = MemoryLedger(writer=writer)
        player = Player()
        for which, some in history:
            if which == "reopened":
                made.close()
                made = again(ledger)
            asked = [(step, request) for step in some if (request := player.request(step))]
            expected = [alone(memory, request) for _, request in asked]
            requests = [request for _, request in asked]
            got = together(made, requests) if at_once else [alone(made, one) for one in requests]
            assert got == expected
            for (step, request), answer in zip(asked, got, strict=True):
                player.heard(step, request, answer)
        made.close()
        with closing(again(ledger)) as last:
            assert list(last.cells("")) == list(memory.cells(""))
            assert list(last.entries()) == list(memory.entries())
            assert last.head() == memory.head()
            assert last.heads() == ({writer: memory.head()} if memory.head()[0] else {})
            assert sorted(last.out()) == sorted(memory.out())
            assert last.floor == memory.floor


@settings(max_examples=15)
@given(histories)
def test_two_ledgers_in_one_place_are_one(history: list[tuple[str, list[Any]]]) -> None:
    """
    Two processes' ledgers, each with its own chains, give the answers and the cells of one
    ledger in memory, and their journals together have its entries in its order.
    """
    with opened("&clock=caller&durability=process") as one, closing(again(one)) as two:
        memory, player, at = MemoryLedger(), Player(), 0
        names: dict[int, int] = {0: 0}
        for which, some in history:
            for step in some:
                request = player.request(step)
                if request is None:
                    continue
                at = max(at, request.now)  # who has seen no later time cannot know of it
                request = timed(request, at)
                got = alone(two if which == "two" else one, request)
                expected = alone(memory, request)
                names[getattr(got, "entry", 0)] = getattr(expected, "entry", 0)
                assert _renamed(got, names) == expected
                player.heard(step, request, got)
        told = [entry.content for entry in one.entries()]
        for content in told:
            if "replayed" in content:
                content["replayed"] = names[content["replayed"]]
        assert told == [entry.content for entry in memory.entries()]
        assert [key for key, _ in one.cells("")] == [key for key, _ in memory.cells("")]


def _renamed(answer: Any, names: dict[int, int]) -> Any:
    """Entries have numbers of their own in each chain."""
    if hasattr(answer, "entry"):
        return answer._replace(entry=names[answer.entry])
    return answer
