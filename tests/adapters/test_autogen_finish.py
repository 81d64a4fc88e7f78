"""The end of a run: success without the call that was owed is not success."""

from __future__ import annotations

import pytest
from autogen_core import CancellationToken
from autogen_scene import agent, call, go, helper, team_of

from sluicegate import Unfinished, context
from sluicegate_autogen import GateWorkbench, check_finished

POLICY = {
    "tools": {"refund": {}, "receipt": {}, "helper": {}},
    "contracts": [{"when": "refund", "then": "receipt", "match": {"order": "order"}}],
}
REFUND, RECEIPT = [call("refund", "c1", order="A1")], [call("receipt", "c2", order="A1")]


@pytest.fixture
def tools(effects):
    """A tool that owes the other one."""

    def refund(order: str) -> str:
        """Refund an order."""
        return effects.add("refund", order)

    def receipt(order: str) -> str:
        """Send a receipt."""
        return effects.add("receipt", order)

    return [refund, receipt]


@pytest.mark.parametrize("in_a_team", [True, False])
@pytest.mark.parametrize("by", ["name", "token"])
def test_a_run_is_asked_what_it_owes(by, in_a_team, tools, make_gate):
    """By the name that the program gave, or by the token that it was run with."""
    gate = make_gate(POLICY)
    for turns, fulfilled in (((REFUND,), False), ((REFUND, RECEIPT), True), ((), True)):
        desk = agent(*turns, workbench=GateWorkbench(tools, gate))
        token = CancellationToken()
        run = f"ticket-{len(turns)}" if by == "name" else None
        with context(run=run):
            go(team_of(desk) if in_a_team else desk, cancellation_token=token)
        if fulfilled:
            check_finished(gate, run or token)
        else:
            with pytest.raises(Unfinished, match="owes 1 call: receipt") as ended:
                check_finished(gate, run or token)
            assert [owed.then for owed in ended.value.report.owed] == ["receipt"]


def test_agents_in_tools_belong_to_the_run_around_them(tools, make_gate):
    """What an inner agent did is owed by the whole, and any agent of it may do what is owed."""
    gate = make_gate(POLICY)
    for turns, fulfilled in (((), False), ((RECEIPT,), True)):
        inner = helper(gate, *tools, turns=[REFUND])
        workbench = GateWorkbench([inner, *tools], gate)
        token = CancellationToken()
        go(
            agent([call("helper", "h1", task="t")], *turns, workbench=workbench),
            cancellation_token=token,
        )
        if fulfilled:
            check_finished(gate, token)
        else:
            with pytest.raises(Unfinished):
                check_finished(gate, token)
