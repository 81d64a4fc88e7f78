"""Decide, settle and call: what the gate does with permits, refusals and outcomes."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sluicegate import (
    Denied,
    Deny,
    Failed,
    Gate,
    LedgerError,
    MemoryLedger,
    NotExecuted,
    Permit,
    PermitError,
    Proposal,
    Recorded,
    Subject,
    Succeeded,
    Unknown,
)
from sluicegate.testing import FakeClock, counted_ids

ACME = Subject(tenant="acme", user="ada", agent="support-1")

POLICY = {
    "version": 1,
    "tools": {
        "look": {"effect": "read"},
        "put": {"effect": "idempotent"},
        "refund": {
            "once": {"key": "refund:{order}", "within": "24h"},
            "cost": {"eur": "args.amount"},
        },
        "send": {"lease": "10s"},
    },
    "limits": [{"budget": "eur", "limit": 100, "per": ["tenant"], "window": "day"}],
}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gate(clock):
    return Gate(POLICY, "memory:", clock=clock, ids=counted_ids())


def refund(order="A1", amount=40, **more):
    return Proposal("refund", {"order": order, "amount": amount}, subject=ACME, run="r1", **more)


def codes(decision):
    assert isinstance(decision, Deny)
    return [reason.code for reason in decision.reasons]


def left(gate):
    (row,) = (row for row in gate.usage() if row.name == "eur")
    return row.left


def test_a_permit_holds_and_a_settlement_commits(gate):
    """What a permit holds is spent when the call succeeded."""
    permit = gate.decide(refund())
    assert isinstance(permit, Permit)
    assert left(gate) == 60_000_000
    gate.settle(permit, Succeeded("done"))
    assert left(gate) == 60_000_000


def test_less_can_be_used_than_was_held(gate):
    """The cost in an outcome replaces what was held."""
    permit = gate.decide(refund())
    gate.settle(permit, Succeeded("done", cost={"eur": "12.5"}))
    assert left(gate) == 87_500_000


def test_a_failure_gives_everything_back(gate):
    """After a failure the budget and the key are as if nothing had happened."""
    gate.settle(gate.decide(refund()), Failed("declined"))
    permit = gate.decide(refund(amount=100))
    assert isinstance(permit, Permit)


def test_an_unknown_outcome_frees_nothing(gate):
    """After an unknown outcome the budget stays spent and the key refuses."""
    gate.settle(gate.decide(refund()), Unknown("timeout"))
    assert left(gate) == 60_000_000
    again = gate.decide(refund())
    assert codes(again) == ["outcome_unknown"]
    assert again.retry == "never"


def test_a_refused_call_spends_nothing(gate):
    """A refusal leaves every limit as it was."""
    gate.settle(gate.decide(refund("A1", 90)), Succeeded())
    before = gate.usage()
    refused = gate.decide(refund("A2", 20))
    assert codes(refused) == ["budget"]
    assert gate.usage() == before


def test_the_budget_message_has_number_name_and_way_out(gate):
    """A refusal by a budget tells what is left, what was asked, for whom, and when it resets."""
    gate.settle(gate.decide(refund("A1", 90)), Succeeded())
    (reason,) = gate.decide(refund("A2", 20)).reasons
    assert reason.message == (
        "eur for tenant acme has 10 of 100 left today, this call needs 20; resets 00:00 UTC"
    )
    assert reason.rule == "limits[0]"


def test_the_same_key_gives_the_recorded_result(gate):
    """An identical call on a key that is done is answered with its result and does not run."""
    gate.settle(gate.decide(refund()), Succeeded({"id": 7}))
    again = gate.decide(refund())
    assert isinstance(again, Recorded)
    assert again.result == {"id": 7}
    assert again.complete


def test_a_key_is_good_across_runs_and_for_its_tenant_only(gate):
    """A key blocks other runs of its tenant, and no other tenant."""
    gate.settle(gate.decide(refund()), Succeeded())
    elsewhere = Proposal("refund", {"order": "A1", "amount": 40}, subject=ACME, run="r2")
    other = Proposal("refund", {"order": "A1", "amount": 40}, subject=Subject(tenant="b"), run="r1")
    assert isinstance(gate.decide(elsewhere), Recorded)
    assert isinstance(gate.decide(other), Permit)


def test_the_same_key_with_other_arguments_is_a_conflict(gate):
    """A key that was used with other arguments refuses."""
    gate.settle(gate.decide(refund()), Succeeded())
    assert codes(gate.decide(refund(amount=41))) == ["key_conflict"]


def test_a_key_that_is_held_refuses_for_now(gate):
    """A key whose call is under way refuses, and says that asking later makes sense."""
    gate.decide(refund())
    refused = gate.decide(refund())
    assert codes(refused) == ["in_progress"]
    assert refused.retry != "never"


def test_a_key_is_free_after_its_time(gate, clock):
    """A key with `within` may be used again after that time."""
    gate.settle(gate.decide(refund()), Succeeded())
    clock.advance(86_400)
    assert isinstance(gate.decide(refund()), Permit)


def test_the_permit_offers_its_key(gate):
    """A permit has the idempotency key, to be handed on to the provider."""
    assert gate.decide(refund()).key == "refund:A1"


def test_a_call_id_is_dispatched_once(gate):
    """The same call id is answered from the record, and refused while it is under way."""
    call = Proposal("send", {"to": "x"}, run="r1", call_id="c1")
    permit = gate.decide(call)
    assert codes(gate.decide(call)) == ["duplicate_call"]
    gate.settle(permit, Succeeded("sent"))
    assert gate.decide(call).result == "sent"
    other = Proposal("send", {"to": "y"}, run="r1", call_id="c1")
    assert codes(gate.decide(other)) == ["duplicate_call"]


def test_an_empty_call_id_is_refused(gate):
    """A framework's call without an id cannot be told from its repetition."""
    assert codes(gate.decide(Proposal("look", {}, call_id=""))) == ["duplicate_call"]


@pytest.mark.parametrize(
    ("tool", "expected"), [("send", ["outcome_unknown"]), ("put", None), ("look", None)]
)
@pytest.mark.parametrize("call_id", [None, "c1"])
def test_a_call_that_was_never_settled(gate, clock, tool, expected, call_id):
    """After a lease that nobody settled, a write is refused and a read or idempotent call runs again."""
    call = Proposal(tool, {"x": 1}, run="r1", call_id=call_id)
    assert isinstance(gate.decide(call), Permit)
    clock.advance(301)
    decision = gate.decide(call)
    if expected is None:
        assert isinstance(decision, Permit)
    else:
        assert set(codes(decision)) == set(expected)


def test_identical_writes_may_run_one_after_the_other(gate):
    """Without `once`, an identical write with an id of its own may run again after a success."""
    for number in range(3):
        permit = gate.decide(Proposal("send", {"to": "x"}, run="r1", call_id=f"c{number}"))
        assert isinstance(permit, Permit)
        gate.settle(permit, Succeeded())


def test_settling_twice_is_refused(gate):
    """A permit is settled once; a second time changes nothing."""
    permit = gate.decide(refund())
    gate.settle(permit, Succeeded("done"))
    before = gate.usage(), gate.journal.head()
    with pytest.raises(PermitError, match="settled before"):
        gate.settle(permit, Failed())
    assert (gate.usage(), gate.journal.head()) == before


def test_settling_a_foreign_permit_is_refused(gate):
    """A permit of another ledger is not known here."""
    permit = Gate(POLICY, "memory:").decide(refund())
    before = gate.usage(), gate.journal.head()
    with pytest.raises(PermitError, match="another ledger") as caught:
        gate.settle(permit, Succeeded("done"))
    assert caught.value.outcome == Succeeded("done")
    assert (gate.usage(), gate.journal.head()) == before


def test_settling_an_expired_permit_is_refused(gate, clock):
    """A permit that expired is on record as unknown, whatever is said later."""
    permit = gate.decide(Proposal("send", {"to": "x"}, run="r1"))
    clock.advance(10)
    before = gate.usage(), gate.journal.head()
    with pytest.raises(PermitError, match="lease"):
        gate.settle(permit, Succeeded())
    assert (gate.usage(), gate.journal.head()) == before


def test_a_cost_that_is_not_metered_is_refused(gate):
    """An outcome cannot settle a resource that its permit does not hold, and the permit stays good."""
    permit = gate.decide(refund())
    with pytest.raises(PermitError, match="does not meter 'usd'; it meters eur"):
        gate.settle(permit, Succeeded(cost={"usd": 1}))
    gate.settle(permit, Succeeded())


def test_a_clock_that_steps_back_frees_nothing(gate, clock):
    """Time in the ledger never falls: neither leases nor windows come back to life."""
    clock.advance(86_400)
    gate.settle(gate.decide(refund("A1", 90)), Succeeded())
    clock.advance(-86_400)
    assert codes(gate.decide(refund("A2", 20))) == ["budget"]


# --- call ------------------------------------------------------------------------------------


def test_call_runs_with_the_decided_arguments(gate):
    """`call` passes plain copies: the function may change them, the permit does not change."""
    seen = {}

    def tool(items):
        items.append("mine")
        seen["items"] = items
        return len(items)

    assert gate.call(Proposal("put", {"items": ["a"]}), tool) == 2
    assert seen["items"] == ["a", "mine"]


def test_call_raises_denied_and_does_not_run(gate):
    """A refused call raises Denied with the decision, and the function is not entered."""
    with pytest.raises(Denied) as caught:
        gate.call(Proposal("nope", {}), pytest.fail)
    assert codes(caught.value.decision) == ["unknown_tool"]


def test_call_answers_from_the_record(gate):
    """`call` gives the recorded result of an identical earlier call."""
    runs = []

    def tool(order, amount):
        runs.append(order)
        return {"id": len(runs)}

    assert gate.call(refund(), tool) == gate.call(refund(), tool) == {"id": 1}
    assert runs == ["A1"]


@pytest.mark.parametrize(
    ("tool", "error", "again"),
    [
        ("send", ValueError("x"), False),
        ("send", NotExecuted("x"), True),
        ("look", ValueError("x"), True),
        ("put", KeyboardInterrupt(), True),
        ("send", KeyboardInterrupt(), False),
    ],
)
def test_what_an_exception_means(gate, tool, error, again):
    """A tool that raises is unknown for a write and failed for the rest, unless it says NotExecuted."""

    def broken():
        raise error

    with pytest.raises(type(error)):
        gate.call(Proposal(tool, {}, run="r1"), broken)
    assert isinstance(gate.decide(Proposal(tool, {}, run="r1")), Permit) is again


def test_on_error_failed_lets_a_write_run_again(clock):
    """`on_error: failed` says that an exception of this tool means that nothing happened."""
    gate = Gate({"version": 1, "tools": {"send": {"on_error": "failed"}}}, "memory:", clock=clock)

    def broken():
        raise ValueError("declined")

    for _ in range(2):
        with pytest.raises(ValueError, match="^declined$"):
            gate.call(Proposal("send", {}), broken)


def test_call_refuses_async_functions(gate):
    """`call` does not take a coroutine for a result, and nothing stays held."""

    async def tool(order, amount):
        return None

    with pytest.raises(TypeError, match="acall"):
        gate.call(refund(), tool)
    with pytest.raises(TypeError, match="acall"):
        gate.call(refund(), lambda **args: tool(**args))
    assert gate.call(refund(), lambda **args: "ran") == "ran"


class _Forgetful(MemoryLedger):
    """A real ledger that goes down after the decision."""

    def perform(self, request):
        if type(request).__name__ == "Settling":
            raise LedgerError("gone")
        return super().perform(request)


def test_a_result_is_not_lost_with_the_ledger():
    """If the ledger goes down before the settlement, the error has what the tool gave."""
    gate = Gate(POLICY, _Forgetful())
    with pytest.raises(LedgerError) as caught:
        gate.call(refund(), lambda **args: 5)
    assert caught.value.outcome == Succeeded(5)


# --- threads and tasks -------------------------------------------------------------------------

CALLS = {
    "version": 1,
    "tools": {"t": {}},
    "limits": [{"budget": "calls", "limit": 7, "per": ["run"]}],
}


def test_threads_share_a_budget_exactly():
    """Of 40 calls in 8 threads, exactly as many run as the budget has."""
    gate = Gate(CALLS, "memory:")
    ran = []

    def work(thread):
        for number in range(5):
            try:
                gate.call(
                    Proposal("t", {"n": f"{thread}.{number}"}, run="r"), lambda n: ran.append(n)
                )
            except Denied:
                pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 7


def test_tasks_share_a_budget_exactly():
    """The same holds for asyncio tasks."""
    gate = Gate(CALLS, "memory:")
    ran = []

    async def tool(n):
        await asyncio.sleep(0)
        ran.append(n)

    async def work(number):
        try:
            await gate.acall(Proposal("t", {"n": number}, run="r"), tool)
        except Denied:
            pass

    async def main():
        await asyncio.gather(*(work(n) for n in range(40)))

    asyncio.run(main())
    assert len(ran) == 7


def test_a_cancelled_call_is_unknown():
    """Cancelling a call that runs settles it as unknown: a write is not tried again."""
    gate = Gate({"version": 1, "tools": {"t": {}}}, "memory:")

    async def main():
        started = asyncio.Event()

        async def tool():
            started.set()
            await asyncio.sleep(60)

        task = asyncio.ensure_future(gate.acall(Proposal("t", {}, run="r"), tool))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert codes(gate.decide(Proposal("t", {}, run="r"))) == ["outcome_unknown"]


def test_waiting_for_a_slot():
    """A call that may wait gets the slot when another one ends, and is refused when none does."""
    policy = {"version": 1, "tools": {"t": {}}, "limits": [{"concurrency": 1, "wait": "30s"}]}
    gate = Gate(policy, "memory:")
    first = gate.decide(Proposal("t", {"n": 1}))
    timer = threading.Timer(0.05, gate.settle, (first, Succeeded()))
    timer.start()
    second = gate.decide(Proposal("t", {"n": 2}))
    assert isinstance(second, Permit)
    short = Gate({**policy, "limits": [{"concurrency": 1, "wait": "20ms"}]}, gate.ledger)
    entries = gate.journal.head()[0]
    third = short.decide(Proposal("t", {"n": 3}))
    assert codes(third) == ["concurrency"]
    assert "after waiting 0.02 s" in third.reasons[0].message
    assert gate.journal.head()[0] == entries + 2, (
        "the new policy and one refusal, however often it asked"
    )


def test_waiting_does_not_block_the_event_loop():
    """While one task waits for a slot, others go on, and one of them frees it."""
    policy = {"version": 1, "tools": {"t": {}}, "limits": [{"concurrency": 1, "wait": "30s"}]}
    gate = Gate(policy, "memory:")
    order = []

    async def tool(n):
        await asyncio.sleep(0.01)
        order.append(n)

    async def main():
        await asyncio.gather(*(gate.acall(Proposal("t", {"n": n}), tool) for n in range(4)))

    asyncio.run(main())
    assert sorted(order) == [0, 1, 2, 3]
