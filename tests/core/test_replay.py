"""Every decision of a journal can be derived from the journal alone, byte for byte."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from contextlib import closing

import pytest

from sluicegate import (
    Defer,
    Deny,
    Failed,
    Gate,
    MemoryLedger,
    Objection,
    Permit,
    PermitError,
    Proposal,
    Reason,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
    context,
    hookimpl,
)
from sluicegate.claims import Quota
from sluicegate.journal import Entry
from sluicegate.ledger import open_ledger
from sluicegate.replay import Course, replay
from sluicegate.testing import FakeClock, counted_ids

MARKS = ("policy|", "schema|", "prompt|")
"""Cells that only say what the journal has been told: a replay reads it there."""


def plain(cells):
    """Cells as JSON, so that those from a file and those from memory compare."""
    return json.loads(json.dumps({k: v for k, v in cells if not k.startswith(MARKS)}))


def replayed(ledger, skipped=()):
    """Derive all decisions of *ledger*: they are equal, and so is the state that they lead to."""
    entries = list(ledger.entries())
    found = replay(entries)
    assert found.difference is None
    assert [reason.why for reason in found.skipped] == list(skipped)
    left_out = sum(reason.decisions for reason in found.skipped)
    decided = sum(entry.content["kind"] == "decision" for entry in entries)
    assert (found.entries, found.decisions + left_out) == (len(entries), decided)
    course = Course()
    for number, entry in enumerate(entries, 1):
        course.follow(number, entry)
    assert plain(course.books.cells.items()) == plain(ledger.cells(""))
    assert {p: list(out) for p, out in course.books.permits.items()} == {
        permit: [expires, entry] for permit, expires, entry in ledger.out()
    }
    return found


class Desk:
    """A gate whose time and ids are told, in memory."""

    def __init__(self, tools, ledger=None, observe=False, plugins=(), clock=None, **sections):
        self.clock = clock or FakeClock()
        self.ledger = ledger or MemoryLedger()
        policy = {"version": 1, "tools": tools, **sections}
        self.gate = Gate(
            policy,
            self.ledger,
            clock=self.clock,
            ids=counted_ids(),
            observe=observe,
            plugins=plugins,
        )

    def ask(self, tool, args=None, *, run="r", tenant="acme", **more):
        """Propose a call."""
        more.setdefault("subject", Subject(tenant=tenant, agent="desk"))
        return self.gate.decide(Proposal(tool, args or {}, run=run, **more))

    def do(self, tool, args=None, outcome=None, **more):
        """Propose a call that is permitted, and settle it."""
        permit = self.ask(tool, args, **more)
        assert isinstance(permit, Permit), permit
        self.gate.settle(permit, outcome or Succeeded("done"))
        return permit


def codes(decision):
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


# --- each kind of state --------------------------------------------------------------------------


def test_budgets_and_rates():
    """Held, used, given back, unknown and reset by a new window: the same numbers in each refusal."""
    limits = [{"budget": "eur", "limit": 100, "per": ["tenant"], "window": "hour"}]
    desk = Desk({"pay": {"cost": {"eur": "args.eur"}, "rate": "4/min"}}, limits=limits)
    desk.do("pay", {"eur": 40}, Succeeded(cost={"eur": "12.5"}))
    desk.do("pay", {"eur": 40}, Failed("no"))
    desk.do("pay", {"eur": 30.25}, Unknown("?"))
    assert codes(desk.ask("pay", {"eur": 80})) == ["budget"]
    desk.clock.advance(3600)
    permit = desk.ask("pay", {"eur": 80})
    assert isinstance(permit, Permit)
    for _ in range(4):
        desk.ask("pay", {"eur": 5})
    assert codes(desk.ask("pay", {"eur": 90})) == ["rate", "budget"]
    replayed(desk.ledger)


def test_keys_and_call_ids():
    """A held key, a recorded result, other arguments, an unknown outcome, and one that is reconciled."""
    desk = Desk({"pay": {"once": {"key": "p:{order}", "within": "1h"}}, "get": {"effect": "read"}})
    permit = desk.ask("pay", {"order": 1, "n": 1})
    assert codes(desk.ask("pay", {"order": 1, "n": 1})) == ["in_progress"]
    desk.gate.settle(permit, Succeeded({"receipt": 1.0, "é": [None]}))
    assert isinstance(desk.ask("pay", {"order": 1, "n": 1}), Recorded)
    assert codes(desk.ask("pay", {"order": 1, "n": 2})) == ["key_conflict"]
    unknown = desk.do("pay", {"order": 2}, Unknown("?"))
    assert codes(desk.ask("pay", {"order": 2})) == ["outcome_unknown"]
    desk.clock.advance(600)
    desk.gate.reconcile(unknown.id, Failed("it never arrived"), by="ann")
    desk.do("pay", {"order": 2})
    desk.clock.advance(3600)
    desk.do("pay", {"order": 1, "n": 3})
    desk.do("get", call_id="c1")
    assert isinstance(desk.ask("get", call_id="c1"), Recorded)
    assert codes(desk.ask("get", {"x": 1}, call_id="c1")) == ["duplicate_call"]
    replayed(desk.ledger)


def test_leases_that_expire():
    """A slot comes back, money does not, and who settles too late is not in the journal."""
    limits = [{"concurrency": 1}, {"budget": "calls", "limit": 2, "per": ["run"]}]
    desk = Desk({"t": {"lease": "10s"}}, limits=limits)
    permit = desk.ask("t", {"n": 1})
    assert codes(desk.ask("t", {"n": 2})) == ["concurrency"]
    desk.clock.advance(11)
    with pytest.raises(PermitError):
        desk.gate.settle(permit, Succeeded())
    assert codes(desk.ask("t", {"n": 1})) == ["outcome_unknown"]
    desk.do("t", {"n": 2})
    assert codes(desk.ask("t", {"n": 3})) == ["budget"]
    desk.gate.reconcile(permit.id, Failed("it crashed before"), by="ann")
    desk.do("t", {"n": 3})
    replayed(desk.ledger)


def test_a_clock_that_steps_back():
    """`now` and `at` are both on record: a decision made at 12:05 with a clock at 12:00 is derived so."""
    early = {"when": "now.getMinutes() < 1"} if sys.version_info >= (3, 11) else {}
    desk = Desk({"t": {"rate": "2/min"}, "early": {"effect": "read", **early}})
    for step in (0, 40, -120, 10, 300, -1000, 1):
        desk.clock.advance(step)
        desk.ask("t", {"n": step})
        desk.ask("early")
    contents = [entry.content for entry in desk.gate.journal]
    assert [content["at"] for content in contents] == sorted(content["at"] for content in contents)
    replayed(desk.ledger)


def test_repetitions_end_a_run():
    """Refused ones count, the run is halted at twice the number, and a person resumes it."""
    limits = [{"repeat": 2, "per": ["run"], "oscillation": True}]
    desk = Desk({"t": {"effect": "read"}, "u": {"effect": "read"}}, limits=limits)
    answers = [desk.ask("nope") for _ in range(4)]
    assert [answer.final for answer in answers] == [False, False, False, True]
    assert codes(desk.ask("t")) == ["halted"]
    assert codes(desk.ask("unheard_of")) == ["halted", "unknown_tool"]
    desk.gate.resume(run="r", by="ann")
    for n in range(6):
        desk.ask("t", {"n": n})
        desk.ask("u", {"n": n})
    replayed(desk.ledger)


def test_halts_by_people():
    """A halt of a tenant ends its calls and leaves its runs alone, so that all goes on after a resume."""
    desk = Desk({"t": {"effect": "read"}}, plugins={"p": Objecting()})
    desk.do("t")
    desk.gate.halt(tenant="acme", by="ann", reason="odd")
    assert codes(desk.ask("t")) == ["halted"]
    assert codes(desk.ask("nope")) == ["halted", "unknown_tool"]
    assert codes(desk.ask("t", {"object": "no"})) == ["halted", "objection"]
    desk.do("t", tenant="other", run="q")
    desk.gate.resume(tenant="acme", by="ann")
    desk.do("t", {"n": 2})
    desk.gate.halt(by="ann", reason="all of it")
    desk.ask("t", tenant="other", run="q")
    replayed(desk.ledger)


def test_order_labels_and_words():
    """Steps done, labels seen and values that came up, with recorded results that are shown again."""
    tools = {
        "search": {"effect": "read", "labels": ["untrusted"]},
        "get_order": {"effect": "read", "labels": ["sensitive"]},
        "refund": {
            "requires": [{"tool": "get_order", "match": {"order": "result.id"}}],
            "origin": {"iban": ["prompt", "get_order"]},
            "once": {"key": "r:{order}"},
        },
        "mail": {"labels": ["external"]},
    }
    flow = {"name": "out", "after": ["untrusted", "sensitive"], "deny": ["external"]}
    desk = Desk(tools, flows=[flow])
    refund = {"order": "A-1", "iban": "DE89 3704 0044 0532 0130 00"}
    assert codes(desk.ask("refund", refund)) == ["order", "origin"]
    desk.do(
        "get_order", {"id": "A-1"}, Succeeded('{"id": "A-1", "iban": "DE89370400440532013000"}')
    )
    desk.do("refund", refund, turn="2")
    desk.do("mail", {"to": "a"})
    desk.do("search", {"q": 1}, Succeeded("x"), call_id="s1")
    assert codes(desk.ask("mail", {"to": "b"})) == ["flow"]
    other = {"run": "r2", "prompt": "Refund A-1 to FR1420041010050500013M02606, please"}
    assert codes(
        desk.ask("refund", {**refund, "iban": "FR14 2004 1010 0505 0001 3M02 606"}, **other)
    )
    desk.do("get_order", {"id": "A-1"}, Succeeded({"id": "A-1"}), run="r2", call_id="g")
    assert isinstance(desk.ask("get_order", {"id": "A-1"}, run="r2", call_id="g"), Recorded)
    answer = desk.ask("refund", {**refund, "iban": "FR14 2004 1010 0505 0001 3M02 606"}, **other)
    assert codes(answer) == ["key_conflict"]
    kinds = {entry.content["kind"] for entry in desk.gate.journal}
    assert {"prompt", "recalled"} <= kinds
    replayed(desk.ledger)


def test_a_result_that_is_shown_to_another_run():
    """The other run then knows the values in it, and its later calls may have them."""
    tools = {
        "look": {"once": {"key": "look:{id}"}},
        "pay": {"origin": {"to": ["look"]}, "requires": [{"tool": "look"}]},
    }
    desk = Desk(tools)
    desk.do("look", {"id": 1}, Succeeded({"account": "ACC-4711-9"}))
    assert codes(desk.ask("pay", {"to": "ACC-4711-9"}, run="q")) == ["order", "origin"]
    assert isinstance(desk.ask("look", {"id": 1}, run="q"), Recorded)
    desk.do("pay", {"to": "ACC-4711-9"}, run="q")
    replayed(desk.ledger)


def test_approvals():
    """Asked, waiting, approved, spent, given back, rejected, expired: each answer is derived."""
    tools = {
        "pay": {"approve": True},
        "send": {"origin": {"to": {"from": ["prompt"], "otherwise": "approve"}}},
    }
    desk = Desk(tools, limits=[{"repeat": 2, "per": ["run"]}])
    asked = desk.ask("pay", {"n": 1})
    assert isinstance(asked, Defer)
    assert isinstance(desk.ask("pay", {"n": 1}), Defer)
    desk.gate.approve(asked.request_id, by="ann", note="fine")
    desk.do("pay", {"n": 1}, Failed("down"))
    desk.do("pay", {"n": 1})
    other = desk.ask("pay", {"n": 2})
    desk.gate.reject(other.request_id, by="bob")
    assert codes(desk.ask("pay", {"n": 2})) == ["approval_rejected"]
    desk.ask("pay", {"n": 3})
    desk.clock.advance(86_401)
    assert isinstance(desk.ask("pay", {"n": 3}), Defer)
    traced = desk.ask("send", {"to": "eve@example.com"})
    desk.gate.approve(traced.request_id, by="ann")
    desk.do("send", {"to": "eve@example.com"})
    replayed(desk.ledger)


def test_breakers():
    """Open, probed and closed again, at the same calls."""
    desk = Desk({"t": {"effect": "read", "breaker": {"failures": 2, "cooldown": "30s"}}})
    for outcome in (Failed("a"), Succeeded(), Failed("b"), Unknown("c")):
        desk.do("t", outcome=outcome)
    assert codes(desk.ask("t")) == ["breaker"]
    desk.clock.advance(31)
    probe = desk.ask("t")
    assert codes(desk.ask("t")) == ["breaker"]
    desk.gate.settle(probe, Succeeded())
    desk.do("t")
    replayed(desk.ledger)


def test_runs_that_were_narrowed():
    """What a run was narrowed to holds for the runs inside of it."""
    desk = Desk({"t": {"effect": "read"}, "u": {"effect": "read"}}, limits=[{"depth": 1}])
    with context(run="outer", tools=["t", "x*"]):
        desk.ask("t", run="outer", tools=[["t", "x*"]])
        assert codes(desk.ask("u", run="outer", tools=[["t", "x*"]])) == ["not_granted"]
    assert codes(desk.ask("u", run="inner", parent="outer", root="outer", depth=1))
    assert codes(desk.ask("t", run="deep", parent="inner", root="outer", depth=2)) == ["depth"]
    replayed(desk.ledger)


def test_proposals_that_are_none():
    """Arguments without a canonical form, wrong ones, and what an adapter could not tell."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    desk = Desk({"t": {"unknown_args": "drop"}, "u": {}})
    desk.ask("t", {"n": float("nan")})
    desk.ask("t", {"n": 10**400})
    desk.ask("\ud800", {"n": 1})
    desk.ask("t", {"n": 1}, call_id="")
    desk.ask("t", {"n": 1}, call_id="\ud800" * 100)
    desk.ask("t", {"n": 1}, call_id="x" * 2000)
    desk.ask("u", {"n": "x", "m": 1}, schema=schema)
    assert desk.do("t", {"n": 1, "m": 2}, schema=schema).args == {"n": 1}
    desk.ask("t", flaw=Reason("missing_subject", "adapter", "nobody says who this is"))
    desk.ask("t", {"$": "…", "nested": [{"é": 1e21}, -0.0, "\n"]})
    replayed(desk.ledger)


# --- what came from outside ------------------------------------------------------------------------


class Objecting:
    """A plugin that does what the arguments of the call say."""

    @hookimpl
    def sluicegate_facts(self, proposal):
        if proposal.args.get("fail"):
            raise OSError("the CRM is down")
        return {"good": proposal.args.get("good", True), "n": [1.5, None]}

    @hookimpl
    def sluicegate_object(self, proposal, facts):
        if proposal.args.get("crash"):
            raise KeyError("oops")
        if proposal.args.get("final"):
            return Objection(message="stop it all", final=True)
        return proposal.args.get("object")

    @hookimpl
    def sluicegate_claims(self, proposal, facts):
        if proposal.args.get("claims") == "wrong":
            return [1]
        amount = proposal.args.get("x", 0) * 1_000_000
        return (
            [Quota("plugin|p|x", "plugin p", "x", amount, 1_000_000, None, "")] if amount else None
        )


def test_plugins():
    """Facts and objections are taken from the journal; further claims are told in it."""
    desk = Desk({"t": {}, "paid": {"when": "facts.p.good"}}, plugins={"p": Objecting()})
    desk.do("paid", {"good": True})
    assert codes(desk.ask("paid", {"good": False})) == ["condition"]
    assert codes(desk.ask("t", {"fail": 1})) == ["plugin_error"]
    assert codes(desk.ask("t", {"crash": 1})) == ["plugin_error"]
    assert codes(desk.ask("nope", {"object": "no"})) == ["unknown_tool", "objection"]
    assert codes(desk.ask("t", {"claims": "wrong"})) == ["plugin_error"]
    desk.do("t", {"x": 1})
    assert codes(desk.ask("t", {"x": 1, "n": 2})) == ["budget"]
    assert desk.ask("t", {"final": 1}).final
    assert codes(desk.ask("t", {"x": 1, "n": 2})) == ["halted", "budget"]
    replayed(desk.ledger)


def test_plugins_are_not_asked_again():
    """A replay needs the journal and nothing else: not the plugin, not the gate, not the time."""
    desk = Desk({"paid": {"when": "facts.p.good"}}, plugins={"p": Objecting()})
    desk.do("paid", {"good": True})
    lines = [tuple(entry) for entry in desk.gate.journal]
    found = replay(Entry(*line) for line in json.loads(json.dumps(lines)))
    assert (found.decisions, found.difference) == (1, None)


def test_two_gates_with_different_policies():
    """Each decision is derived by the policy that made it, on the state that both share."""
    clock, ledger = FakeClock(), MemoryLedger()
    limits = [{"budget": "calls", "limit": 3, "per": ["tenant"]}]
    one = Desk({"t": {}, "u": {}}, ledger, clock=clock, limits=limits)
    other = Desk({"t": {"labels": ["x"]}}, ledger, clock=clock, limits=[{**limits[0], "limit": 2}])
    other.gate._flow._ids = counted_ids("other-")
    one.do("t", {"n": 1})
    other.do("t", {"n": 2})
    assert codes(other.ask("t", {"n": 3})) == ["budget"]
    assert codes(other.ask("u")) == ["unknown_tool"]
    one.do("u")
    replayed(ledger)


def test_a_gate_that_only_observes():
    """Its entries say what would have been; that is what is derived."""
    limits = [{"budget": "eur", "limit": 50, "per": ["tenant"]}, {"repeat": 2, "per": ["run"]}]
    tools = {
        "pay": {"cost": {"eur": "args.eur"}, "once": {"key": "{eur}"}},
        "ok": {"approve": True},
    }
    desk = Desk(tools, observe=True, limits=limits)
    for eur in (40, 40, 20, 10, 10, 10, 10, 10):
        desk.do("pay", {"eur": eur})
    desk.do("nope")
    desk.do("ok", run="q")
    words = [entry.content.get("would") for entry in desk.gate.journal]
    assert {"permit", "deny", "defer", "recorded"} <= set(words)
    replayed(desk.ledger)


# --- ledgers of many -----------------------------------------------------------------------------


def test_threads_on_a_file(tmp_path):
    """Whatever the order was in which they came, the journal has it, and the decisions follow."""
    pytest.importorskip("fcntl", reason="the SQLite ledger locks its file with fcntl")
    limits = [
        {"budget": "eur", "limit": 60, "per": ["tenant"], "window": "day"},
        {"concurrency": 3, "wait": "100ms"},
        {"repeat": 3, "per": ["run"]},
    ]
    tools = {
        "pay": {"cost": {"eur": "args.eur"}, "once": {"key": "{key}"}},
        "get": {"effect": "read"},
    }
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Gate({"version": 1, "tools": tools, "limits": limits}, url) as gate:

        def work(thread):
            for n in range(25):
                tool = "get" if n % 3 == 0 else "pay"
                args = {"eur": n % 4, "key": f"k{n * thread % 17}"}
                proposal = Proposal(tool, args, subject=Subject(tenant="t"), run=f"r{thread}")
                decision = gate.decide(proposal)
                if isinstance(decision, Permit) and n % 7:
                    gate.settle(decision, Failed("no") if n % 5 == 0 else Succeeded(n))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        replayed(gate.ledger)


def test_a_cancelled_claim(tmp_path):
    """What was granted to nobody is undone by an outcome of its own, which is one like others."""
    pytest.importorskip("fcntl", reason="the SQLite ledger locks its file with fcntl")
    limits = [{"budget": "calls", "limit": 2, "per": ["tenant"]}]
    policy = {"version": 1, "tools": {"t": {}}, "limits": limits}
    whose = Subject(tenant="t")
    committed, cancelled = threading.Event(), threading.Event()

    async def cancel(gate):
        task = asyncio.ensure_future(gate.adecide(Proposal("t", {"n": 1}, subject=whose)))
        await asyncio.to_thread(committed.wait, 10)
        task.cancel()
        await asyncio.wait([task])
        cancelled.set()

    with Gate(policy, f"sqlite:///{tmp_path / 'ledger.db'}") as gate:
        gate.settle(gate.decide(Proposal("t", {"n": 0}, subject=whose)), Failed("no"))
        database = gate.ledger._database
        transact = database.transact

        def late(work):  # the claim is durable, and nobody knows it yet
            transact(work)
            committed.set()
            cancelled.wait(10)

        database.transact = late
        asyncio.run(cancel(gate))
        for n in (2, 3):
            assert isinstance(gate.decide(Proposal("t", {"n": n}, subject=whose)), Permit)
        told = [e.content.get("error") for e in gate.journal]
        assert told.count("cancelled before dispatch") == 1
    with closing(open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        replayed(ledger)
