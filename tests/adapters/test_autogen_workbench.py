"""GateWorkbench: both ways in are gated, nothing is raised into an agent, and nothing runs twice."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import TextMessage, ToolCallSummaryMessage
from autogen_core import CancellationToken, tools
from autogen_core.tool_agent import ToolException
from autogen_core.tools import (
    FunctionTool,
    StaticStreamWorkbench,
    StaticWorkbench,
    ToolResult,
    Workbench,
)
from autogen_ext.models.replay import ReplayChatCompletionClient
from autogen_scene import (
    ACME,
    agent,
    call,
    decided,
    go,
    patiently,
    proposed,
    results,
    settled,
    told,
)

from sluicegate import Denied, Gate, MemoryLedger, NotExecuted, Subject, context
from sluicegate_autogen import GateWorkbench, guard_tools

REPLAY = ReplayChatCompletionClient(["done"])
LIMITED = {"refund": {"args": {"properties": {"amount": {"maximum": 5}}}}}


@pytest.fixture
def refund(effects):
    """A tool with a side effect."""

    def refund(order: str, amount: int = 1) -> str:
        """Refund an order."""
        return effects.add("refund", order, amount)

    return refund


async def both_ways(workbench: Workbench, name: str, args: Any, id: str | None = None) -> list[Any]:
    """The answers of `call_tool` and of `call_tool_stream`."""
    stream = workbench.call_tool_stream(name, args, CancellationToken(), id and id + "-stream")
    return [
        await workbench.call_tool(name, args, CancellationToken(), id),
        [x async for x in stream][-1],
    ]


# --- yes and no -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
def test_a_refused_call_does_not_run_and_the_agent_goes_on(refund, effects, make_gate, ledger):
    """The model reads why, the loop goes on, and only what is permitted reaches the shop."""
    gate = make_gate({"tools": LIMITED}, ledger)
    turns = [call("refund", order="A1", amount=9)], [call("refund", "c2", order="A2", amount=2)]
    messages = go(agent(*turns, workbench=GateWorkbench([refund], gate, subject=ACME)))
    refusal, result = results(messages)
    assert effects.all == ["refund A2 2"]
    assert (refusal.is_error, refusal.call_id, refusal.name) == (True, "c1", "refund")
    assert "args_invalid" in refusal.content
    assert (result.is_error, result.content) == (False, "refund A2 2")
    assert messages[-1].to_text() == "done"
    assert settled(gate) == ["succeeded"]


@pytest.mark.parametrize("reflect", [False, True])
def test_one_iteration_ends_with_the_refusal(refund, effects, make_gate, reflect):
    """An agent of one iteration, with or without a last word of the model, ends as it always does."""
    gate = make_gate({"tools": LIMITED})
    options = {"max_tool_iterations": 1, "reflect_on_tool_use": reflect}
    desk = agent(
        [call("refund", order="A1", amount=9)], workbench=GateWorkbench([refund], gate), **options
    )
    messages = go(desk)
    assert effects.all == []
    assert told(messages) == ["args_invalid"]
    assert isinstance(messages[-1], TextMessage if reflect else ToolCallSummaryMessage)


def test_the_stream_of_an_agent_is_gated_too(refund, effects, make_gate):
    """`run_stream` and a model that streams are the same agent: refused is refused."""
    gate = make_gate({"tools": LIMITED})
    turns = [call("refund", order="A1", amount=9)], [call("refund", "c2", order="A2")]
    desk = agent(*turns, workbench=GateWorkbench([refund], gate), model_client_stream=True)

    async def main() -> list[Any]:
        return [message async for message in desk.run_stream(task="go on")]

    messages = patiently(main())
    assert told(messages) == ["args_invalid", "refund A2 1"]
    assert effects.all == ["refund A2 1"]


@pytest.mark.parametrize("inner", [list, StaticWorkbench, StaticStreamWorkbench])
def test_both_ways_in_are_gated(refund, effects, make_gate, inner):
    """AutoGen takes `call_tool` of some workbenches and `call_tool_stream` of others."""
    gate = make_gate({"tools": LIMITED})
    tool = FunctionTool(refund, "Refund an order.")
    workbench = GateWorkbench(inner([tool]), gate)
    refused = patiently(both_ways(workbench, "refund", {"order": "A1", "amount": 9}))
    assert [r.is_error for r in refused] == [True, True]
    assert effects.all == []
    ran = patiently(both_ways(workbench, "refund", {"order": "A2", "amount": 2}, "c1"))
    assert [(r.is_error, r.to_text()) for r in ran] == [(False, "refund A2 2")] * 2
    assert effects.all == ["refund A2 2"] * 2
    assert settled(gate) == ["succeeded"] * 2


def test_every_workbench_of_a_list_is_gated(effects, make_gate):
    """Functions, tools and workbenches in one list: each is gated, and of equal names the first counts."""

    def ping(text: str) -> str:
        return effects.add("first", text)

    def second(text: str) -> str:
        return effects.add("second", text)

    later = StaticWorkbench([FunctionTool(second, "", name="ping"), FunctionTool(second, "")])
    gate = make_gate({"tools": {"ping": {"rate": "1/h"}}})
    workbench = GateWorkbench([later, ping], gate)
    names = [tool["name"] for tool in patiently(workbench.list_tools())]
    assert names == ["ping", "second"]
    turns = (
        [call("ping", text="x")],
        [call("ping", "c2", text="x")],
        [call("second", "c3", text="x")],
    )
    assert told(go(agent(*turns, workbench=workbench))) == ["first x", "rate", "unknown_tool"]
    assert effects.all == ["first x"]


def test_a_tool_that_no_workbench_has_is_refused(refund, make_gate):
    """A policy entry alone makes no tool: the refusal says so, and nothing is spent."""
    limits = [{"budget": "calls", "limit": 5, "per": ["tenant"]}]
    gate = make_gate({"tools": {"*": {}}, "limits": limits})
    result = patiently(
        GateWorkbench([refund], gate, subject=ACME).call_tool("refnd", {"order": "A1"})
    )
    assert result.is_error
    assert "unknown_tool: no workbench has a tool 'refnd'" in result.to_text()
    assert gate.usage() == [] or gate.usage()[0].used == 0


def test_what_the_agent_answers_itself_never_reaches_the_gate(refund, effects, make_gate):
    """AutoGen refuses text that is no JSON and tools that are not listed, before any workbench."""
    gate = make_gate({"tools": LIMITED})
    turns = [call("refund", args="{order")], [call("nothing", "c2")]
    answers = results(go(agent(*turns, workbench=GateWorkbench([refund], gate))))
    assert [r.is_error for r in answers] == [True, True]
    assert (effects.all, decided(gate)) == ([], [])


@pytest.mark.skipif(not hasattr(tools, "ToolOverride"), reason="tools have no other names there")
def test_a_tool_is_known_by_the_name_that_it_is_listed_under(refund, effects, make_gate):
    """The policy is about the name that the model sees; AutoGen itself loses such tools in a stream."""
    override = {"refund": tools.ToolOverride(name="pay")}
    renamed = StaticStreamWorkbench([FunctionTool(refund, "")], tool_overrides=override)
    gate = make_gate({"tools": {"pay": {"args": {"properties": {"amount": {"maximum": 5}}}}}})
    workbench = GateWorkbench(renamed, gate)
    for name, args in (("pay", {"order": "A1", "amount": 9}), ("refund", {"order": "A1"})):
        refused = patiently(both_ways(workbench, name, args))
        assert [r.is_error for r in refused] == [True, True]
    ran, lost = patiently(both_ways(workbench, "pay", {"order": "A1"}))
    assert (ran.is_error, lost.is_error) == (False, True)
    assert effects.all == ["refund A1 1"]


# --- an agent never hangs -------------------------------------------------------------------------


class Broken(Gate):
    """A gate with a bug."""

    async def adecide(self, proposal: Any) -> Any:
        raise RuntimeError("bug")


class Mute(Gate):
    """A gate that gives what is no decision."""

    async def adecide(self, proposal: Any) -> Any:
        return None


@pytest.mark.parametrize("kind", [Broken, Mute])
@pytest.mark.parametrize("guarded", ["workbench", "tools"])
def test_a_gate_with_a_bug_neither_runs_the_tool_nor_hangs_the_agent(
    kind, guarded, refund, effects
):
    """Whatever a gate does, the tool does not run, and the agent is told and goes on."""
    gate = kind({"version": 1, "tools": LIMITED}, "memory:")
    how = {
        "workbench": lambda: {"workbench": GateWorkbench([refund], gate)},
        "tools": lambda: {"tools": guard_tools([refund], gate)},
    }[guarded]()
    messages = go(agent([call("refund", order="A1")], **how))
    assert told(messages) == ["internal_error"]
    assert messages[-1].to_text() == "done"
    assert effects.all == []


@pytest.mark.parametrize(
    "error",
    [
        ToolException(call_id="c1", content="odd", name="refund"),
        asyncio.CancelledError("by the tool itself"),
        StopAsyncIteration(),
    ],
    ids=["BaseException", "CancelledError", "StopAsyncIteration"],
)
@pytest.mark.parametrize("inner", [list, StaticWorkbench])
def test_a_tool_that_raises_anything_does_not_hang_the_agent(error, inner, make_gate):
    """AutoGen would wait for such a call forever; here its outcome is unknown, and the agent goes on."""

    async def refund() -> str:
        raise error

    gate = make_gate({"tools": {"refund": {}}})
    workbench = GateWorkbench(inner([FunctionTool(refund, "")]), gate)
    messages = go(agent([call("refund")], workbench=workbench))
    assert [r.is_error for r in results(messages)] == [True]
    assert messages[-1].to_text() == "done"
    assert settled(gate) == ["unknown"]


class Failing(Workbench):
    """A workbench that lists a tool and fails in every other way."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.lists = 2

    async def list_tools(self) -> Any:
        self.lists -= 1
        if self.lists < 0:
            raise ConnectionError("the server is gone")
        return [{"name": "ping", "parameters": {"type": "object", "properties": {}}}]

    async def call_tool(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def reset(self) -> None: ...
    async def save_state(self) -> Any: ...
    async def load_state(self, state: Any) -> None: ...


@pytest.mark.parametrize("answer", [RuntimeError("bug"), KeyError("x"), "no result", None])
def test_a_workbench_that_breaks_does_not_hang_the_agent(answer, make_gate):
    """A workbench that raises, or that answers with nonsense, is an unknown outcome and an error."""
    gate = make_gate({"tools": {"ping": {}}})
    messages = go(agent([call("ping")], workbench=GateWorkbench(Failing(answer), gate)))
    assert [r.is_error for r in results(messages)] == [True]
    assert settled(gate) == ["unknown"]


def test_a_list_that_fails_in_the_midst_of_a_call_does_not_hang_the_agent(make_gate):
    """An agent lists the tools again before each call; once listed, the last list stands."""
    failing = Failing(ToolResult(name="ping", result=[]))
    failing.lists = 1
    gate = make_gate({"tools": {"ping": {}}})
    messages = go(agent([call("ping")], workbench=GateWorkbench(failing, gate)))
    assert [r.is_error for r in results(messages)] == [False]
    assert messages[-1].to_text() == "done"


def test_a_workbench_that_never_listed_anything_says_why(make_gate):
    """Without any list there is nothing to stand on: the error is that of the workbench."""
    failing = Failing()
    failing.lists = 0
    gate = make_gate({"tools": {"ping": {}}})
    with pytest.raises(ConnectionError):
        patiently(GateWorkbench(failing, gate).list_tools())
    assert patiently(GateWorkbench(failing, gate).call_tool("ping")).is_error
    assert decided(gate) == []


def test_an_outcome_that_cannot_be_recorded_is_still_told(refund, effects, caplog):
    """What happened did happen: the model is told so, and the log says that it is not on record."""

    class Half(MemoryLedger):
        def perform(self, request: Any) -> Any:
            if type(request).__name__ == "Settling":
                raise OSError("disk full")
            return super().perform(request)

    gate = Gate({"version": 1, "tools": LIMITED}, Half())
    messages = go(agent([call("refund", order="A1")], workbench=GateWorkbench([refund], gate)))
    assert told(messages) == ["refund A1 1"]
    assert effects.all == ["refund A1 1"]
    assert "could not be recorded" in caplog.text


# --- many calls, and the same call again ----------------------------------------------------------


@pytest.mark.parametrize("ledger", ["memory:", "sqlite"])
def test_of_parallel_calls_exactly_as_many_run_as_may(refund, effects, make_gate, ledger):
    """Twelve calls in one turn under a limit of five: five run, seven are told why not."""
    limits = [{"budget": "calls", "limit": 5, "per": ["run"]}]
    gate = make_gate({"tools": {"refund": {}}, "limits": limits}, ledger)
    turn = [call("refund", f"c{n}", order=f"A{n}") for n in range(12)]
    answers = told(go(agent(turn, workbench=GateWorkbench([refund], gate))))
    assert len(effects.all) == 5
    assert answers.count("budget") == 7


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_two_hundred_calls_at_once_never_take_more_than_eight_slots(kind, make_gate):
    """All of them run in the end, and never more than eight at the same time."""
    busy, peak, ran, lock = 0, 0, 0, threading.Lock()

    def enter(change: int) -> None:
        nonlocal busy, peak, ran
        with lock:
            busy += change
            peak = max(peak, busy)
            ran += change > 0

    def work(number: int) -> str:
        enter(1)
        time.sleep(0.002)
        enter(-1)
        return str(number)

    async def awork(number: int) -> str:
        enter(1)
        await asyncio.sleep(0.002)
        enter(-1)
        return str(number)

    gate = make_gate({"tools": {"work": {}}, "limits": [{"concurrency": 8, "wait": "60s"}]})
    tool = FunctionTool(work if kind == "sync" else awork, "", name="work")
    turn = [call("work", f"c{n}", number=n) for n in range(200)]
    desk = agent(turn, workbench=GateWorkbench([tool], gate))
    answers = [r.content for r in results(patiently(desk.run(task="go"), 60).messages)]
    assert answers == [str(n) for n in range(200)]
    assert (ran, busy) == (200, 0)
    assert 1 < peak <= 8


def test_equal_and_empty_ids_run_once_or_never(refund, effects, make_gate):
    """AutoGen executes both of two equal ids, and calls without one; the gate does not."""
    gate = make_gate({"tools": {"refund": {}}})
    turn = [call("refund", order="A1"), call("refund", order="A1"), call("refund", "", order="A2")]
    answers = told(go(agent(turn, workbench=GateWorkbench([refund], gate))))
    assert effects.all == ["refund A1 1"]
    assert "duplicate_call" in answers[2]
    assert len([a for a in answers if a == "refund A1 1"]) == 1


def test_a_caller_without_ids_is_served(refund, effects, make_gate):
    """A program that calls the workbench itself has no ids to give, and repeats as it likes."""
    gate = make_gate({"tools": {"refund": {"effect": "idempotent"}}})
    workbench = GateWorkbench([refund], gate)
    for _ in range(2):
        assert not patiently(workbench.call_tool("refund", {"order": "A1"})).is_error
    assert effects.all == ["refund A1 1"] * 2
    assert [p["call_id"] for p in proposed(gate)] == [None, None]


def test_a_repeated_effect_is_answered_from_the_record(refund, effects, make_gate):
    """The second call with the same key gets the first one's text, as a success."""
    gate = make_gate({"tools": {"refund": {"once": {"key": "{order}"}}}})
    turns = [call("refund", order="A1")], [call("refund", "c2", order="A1")]
    messages = go(agent(*turns, workbench=GateWorkbench([refund], gate)))
    assert [(r.content, r.is_error) for r in results(messages)] == [("refund A1 1", False)] * 2
    assert effects.all == ["refund A1 1"]
    assert decided(gate) == ["permit", "recorded"]


@pytest.mark.parametrize("nest", ["tools", "workbench", "both"])
def test_a_call_that_passes_two_guards_is_decided_once(nest, refund, effects, make_gate, caplog):
    """A guarded tool inside of a guarded workbench takes over the permit, and settles it."""
    gate = make_gate({"tools": {"refund": {}}})
    inside: Any = [refund]
    if nest in ("tools", "both"):
        inside = StaticStreamWorkbench(guard_tools([refund], gate))
    if nest in ("workbench", "both"):
        inside = GateWorkbench(inside, gate)
    go(agent([call("refund", order="A1")], workbench=GateWorkbench(inside, gate)))
    assert effects.all == ["refund A1 1"]
    assert (decided(gate), settled(gate)) == (["permit"], ["succeeded"])
    assert caplog.text == ""  # nobody tried to settle it twice


def test_another_call_of_the_same_tool_inside_of_it_is_decided(effects, make_gate):
    """Equal in all but the id is not the same call."""

    async def refund(order: str) -> str:
        try:
            await inner.run_json({"order": order}, CancellationToken(), "c2")
        except Denied as denied:
            return str(denied.decision.reasons[0].code)
        return "ran"

    def pay(order: str) -> str:
        return effects.add(order)

    gate = make_gate({"tools": {"refund": {"rate": "1/h"}}})
    [inner] = guard_tools([FunctionTool(pay, "", name="refund")], gate)
    foreign = StaticWorkbench([FunctionTool(refund, "")])
    messages = go(agent([call("refund", order="A1")], workbench=GateWorkbench(foreign, gate)))
    assert told(messages) == ["rate"]
    assert effects.all == []


# --- outcomes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "error", "outcome"),
    [
        ("write", TimeoutError("lost"), "unknown"),
        ("read", TimeoutError("lost"), "failed"),
        ("write", NotExecuted("declined"), "failed"),
    ],
)
def test_what_a_tool_raises_is_settled_as_the_policy_says(effect, error, outcome, make_gate):
    """The gate sees the exception itself, and the model reads what it would read without a gate."""

    def refund() -> str:
        raise error

    gate = make_gate({"tools": {"refund": {"effect": effect}}})
    messages = go(agent([call("refund")], workbench=GateWorkbench([refund], gate)))
    bare = go(agent([call("refund")], tools=[refund]))
    assert settled(gate) == [outcome]
    assert results(messages) == results(bare)


@pytest.mark.parametrize(("guarded", "outcome"), [(False, "unknown"), (True, "failed")])
def test_a_foreign_workbench_keeps_exceptions_to_itself(guarded, outcome, make_gate):
    """It makes text of them, so NotExecuted is lost, unless its tools are guarded themselves."""

    def refund() -> str:
        raise NotExecuted("declined")

    gate = make_gate({"tools": {"refund": {}}})
    inside = guard_tools([refund], gate) if guarded else [FunctionTool(refund, "")]
    messages = go(agent([call("refund")], workbench=GateWorkbench(StaticWorkbench(inside), gate)))
    assert told(messages) == ["declined"]
    assert settled(gate) == [outcome]


# --- who and where --------------------------------------------------------------------------------


def test_each_run_of_an_agent_is_a_run(refund, effects, make_gate):
    """AutoGen has no name for one, but a cancellation token of its own for each."""
    gate = make_gate(
        {"tools": {"refund": {}}, "limits": [{"budget": "calls", "limit": 1, "per": ["run"]}]}
    )
    workbench = GateWorkbench([refund], gate)
    for number in range(2):
        turn = [call("refund", f"{number}-{n}", order=f"A{n}") for n in range(2)]
        assert told(go(agent(turn, workbench=workbench)))[1] == "budget"
    assert len(effects.all) == 2
    assert len({p["run"] for p in proposed(gate)}) == 2


def test_a_direct_call_has_no_run(refund, effects, make_gate):
    """Nobody said which run it is in, so a limit per run refuses."""
    gate = make_gate(
        {"tools": {"refund": {}}, "limits": [{"budget": "calls", "limit": 1, "per": ["run"]}]}
    )
    result = patiently(GateWorkbench([refund], gate).call_tool("refund", {"order": "A1"}))
    assert result.is_error
    assert effects.all == []


def test_the_context_names_the_run_and_the_subject(refund, make_gate):
    """What the program says in `sluicegate.context` counts, where the workbench has no subject."""
    gate = make_gate({"tools": {"refund": {}}})
    with context(tenant="acme", user="ada", run="order-7"):
        go(agent([call("refund", order="A1")], workbench=GateWorkbench([refund], gate)))
    [proposal] = proposed(gate)
    assert (proposal["run"], proposal["root"], proposal["depth"]) == ("order-7", "order-7", 0)
    assert (proposal["subject"]["tenant"], proposal["subject"]["user"]) == ("acme", "ada")


@pytest.mark.parametrize("subject", [lambda agent: None, lambda agent: 1 / 0, lambda: Subject()])
def test_a_subject_that_cannot_be_told_refuses(subject, refund, effects, make_gate):
    """A function that gives no subject, raises, or takes no argument: nobody is calling."""
    gate = make_gate({"tools": {"refund": {}}})
    messages = go(
        agent(
            [call("refund", order="A1")], workbench=GateWorkbench([refund], gate, subject=subject)
        )
    )
    assert told(messages) == ["missing_subject"]
    assert effects.all == []


def test_a_plain_function_sees_who_calls(make_gate):
    """AutoGen runs it in a thread without the context; here it is there."""
    seen = []

    def refund() -> str:
        from sluicegate import current

        seen.append((current().subject, current().run, threading.current_thread().name))
        return "ok"

    gate = make_gate({"tools": {"refund": {}}})
    with context(run="order-7"):
        go(agent([call("refund")], workbench=GateWorkbench([refund], gate, subject=ACME)))
    [(subject, run, thread)] = seen
    assert (subject, run) == (ACME, "order-7")
    assert thread != "MainThread"


def test_a_gate_that_only_watches_refuses_nothing(refund, effects, make_gate):
    """Everything runs as it would without a gate, and is on record."""
    gate = make_gate({"tools": {"another": {}}}, observe=True)
    turns = [call("refund", order="A1", amount="7", extra=1)], [call("refund", "c1", order="A2")]
    go(agent(*turns, workbench=GateWorkbench([refund], gate)))
    assert effects.all == ["refund A1 7", "refund A2 1"]
    assert len(decided(gate)) == 2


# --- the rest of a workbench ----------------------------------------------------------------------


class Counter(StaticStreamWorkbench):
    """A workbench with a life and a state."""

    def __init__(self) -> None:
        super().__init__([])
        self.log: list[str] = []

    async def start(self) -> None:
        self.log.append("start")

    async def stop(self) -> None:
        self.log.append("stop")

    async def reset(self) -> None:
        self.log.append("reset")

    async def save_state(self) -> Any:
        return {"log": list(self.log)}

    async def load_state(self, state: Any) -> None:
        self.log = state["log"]


def test_life_and_state_are_those_of_the_parts(make_gate):
    """Start, stop, reset and both states reach every workbench inside."""
    parts = [Counter(), Counter()]
    workbench = GateWorkbench(parts, make_gate({"tools": {"a": {}}}))

    async def main() -> None:
        async with workbench:
            await workbench.reset()
            state = await workbench.save_state()
        assert [part.log for part in parts] == [["start", "reset", "stop"]] * 2
        await workbench.load_state(state)

    patiently(main())
    assert [part.log for part in parts] == [["start", "reset"]] * 2


def test_a_workbench_is_never_serialised_without_its_gate(refund, make_gate):
    """A configuration has no place for a gate: what was loaded from it would run everything."""
    gate = make_gate({"tools": {"refund": {}}})
    workbench = GateWorkbench([refund], gate)
    with pytest.raises(NotImplementedError, match="without a gate"):
        workbench.dump_component()
    with pytest.raises(NotImplementedError):
        AssistantAgent("desk", REPLAY, workbench=workbench).dump_component()
    with pytest.raises(NotImplementedError, match="no gate in a configuration"):
        Workbench.load_component(
            {"provider": "sluicegate_autogen.GateWorkbench", "config": {"tools": []}}
        )


def test_equal_names_among_its_own_tools_are_an_error(refund, make_gate):
    """As in an AssistantAgent."""
    with pytest.raises(ValueError, match="tool names must be unique: refund, refund"):
        GateWorkbench([refund, FunctionTool(refund, "")], make_gate({"tools": {"refund": {}}}))


def test_the_tools_look_as_they_did(refund, make_gate):
    """The model is shown exactly the schemas that it is shown without a gate."""
    gate = make_gate({"tools": {"refund": {}}})
    bare = StaticStreamWorkbench([FunctionTool(refund, "Refund an order.")])
    assert patiently(GateWorkbench([refund], gate).list_tools()) == patiently(bare.list_tools())
    assert isinstance(GateWorkbench([refund], gate), StaticStreamWorkbench)  # or streaming is lost


def test_an_agent_can_be_asked_message_by_message(refund, effects, make_gate):
    """`on_messages` is gated as `run` is."""
    gate = make_gate({"tools": LIMITED})
    desk = agent([call("refund", order="A1", amount=9)], workbench=GateWorkbench([refund], gate))
    said = [TextMessage(content="go", source="user")]
    response: Response = patiently(desk.on_messages(said, CancellationToken()))
    assert effects.all == []
    assert "args_invalid" in str(response.inner_messages)
