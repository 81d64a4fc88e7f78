"""The end of a kickoff: success without the call that was owed is not success."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from crewai_scene import IN_PEACE, Desk, call

from sluicegate import Gate, Subject, Unfinished, context
from sluicegate_crewai import guard_crew, guard_tools

pytestmark = IN_PEACE

ACME = Subject(tenant="acme")
POLICY = {
    "version": 1,
    "tools": {"refund": {}, "receipt": {}, "ask": {}},
    "contracts": [{"when": "refund", "then": "receipt", "match": {"order": "order"}}],
}


def tools_of(effects: Any) -> list[Any]:
    def refund(order: str) -> str:
        """Refund an order."""
        return effects.add("refund", order)

    def receipt(order: str) -> str:
        """Send a receipt."""
        return effects.add("receipt", order)

    return [refund, receipt]


REFUND, RECEIPT = [call("refund", order="A1")], [call("receipt", order="A1")]


def kickoff(crew: Any, way: str) -> Any:
    if way == "for_each":
        return crew.kickoff_for_each(inputs=[{}])
    if way == "stream":
        crew.stream = True
        answer = crew.kickoff()
        list(answer)
        return answer.result
    return asyncio.run(getattr(crew, way)()) if way != "kickoff" else crew.kickoff()


@pytest.mark.parametrize("way", ["kickoff", "kickoff_async", "akickoff", "for_each", "stream"])
def test_a_kickoff_that_owes_something_raises(way: str, effects: Any) -> None:
    """A crew that has refunded and sent no receipt is not done, whatever its model says."""
    gate = Gate(POLICY, "memory:")
    desk = Desk(tools_of(effects), REFUND)
    with pytest.raises(Unfinished, match="owes 1 call: receipt") as ended:
        kickoff(guard_crew(desk.crew(), gate, subject=ACME), way)
    assert [owed.then for owed in ended.value.report.owed] == ["receipt"]
    assert desk.done
    assert effects.all == ["refund A1"]


@pytest.mark.parametrize("way", ["kickoff", "akickoff", "for_each", "stream"])
def test_a_kickoff_that_owes_nothing_ends_as_ever(way: str, effects: Any) -> None:
    """The receipt was sent, or nothing was called at all."""
    for turns in ((REFUND, RECEIPT), ()):
        gate = Gate(POLICY, "memory:")
        desk = Desk(tools_of(effects), *turns)
        kickoff(guard_crew(desk.crew(), gate, subject=ACME), way)
        assert desk.done


def test_each_kickoff_is_looked_at_by_itself(effects: Any) -> None:
    """What an earlier kickoff of the same crew owes is not held against a later one, unless both have one name."""
    gate = Gate(POLICY, "memory:")
    desk = Desk(tools_of(effects), REFUND)
    crew = guard_crew(desk.crew(), gate, subject=ACME)
    with pytest.raises(Unfinished):
        crew.kickoff()
    desk.model.turns = ()
    crew.kickoff()
    desk.model.turns = (REFUND,)
    with context(run="ticket-7"):
        with pytest.raises(Unfinished, match="run ticket-7 owes"):
            crew.kickoff()
        desk.model.turns = ()
        with pytest.raises(Unfinished, match="run ticket-7 owes"):
            crew.kickoff()
        desk.model.turns = (RECEIPT,)
        crew.kickoff()


def test_it_can_be_told_instead(effects: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With `unfinished="tell"` the answer ends with the report; guarding again changes the choice."""
    gate = Gate(POLICY, "memory:")
    crew = guard_crew(Desk(tools_of(effects), REFUND).crew(), gate, subject=ACME)
    guard_crew(crew, gate, unfinished="tell")
    answer = crew.kickoff()
    assert str(answer).startswith("done\n\nUNFINISHED: run ")
    assert "owes 1 call: receipt" in caplog.text
    with pytest.raises(ValueError, match="unfinished is 'ask'; it must be one of raise, tell"):
        guard_crew(crew, gate, unfinished="ask")  # type: ignore[arg-type]


def test_a_gate_that_observes_ends_nothing(effects: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It says what it would have said, and leaves the answer as it is."""
    gate = Gate(POLICY, "memory:", observe=True)
    with caplog.at_level(logging.WARNING, "sluicegate"):
        crew = guard_crew(Desk(tools_of(effects), REFUND).crew(), gate, subject=ACME)
        assert str(crew.kickoff()) == "done"
    assert "owes 1 call: receipt" in caplog.text


def test_what_coworkers_and_inner_crews_did_is_owed_by_the_whole(effects: Any) -> None:
    """An inner crew ends as it likes; the kickoff around it answers for it, and may do what is owed."""

    def ask() -> str:
        """Ask another crew."""
        inner = Desk(tools_of(effects), REFUND, role="inner")
        return str(guard_crew(inner.crew(), gate).kickoff())

    delegation = [call("delegate_work_to_coworker", task="t", context="c", coworker="till")]
    for first in ([call("ask")], delegation):
        for rest in ((), (RECEIPT,)):
            gate = Gate(POLICY, "memory:")
            till = Desk(tools_of(effects), REFUND, role="till")
            tools = [ask, *tools_of(effects)]
            boss = Desk(tools, first, *rest, role="boss", allow_delegation=True)
            crew = guard_crew(boss.crew(till), gate, subject=ACME)
            if rest:
                crew.kickoff()
            else:
                with pytest.raises(Unfinished, match="owes 1 call: receipt"):
                    crew.kickoff()


def test_a_crew_in_a_tool_that_is_in_no_run_answers_for_itself(effects: Any) -> None:
    """There is no run around it that could."""
    gate = Gate(POLICY, "memory:")

    def ask() -> str:
        """Ask a crew."""
        return str(guard_crew(Desk(tools_of(effects), REFUND).crew(), gate).kickoff())

    [guarded] = guard_tools(Desk([ask]).agent.tools or [], gate)
    with pytest.raises(Unfinished):
        guarded.run()


def test_a_policy_without_contracts_adds_nothing_to_a_crew(effects: Any) -> None:
    """There is nothing to look at, so nothing is called at the end; callbacks of yours stay."""

    crew = Desk(tools_of(effects)).crew()
    crew.after_kickoff_callbacks = [str.upper]  # type: ignore[list-item]
    guard_crew(crew, Gate({**POLICY, "contracts": []}, "memory:"))
    assert crew.after_kickoff_callbacks == [str.upper]
    other = Desk(tools_of(effects)).crew()
    other.after_kickoff_callbacks = [str.upper]  # type: ignore[list-item]
    guard_crew(other, Gate(POLICY, "memory:"))
    assert other.after_kickoff_callbacks[0] is str.upper
    assert len(other.after_kickoff_callbacks) == 2


def test_an_agent_alone_is_asked_about_by_its_run(effects: Any) -> None:
    """CrewAI tells nobody when an agent ends; `gate.finish` says what it owes."""
    gate = Gate(POLICY, "memory:")
    desk = Desk(tools_of(effects), REFUND)
    with context(run="ticket-7"):
        guard_crew(desk.agent, gate).kickoff("go on")
    assert not gate.finish("ticket-7").fulfilled
