"""What a replay says of entries that were forged, and of what a journal does not keep."""

from __future__ import annotations

import json

import pytest

from sluicegate import Failed, Gate, MemoryLedger, Permit, Proposal, Recorded, Subject, Succeeded
from sluicegate.canonical import freeze
from sluicegate.errors import LedgerError
from sluicegate.journal import GENESIS, Entry, link, verify
from sluicegate.replay import Course, replay
from sluicegate.retrace import spoken
from sluicegate.testing import FakeClock, counted_ids


class Desk:
    """A gate whose time and ids are told, in memory."""

    def __init__(self, tools, observe=False, **sections):
        policy = {"version": 1, "tools": tools, **sections}
        self.clock, self.ledger = FakeClock(), MemoryLedger()
        self.gate = Gate(policy, self.ledger, clock=self.clock, ids=counted_ids(), observe=observe)

    def ask(self, tool, args=None, outcome=None, *, run="r", **more):
        """Propose a call, and settle it if there is an outcome."""
        subject = Subject(tenant="acme", agent="desk")
        decision = self.gate.decide(Proposal(tool, args or {}, run=run, subject=subject, **more))
        if outcome is not None:
            assert isinstance(decision, Permit), decision
            self.gate.settle(decision, outcome)
        return decision

    def entries(self):
        return list(self.gate.journal)


def rebuilt(bodies):
    """A whole chain of these bodies: what whoever owns the database can always make."""
    entries, last = [], GENESIS
    for seq, body in enumerate(bodies, 1):
        entries.append(Entry(seq, "w", last, link(last, "w", seq, body), body))
        last = entries[-1].hash
    assert verify(entries) is None
    return entries


def forged(entries, number, **changes):
    """The chain in which entry *number* says something else."""
    bodies = [entry.body for entry in entries]
    content = {**entries[number - 1].content, **changes}
    bodies[number - 1] = freeze({k: v for k, v in content.items() if v is not None})[1]
    assert bodies[number - 1] != entries[number - 1].body
    return rebuilt(bodies)


@pytest.fixture
def entries():
    """1 policy, 2 permit, 3 outcome, 4 recorded, 5 permit, 6 failed, 7 refused, 8 permit."""
    desk = Desk(
        {"pay": {"once": {"key": "{n}"}, "cost": {"eur": "args.eur"}}},
        limits=[{"budget": "eur", "limit": 100, "per": ["tenant"]}],
    )
    desk.ask("pay", {"n": 1, "eur": 60}, Succeeded("receipt"))
    assert isinstance(desk.ask("pay", {"n": 1, "eur": 60}), Recorded)
    desk.ask("pay", {"n": 2, "eur": 10}, Failed("no"))
    desk.ask("pay", {"n": 3, "eur": 41})
    desk.ask("pay", {"n": 3, "eur": 40})
    found = desk.entries()
    assert replay(found).decisions == 5
    return found


# --- forged entries --------------------------------------------------------------------------------


def test_a_changed_entry_is_named(entries):
    """Each entry, whatever its kind: its content does not give its hash any more."""
    for index, entry in enumerate(entries):
        changed = [*entries]
        changed[index] = entry._replace(body=entry.body.replace('"at":', '"at" :', 1))
        found = replay(changed)
        assert found.difference is not None
        assert found.difference.entry == index + 1
        assert "was changed" in found.difference.problem
        assert found.decisions == sum(e.content["kind"] == "decision" for e in entries[:index])


@pytest.mark.parametrize(
    ("number", "changes", "names"),
    [
        (2, {"lease": 1}, ["lease"]),
        (4, {"of": 2}, ["of"]),
        (4, {"decision": "permit", "of": None, "permit": "x", "lease": 1}, ["decision", "lease", "of", "permit"]),
        (7, {"decision": "recorded", "reasons": None, "of": 3}, ["decision", "of", "reasons"]),
        (7, {"reasons": [{"code": "budget", "rule": "limits[0]", "message": "no", "retry": "never"}]}, ["reasons"]),
        (7, {"final": True}, ["final"]),
        (8, {"record": "full"}, ["record"]),
    ],
)  # fmt: skip
def test_a_decision_that_does_not_follow_is_named_with_its_fields(entries, number, changes, names):
    """Even if the whole chain was rebuilt around it: its entry, and what it should have said."""
    difference = replay(forged(entries, number, **changes)).difference
    assert difference is not None
    assert (difference.entry, difference.tool) == (number, "pay")
    assert [field.name for field in difference.fields] == names


def test_what_is_different_is_told_in_words(entries):
    """Reasons as code, rule and sentence; a field that is not there as None."""
    forgery = {"decision": "permit", "reasons": None, "permit": "x", "lease": 300_000_000}
    difference = replay(forged(entries, 7, **forgery)).difference
    fields = {name: (recorded, derived) for name, recorded, derived in difference.fields}
    assert fields["decision"] == ("permit", "deny")
    assert fields["permit"] == ("x", None)
    recorded, derived = fields["reasons"]
    assert recorded is None
    assert derived.startswith("budget (limits[0]): eur for tenant acme has 40 of 100 left")


def test_an_outcome_that_was_forged_shows_in_the_decisions_after_it(entries):
    """Outcomes are taken as they are; what follows from them is not."""
    difference = replay(forged(entries, 3, cost={"eur": 0})).difference
    assert difference.entry == 7
    assert "decision" in [field.name for field in difference.fields]


def test_a_policy_that_was_forged_shows_in_its_decisions(entries):
    """Another limit gives another sentence in the refusal."""
    document = entries[0].content["document"]
    document["limits"][0]["limit"] = "101"
    assert replay(forged(entries, 1, document=document)).difference.entry == 2


def test_an_entry_that_was_taken_out_is_missed(entries):
    """An outcome without its decision, or a refusal that nothing explains."""
    bodies = [entry.body for entry in entries]
    difference = replay(rebuilt(bodies[:1] + bodies[2:])).difference
    assert (difference.entry, "is not out" in difference.problem) == (2, True)
    assert replay(rebuilt(bodies[:2] + bodies[3:])).difference.entry == 3


@pytest.mark.parametrize(
    "body",
    [
        *("{}", "[]", "5", "no JSON", '{"kind":[]}', '{"kind":"decision"}', '{"kind":"outcome"}'),
        *(
            '{"at":5,"kind":"halt"}',
            '{"kind":"policy"}',
            '{"kind":"recalled"}',
            '{"kind":"prompt"}',
        ),
        '{"at":5,"kind":"dream"}',
    ],
)
def test_an_entry_that_no_gate_writes(entries, body):
    """It is a difference and no crash, and what comes behind it is not looked at."""
    bodies = [entry.body for entry in entries]
    found = replay(rebuilt([*bodies[:4], body, *bodies[4:]]))
    assert found.difference is not None
    assert (found.difference.entry, found.decisions) == (5, 2)


def test_the_same_permit_twice(entries):
    """An entry that was copied gives a permit whose id is out already."""
    bodies = [entry.body for entry in entries]
    found = replay(rebuilt([*bodies, bodies[-1]]))
    assert found.difference is not None
    assert found.difference.entry == 9


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"kind": "resume", "by": "eve", "reason": "", "scope": {}}, "is not halted"),
        (
            {"kind": "approval", "by": "e", "note": "", "of_action": "sha256:00", "request": "", "verdict": "approve"},
            "there is no such request",
        ),
    ],
)  # fmt: skip
def test_a_deed_that_cannot_have_been_done(entries, entry, problem):
    """A person's yes to a request that nobody made is no entry of a gate."""
    at = entries[-1].content["at"]
    bodies = [entry.body for entry in entries]
    found = replay(rebuilt([*bodies, freeze({"at": at, **entry})[1]]))
    assert found.difference is not None
    assert problem in found.difference.problem


def test_a_journal_without_its_beginning(entries):
    """What was used before is not in it, so nothing could be derived; it says so at once."""
    with pytest.raises(LedgerError, match="begins with entry 3"):
        replay(entries[2:])


def several(bodies, writers, first):
    """The same history, written by several writers in turn, the first of them with that number."""
    entries, ends, numbers = [], {}, {}
    for place, body in enumerate(bodies, 1):
        writer = place * place % writers
        seq, last = ends.get(writer, (0, GENESIS))
        numbers[place] = (writer + first << 32) + seq + 1
        content = json.loads(body)
        if "of" in content:
            body = freeze({**content, "of": numbers[content["of"]]})[1]
        digest = link(last, f"w{writer}", seq + 1, body)
        entries.append(Entry(seq + 1, f"w{writer}", last, digest, body))
        ends[writer] = seq + 1, digest
    return entries


@pytest.mark.parametrize(("writers", "first"), [(1, 1), (2, 0), (2, 7), (3, 1)])
def test_journals_of_several_writers(entries, writers, first):
    """Each counts for itself, and refers to entries of others by numbers of the ledger's own."""
    desk = Desk({"pay": {"once": {"key": "{n}"}}})
    for n in (1, 2, 3, 1, 2, 3, 3, 2, 1):
        decision = desk.ask("pay", {"n": n})
        if isinstance(decision, Permit):
            desk.gate.settle(decision, Succeeded(n))
    bodies = [entry.body for entry in desk.entries()]
    found = replay(several(bodies, writers, first))
    assert (found.decisions, found.difference) == (9, None)
    wrong = bodies[-1].replace('"of":3', '"of":5')
    assert wrong != bodies[-1]
    found = replay(several([*bodies[:-1], wrong], writers, first))
    assert (found.decisions, [f.name for f in found.difference.fields]) == (8, ["of"])


def test_the_number_of_an_entry_in_words():
    """That of the only writer is a plain one."""
    assert (spoken(17), spoken((1 << 32) + 17)) == ("17", "17 of writer 2")


def test_no_entries_at_all():
    """An empty journal is equal to itself."""
    assert replay([]) == (0, 0, None, ())


# --- what a journal does not keep -------------------------------------------------------------------


def test_digests_are_counted_apart_and_what_follows_is_derived():
    """Their claims are on record: budgets, keys, labels, steps and repetitions go on from there."""
    desk = Desk(
        {
            "look": {"record": "digest", "effect": "read", "cost": {"eur": "args.eur"}},
            "ask": {"record": "digest", "approve": True},
            "pay": {"cost": {"eur": "args.eur"}},
        },
        limits=[{"budget": "eur", "limit": 100, "per": ["tenant"]}, {"repeat": 2, "per": ["run"]}],
    )
    desk.ask("look", {"eur": 60}, Succeeded("x", cost={"eur": 50}))
    desk.ask("look", {"eur": 61})
    desk.ask("pay", {"eur": 51})
    request = desk.ask("ask", {"n": 1}).request_id
    desk.gate.approve(request, by="ann")
    desk.ask("ask", {"n": 1}, Succeeded())
    desk.ask("pay", {"eur": 50}, Succeeded())
    for _ in range(2):
        desk.ask("look", {"eur": 61})
    assert desk.ask("look", {"eur": 61}).final
    desk.ask("pay", {"eur": 1})
    entries = desk.entries()
    found = replay(entries)
    assert found.difference is None
    assert found.decisions == 3
    why = "{} has `record: digest`: the journal has no arguments of its calls"
    assert found.skipped == ((why.format("look"), 5, 2), (why.format("ask"), 2, 6))
    assert entries[-1].content["reasons"][0]["code"] == "halted"


def knows(observe=False):
    """A desk where a payment must be for what was looked up before."""
    return Desk(
        {
            "look": {"effect": "read", "labels": ["secret"]},
            "pay": {"origin": {"to": ["look"]}, "requires": [{"tool": "look", "match": {"to": "id"}}]},
            "mail": {"labels": ["out"]},
            "other": {},
        },
        observe=observe,
        flows=[{"name": "f", "after": ["secret"], "deny": ["out"]}],
        limits=[{"budget": "calls", "limit": 9, "per": ["tenant"]}],
    )  # fmt: skip


def test_a_result_that_was_too_large():
    """Only decisions that look at it are left out; they are taken over, and the rest is derived."""
    desk = knows()
    text = "payee ACC-4711-9 " + "x" * 70_000
    desk.ask("look", {"id": "ACC-4711-9"}, Succeeded(text))
    desk.ask("pay", {"to": "ACC-4711-9"}, Succeeded())
    desk.ask("pay", {"to": "ACC-4711-0"})
    desk.ask("pay", {"to": "ACC-4711-9"}, run="q")
    desk.ask("other", {}, Succeeded())
    desk.ask("mail")
    found = replay(desk.entries())
    assert found.difference is None
    assert found.decisions == 4
    ((why, count, first),) = found.skipped
    assert why.startswith("a result of look is not in the journal (it was too large, or no JSON)")
    assert (count, first) == (2, 4)


def test_a_call_that_was_only_watched():
    """What a call gave that ran against the policy was shown to its run: later decisions see it."""
    desk = knows(observe=True)
    for n in range(12):
        desk.ask("look", {"id": f"ACC-{n}"}, Succeeded(f"ACC-{n}"), call_id=f"c{n}")
    desk.ask("mail")
    desk.ask("other")
    desk.ask("pay", {"to": "ACC-1"})
    desk.ask("mail", run="q")
    found = replay(desk.entries())
    assert found.difference is None
    assert found.skipped == ()
    assert found.decisions == 16


def test_a_decision_by_a_policy_that_is_not_there(entries):
    """It is neither equal nor different."""
    bodies = [entry.body for entry in entries[1:]]
    found = replay(rebuilt(bodies))
    assert (found.decisions, found.difference) == (0, None)
    ((why, count, first),) = found.skipped
    assert "has no policy sha256:" in why
    assert (count, first) == (5, 1)


# --- memory -----------------------------------------------------------------------------------------


def test_memory_is_for_what_is_alive():
    """A replay keeps cells, permits that are out and results that may be shown again: not the journal."""
    desk = Desk(
        {"t": {"effect": "read"}}, limits=[{"budget": "calls", "limit": 999, "per": ["tenant"]}]
    )
    course = Course()
    for n in range(300):
        desk.ask("t", {"n": n}, Succeeded("x" * 1000))
    for number, entry in enumerate(desk.entries(), 1):
        assert course.follow(number, entry) is None
    assert course.decisions == 300
    kept = [
        course.books.cells,
        course.books.permits,
        course.books.bodies,
        course._out,
        course._kept,
    ]
    assert sum(map(len, kept)) <= 3
    assert len(json.dumps(course.books.cells)) < 1000
