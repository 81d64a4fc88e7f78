"""No way that CrewAI has to call a tool goes past the gate."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from crewai_scene import (
    EXECUTORS,
    IN_PEACE,
    MODES,
    WAYS,
    BaseTool,
    Desk,
    ToolExecutionFailedError,
    ToolFailure,
    call,
    go,
    tool,
)

from sluicegate import Gate, NotExecuted, Objection, Subject, context, hookimpl
from sluicegate.testing.scene import Plugin, decisions_of, outcomes_of
from sluicegate_crewai import guard_crew, guard_tools

pytestmark = IN_PEACE

ACME = Subject(tenant="acme")
REFUND: dict[str, Any] = {"args": {"properties": {"eur": {"maximum": 100}}}}


def gate_for(*names: str, limits: Any = (), plugins: Any = None, **entries: Any) -> Gate:
    policy = {"version": 1, "tools": {"refund": REFUND, **{name: {} for name in names}, **entries}}
    return Gate({**policy, "limits": list(limits)}, "memory:", plugins=plugins or {})


class Refunds:
    """A tool that pays money back, in each of the forms that CrewAI has for tools."""

    def __init__(self) -> None:
        self.paid: list[tuple[str, float]] = []

    def pay(self, order: str, eur: float) -> str:
        self.paid.append((order, eur))
        return f"refunded {eur:g} for {order}"

    def tool(self, form: str = "function", **options: Any) -> Any:
        pay = self.pay
        if form == "function":

            @tool("refund", **options)
            def refund(order: str, eur: float) -> str:
                """Pay money back."""
                return pay(order, eur)

            return refund
        if form == "async":

            @tool("refund", **options)
            async def refund_async(order: str, eur: float) -> str:
                """Pay money back."""
                await asyncio.sleep(0)
                return pay(order, eur)

            return refund_async

        class Refund(BaseTool):
            name: str = "refund"
            description: str = "Pay money back."

            def _run(self, order: str, eur: float) -> str:
                return pay(order, eur)

        class AsyncRefund(Refund):
            async def _run(self, order: str, eur: float) -> str:  # type: ignore[override]
                await asyncio.sleep(0)
                return pay(order, eur)

            async def _arun(self, order: str, eur: float) -> str:
                return pay(order, eur)

        return (Refund if form == "class" else AsyncRefund)(**options)


FORMS = ("function", "async", "class", "class async")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_start_a_crew_asks_the_gate(way: str, mode: str) -> None:
    """However a crew or agent is started, a refused call does not run, and a permitted one does."""
    refunds = Refunds()
    turns = [call("refund", order="A", eur=500)], [call("refund", order="B", eur=5)]
    desk = Desk([refunds.tool()], *turns, mode=mode)
    gate = gate_for()
    go(guard_crew(desk.crew(), gate, subject=ACME), way)
    assert refunds.paid == [("B", 5)]
    assert "args_invalid" in desk.replies[0]
    assert "refunded 5 for B" in desk.replies[1]
    assert desk.done
    said = [decision["proposal"] for decision in decisions_of(gate)]
    assert [proposal["subject"]["agent"] for proposal in said] == ["clerk", "clerk"]
    assert said[0]["run"] == said[1]["run"] is not None
    assert {(proposal["parent"], proposal["depth"]) for proposal in said} == {(None, 0)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_tool_asks_the_gate(form: str, mode: str) -> None:
    """Functions and classes, sync and async: the decision comes first, the result goes on record."""
    refunds = Refunds()
    turns = [call("refund", order="A", eur=500)], [call("refund", order="B", eur=5)]
    desk = Desk([refunds.tool(form)], *turns, mode=mode)
    gate = gate_for()
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert refunds.paid == [("B", 5)]
    assert "refunded 5 for B" in desk.replies[1]
    assert outcomes_of(gate) == ["succeeded"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("way", ["kickoff", "akickoff"])
def test_each_executor_asks_the_gate(way: str, executor: Any, mode: str) -> None:
    """Older versions have two executors, and both call the guarded tool with its caller."""
    refunds = Refunds()
    turns = [call("refund", order="A", eur=500)], [call("refund", order="B", eur=5, x=1)]
    desk = Desk([refunds.tool()], *turns, mode=mode, executor_class=executor)
    gate = gate_for()
    go(guard_crew(desk.crew(), gate, subject=ACME), way)
    assert refunds.paid == []
    assert "args_invalid" in desk.replies[0]
    assert "args_unknown" in desk.replies[1]
    assert {d["proposal"]["subject"]["agent"] for d in decisions_of(gate)} == {"clerk"}


@pytest.mark.parametrize("form", FORMS)
def test_a_direct_call_asks_the_gate(form: str) -> None:
    """Whoever takes the tool from an agent and calls it himself is refused just as well."""
    refunds = Refunds()
    [guarded] = guard_tools([refunds.tool(form)], gate_for())
    args = {"order": "A", "eur": 500}
    answers = [
        guarded.run(**args),
        guarded.run("A", 500),
        guarded._run(**args),
        guarded.to_structured_tool().invoke(args),
        guarded.to_structured_tool().func(**args),
        asyncio.run(guarded.to_structured_tool().ainvoke(args)),
    ]
    if form != "class":  # which has no async form of its own
        answers.append(asyncio.run(guarded.arun(**args)))
    assert all(isinstance(answer, ToolFailure) for answer in answers)
    assert refunds.paid == []


def test_a_direct_call_that_is_permitted_runs() -> None:
    """Outside of an agent a guarded tool is a tool: it gives what the tool gives."""
    refunds = Refunds()
    gate = gate_for()
    [guarded] = guard_tools([refunds.tool()], gate)
    assert guarded.run("A", 1) == "refunded 1 for A"
    assert guarded.to_structured_tool().invoke('{"order": "B", "eur": 2}') == "refunded 2 for B"
    [asynchronous] = guard_tools([refunds.tool("class async")], gate)
    assert asyncio.run(asynchronous.arun(order="C", eur=3)) == "refunded 3 for C"
    assert asynchronous.run(order="D", eur=4) == "refunded 4 for D"
    assert refunds.paid == [("A", 1), ("B", 2), ("C", 3), ("D", 4)]
    assert outcomes_of(gate) == ["succeeded"] * 4
    with pytest.raises(NotImplementedError):
        asyncio.run(guard_tools([refunds.tool("class")], gate)[0].arun(order="E", eur=5))
    with pytest.raises(TypeError, match="takes 2 arguments"):
        guarded.run("A", 1, 2)


def test_a_call_in_a_thread_of_crewais_knows_its_context() -> None:
    """The async form of text mode runs tools in a thread: who calls, and in which run, is known there too."""
    gate = gate_for()
    [guarded] = guard_tools([Refunds().tool()], gate)
    with context(tenant="acme", run="ticket-7"):
        asyncio.run(guarded.to_structured_tool().ainvoke({"order": "A", "eur": 5}))
    proposal = decisions_of(gate)[0]["proposal"]
    assert (proposal["subject"]["tenant"], proposal["run"]) == ("acme", "ticket-7")


def test_an_async_tool_runs_where_a_loop_is_running() -> None:
    """Who calls a guarded tool from async code, as other frameworks' executors do, gets its result."""
    refunds = Refunds()
    [guarded] = guard_tools([refunds.tool("class async")], gate_for())

    async def main() -> Any:
        return guarded._run(order="A", eur=5)

    assert asyncio.run(main()) == "refunded 5 for A"


def test_two_hundred_parallel_calls_keep_to_the_slots() -> None:
    """Of 200 calls in one turn under `concurrency: 8` never more than eight run at once, and all come through."""
    busy, peak, lock, ran = 0, 0, threading.Lock(), []

    @tool("work")
    def work(number: int) -> str:
        """Work."""
        nonlocal busy, peak
        with lock:
            busy += 1
            peak = max(peak, busy)
        time.sleep(0.002)
        with lock:
            busy -= 1
            ran.append(number)
        return "worked"

    gate = gate_for("work", limits=[{"concurrency": 8, "wait": "60s"}])
    turn = [call("work", f"c{number}", number=number) for number in range(200)]
    desks = [Desk([work], turn) for _ in range(2)]  # CrewAI runs eight at once in each crew
    crews = [guard_crew(desk.crew(), gate, subject=ACME) for desk in desks]
    threads = [threading.Thread(target=crew.kickoff) for crew in crews]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == sorted([*range(200), *range(200)])
    assert peak <= 8
    assert all(desk.done for desk in desks)


# --- what CrewAI does to calls ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "runs", "outcome"), [("read", 6, "failed"), ("write", 1, "unknown")]
)
def test_the_six_runs_of_a_tool_that_raises_are_six_attempts(
    effect: str, runs: int, outcome: str
) -> None:
    """In text mode CrewAI runs a tool that raises six times: each is decided, and a write not repeated."""
    entered: list[str] = []

    @tool("look")
    def look(order: str) -> str:
        """Look."""
        entered.append(order)
        raise ConnectionError("503")

    gate = gate_for(look={"effect": effect})
    desk = Desk([look], [call("look", order="A")], mode="text")
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    permits = [d["permit"] for d in decisions_of(gate) if d["decision"] == "permit"]
    assert len(entered) == len(set(permits)) == runs
    assert outcomes_of(gate) == [outcome] * runs
    assert ("outcome_unknown" in desk.replies[0]) == (outcome == "unknown")


@pytest.mark.parametrize("mode", MODES)
def test_neither_refusals_nor_results_come_from_crewais_cache(mode: str) -> None:
    """With CrewAI's cache on, each call is still decided: a refusal is not remembered, nor is a result."""
    refunds = Refunds()
    answers = iter(["not now", None, None])
    gate = gate_for(plugins={"mood": Plugin(lambda: next(answers))}, look={})

    @tool("look")
    def look() -> str:
        """Look."""
        return "seen"

    same = call("refund", order="A", eur=5)
    desk = Desk([refunds.tool(), look], [same], [same], [same], mode="native", cache=True)
    if mode == "text":  # where CrewAI itself answers a call that repeats the last one
        answers = iter(["not now", None, None, None, None])
        desk = Desk(
            [refunds.tool(), look], [same], [call("look")], [same], [call("look")], [same],
            mode="text", cache=True,
        )  # fmt: skip
    guard_crew(desk.crew(cache=True), gate, subject=ACME).kickoff()
    asked = [d["decision"] for d in decisions_of(gate) if d["proposal"]["tool"] == "refund"]
    assert asked == ["deny", "permit", "permit"]
    assert refunds.paid == [("A", 5), ("A", 5)]


@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_does_not_become_the_answer_of_the_crew(mode: str) -> None:
    """A tool whose result is the crew's answer: a refusal is told to the model, a result is the answer."""
    refunds = Refunds()
    turns = [call("refund", order="A", eur=500)], [call("refund", order="B", eur=5)]
    desk = Desk([refunds.tool(result_as_answer=True)], *turns, mode=mode)
    answer = guard_crew(desk.crew(), gate_for(), subject=ACME).kickoff()
    assert answer.raw == "refunded 5 for B"
    assert "args_invalid" in desk.replies[0]
    assert not desk.done


def test_the_name_is_that_of_the_tool_that_would_run() -> None:
    """In text mode CrewAI guesses what a misspelt name means; the gate is asked about the tool that it found."""
    refunds = Refunds()
    desk = Desk([refunds.tool()], [call("refnd", order="A", eur=500)], mode="text")
    gate = gate_for()
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert refunds.paid == []
    assert [d["proposal"]["tool"] for d in decisions_of(gate)] == ["refund"]


def test_names_are_those_that_the_model_is_shown() -> None:
    """A tool called "Issue Refund" is `issue_refund` to the model, and so to the policy."""

    @tool("Issue Refund")
    def refund(order: str) -> str:
        """Pay money back."""
        return "refunded"

    desk = Desk([refund], [call("issue_refund", order="A")])
    guard_crew(desk.crew(), gate_for("issue_refund"), subject=ACME).kickoff()
    assert desk.replies == ["refunded"]


@pytest.mark.parametrize(
    "text",
    [
        '{"order": "A", "eur": 5, "eur": 500}',
        "{'order': 'A', 'eur': 500}",
        '{"order": "A", "eur": 500,}',
        '{"order": "A", "eur": 500',
    ],
)
def test_repaired_arguments_are_decided_as_they_would_run(text: str) -> None:
    """What CrewAI makes of broken JSON in text mode is what the policy sees."""
    refunds = Refunds()
    desk = Desk([refunds.tool()], [("refund", text, None)], mode="text")
    gate = gate_for()
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert refunds.paid == []
    assert decisions_of(gate)[0]["proposal"]["args"] == {"order": "A", "eur": 500}


def test_a_usage_limit_of_crewai_still_holds() -> None:
    """`max_usage_count` is CrewAI's own limit and goes on counting."""
    refunds = Refunds()
    turns = [[call("refund", order=order, eur=5)] for order in "AB"]
    desk = Desk([refunds.tool(max_usage_count=1)], *turns)
    guard_crew(desk.crew(), gate_for(), subject=ACME).kickoff()
    assert refunds.paid == [("A", 5)]
    assert "usage limit" in desk.replies[1]


# --- outcomes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_that_reports_its_failure_is_settled_as_one_that_raises(mode: str) -> None:
    """A ToolFailure of the tool itself is an unknown outcome of a write, and a failed one of a read."""
    for effect, outcome in (("write", "unknown"), ("read", "failed")):

        @tool("look")
        def look() -> Any:
            """Look."""
            return ToolFailure(message="the channel is gone")

        gate = gate_for(look={"effect": effect})
        desk = Desk([look], [call("look")], mode=mode)
        guard_crew(desk.crew(), gate, subject=ACME).kickoff()
        assert outcomes_of(gate) == [outcome]
        assert "the channel is gone" in desk.replies[0]


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_leaves_an_unknown_outcome(mode: str) -> None:
    """Ctrl-C while a tool runs ends the crew, and nobody claims to know what became of the call."""

    @tool("look")
    def look() -> str:
        """Look."""
        raise KeyboardInterrupt

    gate = gate_for(look={"effect": "read"})
    crew = guard_crew(Desk([look], [call("look")], mode=mode).crew(), gate, subject=ACME)
    with pytest.raises(KeyboardInterrupt):
        crew.kickoff()
    assert outcomes_of(gate) == ["unknown"]


def test_not_executed_in_an_async_tool_gives_back_what_was_held() -> None:
    """What an async tool raises is settled like what any other raises."""

    @tool("look")
    async def look() -> str:
        """Look."""
        raise NotExecuted("nothing was sent")

    gate = gate_for(
        look={"effect": "write"}, limits=[{"budget": "calls", "limit": 1, "per": ["tenant"]}]
    )
    desk = Desk([look], [call("look")], [call("look")])
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert outcomes_of(gate) == ["failed", "failed"]
    assert "nothing was sent" in desk.replies[1]


@pytest.mark.parametrize("mode", MODES)
def test_a_gate_object_that_raises_never_runs_the_tool(mode: str) -> None:
    """Whatever stands in for a gate: where it raises, the tool does not run."""

    class Broken(Gate):
        def decide(self, proposal: Any) -> Any:
            raise NotImplementedError("bug")

    refunds = Refunds()
    gate = Broken({"version": 1, "tools": {"refund": {}}}, "memory:")
    desk = Desk([refunds.tool()], [call("refund", order="A", eur=5)], mode=mode)
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert refunds.paid == []
    assert "bug" in desk.replies[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_final_refusal_ends_each_kind_of_run(way: str, mode: str) -> None:
    """A final refusal ends the run with an error that has the reason, and the next run begins anew."""
    refunds = Refunds()
    stop = Plugin(lambda: Objection(message="stop now", final=True))
    calls = [[call("refund", order=order, eur=5)] for order in "AB"]
    desk = Desk([refunds.tool()], *calls, mode=mode)
    gate = gate_for(plugins={"stop": stop})
    crew = guard_crew(desk.crew(), gate, subject=ACME)
    for _ in range(2):
        with pytest.raises(ToolExecutionFailedError, match="stop now"):
            go(crew, way)
    assert refunds.paid == []
    assert not desk.done
    first, second = (decision["proposal"] for decision in decisions_of(gate))
    assert first["run"] != second["run"]
    assert (second["parent"], second["depth"]) == (None, 0)


def test_a_gate_that_observes_changes_nothing() -> None:
    """With `observe=True` a call goes as it would without a gate, whatever the policy says."""
    refunds = Refunds()
    gate = Gate({"version": 1, "tools": {"refund": REFUND}}, "memory:", observe=True)
    turns = [
        [call("refund", order="A", eur=500)],
        [call("refund", order="B", eur="5", x=1)],
        [call("refund", order="C")],
        [call("refund", order="D", eur=float("nan"))],
    ]
    desk = Desk([refunds.tool()], *turns)
    guard_crew(desk.crew(), gate, subject=ACME).kickoff()
    assert refunds.paid[:2] == [("A", 500), ("B", 5)]
    assert [order for order, _ in refunds.paid] == ["A", "B", "D"]
    assert "Error executing tool" in desk.replies[2]


def test_hooks_of_the_plugin_see_the_source() -> None:
    """A proposal says that it came from CrewAI."""
    seen: list[str] = []

    class Watch:
        @staticmethod
        @hookimpl
        def sluicegate_object(proposal: Any) -> None:
            seen.append(proposal.source)

    desk = Desk([Refunds().tool()], [call("refund", order="A", eur=5)])
    guard_crew(desk.crew(), gate_for(plugins={"watch": Watch()}), subject=ACME).kickoff()
    assert seen == ["crewai"]
