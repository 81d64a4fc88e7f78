"""A SQLite ledger means what a ledger in memory means: the same history, the same answers."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from requested import NOW, SECOND, claiming, noting, once, quota, settling, slot

from sluicegate.claims import Claim, Rate, Seen, Unsettled
from sluicegate.errors import LedgerError
from sluicegate.ledger import Ledger, MemoryLedger
from sluicegate.ledger.base import Answer, Claiming, Granted, Request
from sluicegate.ledger.sqlite import SqliteLedger

CLAIMS: Sequence[Claim] = [
    quota(3),
    quota(3, amount=2),
    quota(10, key="other"),
    slot(2),
    slot(2, wait=SECOND),
    once(),
    once("once more"),
    Rate("rate", "limits[2]", 3, 10 * SECOND, 2, ""),
    Seen("seen", "call_id", "the call id", True),
    Unsettled("unsettled", "t"),
]

claims = st.lists(st.sampled_from(CLAIMS), max_size=4).map(tuple)
times = st.integers(-20, 40).map(lambda seconds: NOW + seconds * SECOND)
steps = st.one_of(
    st.tuples(st.just("claim"), st.integers(0, 9), claims, times, st.booleans()),
    st.tuples(
        st.just("settle"),
        st.integers(0, 9),
        st.sampled_from(["succeeded", "failed", "unknown"]),
        times,
        st.integers(0, 3),
    ),
    st.tuples(st.just("note"), st.sampled_from([None, "mark", "another mark"]), times),
)
histories = st.lists(
    st.tuples(st.sampled_from(["one", "two", "reopened"]), st.lists(steps, min_size=1, max_size=6)),
    max_size=12,
)


class Player:
    """Turns the steps of a history into requests, and remembers what was granted."""

    def __init__(self) -> None:
        self.permits: dict[int, tuple[Claiming, Granted]] = {}

    def request(self, step: Any) -> Request | None:
        match step:
            case ("claim", number, some, now, patient):
                return claiming(f"p{number}", *some, now=now, lease=30 * SECOND, patient=patient)
            case ("settle", number, outcome, now, used):
                if number not in self.permits:
                    return None
                return settling(*self.permits[number], outcome, {"calls": used}, now)
            case (_, mark, now):
                return noting(now, mark)
        return None

    def heard(self, step: Any, request: Request, answer: object) -> None:
        if isinstance(answer, Granted) and isinstance(request, Claiming):
            self.permits[step[1]] = (request, answer)


def alone(ledger: Ledger, request: Request) -> Answer | str:
    """The answer, or what the error says."""
    try:
        return ledger.perform(request)
    except LedgerError as error:
        return str(error)


def together(ledger: Ledger, requests: Sequence[Request]) -> list[Answer | str]:
    """The answers to requests that are made at the same time, in the order in which they are made."""

    async def ask() -> list[Any]:
        asked = map(ledger.aperform, requests)
        return await asyncio.gather(*asked, return_exceptions=True)

    return [str(got) if isinstance(got, LedgerError) else got for got in asyncio.run(ask())]


@settings(max_examples=40)
@given(histories, st.booleans())
def test_every_history_has_the_same_answers_cells_and_journal(
    history: list[tuple[str, list[Any]]], batched: bool
) -> None:
    """
    Two ledgers on one file, folding every few entries, forgetful, opened again in between, alone or
    in batches: together they are the one ledger in memory, entry for entry.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("sluicegate.ledger.database.FOLD_ENTRIES", 4),
        mock.patch("sluicegate.ledger.books.KEPT", 3),
    ):
        file = Path(folder) / "ledger.db"

        def opened() -> SqliteLedger:
            return SqliteLedger(file, durability="process")

        ledgers = {"one": opened(), "two": opened()}
        with closing(sqlite3.connect(file)) as database:
            ((writer,),) = database.execute("SELECT writer FROM head").fetchall()
        memory = MemoryLedger(writer=writer)
        player = Player()
        for which, some in history:
            if which == "reopened":
                ledgers["one"].close()
                ledgers["one"] = opened()
            ledger = ledgers["two" if which == "two" else "one"]
            asked = [(step, request) for step in some if (request := player.request(step))]
            expected = [alone(memory, request) for _, request in asked]
            if batched:
                got = together(ledger, [request for _, request in asked])
            else:
                got = [alone(ledger, request) for _, request in asked]
            assert got == expected
            for (step, request), answer in zip(asked, got, strict=True):
                player.heard(step, request, answer)
        for ledger in ledgers.values():
            assert list(ledger.cells("")) == list(memory.cells(""))
            assert list(ledger.entries()) == list(memory.entries())
            assert ledger.head() == memory.head()
            ledger.close()
        with closing(opened()) as ledger:
            assert list(ledger.cells("")) == list(memory.cells(""))
            assert ledger.floor == memory.floor
