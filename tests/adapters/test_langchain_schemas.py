"""The policy sees what LangChain would have dropped, for every kind of tool that it has."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool
from langchain_scene import GUARDS, agent, answers, call, go, guarded, proposed, told
from pydantic import (
    BaseModel,
    ConfigDict,
)
from pydantic.v1 import BaseModel as BaseModelV1

from sluicegate_langchain import GateMiddleware, guard_tools
from sluicegate_langchain.arguments import Arguments


class Line(BaseModel):
    sku: str
    quantity: int = 1


# --- what it would have dropped -------------------------------------------------------------------------


@GUARDS
@pytest.mark.parametrize(
    ("unknown", "codes", "shown"),
    [
        ("deny", ["args_unknown"], {"product": "7", "quantity": 1, "quantiy": 500}),
        ("drop", [], {"product": "7", "quantity": 1, "quantiy": 500}),
        ("allow", [], {"product": "7", "quantity": 1, "quantiy": 500}),
    ],
)
def test_a_misspelt_argument_is_seen(unknown, codes, shown, guard, effects, make_gate):
    """LangChain would drop `quantiy=500` and order one; the policy sees both and says what is to happen."""

    @tool
    def place_order(product: str, quantity: int = 1) -> str:
        """Order."""
        return effects.add("order", product, quantity)

    gate = make_gate({"tools": {"place_order": {"unknown_args": unknown}}})
    messages = go(
        guarded(guard, gate, place_order, [call("place_order", product="7", quantiy=500)])
    )
    assert told(messages) == [codes]
    assert proposed(gate)[0]["args"] == shown
    assert effects.all == ([] if codes else ["order 7 1"])
    if codes:
        assert (
            "'quantiy' (did you mean 'quantity'?); it accepts: product, quantity"
            in answers(messages)[0].content
        )


@GUARDS
@pytest.mark.parametrize("unknown", ["drop", "allow"])
def test_a_tool_without_validation_gets_what_the_policy_lets_through(
    unknown, guard, effects, make_gate
):
    """A tool with a JSON Schema takes everything; dropped arguments do not reach it, allowed ones do."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

    def take(**given: Any) -> str:
        """Take."""
        return effects.add(sorted(given.items()))

    made = StructuredTool.from_function(take, args_schema=schema)
    gate = make_gate({"tools": {"take": {"unknown_args": unknown}}})
    go(guarded(guard, gate, made, [call("take", "a", a=1, b=2)], [call("take", "b", a="1")]))
    assert effects.all == ["[('a', 1)]" if unknown == "drop" else "[('a', 1), ('b', 2)]"]
    assert proposed(gate)[0]["args"] == {"a": 1, "b": 2}


@GUARDS
@pytest.mark.parametrize("unknown", ["deny", "drop", "allow"])
def test_what_would_be_dropped_inside_an_argument_is_refused(unknown, guard, effects, make_gate):
    """An unknown name deep inside is refused in any case: no policy could see it go."""

    @tool
    def order(lines: list[Line], gift: Line | None = None) -> str:
        """Order."""
        return effects.add("order", lines)

    gate = make_gate({"tools": {"order": {"unknown_args": unknown}}})
    turns = [
        [call("order", "a", lines=[{"sku": "a", "quantiy": 500}])],
        [call("order", "b", lines=[], gift={"sku": "a", "quantiy": 500})],
        [call("order", "c", lines=[{"sku": "a", "quantity": 5}])],
    ]
    messages = go(guarded(guard, gate, order, *turns))
    assert told(messages) == [["args_invalid"], ["args_invalid"], []]
    assert "quantiy" in answers(messages)[0].content
    assert len(effects.all) == 1


# --- tools of other kinds ---------------------------------------------------------------------------------


@GUARDS
def test_a_plain_tool_has_one_nameless_text(guard, effects, make_gate):
    """The old `Tool` is judged by the name that LangChain shows to the model."""
    made = Tool(
        name="search", description="Search.", func=lambda query: effects.add("search", query)
    )
    gate = make_gate({"tools": {"search": {"args": {"properties": {"__arg1": {"maxLength": 5}}}}}})
    turns = [
        [call("search", "a", __arg1="boots")],
        [call("search", "b", __arg1="long words")],
        [call("search", "c", q="x")],
    ]
    assert told(go(guarded(guard, gate, made, *turns))) == [
        [],
        ["args_invalid"],
        ["args_unknown", "args_invalid"],
    ]
    assert effects.all == ["search boots"]


@GUARDS
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_tool_class_without_a_schema_is_judged_by_its_signature(way, guard, effects, make_gate):
    """`_run` says which arguments there are; LangChain validates none of them."""

    class Pay(BaseTool):
        name: str = "pay"
        description: str = "Pay."

        def _run(self, amount: int, currency: str = "EUR", run_manager: Any = None) -> str:
            return effects.add("pay", amount, currency)

    gate = make_gate({"tools": {"pay": {}}})
    turns = [
        [call("pay", "a", amount=5)],
        [call("pay", "b", amount="5")],
        [call("pay", "c", amount=5, to="x")],
    ]
    assert told(go(guarded(guard, gate, Pay(), *turns), way)) == [
        [],
        ["args_invalid"],
        ["args_unknown"],
    ]
    assert effects.all == ["pay 5 EUR"]
    assert proposed(gate)[0]["args"] == {"amount": 5, "currency": "EUR"}


@GUARDS
def test_a_model_of_pydantic_v1_is_resolved_too(guard, effects, make_gate):
    """Defaults of an old model are seen like any others."""

    class Old(BaseModelV1):
        amount: int
        currency: str = "EUR"

    def pay(amount: int, currency: str = "?") -> str:
        """Pay."""
        return effects.add("pay", amount)

    made = StructuredTool.from_function(pay, args_schema=Old)
    gate = make_gate({"tools": {"pay": {}}})
    assert told(
        go(guarded(guard, gate, made, [call("pay", "a", amount=5)], [call("pay", "b", amount="5")]))
    ) == [
        [],
        ["args_invalid"],
    ]
    assert proposed(gate)[0]["args"]["currency"] == made._parse_input({"amount": 5}, "c1").get(
        "currency", "?"
    )


@GUARDS
def test_a_schema_that_nobody_can_use_refuses(guard, effects, make_gate):
    """A tool whose JSON Schema is broken does not run."""

    def take(**given: Any) -> str:
        """Take."""
        return effects.add("take")

    made = StructuredTool.from_function(
        take, args_schema={"type": "object", "properties": {"a": {"type": "nope"}}}
    )
    gate = make_gate({"tools": {"take": {}}})
    assert told(go(guarded(guard, gate, made, [call("take", a=1)]))) == [["args_invalid"]]
    assert effects.all == []


def test_a_tool_that_cannot_be_described_is_refused(effects, make_gate, caplog):
    """Where not even the schema can be made, nothing runs, and a tool cannot be guarded at all."""

    class Nameless:
        pass

    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: Nameless

    def take(thing: Any) -> str:
        """Take."""
        return effects.add("take")

    gate = make_gate({"tools": {"take": {}}})
    made = StructuredTool.from_function(take, args_schema=Odd)
    messages = go(agent([made], [call("take", thing=1)], middleware=[GateMiddleware(gate)]))
    assert told(messages) == [["internal_error"]]
    assert effects.all == []
    assert "cannot be described" in caplog.text
    with pytest.raises(TypeError, match="take cannot be guarded"):
        guard_tools([made], gate)


def test_what_is_known_of_a_tool_lives_as_long_as_the_tool():
    """It is found out once, again for a new schema, and forgotten with the tool."""

    def pay(amount: int) -> str:
        """Pay."""
        return "ok"

    made = StructuredTool.from_function(pay)
    known = Arguments.of(made)
    assert Arguments.of(made) is known
    made.args_schema = Line
    assert Arguments.of(made) is not known
    gone = weakref.ref(Arguments.of(made).shape)
    del made, known
    gc.collect()
    assert gone() is None
