"""Who commits and in which order, whatever the ledger is: over lanes that a test can hold up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from requested import claiming, granted, noting, quota, record, slot, state

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Claiming, Granted
from sluicegate.ledger.committer import AGAIN, Committer, Kept
from sluicegate.ledger.memory import MemoryLedger
from sluicegate.ledger.ticket import Batch


class Lane:
    """Carries out batches in memory, as soon as it may."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.reached = threading.Event()
        self.left = False


class InMemory(Committer[Lane]):
    """A committer over a ledger in memory; *before* may raise when a batch has begun, *after* when it is done."""

    def __init__(self, lanes: int = 1, timeout: float = 5.0) -> None:
        self.ledger = MemoryLedger()
        self.lanes = [Lane() for _ in range(lanes)]
        self.batches: list[list[str]] = []
        self.by: list[str] = []
        self.ended = False
        self.before: Callable[[Sequence[str]], None] = lambda permits: None
        self.after: Callable[[], None] = lambda: None
        super().__init__("the ledger", timeout=timeout, lanes=lanes)

    def _open(self) -> Lane:
        return self.lanes[len(self._lanes)]

    def _carry(self, lane: Lane, batch: Batch) -> None:
        requests = [ticket.request for ticket in batch.tickets]
        self.by.append(threading.current_thread().name)
        permits = [request.permit for request in requests if isinstance(request, Claiming)]
        lane.reached.set()
        assert lane.go_on.wait(10)
        self.before(permits)
        self.batches.append(permits)
        batch.answers += [self.ledger.perform(request) for request in requests]
        self.after()

    def _late(self, *, begun: bool) -> str:
        return "too late" if begun else "withdrawn"

    def _gone(self) -> str:
        return "closed"

    def _leave(self, lane: Lane, until: float) -> None:
        lane.left = True

    def _end(self) -> None:
        self.ended = True

    def hold(self, number: int = 0) -> Lane:
        """The lane keeps its next batch until it is told to go on."""
        lane = self.lanes[number]
        lane.reached.clear()
        lane.go_on.clear()
        return lane


@pytest.fixture
def committer() -> Iterator[InMemory]:
    made = InMemory()
    yield made
    for lane in made.lanes:
        lane.go_on.set()
    made.close()


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def asking(committer: InMemory, permit: str, told: list[Any]) -> threading.Thread:
    """A thread that asks for a permit, and notes what it is told."""

    def ask() -> None:
        try:
            told.append(committer.perform(claiming(permit, quota(100), slot(100))))
        except LedgerError as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def queued(committer: InMemory, count: int) -> list[Any]:
    """What so many threads, that came one after the other and have to wait, are told in the end."""
    told: list[Any] = []
    for number in range(count):
        asking(committer, f"q{number}", told)
        until(lambda: len(committer._waiting.queue) == number + 1)  # noqa: B023
    return told


def test_who_finds_nobody_at_work_needs_no_other_thread(committer: InMemory) -> None:
    """A hand-over costs more than the work."""
    granted(committer, "p", quota(9))  # type: ignore[arg-type]
    assert committer.by == [threading.current_thread().name]
    assert committer._threads == []


def test_what_waits_by_then_is_one_batch_in_order(committer: InMemory) -> None:
    """Who comes while the only lane is in use shares the next batch, first in first out."""
    lane = committer.hold()
    first: list[Any] = []
    asking(committer, "first", first)
    assert lane.reached.wait(10)
    told = queued(committer, 5)
    lane.go_on.set()
    until(lambda: len(told) == 5)
    assert committer.batches == [["first"], [f"q{number}" for number in range(5)]]


def test_a_second_lane_is_for_those_whom_a_slow_one_keeps_waiting() -> None:
    """Somebody waits for a lock: all others go on, together, on another lane."""
    committer = InMemory(lanes=2)
    slow = committer.hold()
    first: list[Any] = []
    asking(committer, "first", first)
    assert slow.reached.wait(10)
    told: list[Any] = []
    for number in range(3):
        asking(committer, f"q{number}", told)
    until(lambda: len(told) == 3)
    assert first == []
    slow.go_on.set()
    until(lambda: first)
    assert all(type(answer) is Granted for answer in first + told)
    committer.close()
    assert [lane.left for lane in committer.lanes] == [True, True]


def test_a_batch_that_asks_for_too_much_is_parted(committer: InMemory) -> None:
    """What cannot be had together is tried one by one, and only who cannot have it is told so."""

    def keep(permits: Sequence[str]) -> None:
        if "q1" in permits:
            raise Kept("q1 cannot be had")

    lane = committer.hold()
    asking(committer, "first", [])
    assert lane.reached.wait(10)
    told = queued(committer, 3)
    committer.before = keep
    lane.go_on.set()
    until(lambda: len(told) == 3)
    assert sorted(str(answer) for answer in told if isinstance(answer, LedgerError)) == [
        "q1 cannot be had"
    ]
    assert committer.batches == [["first"], ["q0"], ["q2"]]


def test_what_may_have_been_granted_is_undone_though_nobody_asks(committer: InMemory) -> None:
    """The reply was lost: all are told so, nobody holds anything, and the next are served."""
    lane = committer.hold()
    asking(committer, "first", [])
    assert lane.reached.wait(10)
    told = queued(committer, 2)

    def lose() -> None:
        if len(committer.batches) > 1:
            committer.after = lambda: None
            raise OSError("the reply was lost")

    committer.after = lose
    begun = time.monotonic()
    lane.go_on.set()
    until(lambda: len(told) == 2)
    assert {str(answer) for answer in told} == {"the ledger failed: OSError('the reply was lost')"}
    until(lambda: not committer._waiting.owed and committer._idle())
    assert time.monotonic() - begun > AGAIN / 2
    assert dict(state(committer.ledger))["quota"] == [0, 0, 1]
    undone = [entry["permit"] for entry in record(committer.ledger) if "error" in entry]
    assert undone == ["q0", "q1"]
    granted(committer, "again", quota(9))  # type: ignore[arg-type]


def test_what_cannot_be_undone_yet_is_undone_before_the_next_claim(committer: InMemory) -> None:
    """Nobody is refused for what a claim that was given up still holds."""

    def lose() -> None:
        committer.after = lambda: None
        raise LedgerError("the reply was lost")

    committer.after = lose
    with pytest.raises(LedgerError, match="the reply was lost"):
        committer.perform(claiming("lost", quota(1)))
    granted(committer, "p", quota(1))  # type: ignore[arg-type]


def test_a_claim_that_is_interrupted_holds_nothing(committer: InMemory) -> None:
    """Ctrl-C reaches the caller in the middle of its request; what was granted all the same is undone."""

    def interrupt() -> None:
        committer.after = lambda: None
        raise KeyboardInterrupt

    committer.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        committer.perform(claiming("p", quota(1)))
    until(lambda: not committer._waiting.owed and committer._idle())
    assert state(committer.ledger) == []
    granted(committer, "q", quota(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_who_has_waited_for_long_enough_is_told_so(asynchronous: bool) -> None:
    """In the queue or in a batch: it is told in time, and what it is granted afterwards is undone."""
    committer = InMemory(timeout=0.2)
    lane = committer.hold()

    def ask(permit: str, told: str) -> None:
        begun = time.monotonic()
        request = claiming(permit, quota(9))
        with pytest.raises(LedgerError, match=told):
            asyncio.run(committer.aperform(request))
        assert 0.1 < time.monotonic() - begun < 5

    first = threading.Thread(target=ask, args=("begun", "too late"))
    first.start()
    assert lane.reached.wait(10)
    if asynchronous:
        ask("waiting", "withdrawn")
    else:
        with pytest.raises(LedgerError, match="withdrawn"):
            committer.perform(claiming("waiting", quota(9)))
    first.join()
    lane.go_on.set()
    until(lambda: committer.batches and not committer._waiting.owed and committer._idle())
    assert committer.batches[0] == ["begun"]
    assert "quota" not in dict(state(committer.ledger))
    committer.close()


def test_closing_does_not_wait_for_ever_for_a_lane() -> None:
    """Who has the lane lets go of it in the end; nobody else can use the ledger by then."""
    committer = InMemory(timeout=0.2)
    lane = committer.hold()
    told: list[Any] = []
    asked = asking(committer, "p", told)
    assert lane.reached.wait(10)
    committer.close()
    assert committer.ended
    assert not lane.left
    with pytest.raises(LedgerError, match="closed"):
        committer.perform(noting())
    lane.go_on.set()
    asked.join()
    assert lane.left
    assert [type(answer) for answer in told] == [Granted]
