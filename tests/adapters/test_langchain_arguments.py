"""The policy sees the arguments that the function will receive."""

from __future__ import annotations

import uuid
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool, tool
from langchain_scene import GUARDS, answers, call, go, guarded, proposed, told
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
)
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic.v1 import Field as FieldV1


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


BATTERY = {
    "missing": ({}, "args_invalid"),
    "text for a number": ({"amount": "5000"}, "args_invalid"),
    "true for a number": ({"amount": True}, "args_invalid"),
    "NaN": ({"amount": float("nan")}, "args_not_canonical"),
    "infinity": ({"amount": float("inf")}, "args_not_canonical"),
    "a list": ({"amount": [5]}, "args_invalid"),
    "null": ({"amount": None}, "args_invalid"),
    "an undeclared extra": ({"amount": 5, "amout": 5000}, "args_unknown"),
    "wrong case": ({"Amount": 5}, "args_unknown"),
    "401 digits": ({"amount": 10**400}, "args_not_canonical"),
    "a lone surrogate": ({"amount": 5, "note": "\ud800"}, "args_not_canonical"),
    "100 levels": ({"amount": 5, "note": nested(100)}, "args_not_canonical"),
    "5 MB": ({"amount": 5, "note": "x" * 5_000_000}, "args_not_canonical"),
    "no JSON": ({"amount": 5, "note": {1, 2}}, "args_not_canonical"),
}


@GUARDS
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("case", BATTERY)
def test_the_battery(case, way, guard, effects, make_gate):
    """None of what models send wrongly runs the tool, and each is told why."""

    @tool
    def pay(amount: float, note: Any = None) -> str:
        """Pay."""
        return effects.add("pay", amount)

    args, code = BATTERY[case]
    gate = make_gate({"tools": {"pay": {}}})
    turn = [{"name": "pay", "args": args, "id": "c1", "type": "tool_call"}]
    messages = go(guarded(guard, gate, pay, turn), way)
    assert effects.all == []
    assert code in told(messages)[0]
    assert messages[-1].content == "done"


@GUARDS
@pytest.mark.parametrize("spelling", ["Pay", "pay ", "pаy", "pay\u200b", "payy"])
def test_another_spelling_is_another_tool(spelling, guard, effects, make_gate):
    """A name that only looks like a tool's is no tool."""

    @tool
    def pay(amount: float) -> str:
        """Pay."""
        return effects.add("pay", amount)

    gate = make_gate({"tools": {"pay": {}}})
    messages = go(guarded(guard, gate, pay, [call(spelling, amount=5)]))
    assert effects.all == []
    assert answers(messages)[0].status == "error"


# --- what the function will receive ---------------------------------------------------------------------


@GUARDS
def test_defaults_are_visible(guard, effects, make_gate):
    """A rule about an argument that the model left out sees the function's default."""

    @tool
    def pay(amount: float, currency: str = "USD", note: str | None = None) -> str:
        """Pay."""
        return effects.add("pay", amount, currency)

    gate = make_gate({"tools": {"pay": {"args": {"properties": {"currency": {"const": "EUR"}}}}}})
    turns = [[call("pay", "a", amount=5)], [call("pay", "b", amount=5, currency="EUR")]]
    messages = go(guarded(guard, gate, pay, *turns))
    assert told(messages) == [["args_invalid"], []]
    assert proposed(gate)[0]["args"] == {"amount": 5, "currency": "USD", "note": None}
    assert effects.all == ["pay 5.0 EUR"]


def pay_in_cents(effects: Any, schema: Any) -> BaseTool:
    """A tool that takes `amount` as *schema* says."""

    def pay(amount: int = 0) -> str:
        """Pay."""
        return effects.add("pay", amount)

    return StructuredTool.from_function(pay, args_schema=schema)


class ByBoth(BaseModel):
    """An alias, the name beside it, and a validator: 5 becomes 500."""

    model_config = ConfigDict(populate_by_name=True)
    amount: Annotated[int, BeforeValidator(lambda value: value * 100)] = Field(alias="amt")


class ByAlias(BaseModel):
    """The name that LangChain shows to the model is not the one that pydantic takes."""

    amount: int = Field(3, validation_alias=AliasChoices("amt", AliasPath("money", "amount")))


class ByAliasV1(BaseModelV1):
    """The same in the old pydantic."""

    amount: int = FieldV1(3, alias="amt")


class OfText(BaseModel):
    """Sent as text, received as a number."""

    amount: Annotated[str, AfterValidator(lambda value: int(value) * 100)]


@GUARDS
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain's own, about OfText
@pytest.mark.parametrize(("schema", "sent"), [(ByBoth, 5), (OfText, "5")])
def test_the_policy_judges_what_validators_make_of_an_argument(
    schema, sent, guard, effects, make_gate
):
    """It is the 500 that runs that is judged, and not the 5 that was sent; what runs goes through them once."""
    made = pay_in_cents(effects, schema)
    limited = make_gate(
        {
            "tools": {
                "pay": {"args": {"properties": {"amount": {"type": "integer", "maximum": 400}}}}
            }
        }
    )
    assert told(go(guarded(guard, limited, made, [call("pay", amount=sent)]))) == [["args_invalid"]]
    assert proposed(limited)[0]["args"] == {"amount": 500}
    gate = make_gate({"tools": {"pay": {}}})
    assert told(go(guarded(guard, gate, made, [call("pay", amount=sent)]))) == [[]]
    assert proposed(gate)[0]["args"] == {"amount": 500}
    assert effects.all == ["pay 500"]


@GUARDS
@pytest.mark.parametrize("unknown", ["deny", "drop", "allow"])
@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (ByBoth, {"amt": 90, "amount": 1}),
        (ByBoth, {"amt": 90}),
        (ByAlias, {"amt": 90}),
        (ByAlias, {"money": {"amount": 90}}),
        (ByAliasV1, {"amount": 90}),
        (ByAliasV1, {"amount": 90, "amt": 1}),
    ],
)
def test_the_other_name_of_a_field_is_refused_whatever_the_policy_says(
    schema, sent, unknown, guard, effects, make_gate
):
    """The model was never shown it, and what pydantic makes of it would not be what the policy saw."""
    gate = make_gate({"tools": {"pay": {"unknown_args": unknown}}})
    messages = go(guarded(guard, gate, pay_in_cents(effects, schema), [call("pay", **sent)]))
    assert told(messages)[0][0] in ("args_unknown", "args_invalid")
    assert effects.all == []


@GUARDS
def test_a_declared_argument_that_pydantic_would_drop_is_refused(guard, effects, make_gate):
    """LangChain shows `amount` to the model, and would then run with the default instead of the 90."""
    gate = make_gate({"tools": {"pay": {}}})
    turns = [[call("pay", "a", amount=90)], [call("pay", "b")]]
    messages = go(guarded(guard, gate, pay_in_cents(effects, ByAlias), *turns))
    assert told(messages) == [["args_invalid"], []]
    assert "would drop amount, which it takes by an alias only" in answers(messages)[0].content
    assert effects.all == [f"pay {proposed(gate)[1]['args']['amount']}"]


class Item(BaseModel):
    sku: str
    price: Decimal


class Colour(Enum):
    RED = "red"


@GUARDS
def test_parsed_values_become_json_that_rules_can_judge(guard, effects, make_gate):
    """Models, decimals, dates, sets and enums are shown as JSON, decimals as numbers, always the same."""

    @tool
    def order(
        items: list[Item], due: date, tags: set[str], colour: Colour, weights: dict[int, float]
    ) -> str:
        """Order."""
        return effects.add(
            "order", items[0].price, type(items[0].price).__name__, due.year, colour.name
        )

    gate = make_gate({"tools": {"order": {}}})
    turn = [
        call(
            "order",
            items=[{"sku": "a", "price": 12.5}],
            due="2031-02-03",
            tags=["b", "a", "c"],
            colour="red",
            weights={"1": 2.0},
        )
    ]
    assert told(go(guarded(guard, gate, order, turn))) == [[]]
    assert proposed(gate)[0]["args"] == {
        "items": [{"sku": "a", "price": 12.5}],
        "due": "2031-02-03",
        "tags": ["a", "b", "c"],
        "colour": "red",
        "weights": {"1": 2},
    }
    assert effects.all == ["order 12.5 Decimal 2031 RED"]


@GUARDS
def test_what_is_made_up_anew_each_time_is_not_shown(guard, make_gate):
    """The value of a default factory at decision time is not the one that runs, so nobody judges it."""

    class Ticket(BaseModel):
        title: str
        id: str = Field(default_factory=lambda: uuid.uuid4().hex)
        tags: list[str] = Field(default_factory=list)

    def file(title: str, id: str = "", tags: tuple[str, ...] = ()) -> str:
        """File."""
        return "ok"

    made = StructuredTool.from_function(file, args_schema=Ticket)
    gate = make_gate({"tools": {"file": {}}})
    turns = [[call("file", "a", title="x")], [call("file", "b", title="x", id="7")]]
    messages = go(guarded(guard, gate, made, *turns))
    if "id" in made.tool_call_schema.model_json_schema()["required"]:
        # Older versions show such fields to the model as required, and then they are.
        assert told(messages) == [["args_invalid"], ["args_invalid"]]
        return
    assert told(messages) == [[], []]
    first, second = (proposal["args"] for proposal in proposed(gate))
    assert first == {"title": "x", "tags": []}
    assert second == {"title": "x", "id": "7", "tags": []}


@GUARDS
def test_what_the_tool_itself_refuses_is_refused_with_its_words(guard, effects, make_gate):
    """A validator's no is a refusal: nothing is held for a call that could only fail."""

    class Transfer(BaseModel):
        iban: str

        @field_validator("iban")
        @classmethod
        def known(cls, value: str) -> str:
            if not value.startswith("DE"):
                raise ValueError("only German accounts")
            return value

    def transfer(iban: str) -> str:
        """Transfer."""
        return effects.add("transfer", iban)

    made = StructuredTool.from_function(transfer, args_schema=Transfer)
    limits = [{"budget": "calls", "limit": 1, "per": ["run"]}]
    gate = make_gate({"tools": {"transfer": {}}, "limits": limits})
    messages = go(guarded(guard, gate, made, [call("transfer", "a", iban="FR76")]))
    assert told(messages) == [["args_invalid"]]
    assert "only German accounts" in answers(messages)[0].content
    assert effects.all == []
    assert gate.usage() == [] or gate.usage()[0].used == 0


@GUARDS
def test_what_has_no_json_form_is_refused(guard, effects, make_gate):
    """Where a tool makes something of an argument that nobody can show to the policy, it does not run."""

    class Handle:
        pass

    class Wrapped(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        order: Annotated[str, AfterValidator(lambda _: Handle())]

    def pay(order: object) -> str:
        """Pay."""
        return effects.add("pay")

    gate = make_gate({"tools": {"pay": {}}})
    made = StructuredTool.from_function(pay, args_schema=Wrapped)
    assert told(go(guarded(guard, gate, made, [call("pay", order="A1")]))) == [["args_invalid"]]
    assert effects.all == []
