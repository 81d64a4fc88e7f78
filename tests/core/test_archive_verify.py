"""A journal that begins late is whole only if an entry behind says so: verify is not fooled."""

from __future__ import annotations

import json
from typing import Any

from sluicegate.journal import Entry, link, verify


def entries(count: int, *, said: dict[int, dict[str, Any]] | None = None) -> list[Entry]:
    """A chain by one writer; *said* are the contents of some entries."""
    made: list[Entry] = []
    prev = "0" * 64
    for seq in range(1, count + 1):
        content = dict((said or {}).get(seq, {"kind": "x"}))
        if "upto" in content:
            content["upto"] = {"w": [content["upto"], made[content["upto"] - 1].hash]}
        body = '{"at":1,' + json.dumps(content, separators=(",", ":"))[1:]
        made.append(Entry(seq, "w", prev, prev := link(prev, "w", seq, body), body))
    return made


MOVED = {"kind": "archived", "upto": 3, "segment": 1, "entries": 3, "sha256": ""}


def test_a_late_beginning_must_be_vouched_for() -> None:
    """An entry behind it says up to where entries were archived: exactly there, with that hash."""
    chain = entries(9, said={6: MOVED})
    assert verify(chain[3:], {"w": (9, chain[-1].hash)}) is None
    for begin in (1, 2, 4, 5):
        broken = verify(chain[begin:], {"w": (9, chain[-1].hash)})
        assert broken is not None
        assert broken.problem == f"entry 1 is missing: after 0 comes {begin + 1}"
    assert verify(entries(9)[3:]) is not None
    assert verify(chain[6:]) is not None, "it stands before the beginning"


def test_only_the_real_kind_vouches() -> None:
    """Arguments and results that look like it do not."""
    said = {"kind": "decision", "proposal": {"args": {"kind": "archived"}}, "upto": 3}
    assert verify(entries(9, said={6: said})[3:]) is not None


def test_one_that_says_nothing_readable_is_broken() -> None:
    """An entry of this kind that no ledger wrote is named, not passed over."""
    broken = verify(entries(5, said={4: {"kind": "archived", "segment": 1}}))
    assert broken is not None
    assert "in no readable way" in broken.problem


def test_a_head_that_was_kept_elsewhere_still_counts() -> None:
    """At the seam its hash is compared; before it only the archive can tell."""
    chain = entries(9, said={6: MOVED})
    assert verify(chain[3:], (3, chain[2].hash)) is None
    for head, problem in (
        ((3, "0" * 64), "not the one on record"),
        ((2, "f" * 64), "was archived"),
    ):
        broken = verify(chain[3:], head)
        assert broken is not None
        assert problem in broken.problem


def test_a_writer_whose_entries_have_all_left_is_still_known() -> None:
    """What is on record of it must be what was archived; more than that is missing."""
    one = entries(3)
    two: list[Entry] = []
    prev = "0" * 64
    upto = {"w": [3, one[-1].hash], "v": [1, ""]}
    for seq, content in ((1, {"kind": "x"}), (2, {"kind": "archived", "upto": upto})):
        if seq == 2:
            upto["v"] = [1, prev]
        body = '{"at":1,' + json.dumps(content)[1:].replace('"kind": "', '"kind":"')
        two.append(Entry(seq, "v", prev, prev := link(prev, "v", seq, body), body))
    heads = {"w": (3, one[-1].hash), "v": (2, two[-1].hash)}
    assert verify(two[1:], heads) is None
    for other in ((3, "0" * 64), (4, "0" * 64)):
        assert verify(two[1:], {**heads, "w": other}) is not None


def test_a_chain_whose_entries_have_all_left_goes_on_behind_the_one_that_says_so() -> None:
    """Exactly where it was archived up to: one later, or on another hash, is a gap."""
    one, two = entries(5), entries(1)
    upto = {"w": [3, one[2].hash]}
    body = '{"at":1,' + json.dumps({"kind": "archived", "upto": upto}, separators=(",", ":"))[1:]
    said = Entry(1, "v", two[0].prev, link(two[0].prev, "v", 1, body), body)
    assert verify([said, *one[3:]]) is None
    for rest in (one[4:], one[2:], one[1:]):
        broken = verify([said, *rest])
        assert broken is not None
        assert "nothing before it is by 'w'" in broken.problem
    other = one[3]._replace(prev="0" * 64, hash=link("0" * 64, "w", 4, one[3].body))
    assert verify([said, other]) is not None
