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
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

from ..context import context, current
from ..errors import LedgerError, NotExecuted
from ..gate import Gate
from ..hookspec import Objection, hookimpl
from ..ledger.base import Answer, Request
from ..ledger.memory import MemoryLedger
from ..proposal import Subject

__all__ = ["AdapterContract", "Call", "Script", "Told"]

_ADA: Final = Subject(tenant="acme", user="ada", agent="clerk")
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One tool call of the scripted model; *id* None means that the framework sees no id."""

    tool: str
    args: Mapping[str, Any]
    id: str | None


Script = Sequence[Sequence[Call]]
"""The turns of the model: the calls it makes together. After the last one it says "done"."""


@dataclass
class Told:
    """
    How a run went: the texts that the model was given for its calls, in the order of
    the calls, and whether the model came to its last word, "done".
    """

    replies: list[str] = field(default_factory=list[str])
    done: bool = False


@dataclass
class Bodies:
    """Tools with real bodies that write down what they did."""

    ran: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    busy: int = 0
    peak: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pay(self) -> Callable[..., Any]:
        def pay(order: str, amount: float, currency: str = "EUR") -> str:
            """Pay an amount for an order."""
            self.ran.append((order, amount, currency))
            return f"paid {order}, receipt {len(self.ran)}"

        return pay

    def apay(self) -> Callable[..., Any]:
        async def pay(order: str, amount: float, currency: str = "EUR") -> str:
            """Pay an amount for an order."""
            await asyncio.sleep(0)
            self.ran.append((order, amount, currency))
            return f"paid {order}, receipt {len(self.ran)}"

        return pay

    def fetch(self, error: BaseException | None = None) -> Callable[..., Any]:
        def fetch(key: str) -> str:
            """Fetch what is stored under a key."""
            self.ran.append((key,))
            if error is not None:
                raise error
            return f"value of {key}"

        return fetch

    def slow(self, seconds: float) -> Callable[..., Any]:
        def work(number: int) -> str:
            """Work on a number for a while."""
            with self.lock:
                self.busy += 1
                self.peak = max(self.peak, self.busy)
            time.sleep(seconds)  # noqa: TID251 - the work of a tool
            with self.lock:
                self.busy -= 1
            self.ran.append((number,))
            return f"worked on {number}"

        return work


def turns(*calls: Call) -> list[list[Call]]:
    """A script with one call a turn."""
    return [[call] for call in calls]


def pay(number: int, /, **more: Any) -> Call:
    """The call of `pay` with the id c<number>."""
    return Call("pay", {"order": f"A{number}", "amount": 5.5, **more}, f"c{number}")


class _Failing(MemoryLedger):
    """A ledger that fails once it is asked for a decision, perhaps after a while."""

    def __init__(self, error: Exception, after: float = 0.0) -> None:
        super().__init__()
        self._error, self._after = error, after

    def perform(self, request: Request) -> Answer:
        time.sleep(self._after)  # noqa: TID251 - the ledger is slow
        raise self._error


class AdapterContract:
    """The promises. Subclass it, say how to run an agent, and let pytest find it."""

    PATIENCE: ClassVar[float] = 60.0
    """Seconds after which a run counts as hanging."""

    # --- to be said by the adapter ---------------------------------------------------------------

    def run(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = None
    ) -> Told:
        """Run a guarded agent to its end, blocking."""
        raise NotImplementedError

    async def arun(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = None
    ) -> Told:
        """The same on the running event loop."""
        raise NotImplementedError

    # --- what a call may do ----------------------------------------------------------------------

    def test_a_permitted_call_runs_once(self) -> None:
        """A permitted call runs once, and its result reaches the model."""
        bodies = Bodies()
        told = self._run(_gate(), [bodies.pay()], turns(pay(1)))
        assert bodies.ran == [("A1", 5.5, "EUR")]
        assert "paid A1, receipt 1" in told.replies[0]
        assert told.done

    def test_a_refused_call_never_enters_the_body(self) -> None:
        """A refused call does not run, its reason reaches the model, and the loop goes on."""
        bodies = Bodies()
        told = self._run(_gate(), [bodies.pay()], turns(pay(1, amount=5000.0), pay(2)))
        assert bodies.ran == [("A2", 5.5, "EUR")]
        assert "args_invalid" in told.replies[0]
        assert "5000" in told.replies[0]
        assert "paid A2" in told.replies[1]
        assert told.done

    def test_async_agents_and_tools(self) -> None:
        """On an event loop, with an async tool, the same is permitted and the same refused."""
        bodies = Bodies()
        told = self._arun(_gate(), [bodies.apay()], turns(pay(1, amount=5000.0), pay(2)))
        assert bodies.ran == [("A2", 5.5, "EUR")]
        assert "args_invalid" in told.replies[0]
        assert told.done

    def test_sync_tools_in_async_agents(self) -> None:
        """On an event loop, a plain function is refused just as well."""
        bodies = Bodies()
        told = self._arun(_gate(), [bodies.pay()], turns(pay(1, amount=5000.0), pay(2)))
        assert bodies.ran == [("A2", 5.5, "EUR")]
        assert "args_invalid" in told.replies[0]

    def test_a_tool_without_an_entry_does_not_run(self) -> None:
        """A tool that the agent has and the policy has not is refused."""
        bodies = Bodies()

        def extra(key: str) -> str:
            """A tool that nobody wrote into the policy."""
            bodies.ran.append((key,))
            return "ran"

        told = self._run(_gate(), [bodies.pay(), extra], turns(Call("extra", {"key": "x"}, "c1")))
        assert bodies.ran == []
        assert "unknown_tool" in told.replies[0]

    def test_a_final_refusal_ends_the_run(self) -> None:
        """After a refusal that is final, the model is not asked for more, and nothing more runs."""
        bodies = Bodies()
        stop = _Plugin(lambda: Objection(message="stop now", final=True))
        gate = _gate(plugins={"stop": stop})
        told = self._run(gate, [bodies.pay()], turns(pay(1), pay(2), pay(3)))
        assert bodies.ran == []
        assert not told.done
        assert len(_decisions(gate)) == 1

    # --- what may go wrong with the gate -----------------------------------------------------------

    def test_a_ledger_that_is_down_never_runs_the_tool(self) -> None:
        """While the ledger is down nothing runs, and the model is told so."""
        self._refuses_all(_Failing(LedgerError("the disk is gone")), "ledger_unavailable")

    def test_a_gate_that_breaks_never_runs_the_tool(self) -> None:
        """An error inside the gate, even one that frameworks swallow, is a refusal."""
        for error in (RuntimeError("bug"), NotImplementedError("bug"), StopIteration()):
            self._refuses_all(_Failing(error), "internal_error")

    def test_a_gate_that_times_out_never_runs_the_tool(self) -> None:
        """A ledger that gives up after a while is a refusal, and the agent does not hang."""
        self._refuses_all(_Failing(LedgerError("no answer within 0.2 s"), after=0.2), "ledger_unavailable")

    def test_a_subject_that_cannot_be_told_never_runs_the_tool(self) -> None:
        """If it cannot be said for whom a call is made, it is not made."""
        bodies = Bodies()

        def nobody(*_: Any, **__: Any) -> Subject:
            raise LookupError("who is this?")

        try:
            self._run(_gate(), [bodies.pay()], turns(pay(1)), nobody)
        except Exception:  # noqa: BLE001, S110 - to stop the whole run is a refusal too
            pass
        assert bodies.ran == []

    def _refuses_all(self, ledger: MemoryLedger, code: str) -> None:
        for runner in (self._run, self._arun):
            bodies = Bodies()
            told = runner(_gate(ledger=ledger), [bodies.pay()], turns(pay(1)))
            assert bodies.ran == []
            assert code in told.replies[0]

    # --- many calls --------------------------------------------------------------------------------

    def test_exactly_as_many_run_as_the_limit_allows(self) -> None:
        """Of twelve calls in one turn, exactly five run under a limit of five."""
        for runner in (self._run, self._arun):
            bodies = Bodies()
            gate = _gate(limits=[{"budget": "calls", "limit": 5, "per": ["run"]}])
            told = runner(gate, [bodies.pay()], [[pay(n) for n in range(12)]])
            assert len(bodies.ran) == 5
            assert sum("budget" in reply for reply in told.replies) == 7
            assert [row.used for row in gate.usage()] == [5_000_000]

    def test_never_more_at_once_than_there_are_slots(self) -> None:
        """Of thirty calls in one turn never more than four run at once, and waiting ones come through."""
        for runner in (self._run, self._arun):
            bodies = Bodies()
            gate = _gate(limits=[{"concurrency": 4, "wait": "50s", "tools": ["work"]}])
            calls = [Call("work", {"number": n}, f"c{n}") for n in range(30)]
            told = runner(gate, [bodies.slow(0.005)], [calls])
            assert bodies.peak <= 4
            assert len(bodies.ran) == 30
            assert told.done

    def test_every_run_has_its_own_budget(self) -> None:
        """Two runs of the same agent do not share what is counted per run."""
        bodies = Bodies()
        gate = _gate(limits=[{"budget": "calls", "limit": 1, "per": ["run"]}])
        for number in (1, 2):
            self._run(gate, [bodies.pay()], turns(pay(number)))
        assert len(bodies.ran) == 2

    # --- the same call again -------------------------------------------------------------------------

    def test_an_identical_call_is_answered_from_the_record(self) -> None:
        """A call whose key is done gets the recorded result and does not run again."""
        bodies = Bodies()
        again = Call("pay", pay(1).args, "c2")
        told = self._run(_gate(once=True), [bodies.pay()], turns(pay(1), again))
        assert len(bodies.ran) == 1
        assert "paid A1, receipt 1" in told.replies[1]

    def test_other_arguments_under_the_same_key_are_a_conflict(self) -> None:
        """A key that was used with other arguments refuses."""
        bodies = Bodies()
        told = self._run(_gate(once=True), [bodies.pay()], turns(pay(1), Call("pay", pay(1, amount=6.0).args, "c2")))
        assert len(bodies.ran) == 1
        assert "key_conflict" in told.replies[1]

    def test_a_call_id_is_dispatched_once(self) -> None:
        """Two calls with one id in a turn run once."""
        for runner in (self._run, self._arun):
            bodies = Bodies()
            runner(_gate(), [bodies.pay()], [[pay(1), pay(1)]])
            assert len(bodies.ran) == 1

    def test_a_call_without_an_id_does_not_run(self) -> None:
        """A call whose id is empty cannot be told from its repetition and is refused."""
        bodies = Bodies()
        self._run(_gate(), [bodies.pay()], turns(Call("pay", pay(1).args, "")))
        assert bodies.ran == []

    # --- arguments -----------------------------------------------------------------------------------

    def test_undeclared_arguments_are_refused(self) -> None:
        """A misspelt argument is refused instead of being dropped, and told with the declared ones."""
        bodies = Bodies()
        told = self._run(_gate(), [bodies.pay()], turns(pay(1, currrency="USD")))
        assert bodies.ran == []
        assert "args_unknown" in told.replies[0]
        assert "currrency" in told.replies[0]
        assert "amount, currency, order" in told.replies[0]

    def test_values_are_not_coerced(self) -> None:
        """Text for a number is refused instead of being read as one."""
        bodies = Bodies()
        told = self._run(_gate(), [bodies.pay()], turns(pay(1, amount="5")))
        assert bodies.ran == []
        assert "args_invalid" in told.replies[0]

    def test_the_policy_sees_defaults(self) -> None:
        """What is decided about is what the function will receive, with its defaults."""
        bodies = Bodies()
        gate = _gate()
        self._run(gate, [bodies.pay()], turns(pay(1)))
        assert _decisions(gate)[0]["proposal"]["args"] == {"order": "A1", "amount": 5.5, "currency": "EUR"}

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

        gate = _gate(plugins={"mutate": Mutate()})
        self._run(gate, [pack], turns(Call("pack", {"items": items}, "c1")))
        assert seen == [["decided"]]

    # --- outcomes --------------------------------------------------------------------------------------

    def test_a_write_that_raises_is_unknown(self) -> None:
        """A write that raised is not tried again, under whatever id."""
        bodies = Bodies()
        gate = _gate(fetch={"effect": "write"})
        calls = [Call("fetch", {"key": "k"}, f"c{n}") for n in range(2)]
        self._run_raising(gate, [bodies.fetch(TimeoutError("lost reply"))], turns(calls[0]))
        self._run_raising(gate, [bodies.fetch(TimeoutError("lost reply"))], turns(calls[1]), "same run")
        assert _outcomes(gate)[0] == "unknown"
        assert len(bodies.ran) == 1

    def test_a_read_that_raises_has_failed(self) -> None:
        """A read that raised has failed, and may run again."""
        bodies = Bodies()
        gate = _gate(fetch={"effect": "read"})
        for number in range(2):
            self._run_raising(gate, [bodies.fetch(TimeoutError("slow"))], turns(Call("fetch", {"key": "k"}, f"c{number}")))
        assert set(_outcomes(gate)) == {"failed"}
        assert len(bodies.ran) >= 2

    def test_not_executed_gives_everything_back(self) -> None:
        """A tool that says that nothing happened leaves nothing spent."""
        bodies = Bodies()
        gate = _gate(fetch={"effect": "write"}, limits=[{"budget": "calls", "limit": 9, "per": ["tenant"]}])
        self._run_raising(gate, [bodies.fetch(NotExecuted("card declined"))], turns(Call("fetch", {"key": "k"}, "c1")))
        assert set(_outcomes(gate)) == {"failed"}
        assert [row.used + row.held for row in gate.usage()] in ([], [0])

    def test_cancelling_leaves_an_unknown_outcome(self) -> None:
        """Cancelling an agent while its tool runs leaves the outcome unknown and frees nothing."""
        started, entered = threading.Event(), []

        async def fetch(key: str) -> str:
            """Fetch what is stored under a key."""
            entered.append(key)
            started.set()
            await asyncio.sleep(30)
            return "never"

        gate = _gate(fetch={"effect": "write"}, limits=[{"budget": "calls", "limit": 9, "per": ["tenant"]}])

        async def main() -> None:
            run = self.arun(gate, [fetch], turns(Call("fetch", {"key": "k"}, "c1")), _ADA)
            task = asyncio.ensure_future(run)
            while not started.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task], timeout=self.PATIENCE)
            assert task.done(), "the agent hangs after it was cancelled"

        with context(run="cancelled"):
            self._patiently(lambda: asyncio.run(main()))
        assert entered == ["k"]
        assert _outcomes(gate) == ["unknown"]
        assert [row.used for row in gate.usage()] == [1_000_000]

    # --- who, where, and the record ----------------------------------------------------------------------

    def test_agents_in_agents_share_the_root(self) -> None:
        """An agent inside a tool is gated with its own subject, and its calls count for the root run."""
        bodies = Bodies()
        gate = _gate(limits=[{"budget": "calls", "limit": 3, "per": ["root"]}])
        inner = Subject(tenant="acme", agent="helper")

        def fetch(key: str) -> str:
            """Ask another agent."""
            self.run(gate, [bodies.pay()], turns(pay(1), pay(2), pay(3)), inner)
            return "asked"

        self._run(gate, [fetch], turns(Call("fetch", {"key": "k"}, "c1")))
        assert len(bodies.ran) == 2
        outer, *nested = (decision["proposal"] for decision in _decisions(gate))
        assert outer["depth"] == 0
        for proposal in nested:
            assert proposal["subject"]["agent"] == "helper"
            assert (proposal["parent"], proposal["root"], proposal["depth"]) == (outer["run"], outer["run"], 1)
            assert proposal["run"] != outer["run"]

    def test_the_context_says_who_and_where(self) -> None:
        """Without a subject of its own, the adapter takes subject and run from the context."""
        gate = _gate()
        bodies = Bodies()
        with context(tenant="from-context", run="run-7"):
            self._patiently(lambda: self.run(gate, [bodies.pay()], turns(pay(1))))
        proposal = _decisions(gate)[0]["proposal"]
        assert (proposal["subject"]["tenant"], proposal["run"]) == ("from-context", "run-7")

    def test_the_record_is_whole(self) -> None:
        """Afterwards the journal verifies, each permit has one outcome, and the usage is exact."""
        bodies = Bodies()
        gate = _gate(once=True, limits=[{"budget": "calls", "limit": 4, "per": ["tenant"]}])
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
        assert [_told(decision) for decision in _decisions(gate)] == EXPECTED

    # --- how -----------------------------------------------------------------------------------------

    def _run(self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = _ADA) -> Told:
        return self._patiently(lambda: self.run(gate, tools, script, subject))

    def _arun(self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, subject: Any = _ADA) -> Told:
        return self._patiently(lambda: asyncio.run(_awaited(self.arun(gate, tools, script, subject))))

    def _run_raising(
        self, gate: Gate, tools: Sequence[Callable[..., Any]], script: Script, _: str = ""
    ) -> None:
        """Run an agent whose tool raises: some frameworks tell the model, some end the run."""
        try:
            with context(run="raising"):
                self._run(gate, tools, script)
        except (TimeoutError, NotExecuted):
            pass

    def _patiently(self, work: Callable[[], T]) -> T:
        """What *work* gives, in this context; a run that hangs is a failure and not a hanging test."""
        results: list[T] = []
        errors: list[BaseException] = []
        here = current()

        def attempt() -> None:
            try:
                who = here.subject
                with context(
                    tenant=who.tenant, user=who.user, agent=who.agent, roles=who.roles or None, run=here.run
                ):
                    results.append(work())
            except BaseException as error:  # noqa: BLE001 - it is raised again below
                errors.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(self.PATIENCE)
        assert not thread.is_alive(), f"the agent hangs: no end after {self.PATIENCE:g} s"
        if errors:
            raise errors[0]
        return results[0]


class _Plugin:
    """A plugin that objects as it is told."""

    def __init__(self, answer: Callable[[], str | Objection | None]) -> None:
        def sluicegate_object() -> str | Objection | None:
            return answer()

        self.sluicegate_object = hookimpl(sluicegate_object)


def _gate(
    *, once: bool = False, fetch: Mapping[str, Any] | None = None, limits: Sequence[Any] = (),
    ledger: MemoryLedger | None = None, plugins: Mapping[str, object] | None = None,
) -> Gate:  # fmt: skip
    """A gate over the contract's tools."""
    paying: dict[str, Any] = {"args": {"properties": {"amount": {"maximum": 100}}}}
    if once:
        paying["once"] = {"key": "pay:{order}"}
    tools = {"pay": paying, "fetch": dict(fetch or {}), "work": {}, "pack": {}}
    policy = {"version": 1, "tools": tools, "limits": list(limits)}
    return Gate(policy, ledger or MemoryLedger(), plugins=plugins or {})


async def _awaited(value: Awaitable[T]) -> T:
    return await value


def _decisions(gate: Gate) -> list[dict[str, Any]]:
    return [entry.content for entry in gate.journal if entry.content["kind"] == "decision"]


def _outcomes(gate: Gate) -> list[str]:
    return [entry.content["outcome"] for entry in gate.journal if entry.content["kind"] == "outcome"]


def _told(decision: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...], str]:
    """What must be equal in all frameworks: the tool, the decision, the reasons and the action."""
    from ..proposal import Proposal

    said = decision["proposal"]
    who = {name: value for name, value in said["subject"].items() if value}
    action = Proposal(said["tool"], said["args"] or {}, subject=Subject(**who), run=said["run"]).action
    codes = tuple(reason["code"] for reason in decision.get("reasons", ()))
    return said["tool"], decision["decision"], codes, action


