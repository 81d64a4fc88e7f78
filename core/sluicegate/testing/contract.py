"""
What every adapter promises, as tests.

    from sluicegate.testing import AdapterContract

    class TestMyAdapter(AdapterContract):
        def run(self, gate, tools, script, subject=None): ...
        async def arun(self, gate, tools, script, subject=None): ...

Both build a real agent of the framework with these tools (plain Python
functions), guarded by this gate, and a scripted model in place of a real one;
they run it to its end and say what the model was told. Each test is one promise.
Where a framework cannot keep one, override that test with one that shows what
happens instead, and name it in the adapter's documentation.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from ..context import context
from ..errors import LedgerError, NotExecuted
from ..gate import Gate
from ..hookspec import Objection, hookimpl
from ..ledger.memory import MemoryLedger
from ..proposal import Subject
from .runner import ADA, Runner
from .scene import (
    Bodies,
    Call,
    Failing,
    Plugin,
    decisions_of,
    gate_over,
    outcomes_of,
    pay,
    said_of,
    turns,
)

__all__ = ["AdapterContract"]


class AdapterContract(Runner):
    """The promises. Subclass it, say how to run an agent, and let pytest find it."""

    # --- what a call may do ----------------------------------------------------------------------

    def test_a_permitted_call_runs_once(self) -> None:
        """A permitted call runs once, and its result reaches the model."""
        bodies = Bodies()
        told = self._run(gate_over(), [bodies.pay()], turns(pay(1)))
        assert bodies.ran == [("A1", 5.5, "EUR")]
        assert "paid A1, receipt 1" in told.replies[0]
        assert told.done

    def test_a_refused_call_never_enters_the_body(self) -> None:
        """A refused call does not run, its reason reaches the model, and the loop goes on."""
        bodies = Bodies()
        told = self._run(gate_over(), [bodies.pay()], turns(pay(1, amount=5000.0), pay(2)))
        assert bodies.ran == [("A2", 5.5, "EUR")]
        assert "args_invalid" in told.replies[0]
        assert "5000" in told.replies[0]
        assert "paid A2" in told.replies[1]
        assert told.done

    def test_async_agents_and_tools(self) -> None:
        """On an event loop, with an async tool, the same is permitted and the same refused."""
        bodies = Bodies()
        told = self._arun(gate_over(), [bodies.apay()], turns(pay(1, amount=5000.0), pay(2)))
        assert bodies.ran == [("A2", 5.5, "EUR")]
        assert "args_invalid" in told.replies[0]
        assert told.done

    def test_sync_tools_in_async_agents(self) -> None:
        """On an event loop, a plain function is refused just as well."""
        bodies = Bodies()
        told = self._arun(gate_over(), [bodies.pay()], turns(pay(1, amount=5000.0), pay(2)))
        assert bodies.ran == [("A2", 5.5, "EUR")]
        assert "args_invalid" in told.replies[0]

    def test_a_tool_without_an_entry_does_not_run(self) -> None:
        """A tool that the agent has and the policy has not is refused."""
        bodies = Bodies()

        def extra(key: str) -> str:
            """A tool that nobody wrote into the policy."""
            bodies.ran.append((key,))
            return "ran"

        told = self._run(
            gate_over(), [bodies.pay(), extra], turns(Call("extra", {"key": "x"}, "c1"))
        )
        assert bodies.ran == []
        assert "unknown_tool" in told.replies[0]

    def test_a_final_refusal_ends_the_run(self) -> None:
        """After a refusal that is final, the model is not asked for more, and nothing more runs."""
        bodies = Bodies()
        stop = Plugin(lambda: Objection(message="stop now", final=True))
        gate = gate_over(plugins={"stop": stop})
        told = self._run(gate, [bodies.pay()], turns(pay(1), pay(2), pay(3)))
        assert bodies.ran == []
        assert not told.done
        assert len(decisions_of(gate)) == 1

    # --- what may go wrong with the gate -----------------------------------------------------------

    def test_a_ledger_that_is_down_never_runs_the_tool(self) -> None:
        """While the ledger is down nothing runs, and the model is told so."""
        self._refuses_all(Failing(LedgerError("the disk is gone")), "ledger_unavailable")

    def test_a_gate_that_breaks_never_runs_the_tool(self) -> None:
        """An error inside the gate, even one that frameworks swallow, is a refusal."""
        for error in (RuntimeError("bug"), NotImplementedError("bug"), StopIteration()):
            self._refuses_all(Failing(error), "internal_error")

    def test_a_gate_that_times_out_never_runs_the_tool(self) -> None:
        """A ledger that gives up after a while is a refusal, and the agent does not hang."""
        self._refuses_all(
            Failing(LedgerError("no answer within 0.2 s"), after=0.2), "ledger_unavailable"
        )

    def test_a_subject_that_cannot_be_told_never_runs_the_tool(self) -> None:
        """If it cannot be said for whom a call is made, it is not made."""
        bodies = Bodies()

        def nobody(*_: Any, **__: Any) -> Subject:
            raise LookupError("who is this?")

        with contextlib.suppress(Exception):  # to stop the whole run is a refusal too
            self._run(gate_over(), [bodies.pay()], turns(pay(1)), nobody)
        assert bodies.ran == []

    def _refuses_all(self, ledger: MemoryLedger, code: str) -> None:
        for runner in (self._run, self._arun):
            bodies = Bodies()
            told = runner(gate_over(ledger=ledger), [bodies.pay()], turns(pay(1)))
            assert bodies.ran == []
            assert code in told.replies[0]

    # --- many calls --------------------------------------------------------------------------------

    def test_exactly_as_many_run_as_the_limit_allows(self) -> None:
        """Of twelve calls in one turn, exactly five run under a limit of five."""
        for runner in (self._run, self._arun):
            bodies = Bodies()
            gate = gate_over(limits=[{"budget": "calls", "limit": 5, "per": ["run"]}])
            told = runner(gate, [bodies.pay()], [[pay(n) for n in range(12)]])
            assert len(bodies.ran) == 5
            assert sum("budget" in reply for reply in told.replies) == 7
            assert [row.used for row in gate.usage()] == [5_000_000]

    def test_never_more_at_once_than_there_are_slots(self) -> None:
        """Of 200 calls in one turn never more than eight run at once, and waiting ones come through."""
        for runner in (self._run, self._arun):
            bodies = Bodies()
            gate = gate_over(limits=[{"concurrency": 8, "wait": "50s", "tools": ["work"]}])
            calls = [Call("work", {"number": n}, f"c{n}") for n in range(200)]
            told = runner(gate, [bodies.slow(0.002)], [calls])
            assert bodies.peak <= 8
            assert len(bodies.ran) == 200
            assert told.done

    def test_every_run_has_its_own_budget(self) -> None:
        """Two runs of the same agent do not share what is counted per run."""
        bodies = Bodies()
        gate = gate_over(limits=[{"budget": "calls", "limit": 1, "per": ["run"]}])
        for number in (1, 2):
            self._run(gate, [bodies.pay()], turns(pay(number)))
        assert len(bodies.ran) == 2

    # --- the same call again -------------------------------------------------------------------------

    def test_an_identical_call_is_answered_from_the_record(self) -> None:
        """A call whose key is done gets the recorded result and does not run again."""
        bodies = Bodies()
        again = Call("pay", pay(1).args, "c2")
        told = self._run(gate_over(once=True), [bodies.pay()], turns(pay(1), again))
        assert len(bodies.ran) == 1
        assert "paid A1, receipt 1" in told.replies[1]

    def test_other_arguments_under_the_same_key_are_a_conflict(self) -> None:
        """A key that was used with other arguments refuses."""
        bodies = Bodies()
        told = self._run(
            gate_over(once=True),
            [bodies.pay()],
            turns(pay(1), Call("pay", pay(1, amount=6.0).args, "c2")),
        )
        assert len(bodies.ran) == 1
        assert "key_conflict" in told.replies[1]

    def test_a_call_id_is_dispatched_once(self) -> None:
        """Two calls with one id in a turn run once."""
        for runner in (self._run, self._arun):
            bodies = Bodies()
            runner(gate_over(), [bodies.pay()], [[pay(1), pay(1)]])
            assert len(bodies.ran) == 1

    def test_a_call_without_an_id_does_not_run(self) -> None:
        """A call whose id is empty cannot be told from its repetition and is refused."""
        bodies = Bodies()
        self._run(gate_over(), [bodies.pay()], turns(Call("pay", pay(1).args, "")))
        assert bodies.ran == []

    # --- arguments -----------------------------------------------------------------------------------

    def test_undeclared_arguments_are_refused(self) -> None:
        """A misspelt argument is refused instead of being dropped, and told with the declared ones."""
        bodies = Bodies()
        told = self._run(gate_over(), [bodies.pay()], turns(pay(1, currrency="USD")))
        assert bodies.ran == []
        assert "args_unknown" in told.replies[0]
        assert "currrency" in told.replies[0]
        assert "amount, currency, order" in told.replies[0]

    def test_values_are_not_coerced(self) -> None:
        """Text for a number is refused instead of being read as one."""
        bodies = Bodies()
        told = self._run(gate_over(), [bodies.pay()], turns(pay(1, amount="5")))
        assert bodies.ran == []
        assert "args_invalid" in told.replies[0]

    def test_the_policy_sees_defaults(self) -> None:
        """What is decided about is what the function will receive, with its defaults."""
        bodies = Bodies()
        gate = gate_over()
        self._run(gate, [bodies.pay()], turns(pay(1)))
        assert decisions_of(gate)[0]["proposal"]["args"] == {
            "order": "A1",
            "amount": 5.5,
            "currency": "EUR",
        }

    def test_what_was_decided_is_what_runs(self) -> None:
        """Changing the call's own arguments after the decision changes nothing for the tool."""
        seen: list[list[str]] = []
        items = ["decided"]

        def pack(items: list[str]) -> str:
            """Pack some items."""
            seen.append(list(items))
            return "packed"

        class Mutate:
            @staticmethod
            @hookimpl
            def sluicegate_record(entry: Mapping[str, Any]) -> None:
                items[:] = ["changed"]

        gate = gate_over(plugins={"mutate": Mutate()})
        self._run(gate, [pack], turns(Call("pack", {"items": items}, "c1")))
        assert seen == [["decided"]]

    # --- outcomes --------------------------------------------------------------------------------------

    def test_a_write_that_raises_is_unknown(self) -> None:
        """A write that raised is not tried again, under whatever id."""
        bodies = Bodies()
        gate = gate_over(fetch={"effect": "write"})
        calls = [Call("fetch", {"key": "k"}, f"c{n}") for n in range(2)]
        self._run_raising(gate, [bodies.fetch(TimeoutError("lost reply"))], turns(calls[0]))
        self._run_raising(
            gate, [bodies.fetch(TimeoutError("lost reply"))], turns(calls[1]), "same run"
        )
        assert outcomes_of(gate)[0] == "unknown"
        assert len(bodies.ran) == 1

    def test_a_read_that_raises_has_failed(self) -> None:
        """A read that raised has failed, and may run again."""
        bodies = Bodies()
        gate = gate_over(fetch={"effect": "read"})
        for number in range(2):
            self._run_raising(
                gate,
                [bodies.fetch(TimeoutError("slow"))],
                turns(Call("fetch", {"key": "k"}, f"c{number}")),
            )
        assert set(outcomes_of(gate)) == {"failed"}
        assert len(bodies.ran) >= 2

    def test_not_executed_gives_everything_back(self) -> None:
        """A tool that says that nothing happened leaves nothing spent."""
        bodies = Bodies()
        gate = gate_over(
            fetch={"effect": "write"}, limits=[{"budget": "calls", "limit": 9, "per": ["tenant"]}]
        )
        self._run_raising(
            gate,
            [bodies.fetch(NotExecuted("card declined"))],
            turns(Call("fetch", {"key": "k"}, "c1")),
        )
        assert set(outcomes_of(gate)) == {"failed"}
        assert [row.used + row.held for row in gate.usage()] in ([], [0])

    def test_cancelling_leaves_an_unknown_outcome(self) -> None:
        """Cancelling an agent while its tool runs leaves the outcome unknown and frees nothing."""
        started = threading.Event()
        entered: list[str] = []

        async def fetch(key: str) -> str:
            """Fetch what is stored under a key."""
            entered.append(key)
            started.set()
            await asyncio.sleep(30)
            return "never"

        gate = gate_over(
            fetch={"effect": "write"}, limits=[{"budget": "calls", "limit": 9, "per": ["tenant"]}]
        )

        async def main() -> None:
            run = self.arun(gate, [fetch], turns(Call("fetch", {"key": "k"}, "c1")), ADA)
            task = asyncio.ensure_future(run)
            while not started.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task], timeout=self.PATIENCE)
            assert task.done(), "the agent hangs after it was cancelled"

        with context(run="cancelled"):
            self._patiently(lambda: asyncio.run(main()))
        assert entered == ["k"]
        assert outcomes_of(gate) == ["unknown"]
        assert [row.used for row in gate.usage()] == [1_000_000]

    # --- who, where, and the record ----------------------------------------------------------------------

    def test_agents_in_agents_share_the_root(self) -> None:
        """An agent inside a tool is gated with its own subject, and its calls count for the root run."""
        bodies = Bodies()
        gate = gate_over(limits=[{"budget": "calls", "limit": 3, "per": ["root"]}])
        inner = Subject(tenant="acme", agent="helper")

        def fetch(key: str) -> str:
            """Ask another agent."""
            self.run(gate, [bodies.pay()], turns(pay(1), pay(2), pay(3)), inner)
            return "asked"

        self._run(gate, [fetch], turns(Call("fetch", {"key": "k"}, "c1")))
        assert len(bodies.ran) == 2
        outer, *nested = (decision["proposal"] for decision in decisions_of(gate))
        assert outer["depth"] == 0
        for proposal in nested:
            assert proposal["subject"]["agent"] == "helper"
            assert (proposal["parent"], proposal["root"], proposal["depth"]) == (
                outer["run"],
                outer["run"],
                1,
            )
            assert proposal["run"] != outer["run"]

    def test_the_context_says_who_and_where(self) -> None:
        """Without a subject of its own, the adapter takes subject and run from the context."""
        gate = gate_over()
        bodies = Bodies()
        with context(tenant="from-context", run="run-7"):
            self._patiently(lambda: self.run(gate, [bodies.pay()], turns(pay(1))))
        proposal = decisions_of(gate)[0]["proposal"]
        assert (proposal["subject"]["tenant"], proposal["run"]) == ("from-context", "run-7")

    def test_the_record_is_whole(self) -> None:
        """Afterwards the journal verifies, each permit has one outcome, and the usage is exact."""
        bodies = Bodies()
        gate = gate_over(once=True, limits=[{"budget": "calls", "limit": 4, "per": ["tenant"]}])
        script = [[pay(n) for n in range(3)], [pay(9, amount="x"), pay(8)], [pay(7)]]
        self._run(gate, [bodies.pay()], script)
        assert gate.journal.verify() is None
        entries = [entry.content for entry in gate.journal]
        permits = [entry["permit"] for entry in entries if entry.get("decision") == "permit"]
        outcomes = [entry["permit"] for entry in entries if entry["kind"] == "outcome"]
        assert sorted(permits) == sorted(outcomes)
        assert len(permits) == len(bodies.ran) == 4
        assert [(row.used, row.held, row.left) for row in gate.usage()] == [(4_000_000, 0, 0)]

    def test_the_same_script_gives_the_same_decisions(self) -> None:
        """Twelve calls give the same decisions, reasons and action digests in every framework."""
        from .twelve import EXPECTED, POLICY, SCRIPT, SUBJECT, tools

        gate = Gate(POLICY, "memory:")
        with context(run="twelve"):
            self._patiently(lambda: self.run(gate, tools(), SCRIPT, SUBJECT))
        assert [said_of(decision) for decision in decisions_of(gate)] == EXPECTED
