"""A ledger on Redis means what a ledger in memory means: the same history, the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import namespace, shared
from test_sqlite_equals_memory import Player, alone, histories, together

from sluicegate.claims import Cell
from sluicegate.journal import verify
from sluicegate.ledger import MemoryLedger
from sluicegate.ledger.base import Granted, Settled
from sluicegate.ledger.redis import RedisLedger


class Places:
    """
    Each process numbers its own entries, so what refers to one is compared by the
    entry's place in the journal, which is what a ledger in memory counts.
    """

    def __init__(self, ledger: RedisLedger) -> None:
        self._ledger = ledger
        self._numbers: dict[int, int] = {}

    def of(self, number: int) -> int:
        if number not in self._numbers:
            writers = self._ledger.heads()
            for place, entry in enumerate(self._ledger.entries(), 1):
                writer = int(entry.writer.rpartition(".")[2])
                assert entry.writer in writers
                self._numbers[(writer << 32) + entry.seq] = place
        return self._numbers[number]

    def answer(self, answer: Any) -> Any:
        if isinstance(answer, Granted | Settled):
            return answer._replace(entry=self.of(answer.entry))
        return answer

    def cell(self, key: str, cell: Sequence[Any]) -> Cell:
        if cell[0] == "done" or (cell[0] == "unknown" and len(cell) == 5):
            return (*cell[:4], self.of(cell[4]))
        return (self.of(cell[0]),) if "mark" in key else tuple(cell)

    def content(self, content: dict[str, Any]) -> dict[str, Any]:
        if "replayed" in content:
            content["replayed"] = self.of(content["replayed"])
        return content


@settings(max_examples=40)
@given(histories, st.booleans())
def test_every_history_has_the_same_answers_cells_and_journal(
    history: list[tuple[str, list[Any]]], batched: bool
) -> None:
    """
    Two ledgers in one namespace, forgetful, opened again in between, alone or in batches:
    together they are the one ledger in memory, entry for entry.
    """
    with mock.patch("sluicegate.ledger.redis_books.KEPT", 3):
        space = namespace()

        def opened() -> RedisLedger:
            return RedisLedger(shared(), namespace=space, exact_time=True)

        ledgers = {"one": opened(), "two": opened()}
        memory = MemoryLedger()
        player, ours = Player(), Player()
        for which, some in history:
            if which == "reopened":
                ledgers["one"].close()
                ledgers["one"] = opened()
            ledger = ledgers["two" if which == "two" else "one"]
            places = Places(ledger)
            asked = [(step, request) for step in some if (request := player.request(step))]
            expected = [alone(memory, request) for _, request in asked]
            requests = [ours.request(step) for step, _ in asked]
            if batched:
                got = together(ledger, requests)
            else:
                got = [alone(ledger, request) for request in requests]
            assert [places.answer(answer) for answer in got] == expected
            for (step, request), answer in zip(asked, expected, strict=True):
                player.heard(step, request, answer)
            for (step, _), request, answer in zip(asked, requests, got, strict=True):
                ours.heard(step, request, answer)
        reader = opened()
        places = Places(reader)
        cells = [(key, places.cell(key, cell)) for key, cell in reader.cells("")]
        assert cells == list(memory.cells(""))
        contents = [places.content(entry.content) for entry in reader.entries()]
        assert contents == [entry.content for entry in memory.entries()]
        out = [(permit.permit, permit.expires, places.of(permit.entry)) for permit in reader.out()]
        assert out == sorted(memory.out())
        assert (reader.floor, reader.head()[0]) == (memory.floor, memory.head()[0])
        sound(reader)
        for ledger in (*ledgers.values(), reader):
            ledger.close()


def sound(ledger: RedisLedger) -> None:
    """Each writer's chain is whole, up to the head that the ledger keeps of it."""
    chains: dict[str, list[Any]] = {}
    for entry in ledger.entries():
        chains.setdefault(entry.writer, []).append(entry)
    heads = ledger.heads()
    assert {writer for writer, head in heads.items() if head[0]} == chains.keys()
    for writer, chain in chains.items():
        assert verify(chain, heads[writer]) is None
