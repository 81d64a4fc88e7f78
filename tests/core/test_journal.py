"""The journal's chain: whatever was changed, removed or moved, the first such entry is named."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sluicegate.canonical import freeze
from sluicegate.journal import GENESIS, Entry, Journal, exported, link, verify
from sluicegate.ledger.base import Noting
from sluicegate.ledger.memory import MemoryLedger

BODIES = st.dictionaries(
    st.sampled_from(["at", "kind", "\n"]), st.integers(-9, 9) | st.text(max_size=3), max_size=2
).map(lambda content: freeze(content)[1])
WRITERS = st.sampled_from(["w", "a\nb", "é"])


def chained(bodies: list[str], writer: str = "w") -> list[Entry]:
    """A journal with these bodies."""
    entries: list[Entry] = []
    last = GENESIS
    for seq, body in enumerate(bodies, 1):
        entries.append(Entry(seq, writer, last, link(last, writer, seq, body), body))
        last = entries[-1].hash
    return entries


def head_of(entries: list[Entry]) -> tuple[int, str]:
    """Number and hash of the last entry."""
    return (entries[-1].seq, entries[-1].hash) if entries else (0, GENESIS)


JOURNALS = st.builds(chained, st.lists(BODIES, max_size=6), WRITERS)
FILLED = st.builds(chained, st.lists(BODIES, min_size=1, max_size=6), WRITERS)
SEVERAL = st.builds(chained, st.lists(BODIES, min_size=2, max_size=6), WRITERS)


@given(JOURNALS)
def test_a_whole_journal_is_whole(entries):
    """Nothing is found where nothing was done, with a head and without."""
    assert verify(entries) is None
    assert verify(iter(entries), head_of(entries)) is None


@given(JOURNALS, st.data())
def test_an_earlier_head_still_holds(entries, data):
    """A head that was exported long ago is part of a journal that has gone on since."""
    kept = data.draw(st.integers(0, len(entries)))
    assert verify(entries, head_of(entries[:kept])) is None


@given(FILLED, st.data())
def test_a_change_of_any_field_is_found(entries, data):
    """One changed field of one entry is found at that entry, or as a number that is not in place."""
    at = data.draw(st.integers(0, len(entries) - 1))
    field = data.draw(st.sampled_from(["seq", "writer", "prev", "hash", "body"]))
    old = getattr(entries[at], field)
    new = {
        "seq": st.integers(-2, 12),
        "writer": st.text(max_size=4),
        "body": BODIES,
        "prev": st.sampled_from([GENESIS, "f" * 64, *(e.hash for e in entries)]),
        "hash": st.sampled_from([GENESIS, "f" * 64, *(e.hash for e in entries)]),
    }[field]
    value = data.draw(new)
    assume(value != old)
    changed = [*entries[:at], entries[at]._replace(**{field: value}), *entries[at + 1 :]]
    broken = verify(changed)
    assert broken is not None
    assert broken.seq == (at + 1 if field != "seq" else min(value, at + 1))
    assert f"entry {broken.seq} " in broken.problem


@given(FILLED, st.data(), BODIES)
def test_a_change_that_was_hashed_anew_is_found(entries, data, body):
    """Whoever also recomputes the hash of the entry breaks the chain to the next one, or to the head."""
    at = data.draw(st.integers(0, len(entries) - 1))
    old = entries[at]
    assume(body != old.body)
    forged = Entry(old.seq, old.writer, old.prev, link(old.prev, old.writer, old.seq, body), body)
    broken = verify([*entries[:at], forged, *entries[at + 1 :]], head_of(entries))
    assert broken is not None
    assert broken.seq == min(at + 2, len(entries))


@given(FILLED, st.data())
def test_a_chain_rebuilt_from_a_change_on_does_not_fit_its_head(entries, data):
    """Even a chain that was recomputed to its end is found by a head that was kept elsewhere."""
    at = data.draw(st.integers(0, len(entries) - 1))
    bodies = [entry.body for entry in entries]
    bodies[at] = '{"forged":true}'
    rebuilt = chained(bodies, entries[0].writer)
    assert verify(rebuilt) is None
    broken = verify(rebuilt, head_of(entries))
    assert broken is not None
    assert broken.seq == len(entries)
    assert f"whose hash is {entries[-1].hash[:16]}" in broken.problem


@given(FILLED, st.data())
def test_a_removed_entry_is_found(entries, data):
    """The number of the missing entry is named, also if it is the last one."""
    at = data.draw(st.integers(0, len(entries) - 1))
    broken = verify(entries[:at] + entries[at + 1 :], head_of(entries))
    assert broken is not None
    assert broken.seq == at + 1
    assert f"entry {at + 1} is missing" in broken.problem


@given(FILLED, st.data())
def test_a_cut_tail_is_found_with_a_head_alone(entries, data):
    """Without a head a shorter journal is a whole one; with it, the first missing entry is named."""
    kept = data.draw(st.integers(0, len(entries) - 1))
    assert verify(entries[:kept]) is None
    broken = verify(entries[:kept], head_of(entries))
    assert broken is not None
    assert broken.seq == kept + 1
    assert f"all up to {len(entries)}" in broken.problem


@given(SEVERAL, st.data())
def test_two_entries_in_each_others_place_are_found(entries, data):
    """The first place that holds the wrong entry is named."""
    one = data.draw(st.integers(0, len(entries) - 2))
    other = data.draw(st.integers(one + 1, len(entries) - 1))
    swapped = list(entries)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    broken = verify(swapped, head_of(entries))
    assert broken is not None
    assert broken.seq == one + 1


@given(FILLED, st.data())
def test_an_entry_that_is_there_twice_is_found(entries, data):
    """A copy of an entry, anywhere behind it, is out of order."""
    at = data.draw(st.integers(0, len(entries) - 1))
    to = data.draw(st.integers(at + 1, len(entries)))
    broken = verify([*entries[:to], entries[at], *entries[to:]], head_of(entries))
    assert broken is not None
    assert broken.seq == at + 1
    assert "out of order" in broken.problem


@given(SEVERAL, st.data())
def test_an_entry_of_another_journal_is_found(entries, data):
    """An entry that is whole in itself does not fit into another chain."""
    at = data.draw(st.integers(1, len(entries) - 1))
    foreign = chained(["{}"] * len(entries), "another writer")[at]
    broken = verify([*entries[:at], foreign, *entries[at + 1 :]], head_of(entries))
    assert broken is not None
    assert broken.seq == at + 1
    assert "does not follow" in broken.problem


@pytest.mark.parametrize(
    "other",
    [
        ("1" * 64, "w", 1, "{}"),
        (GENESIS, "v", 1, "{}"),
        (GENESIS, "w", 2, "{}"),
        (GENESIS, "w", 1, "[]"),
    ],
)
def test_the_hash_covers_every_part(other):
    """The hash changes with the entry before, the writer, the number and the body."""
    assert link(*other) != link(GENESIS, "w", 1, "{}")


@given(JOURNALS)
def test_the_export_is_json_lines(entries):
    """Each line is one JSON object with all of the entry, from which it can be verified again."""
    lines = list(exported(entries))
    assert all("\n" not in line and "\r" not in line for line in lines)
    read = [json.loads(line) for line in lines]
    assert [set(line) for line in read] == [{"entry", "hash", "prev", "seq", "writer"}] * len(
        entries
    )
    again = [
        Entry(line["seq"], line["writer"], line["prev"], line["hash"], freeze(line["entry"])[1])
        for line in read
    ]
    assert again == entries
    assert verify(again, head_of(entries)) is None


@given(FILLED)
def test_an_entry_reads_as_its_content(entries):
    """The body is JSON text, and `content` is what it says; entries are chained one by one."""
    assert [freeze(entry.content)[1] for entry in entries] == [entry.body for entry in entries]
    assert entries[0].prev == GENESIS
    assert all(later.prev == earlier.hash for earlier, later in pairwise(entries))


# --- the journal of a ledger -----------------------------------------------------------------


def a_ledger(count: int) -> MemoryLedger:
    """A ledger that has noted so many things."""
    ledger = MemoryLedger()
    for number in range(1, count + 1):
        ledger.perform(Noting(number, f'"kind":"note","number":{number}}}'))
    return ledger


def test_a_journal_reads_its_ledger():
    """All entries, those behind a number, the last few, the head, and the lines of the export."""
    journal = Journal(a_ledger(30))
    entries = list(journal)
    assert [entry.content["number"] for entry in entries] == list(range(1, 31))
    assert list(journal.after(28)) == entries[28:]
    assert journal.tail(3) == entries[-3:]
    assert journal.tail() == entries[-20:]
    assert journal.tail(99) == entries
    assert journal.head() == head_of(entries)
    assert list(journal.export()) == list(exported(entries))
    assert journal.verify() is None
    assert Journal(a_ledger(0)).verify() is None


class Rows:
    """A ledger as somebody left it: its rows, and the head that is kept apart from them."""

    def __init__(self, rows, head):
        self.rows = rows
        self.kept = head

    def entries(self, after=0):
        return iter(self.rows[after:])

    def head(self):
        return self.kept

    def heads(self):
        return {"memory": self.kept}


@pytest.mark.parametrize(
    ("tamper", "seq", "problem"),
    [
        (lambda rows: rows.__setitem__(4, rows[4]._replace(body="{}")), 5, "entry 5 was changed"),
        (lambda rows: rows.pop(4), 5, "entry 5 is missing: after 4 comes 6"),
        (lambda rows: rows.insert(4, rows.pop(6)), 5, "entry 5 is missing: after 4 comes 7"),
        (lambda rows: rows.insert(6, rows[4]), 5, "entry 5 is out of order: it comes after 6"),
        (lambda rows: rows.__setitem__(slice(5, None), []), 6, "entry 6 is missing, and so is all"),
        (lambda rows: rows.clear(), 1, "entry 1 is missing, and so is all up to 8"),
        (lambda rows: rows.extend(chained(["{}"] * 12)[8:]), 9, "entry 9 does not follow 8"),
        (
            lambda rows: rows.extend(Journal(a_ledger(10)).after(8)),
            9,
            "entry 9 is beyond the last one on record, 8",
        ),
    ],
    ids=["changed", "removed", "moved", "repeated", "cut", "emptied", "foreign", "appended"],
)
def test_a_tampered_ledger_is_found_out(tamper, seq, problem):
    """Whoever changes the rows behind the ledger's back is found at the first of them."""
    journal = Journal(a_ledger(8))
    rows = list(journal)
    tamper(rows)
    broken = Journal(Rows(rows, journal.head())).verify()
    assert broken is not None
    assert broken.seq == seq
    assert problem in broken.problem
