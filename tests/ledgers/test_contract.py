"""What every ledger promises, whatever it is made of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from requested import (
    LEASE,
    NOW,
    SECOND,
    Plain,
    claiming,
    granted,
    noting,
    once,
    quota,
    record,
    settling,
    slot,
    state,
)

from sluicegate.claims import Seen
from sluicegate.decision import Reason
from sluicegate.errors import LedgerError
from sluicegate.journal import exported
from sluicegate.ledger import Ledger
from sluicegate.ledger.base import Granted, Noted, Refused, Rejected, Replayed, Settled


def test_a_permit_holds_all_its_claims_and_is_the_first_entry(ledger: Ledger) -> None:
    """What is granted is in the cells and in the journal when the answer is there."""
    _, answer = granted(ledger, "p", quota(3), slot(2))
    assert answer == Granted(NOW, 1)
    assert state(ledger) == [("quota", [0, 0, 1]), ("slot", ["p", NOW + LEASE])]
    assert record(ledger) == [{"at": NOW, "kind": "decision", "permit": "p"}]


def test_a_refusal_takes_nothing_not_even_what_was_free(ledger: Ledger) -> None:
    """Claims are taken all or none, and every reason is given, in the order of the claims."""
    granted(ledger, "p", quota(10), slot(1))
    before = state(ledger)
    answer = ledger.perform(claiming("q", quota(10, amount=10), quota(5, key="free"), slot(1)))
    assert isinstance(answer, Refused)
    assert [reason.code for reason in answer.reasons] == ["budget", "concurrency"]
    assert state(ledger) == before
    assert record(ledger)[1:] == [
        {"at": NOW, "codes": ["budget", "concurrency"], "kind": "decision"}
    ]


def test_several_cells_come_in_the_order_of_their_keys(ledger: Ledger) -> None:
    """Each as if it were asked for alone, also one that is not there, or has a name like no other."""
    odd = "q|\u0000'\\\"%s\u00e9"
    granted(ledger, "p", quota(3), slot(2), quota(9, key=odd))
    asked = ["slot", "nothing", odd, "quota", "slot"]
    assert [*ledger.look(asked)] == [ledger.cell(key) for key in asked]
    assert [*ledger.look([])] == []


def test_a_refused_permit_is_not_out(ledger: Ledger) -> None:
    """A call that was refused cannot be settled."""
    request = claiming("p", quota(0))
    assert isinstance(ledger.perform(request), Refused)
    answer = ledger.perform(settling(request, Granted(NOW, 1)))
    assert isinstance(answer, Rejected)
    assert "permit p is not out" in answer.problem


def test_two_claims_on_one_key_see_one_another(ledger: Ledger) -> None:
    """A batch that needs a limit twice is measured by the sum."""
    granted(ledger, "p", quota(2), quota(2))
    assert state(ledger) == [("quota", [0, 0, 2])]
    assert isinstance(ledger.perform(claiming("q", quota(3), quota(3))), Refused)


@pytest.mark.parametrize(
    ("outcome", "cells"),
    [
        ("succeeded", [("once", ["done", "b", NOW, "p", 2]), ("quota", [0, 1, 0])]),
        ("failed", []),
        (
            "unknown",
            [
                ("once", ["unknown", "b", NOW, "p", 2]),
                ("quota", [0, 1, 0]),
                ("slot", ["p", NOW + LEASE]),
            ],
        ),
    ],
)
def test_settling_follows_the_outcome(
    ledger: Ledger, outcome: str, cells: list[tuple[str, list[object]]]
) -> None:
    """Success keeps what was used, failure gives everything back, an unknown outcome nothing."""
    request, answer = granted(ledger, "p", quota(3), slot(2), once())
    assert ledger.perform(settling(request, answer, outcome)) == Settled(NOW, 2)
    assert state(ledger) == cells
    assert record(ledger)[1] == {
        "at": NOW,
        "kind": "outcome",
        "outcome": outcome,
        "permit": "p",
    }


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown"])
def test_a_permit_is_settled_once(ledger: Ledger, outcome: str) -> None:
    """The second settlement is rejected, and neither cells nor journal change."""
    request, answer = granted(ledger, "p", quota(3), slot(2))
    ledger.perform(settling(request, answer, outcome))
    before = state(ledger), ledger.head()
    for second in ("succeeded", "failed", "unknown"):
        rejected = ledger.perform(settling(request, answer, second))
        assert isinstance(rejected, Rejected)
        assert "permit p" in rejected.problem
    assert (state(ledger), ledger.head()) == before


def test_an_expired_permit_cannot_be_settled(ledger: Ledger) -> None:
    """From the end of its lease on, a permit counts as unknown; a late success changes nothing."""
    request, answer = granted(ledger, "p", quota(3), lease=SECOND)
    before = state(ledger), ledger.head()
    late = ledger.perform(settling(request, answer, now=NOW + SECOND))
    assert isinstance(late, Rejected)
    assert "expired 0.000 s ago" in late.problem
    assert (state(ledger), ledger.head()) == before


def test_the_id_of_a_permit_that_is_out_cannot_be_taken(ledger: Ledger) -> None:
    """Two permits of one id could not be told apart: an error, and nothing changes."""
    granted(ledger, "p", quota(3))
    before = state(ledger), ledger.head()
    with pytest.raises(LedgerError, match="permit id p is out already"):
        ledger.perform(claiming("p", quota(3)))
    assert (state(ledger), ledger.head()) == before


def test_a_request_that_raises_changes_nothing(ledger: Ledger) -> None:
    """An error in the text of a refusal reaches its caller, and the ledger works on."""

    class Broken(Plain):
        def refused(self, reasons: Sequence[Reason], final: bool) -> str:
            raise ZeroDivisionError(f"{len(reasons)} reasons")

    granted(ledger, "p", quota(1))
    before = state(ledger), ledger.head()
    with pytest.raises(ZeroDivisionError, match="1 reasons"):
        ledger.perform(claiming("q", quota(1), slot(1))._replace(wording=Broken("q")))
    assert (state(ledger), ledger.head()) == before
    granted(ledger, "r", slot(1))


def test_time_does_not_step_back(ledger: Ledger) -> None:
    """A clock that is set back frees no slot and ends no lease early."""
    granted(ledger, "p", slot(1), lease=10 * SECOND)
    early = ledger.perform(claiming("q", slot(1), now=NOW - 3600 * SECOND))
    assert isinstance(early, Refused)
    assert early.at == NOW
    assert ledger.floor == NOW
    _, later = granted(ledger, "r", slot(1), now=NOW + 10 * SECOND)
    assert later.at == NOW + 10 * SECOND
    assert ledger.perform(noting(now=NOW)) == Noted(NOW + 10 * SECOND)
    assert [entry["at"] for entry in record(ledger)] == sorted(
        entry["at"] for entry in record(ledger)
    )


def test_a_patient_refusal_is_not_recorded(ledger: Ledger) -> None:
    """Who waits for a slot asks again and again, and only the last no is a decision."""
    granted(ledger, "p", slot(1, wait=2 * SECOND))
    before = ledger.head()
    waiting = ledger.perform(claiming("q", slot(1, wait=2 * SECOND), patient=True))
    assert isinstance(waiting, Refused)
    assert waiting.wait == 2 * SECOND
    assert ledger.head() == before
    assert isinstance(ledger.perform(claiming("q", slot(1, wait=2 * SECOND))), Refused)
    assert ledger.head()[0] == before[0] + 1


def test_patience_does_not_help_where_waiting_does_not(ledger: Ledger) -> None:
    """A patient request that lacks more than slots is refused and recorded at once."""
    granted(ledger, "p", slot(1, wait=2 * SECOND))
    request = claiming("q", slot(1, wait=2 * SECOND), quota(0), patient=True)
    answer = ledger.perform(request)
    assert isinstance(answer, Refused)
    assert answer.wait == 0
    assert record(ledger)[-1]["codes"] == ["concurrency", "budget"]


def test_a_mark_is_noted_once(ledger: Ledger) -> None:
    """The same policy is recorded once, however many gates announce it; other marks are others."""
    assert ledger.perform(noting(mark="policy:a")) == Noted(NOW)
    assert ledger.perform(noting(now=NOW + 1, mark="policy:a")) == Noted(NOW + 1)
    ledger.perform(noting(mark="policy:b"))
    ledger.perform(noting())
    ledger.perform(noting())
    assert ledger.head()[0] == 4


def test_an_identical_call_gets_the_outcome_on_record(ledger: Ledger) -> None:
    """After a success the same key answers with that outcome's entry and takes nothing."""
    request, answer = granted(ledger, "p", once(), quota(5))
    ledger.perform(settling(request, answer))
    before = state(ledger)
    replayed = ledger.perform(claiming("q", once(), quota(5)))
    outcome = f'{{"at":{NOW},"kind":"outcome","outcome":"succeeded","permit":"p"}}'
    assert replayed == Replayed(NOW, outcome)
    assert state(ledger) == before
    assert record(ledger)[-1] == {"at": NOW, "kind": "decision", "replayed": 2}


def test_a_call_id_is_dispatched_once(ledger: Ledger) -> None:
    """The same id again, while the first is under way, is a duplicate."""
    seen = Seen("seen", "call_id", "the call id c1", False)
    granted(ledger, "p", seen)
    answer = ledger.perform(claiming("q", seen))
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code == "duplicate_call"


def test_cells_are_found_by_prefix_in_the_order_of_their_keys(ledger: Ledger) -> None:
    """Prefixes are taken literally, whatever characters they have, for any number of cells."""
    odd = ["a%", "a_b", "aé", "a\U0001f600", "a\uffff", "a'\"", "b"]
    keys = [f"k{number:04}" for number in range(600)] + odd
    for start in range(0, len(keys), 50):
        claims = [quota(9, key=key) for key in keys[start : start + 50]]
        granted(ledger, f"p{start}", *claims)
    assert [key for key, _ in ledger.cells("")] == sorted(keys)
    assert [key for key, _ in ledger.cells("a")] == sorted(odd[:-1])
    assert [key for key, _ in ledger.cells("a%")] == ["a%"]
    assert [key for key, _ in ledger.cells("k")] == keys[:600]
    assert list(ledger.cells("nothing")) == []


def test_the_journal_is_read_from_any_place(ledger: Ledger) -> None:
    """Entries come in order and in full, however many, and the head is the last of them."""
    assert ledger.head() == (0, "0" * 64)
    assert list(ledger.entries()) == []
    for number in range(300):
        ledger.perform(noting(now=NOW + number))
    entries = list(ledger.entries())
    assert [entry.seq for entry in entries] == list(range(1, 301))
    assert ledger.head() == (300, entries[-1].hash)
    assert list(ledger.entries(298)) == entries[298:]
    assert list(ledger.entries(300)) == []
    assert len(list(exported(entries))) == 300


def test_texts_come_back_as_they_were(ledger: Ledger) -> None:
    """Journal and cells keep every character, NUL and emoji included."""
    permit = 'p\x00\n"é\U0001f600'
    request, answer = granted(ledger, permit, slot(1))
    assert state(ledger) == [("slot", [permit, NOW + LEASE])]
    ledger.perform(settling(request, answer))
    assert [entry["permit"] for entry in record(ledger)] == [permit, permit]


def test_threads_take_exactly_what_there_is(ledger: Ledger) -> None:
    """However eight threads collide, a budget for 60 calls grants 60."""
    yes: list[str] = []
    start = threading.Barrier(8)

    def take(thread: int) -> None:
        start.wait()
        for number in range(20):
            permit = f"{thread}.{number}"
            if isinstance(ledger.perform(claiming(permit, quota(60))), Granted):
                yes.append(permit)

    threads = [threading.Thread(target=take, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(yes) == 60
    assert state(ledger) == [("quota", [0, 0, 60])]
    assert ledger.head()[0] == 160


def test_tasks_take_exactly_what_there_is(ledger: Ledger) -> None:
    """However 300 tasks collide, a budget for 60 calls grants 60, and each is settled once."""

    async def take(number: int) -> bool:
        request = claiming(f"p{number}", quota(60, amount=1))
        answer = await ledger.aperform(request)
        if not isinstance(answer, Granted):
            return False
        assert isinstance(await ledger.aperform(settling(request, answer)), Settled)
        return True

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(take(number) for number in range(300)))

    assert sum(asyncio.run(all_of_them())) == 60
    assert state(ledger) == [("quota", [0, 60, 0])]
    assert ledger.head()[0] == 360
