"""Who commits and in which order, whatever the ledger is: over lanes that a test can hold up."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from in_lanes import InMemory, Lane, asking, queued, until
from requested import claiming, granted, noting, quota, record, state

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted
from sluicegate.ledger.pauses import AGAIN
from sluicegate.ledger.sqlite import SqliteLedger
from sluicegate.ledger.ticket import Batch, Kept
from sluicegate.ledger.waiting import Waiting


@pytest.fixture
def committer() -> Iterator[InMemory]:
    made = InMemory()
    yield made
    for lane in made.lanes:
        lane.go_on.set()
    made.close()


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


def test_an_attempt_that_fails_is_told_to_those_who_were_there_when_it_began() -> None:
    """Others have waited for a lock in vain: who came meanwhile has an attempt of their own."""
    begun, fail = threading.Event(), threading.Event()

    class Locked(InMemory):
        def _carry(self, lane: Lane, batch: Batch) -> None:
            if not (batch.hurried or fail.is_set()):
                begun.set()
                assert fail.wait(10)
                raise LedgerError("locked")
            super()._carry(lane, batch)

    committer = Locked()
    lane = committer.hold()
    asking(committer, "first", [])
    assert lane.reached.wait(10)
    early, late = queued(committer, 2), list[Any]()
    lane.go_on.set()
    assert begun.wait(10)
    asking(committer, "late", late)
    until(lambda: len(committer._waiting.queue) == 3)
    fail.set()
    until(lambda: len(early) == 2 and late)
    assert [str(answer) for answer in early] == ["locked", "locked"]
    assert type(late[0]) is Granted
    committer.close()


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


def test_a_claim_that_is_interrupted_before_it_is_noted_holds_nothing(
    committer: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes between two instructions too: after the commit, and before we know of it."""

    def interrupted(self: Waiting, batch: Batch) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiting, "note", interrupted)
    with pytest.raises(KeyboardInterrupt):
        committer.perform(claiming("p", quota(1)))
    until(lambda: not committer._waiting.owed and committer._idle())
    assert state(committer.ledger) == []


def test_without_a_thread_only_those_who_need_one_are_told_so(
    committer: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has a commit of its own has its answer; who waits for a thread that cannot be is told at once."""

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lane = committer.hold()
    first: list[Any] = []
    asking(committer, "first", first)
    assert lane.reached.wait(10)
    told = queued(committer, 2)
    monkeypatch.setattr(threading.Thread, "start", none)
    lane.go_on.set()
    begun = time.monotonic()
    until(lambda: first and len(told) == 2)
    monkeypatch.undo()
    assert time.monotonic() - begun < committer._timeout / 2
    assert [type(answer) for answer in first] == [Granted]
    assert {str(answer) for answer in told} == {"no thread for the ledger: can't start new thread"}
    assert dict(state(committer.ledger))["quota"] == [0, 0, 1]
    asyncio.run(committer.aperform(claiming("p", quota(9))))


def test_event_loops_that_take_turns_have_one_timer_each(
    committer: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that threads with loops of their own share leaves none of them with a timer for each call."""
    loops = [asyncio.new_event_loop() for _ in range(3)]
    timers = [0, 0, 0]

    def counted(number: int, later: Callable[..., Any]) -> Callable[..., Any]:
        def call_later(*given: Any) -> Any:
            timers[number] += 1
            return later(*given)

        return call_later

    for number, loop in enumerate(loops):
        monkeypatch.setattr(loop, "call_later", counted(number, loop.call_later))
    for turn in range(20):
        for number, loop in enumerate(loops):
            loop.run_until_complete(committer.aperform(claiming(f"p{turn}-{number}", quota(99))))
    for loop in loops:
        loop.close()
    assert timers == [1, 1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_of_a_fork_undoes_nothing_of_its_parent(tmp_path: Path) -> None:
    """The parent's tasks are in the child too; when they end there, the parent's claims are not given back."""
    ledger = SqliteLedger(tmp_path / "ledger.db")
    loop = asyncio.new_event_loop()
    coroutine = ledger.aperform(claiming("p", quota(1)))
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    until(ledger.out)
    time.sleep(0.05)  # it is answered, and the loop does not know of it yet
    child = os.fork()
    if not child:
        with suppress(BaseException):
            coroutine.close()
            time.sleep(0.3)  # for a thread of the child's
            ledger.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert type(loop.run_until_complete(task)) is Granted
    assert [out.permit for out in ledger.out()] == ["p"]
    loop.close()
    ledger.close()


def test_closing_waits_once_for_what_hangs(committer: InMemory) -> None:
    """A lane that hangs costs the timeout, and not the timeout for each thread again."""
    committer._timeout = 1.0
    lane = committer.hold()
    hanging = threading.Thread(target=asyncio.run, args=(expected_late(committer),))
    hanging.start()
    assert lane.reached.wait(10)
    begun = time.monotonic()
    committer.close()
    assert time.monotonic() - begun < 1.8
    lane.go_on.set()
    hanging.join()


async def expected_late(committer: InMemory) -> None:
    with pytest.raises(LedgerError, match="too late"):
        await committer.aperform(noting())


def test_closing_that_is_interrupted_lets_go_all_the_same(
    committer: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while closing waits for what hangs: connections are closed, and nobody has to close again."""

    def interrupt(seconds: float) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    lane = committer.hold()
    asked = asking(committer, "p", [])
    assert lane.reached.wait(10)
    monkeypatch.setattr("sluicegate.ledger.committer.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        committer.close()
    assert committer.ended
    lane.go_on.set()
    asked.join()
    assert lane.left
