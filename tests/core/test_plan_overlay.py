"""Books over a ledger: they read through it and write into themselves."""

from __future__ import annotations

import pytest

from sluicegate.ledger.base import Noting
from sluicegate.ledger.memory import MemoryLedger
from sluicegate.ledger.overlay import Overlay


def ledger_with(mark: str) -> MemoryLedger:
    """A ledger in which *mark* was noted by its first entry, at 5."""
    ledger = MemoryLedger()
    ledger.perform(Noting(5, '"kind":"test"}', mark))
    return ledger


def test_a_cell_is_read_through_until_it_is_put() -> None:
    """The ledger keeps its own, and the overlay remembers what was under it."""
    ledger = ledger_with("a")
    overlay = Overlay(ledger)
    assert (overlay.cell("a"), overlay.cell("b"), overlay.floor) == ((1,), None, 5)
    overlay.put("a", None)
    overlay.put("b", (7,))
    assert (overlay.cell("a"), overlay.cell("b")) == (None, (7,))
    assert (overlay.before("a"), overlay.before("b")) == ((1,), None)
    assert (ledger.cell("a"), ledger.cell("b")) == ((1,), None)
    assert overlay.changed == {"a": None, "b": (7,)}


def test_a_cell_is_read_once() -> None:
    """What others change meanwhile is not seen by half: the overlay stays at its moment."""
    ledger = ledger_with("a")
    overlay = Overlay(ledger)
    assert overlay.cell("b") is None
    ledger.perform(Noting(6, '"kind":"test"}', "b"))
    assert overlay.cell("b") is None


def test_entries_are_numbered_where_no_ledger_numbers() -> None:
    """An entry of the overlay and one of the ledger are never taken for one another."""
    ledger = ledger_with("a")
    overlay = Overlay(ledger)
    assert overlay.next == -1
    assert overlay.append(9, '"kind":"x"}') == -1
    assert overlay.append(10, '"kind":"y"}') == -2
    assert overlay.body(-1) == '{"at":9,"kind":"x"}'
    assert overlay.body(-2) == '{"at":10,"kind":"y"}'
    assert overlay.body(1) == '{"at":5,"kind":"test"}'
    assert (overlay.floor, ledger.floor, ledger.head()[0]) == (10, 5, 1)


def test_a_permit_is_out_until_it_is_forgotten() -> None:
    """Permits of the ledger are none of its own."""
    overlay = Overlay(ledger_with("a"))
    overlay.put_permit("p", (8, -1))
    assert overlay.permit("p") == (8, -1)
    overlay.put_permit("p", None)
    overlay.put_permit("q", None)
    assert (overlay.permit("p"), overlay.permit("q")) == (None, None)


def test_an_entry_that_is_not_there_is_an_error() -> None:
    """Neither here nor below is there a guess."""
    with pytest.raises(IndexError):
        Overlay(ledger_with("a")).body(-1)
