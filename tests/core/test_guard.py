"""Plain functions as tools, and the context that says for whom they are called."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest

from sluicegate import Context, Denied, Gate, Subject, context, current

POLICY = {
    "version": 1,
    "tools": {"refund": {"once": {"key": "refund:{order}"}}, "put": {}, "f": {}},
    "limits": [{"budget": "calls", "limit": 3, "per": ["tenant", "run"]}],
}


@pytest.fixture
def gate():
    return Gate(POLICY, "memory:")


def test_a_function_is_decided_first(gate):
    """A guarded function runs when permitted, and answers from the record the second time."""
    runs = []

    @gate.guard
    def refund(order: str, amount: float = 5.0) -> dict[str, int]:
        """Give money back."""
        runs.append((order, amount))
        return {"id": len(runs)}

    with context(tenant="acme", run="r1"):
        assert refund("A1") == refund(order="A1", amount=5.0) == {"id": 1}
    assert runs == [("A1", 5.0)]
    assert refund.__doc__ == "Give money back."


def test_wrong_arguments_are_refused(gate):
    """The signature is the schema: what does not fit its types is refused and not coerced."""

    @gate.guard("refund")
    def give_back(order: str, amount: float) -> None:
        pytest.fail("ran")

    with context(tenant="acme", run="r1"), pytest.raises(Denied) as caught:
        give_back("A1", "5000")
    assert [reason.code for reason in caught.value.decision.reasons] == ["args_invalid"]


def test_a_missing_context_is_refused(gate):
    """Outside of any context a limit per tenant and run cannot be counted; nor in a raw thread."""

    @gate.guard
    def put() -> str:
        return "ran"

    with pytest.raises(Denied, match="missing_subject"):
        put()
    seen = []

    def work():
        try:
            seen.append(put())
        except Denied as error:
            seen.append(error.decision.reasons[0].code)

    with context(tenant="acme", run="r1"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert put() == "ran"
    assert seen == ["missing_subject"]


def test_async_functions(gate):
    """An async function stays one, and the context goes with its task."""

    @gate.guard
    async def put(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def main():
        async with context(tenant="acme", run="r1"):
            return await asyncio.gather(*(put(n) for n in range(5)), return_exceptions=True)

    results = asyncio.run(main())
    assert sorted(r for r in results if isinstance(r, int)) == [0, 1, 2]
    assert sum(isinstance(r, Denied) for r in results) == 2


def test_a_subject_can_be_given(gate):
    """A subject, or a function that gives one, comes before the context."""
    acme = Subject(tenant="acme")

    @gate.guard("put", subject=lambda: acme)
    def one() -> int:
        return 1

    @gate.guard("put", subject=acme)
    def two() -> int:
        return 2

    with context(tenant="other", run="r1"):
        assert one() + two() == 3
    assert {row.scope["tenant"] for row in gate.usage()} == {"acme"}


class NoSchema:
    """A type that has no JSON Schema."""


def test_other_signatures(gate):
    """Types without a schema are checked by name alone; keyword arguments stay open; the rest is refused."""

    @gate.guard("f")
    def odd(thing: NoSchema, n: int = 1) -> object:
        return thing

    @gate.guard("f")
    def more(**given: int) -> object:
        return given

    @gate.guard("f", schema={"type": "object", "properties": {"n": {"maximum": 3}}})
    def told(n):
        return n

    with context(tenant="acme", run="r1"):
        assert odd("text") == "text"
        assert more(a=1, b=2) == {"a": 1, "b": 2}
        assert told(3) == 3
        with pytest.raises(Denied, match="args_not_canonical"):
            odd(NoSchema())
        with pytest.raises(Denied, match="args_invalid"):
            told(4)
    for function in (lambda *many: None, eval("lambda one, /: None"), generator, async_generator):
        with pytest.raises(TypeError):
            gate.guard("f")(function)


def generator():
    yield 1


async def async_generator():
    yield 1


def test_contexts_nest():
    """An inner context keeps what it does not set, and a run in a run is its child."""
    assert current() == Context()
    with context(tenant="acme", user="ada", run="outer"):
        with context(agent="helper", run="inner") as here:
            assert here.subject == Subject(tenant="acme", user="ada", agent="helper")
            assert (here.run, here.parent, here.root, here.depth) == ("inner", "outer", "outer", 1)
            with context(run="innermost", roles=("x",)):
                assert (current().parent, current().root, current().depth) == ("inner", "outer", 2)
            with context(run="inner"):
                assert current().depth == 1
        assert current().run == "outer"
    assert current() == Context()


def test_a_whole_subject_takes_the_place_of_the_outer_one():
    """A subject that names no tenant does not inherit the tenant outside."""
    with context(tenant="acme", user="ada", run="r1"), context(subject=Subject(agent="helper")):
        assert current().subject == Subject(agent="helper")
        with context(subject=Subject(agent="helper"), tenant="other"):
            assert current().subject == Subject(agent="helper", tenant="other")


def test_a_context_ends_with_an_exception():
    """A context is left whatever happens in it."""

    async def main():
        with pytest.raises(ZeroDivisionError):
            async with context(run="r"):
                raise ZeroDivisionError
        assert current() == Context()

    asyncio.run(main())


def test_a_context_takes_names_only():
    """A run or a tenant that is no text is refused where it is given."""
    for wrong in ({"run": 5}, {"tenant": 5}, {"roles": "boss"}):
        with pytest.raises(TypeError):
            context(**wrong)
    with pytest.raises(ValueError, match="run has 0 characters"):
        context(run="")


@dataclass
class Point:
    """A type with a schema of its own."""

    x: int


def test_values_that_are_no_json_are_refused(gate):
    """An argument that is no JSON value cannot be recorded or compared, so it is refused."""

    @gate.guard("f")
    def take(point: Point) -> None:
        pytest.fail("ran")

    with context(tenant="acme", run="r1"), pytest.raises(Denied, match="args_not_canonical"):
        take(Point(1))
