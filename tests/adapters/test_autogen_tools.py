"""guard_tools: tools that look the same and decide each call themselves, and what the policy sees."""

from __future__ import annotations

import datetime
import itertools
import json
import subprocess
import sys
from typing import Any

import pytest
from autogen_core import CancellationToken
from autogen_core.tools import (
    BaseTool,
    FunctionTool,
    StaticStreamWorkbench,
    StaticWorkbench,
    StreamTool,
)
from autogen_scene import (
    ACME,
    agent,
    call,
    decided,
    go,
    patiently,
    proposed,
    results,
    told,
)
from pydantic import BaseModel, ConfigDict, Field

from sluicegate import ApprovalRequired, Denied, Gate, context
from sluicegate_autogen import GateWorkbench, guard_tools

NUMBERS = itertools.count()


class Money(BaseModel):
    eur: int
    cents: int = 0


class Refund(BaseModel):
    order: str = Field(alias="orderId")
    amount: Money = Money(eur=1)
    note: str | None = None
    number: int = Field(default_factory=lambda: next(NUMBERS))
    model_config = ConfigDict(populate_by_name=True)


class RefundTool(BaseTool[Refund, Any]):
    """A tool with a model of its own."""

    def __init__(self, effects: Any) -> None:
        super().__init__(Refund, str, "refund", "Refund an order.")
        self.effects = effects

    async def run(self, args: Refund, cancellation_token: CancellationToken) -> Any:
        return self.effects.add(args.order, args.amount.eur, args.amount.cents, args.note)

    async def save_state_json(self) -> Any:
        return {"seen": len(self.effects.all)}

    async def load_state_json(self, state: Any) -> None:
        self.effects.add("loaded", state["seen"])


@pytest.fixture
def refund(effects):
    """A function with a side effect."""

    def refund(order: str, amount: int = 1) -> str:
        """Refund an order."""
        return effects.add("refund", order, amount)

    return refund


def run_json(tool: Any, args: Any, id: str | None = None) -> Any:
    return patiently(tool.run_json(args, CancellationToken(), id))


# --- every way in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("around", [list, StaticWorkbench, StaticStreamWorkbench])
def test_a_refusal_is_a_result_in_each_of_the_workbenches(around, refund, effects, make_gate):
    """What a guarded tool raises, AutoGen makes a result of, and the agent goes on."""
    gate = make_gate({"tools": {"refund": {"args": {"properties": {"amount": {"maximum": 5}}}}}})
    tools = around(guard_tools([refund], gate, subject=ACME))
    how = {"tools": tools} if isinstance(tools, list) else {"workbench": tools}
    turns = [call("refund", order="A1", amount=9)], [call("refund", "c2", order="A2")]
    messages = go(agent(*turns, **how))
    assert told(messages) == ["args_invalid", "refund A2 1"]
    assert [r.is_error for r in results(messages)] == [True, False]
    assert effects.all == ["refund A2 1"]
    assert proposed(gate)[0]["subject"]["user"] == "ada"


def test_who_calls_a_tool_directly_gets_an_exception(refund, effects, make_gate):
    """`run_json` and `run` raise Denied, and ApprovalRequired where a person is asked, and nothing runs."""
    gate = make_gate({"tools": {"another": {}}})
    [tool] = guard_tools([refund], gate)
    with pytest.raises(Denied, match="unknown_tool"):
        run_json(tool, {"order": "A1"})
    with pytest.raises(Denied, match="unknown_tool"):
        patiently(tool.run(tool.args_type()(order="A1"), CancellationToken()))
    assert effects.all == []
    assert issubclass(ApprovalRequired, Exception)


def test_a_value_stays_the_value_that_the_tool_gave(make_gate):
    """A direct caller gets the tool's own object; the record has its text."""

    def look() -> Money:
        return Money(eur=3)

    gate = make_gate({"tools": {"look": {"once": {"key": "look"}}}})
    [tool] = guard_tools([look], gate)
    assert run_json(tool, {}) == Money(eur=3)
    again = run_json(tool, {})
    assert json.loads(again) == {"eur": 3, "cents": 0}
    assert tool.return_value_as_string(again) == again
    assert tool.return_value_as_string(Money(eur=3)) == again


def test_a_guarded_tool_looks_as_it_did(effects, make_gate):
    """Name, description, schema, types and state are those of the tool."""
    gate, bare = make_gate({"tools": {"refund": {}}}), RefundTool(effects)
    [tool] = guard_tools([bare], gate)
    assert tool.schema == bare.schema
    assert (tool.name, tool.description) == (bare.name, bare.description)
    assert (tool.args_type(), tool.return_type(), tool.state_type()) == (Refund, str, None)
    assert not isinstance(tool, StreamTool)
    assert patiently(tool.save_state_json()) == {"seen": 0}
    patiently(tool.load_state_json({"seen": 5}))
    assert effects.all == ["loaded 5"]


def test_tools_are_guarded_once(refund, make_gate):
    """Guarding again changes nothing; another gate is an error, since which of them would count?"""
    gate, other = make_gate({"tools": {"a": {}}}), make_gate({"tools": {"a": {}}})
    [tool] = guard_tools([refund], gate)
    assert guard_tools([tool], gate) == [tool]
    with pytest.raises(TypeError, match="refund is guarded by another gate already"):
        guard_tools([tool], other)
    with pytest.raises(TypeError, match="another gate"):
        GateWorkbench([tool], other)
    with pytest.raises(TypeError, match="no tool"):
        guard_tools(["refund"], gate)  # type: ignore[list-item]


def test_a_guarded_tool_is_never_serialised_without_its_gate(refund, make_gate):
    """What was loaded from its configuration would run without a gate."""
    [tool] = guard_tools([refund], make_gate({"tools": {"a": {}}}))
    with pytest.raises(NotImplementedError, match="would run without one"):
        tool.dump_component()
    with pytest.raises(NotImplementedError):
        StaticStreamWorkbench([tool]).dump_component()


def test_a_permit_is_not_handed_on(make_gate):
    """A tool that calls itself inside of itself is another call, and decided."""
    depth = []

    async def refund(order: str) -> str:
        depth.append(order)
        if len(depth) < 5:
            await tool.run_json({"order": order}, CancellationToken())
        return "ok"

    gate = make_gate(
        {"tools": {"refund": {}}, "limits": [{"budget": "calls", "limit": 2, "per": ["run"]}]}
    )
    [tool] = guard_tools([refund], gate)
    with context(run="r"), pytest.raises(Denied, match="budget"):
        run_json(tool, {"order": "A1"}, "c1")
    assert depth == ["A1", "A1"]
    assert decided(gate) == ["permit", "permit", "deny"]


def test_without_autogen_the_import_says_what_to_install():
    """The error names the extra."""
    code = (
        "import sys; sys.modules['autogen_agentchat'] = None\n"
        "try: import sluicegate_autogen\n"
        "except ImportError as error: print(error)"
    )
    path = [p for p in sys.path if p]
    said = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'pip install "sluicegate[autogen]"' in said.stdout


# --- what the policy sees -------------------------------------------------------------------------


def test_the_policy_sees_what_the_function_receives(effects, make_gate):
    """By the function's own names, with defaults and nested ones; what is made anew each time is not there."""
    gate = make_gate({"tools": {"refund": {}}})
    go(
        agent(
            [call("refund", orderId="A1", amount={"eur": 7})],
            workbench=GateWorkbench([RefundTool(effects)], gate),
        )
    )
    assert effects.all == ["A1 7 0 None"]
    assert proposed(gate)[0]["args"] == {
        "order": "A1",
        "amount": {"eur": 7, "cents": 0},
        "note": None,
    }


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"order": "A1", "amount": "5"}, "args_invalid"),
        ({"order": "A1", "amount": True}, "args_invalid"),
        ({"order": "A1", "amount": 5.5}, "args_invalid"),
        ({"order": "A1", "amont": 5}, "args_unknown"),
        ({"amount": 5}, "args_invalid"),
        ([], "args_not_canonical"),
        ([1], "args_not_canonical"),
        ("", "args_not_canonical"),
        ('"text"', "args_not_canonical"),
        (0, "args_not_canonical"),
        (False, "args_not_canonical"),
        ('{"order": "A1", "amount": NaN}', "args_not_canonical"),
        ('{"order": "\\ud800"}', "args_not_canonical"),
        ({"order": "A1", "amount": 2**70}, "args_not_canonical"),
    ],
)
@pytest.mark.parametrize("around", ["workbench", "foreign"])
def test_arguments_that_are_not_what_was_declared_are_refused(
    around, args, code, refund, effects, make_gate
):
    """AutoGen coerces them, drops them, or takes whatever is empty for no arguments at all."""
    if args == "":
        args = '""'
    gate = make_gate({"tools": {"refund": {}}})
    inside: Any = [refund] if around == "workbench" else StaticWorkbench([FunctionTool(refund, "")])
    messages = go(agent([call("refund", args=args)], workbench=GateWorkbench(inside, gate)))
    assert told(messages) == [code]
    assert effects.all == []


@pytest.mark.parametrize("args", [None, "null"])
def test_no_arguments_are_none(args, effects, make_gate):
    """`None` is AutoGen's way to say so, for a workbench and for a model that writes null."""

    def ping() -> str:
        return effects.add("ping")

    gate = make_gate({"tools": {"ping": {}}})
    workbench = GateWorkbench([ping], gate)
    if args is None:
        assert not patiently(workbench.call_tool("ping")).is_error
    else:
        assert told(go(agent([call("ping", args="null")], workbench=workbench))) == ["ping"]
    assert effects.all == ["ping"]
    assert proposed(gate)[0]["args"] == {}


def test_a_whole_number_is_a_number_of_any_kind(refund, effects, make_gate):
    """5.0 is an integer in JSON Schema: the policy sees the 5 that the function gets."""
    gate = make_gate({"tools": {"refund": {}}})
    go(agent([call("refund", order="A1", amount=5.0)], workbench=GateWorkbench([refund], gate)))
    assert effects.all == ["refund A1 5"]
    assert proposed(gate)[0]["args"]["amount"] == 5


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"orderId": "A1", "order": "B2"}, "args_unknown"),
        ({"orderId": "A1", "amount": {"eur": 1, "cent": 99}}, "args_invalid"),
    ],
)
@pytest.mark.parametrize("unknown", ["deny", "allow", "drop"])
def test_no_argument_hides_behind_another(unknown, args, code, effects, make_gate):
    """A field by the name behind its alias, or a stray name deep inside: refused, whatever the policy lets through."""
    gate = make_gate({"tools": {"refund": {"unknown_args": unknown}}})
    messages = go(
        agent([call("refund", args=args)], workbench=GateWorkbench([RefundTool(effects)], gate))
    )
    assert told(messages) == [code]
    assert effects.all == []


@pytest.mark.parametrize(("unknown", "kept"), [("allow", True), ("drop", False)])
def test_undeclared_arguments_go_as_the_policy_says(unknown, kept, make_gate):
    """Allowed ones are decided about and reach the tool, dropped ones are gone."""
    seen = []

    class Echo(BaseTool[Any, Any]):
        async def run_json(self, args: Any, *_: Any, **__: Any) -> Any:
            seen.append(dict(args))
            return "ok"

        async def run(self, args: Any, cancellation_token: Any) -> Any: ...

    class Text(BaseModel):
        text: str = "hello"

    gate = make_gate({"tools": {"echo": {"unknown_args": unknown}}})
    go(agent([call("echo", extra=1)], workbench=GateWorkbench([Echo(Text, str, "echo", "")], gate)))
    assert seen == [{"extra": 1} if kept else {}]
    assert proposed(gate)[0]["args"] == {"text": "hello", "extra": 1}


def test_a_default_that_its_own_schema_forbids_is_no_reason_to_refuse(effects, make_gate):
    """`note: str = None` is common, and a call without a note is a good call."""

    def remark(order: str, note: str = None) -> str:  # type: ignore[assignment]  # noqa: RUF013
        return effects.add(order, note)

    gate = make_gate({"tools": {"remark": {}}})
    go(agent([call("remark", order="A1")], workbench=GateWorkbench([remark], gate)))
    assert effects.all == ["A1 None"]
    assert proposed(gate)[0]["args"] == {"order": "A1", "note": None}


def test_values_without_a_json_form_of_their_own_are_shown_as_text(effects, make_gate):
    """A date is the text that the model sent; one that is no date is refused."""

    def book(day: datetime.date) -> str:
        return effects.add(day.year)

    gate = make_gate({"tools": {"book": {}}})
    turns = [call("book", day="2026-01-31")], [call("book", "c2", day="someday")]
    assert told(go(agent(*turns, workbench=GateWorkbench([book], gate)))) == [
        "2026",
        "args_invalid",
    ]
    assert proposed(gate)[0]["args"] == {"day": "2026-01-31"}


def test_the_defaults_of_a_foreign_workbench_are_decided_about_and_not_sent(make_gate):
    """They are in its schema; whether it wants them spelled out, nobody knows."""
    seen = []

    def refund(order: str, amount: int = 1000) -> str:
        raise AssertionError("call_tool is enough")

    class Remote(StaticWorkbench):
        async def call_tool(self, name: str, arguments: Any = None, *rest: Any, **more: Any) -> Any:
            seen.append(dict(arguments))
            return await super().call_tool("nothing")

    gate = make_gate({"tools": {"refund": {"args": {"properties": {"amount": {"maximum": 2000}}}}}})
    remote = Remote([FunctionTool(refund, "")])
    go(agent([call("refund", order="A1")], workbench=GateWorkbench(remote, gate)))
    assert proposed(gate)[0]["args"] == {"order": "A1", "amount": 1000}
    assert seen == [{"order": "A1"}]
    tight = make_gate({"tools": {"refund": {"args": {"properties": {"amount": {"maximum": 5}}}}}})
    messages = go(agent([call("refund", order="A1")], workbench=GateWorkbench(remote, tight)))
    assert told(messages) == ["args_invalid"]


def test_changing_the_arguments_after_the_decision_changes_nothing(make_gate):
    """A program may still hold the arguments that it gave: what runs is what was decided."""
    seen = []

    def pack(items: list[str]) -> str:
        seen.append(list(items))
        return "ok"

    class Changing(Gate):
        async def adecide(self, proposal: Any) -> Any:
            decision = await super().adecide(proposal)
            args["items"][:] = ["changed"]
            return decision

    gate = Changing({"version": 1, "tools": {"pack": {}}}, "memory:")
    args = {"items": ["decided"]}
    patiently(GateWorkbench([pack], gate).call_tool("pack", args))
    args["items"][:] = ["decided"]
    run_json(guard_tools([pack], gate)[0], args)
    assert seen == [["decided"], ["decided"]]
