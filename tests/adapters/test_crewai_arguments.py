"""The policy sees what the function will receive, and what CrewAI would have dropped on the way."""

from __future__ import annotations

import contextlib
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any

import pytest
from crewai_scene import IN_PEACE, MODES, BaseTool, Desk, ToolFailure, call, tool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from sluicegate import Gate
from sluicegate.testing.scene import decisions_of
from sluicegate_crewai import guard_crew, guard_tools

pytestmark = IN_PEACE


def tool_of(schema: type[BaseModel], got: list[Any]) -> BaseTool:
    """A tool with the arguments of *schema* that writes down what it got."""

    class Send(BaseTool):
        name: str = "send"
        description: str = "Send."
        args_schema: type[BaseModel] = schema

        def _run(self, **kwargs: Any) -> str:
            got.append(kwargs)
            return "sent"

    return Send()


def decided(
    schema: type[BaseModel], sent: dict[str, Any], *, mode: str = "native", **entry: Any
) -> tuple[list[Any], dict[str, Any], str]:
    """What the tool got, what the policy saw, and what the model was told."""
    got: list[Any] = []
    gate = Gate({"version": 1, "tools": {"send": entry}}, "memory:")
    desk = Desk([tool_of(schema, got)], [("send", sent, "c1")], mode=mode)
    guard_crew(desk.crew(), gate).kickoff()
    saw = decisions_of(gate)[0]["proposal"]["args"] if decisions_of(gate) else {}
    return got, saw, desk.replies[0]


class Mail(BaseModel):
    to: str
    copies: int = 1
    note: str | None = None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"to": "a", "copeis": 5}, "args_unknown"),
        ({"to": "a", "copies": "5"}, "args_invalid"),
        ({"to": "a", "copies": 1.5}, "args_invalid"),
        ({"to": "a", "copies": True}, "args_invalid"),
        ({"to": 7}, "args_invalid"),
        ({"copies": 1}, "args_invalid"),
        ({"to": "a", "copies": None}, "args_invalid"),
        ({"to": "a", "copies": float("nan")}, "args_not_canonical"),
        ({"to": "\ud800"}, "args_not_canonical"),
    ],
)
def test_nothing_is_coerced_or_dropped_without_a_word(
    sent: dict[str, Any], code: str, mode: str
) -> None:
    """What CrewAI would read as something else, or leave out, is refused with a reason."""
    got, _, told = decided(Mail, sent, mode=mode)
    assert got == []
    assert code in told


@pytest.mark.parametrize("mode", MODES)
def test_the_policy_sees_defaults_and_null(mode: str) -> None:
    """Defaults are filled in before the decision, and a null that the tool allows is a null."""
    got, saw, _ = decided(Mail, {"to": "a", "note": None}, mode=mode)
    assert got == [saw] == [{"to": "a", "copies": 1, "note": None}]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", ["drop", "allow"])
def test_undeclared_arguments_never_reach_the_function(rule: str, mode: str) -> None:
    """Where the policy drops or allows what is not declared, CrewAI still leaves it out."""
    got, saw, told = decided(Mail, {"to": "a", "copeis": 5}, mode=mode, unknown_args=rule)
    assert got == [{"to": "a", "copies": 1, "note": None}]
    assert saw["copeis"] == 5
    assert told == "sent"


class Inner(BaseModel):
    eur: float


class Nested(BaseModel):
    items: list[Inner]


@pytest.mark.parametrize("mode", MODES)
def test_undeclared_arguments_deep_inside_are_refused(mode: str) -> None:
    """CrewAI would drop them in nested objects too."""
    got, _, told = decided(Nested, {"items": [{"eur": 5.0, "currrency": "USD"}]}, mode=mode)
    assert got == []
    assert "currrency" in told
    got, saw, _ = decided(Nested, {"items": [{"eur": 5.5}]}, mode=mode)
    assert got == [saw] == [{"items": [{"eur": 5.5}]}]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    to: str


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_that_takes_any_argument_gets_those_that_were_decided(mode: str) -> None:
    """Where the tool declares that it takes any name, the policy sees each of them."""
    got, saw, _ = decided(Open, {"to": "a", "color": "red"}, mode=mode)
    assert got[0]["to"] == "a"
    assert saw == got[0]


class Nothing(BaseModel):
    pass


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_without_arguments_takes_none(mode: str) -> None:
    """An argument for a tool that has none is refused."""
    got, _, told = decided(Nothing, {"x": 1}, mode=mode)
    assert got == []
    assert "args_unknown" in told
    assert decided(Nothing, {}, mode=mode)[0] == [{}]


class Color(enum.Enum):
    RED = "red"


class Rich(BaseModel):
    eur: Annotated[Decimal, WithJsonSchema({"type": ["number", "string"]})]
    color: Color = Color.RED
    tags: set[str] = Field(default_factory=set)
    id: uuid.UUID = Field(default_factory=uuid.uuid4)

    @field_validator("tags", mode="before")
    @classmethod
    def _lower(cls, tags: Any) -> Any:
        return {tag.lower() for tag in tags}


def test_a_limit_on_a_number_sees_a_number() -> None:
    """A decimal that came as text is a number to the policy: a maximum holds for it."""
    maximum = {"args": {"properties": {"eur": {"maximum": 100}}}}
    for eur in ("500", 500, "5e2", "500.00"):
        got, _, told = decided(Rich, {"eur": eur}, **maximum)
        assert got == []
        assert "maximum of 100" in told
    got, saw, _ = decided(Rich, {"eur": "5.50"}, **maximum)
    assert (got[0]["eur"], saw["eur"]) == (Decimal("5.50"), 5.5)


def test_the_function_receives_python_values_and_the_policy_sees_json() -> None:
    """What validators and types make of the arguments is what runs, and its JSON is what is decided."""
    got, saw, _ = decided(Rich, {"eur": 1, "tags": ["B", "A"]})
    assert (got[0]["color"], got[0]["tags"]) == (Color.RED, {"a", "b"})
    assert (saw["color"], saw["tags"]) == ("red", ["a", "b"])


def test_a_default_that_is_new_each_time_is_not_part_of_the_decision() -> None:
    """An id that the tool makes up is no other call: `once` recognises it; an id that is sent is decided."""
    got: list[Any] = []
    gate = Gate({"version": 1, "tools": {"send": {"once": {"key": "send:{eur}"}}}}, "memory:")
    [send] = guard_tools([tool_of(Rich, got)], gate)
    assert [send.run(eur=1), send.run(eur=1)] == ["sent", "sent"]
    assert len(got) == 1
    assert isinstance(got[0]["id"], uuid.UUID)
    assert [d["decision"] for d in decisions_of(gate)] == ["permit", "recorded"]
    one = str(uuid.uuid4())
    send.run(eur=2, id=one)
    assert decisions_of(gate)[-1]["proposal"]["args"]["id"] == one


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    amount: float = Field(alias="amt")


def test_aliases_are_shown_to_the_model_and_names_to_the_policy() -> None:
    """The model sends the alias, the function gets the name, and so does the policy; there is no third way in."""
    got, saw, _ = decided(Aliased, {"amt": 5.5})
    assert got == [saw] == [{"amount": 5.5}]
    got, _, told = decided(Aliased, {"amt": 5.5, "amount": 5000.0}, unknown_args="allow")
    assert got == []
    assert "args_unknown" in told


class Chosen(BaseModel):
    amount: float = Field(1.0, validation_alias=AliasChoices("amt", "sum"))


def test_a_spelling_that_the_model_was_not_shown_does_not_reach_the_function() -> None:
    """Even where the policy allows undeclared names: one that pydantic would take was never decided about."""
    got, saw, _ = decided(Chosen, {"sum": 5000.0}, unknown_args="allow")
    assert got == [{"amount": 1.0}]
    assert saw == {"amount": 1.0, "sum": 5000.0}


class Picky(BaseModel):
    to: str

    @field_validator("to")
    @classmethod
    def _known(cls, to: str) -> str:
        if to != "ada":
            raise ValueError("nobody of that name")
        return to


@pytest.mark.parametrize("mode", MODES)
def test_what_the_tools_own_validation_refuses_is_a_refusal(mode: str) -> None:
    """A validator that raises refuses before anything is held, and its words reach the model."""
    got, _, told = decided(Picky, {"to": "bob"}, mode=mode)
    assert got == []
    assert "args_invalid" in told
    assert "nobody of that name" in told


def test_changing_the_arguments_later_changes_nothing() -> None:
    """What the caller does with its own list after the decision does not reach the function."""
    items = ["decided"]
    seen: list[Any] = []

    class Changing(Gate):
        def decide(self, proposal: Any) -> Any:
            decision = super().decide(proposal)
            items[:] = ["changed"]
            return decision

    @tool("pack")
    def pack(items: Any) -> str:
        """Pack."""
        seen.append(items)
        return "packed"

    [guarded] = guard_tools([pack], Changing({"version": 1, "tools": {"pack": {}}}, "memory:"))
    guarded.run(items=items)
    assert seen == [["decided"]]


def test_arguments_that_are_no_object_do_not_run() -> None:
    """CrewAI itself does not get along with arguments that are no object: it breaks off, or tells the model."""
    got: list[Any] = []
    gate = Gate({"version": 1, "tools": {"send": {}}}, "memory:")
    for sent in ("[1]", "7", '"a"', "{"):
        desk = Desk([tool_of(Mail, got)], [("send", sent, "c1")])
        with contextlib.suppress(ValueError):
            guard_crew(desk.crew(), gate).kickoff()
    assert got == decisions_of(gate) == []


def test_a_recorded_result_that_is_not_on_record_says_so() -> None:
    """An earlier result that could not be recorded is not made up: the model is told that the call was made."""

    @tool("look")
    def look() -> Any:
        """Look."""
        return object()

    gate = Gate({"version": 1, "tools": {"look": {"once": {"key": "look"}}}}, "memory:")
    desk = Desk([look], [call("look")], [call("look")])
    guard_crew(desk.crew(), gate).kickoff()
    assert "not on record" in desk.replies[1]


def test_a_refusal_is_a_tool_failure_with_its_codes() -> None:
    """Programs need not read the text: the codes, and whether to try again, are in the ToolFailure."""
    [send] = guard_tools([tool_of(Mail, [])], Gate({"version": 1, "tools": {"x": {}}}, "memory:"))
    refusal = send.run(to="a")
    assert isinstance(refusal, ToolFailure)
    assert refusal.details == {"decision": "deny", "codes": ["unknown_tool"], "final": False}
    assert not refusal.retryable
    assert refusal.as_agent_message() == refusal.message
    limits = [{"rate": "1/h"}]
    gate = Gate({"version": 1, "tools": {"send": {}}, "limits": limits}, "memory:")
    [send] = guard_tools([tool_of(Mail, [])], gate)
    assert send.run(to="a") == "sent"
    assert send.run(to="a").retryable
