"""Durations, rates, amounts, numbers, keys and expressions as people write them in a policy."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sluicegate.policy import values
from sluicegate.policy.expression import condition, cost, number_of, path_of
from sluicegate.policy.fault import Fault
from sluicegate.policy.numbers import number
from sluicegate.policy.template import parts, template
from sluicegate.policy.units import LONGEST, Rate, duration, in_words

SECOND = 1_000_000
needs_cel = pytest.mark.skipif(sys.version_info < (3, 11), reason="CEL needs Python 3.11")


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("500ms", SECOND // 2),
        ("30s", 30 * SECOND),
        ("5m", 300 * SECOND),
        ("5min", 300 * SECOND),
        ("24h", 86_400 * SECOND),
        ("1h30m", 5_400 * SECOND),
        ("2days", 172_800 * SECOND),
        ("1w", 604_800 * SECOND),
        ("0s", 0),
    ],
)
def test_durations(text: str, micros: int) -> None:
    """A duration is whole numbers, each with its unit, in microseconds."""
    assert duration(text) == micros


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "-5s", "1.5h", "5 m", "5s ", "5S", "٥s", "5s,", "1e3s", "5y", "9999999999999w"],
)
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused: signs, fractions, spaces, other digits, unknown units, ages."""
    with pytest.raises(Fault) as caught:
        duration(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("value", "hint"), [(5, "5s"), (300, "300m"), (True, "30s"), (None, "30s")]
)
def test_a_bare_number_is_no_duration(value: object, hint: str) -> None:
    """A number without a unit is refused, and the hint shows it with one."""
    with pytest.raises(Fault) as caught:
        duration(value)
    assert hint in caught.value.hint


@given(st.integers(0, LONGEST // 1000).map(lambda n: n * 1000))
def test_durations_survive_being_written_down(micros: int) -> None:
    """What `in_words` writes is read as the same duration."""
    assert duration(in_words(micros)) == micros


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/min", Rate(10, 60 * SECOND)),
        ("20/s", Rate(20, SECOND)),
        ("100/h", Rate(100, 3_600 * SECOND)),
        ("5/day", Rate(5, 86_400 * SECOND)),
        ("3/10s", Rate(3, 10 * SECOND)),
    ],
)
def test_rates(text: str, rate: Rate) -> None:
    """A rate is a count, a slash and a period."""
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/",
        "/s",
        "0/s",
        "5/0s",
        "-1/s",
        "1.5/s",
        "10/mn",
        "10 / min",
        "2000000/s",
        "1/9999999w",
    ],
)
def test_what_is_no_rate(text: str) -> None:
    """Zero, fractions, unknown periods and more than one in a microsecond are refused."""
    with pytest.raises(Fault) as caught:
        Rate.parse(text)
    assert caught.value.hint


def test_a_misspelt_period_is_recognised() -> None:
    """The hint names the nearest unit."""
    with pytest.raises(Fault) as caught:
        Rate.parse("10/mn")
    assert "did you mean min?" in caught.value.hint


@given(st.integers(1, 1000), st.integers(1, 10**7).map(lambda n: n * 1000))
def test_rates_survive_being_written_down(count: int, period: int) -> None:
    """The text of a rate is read as the same rate."""
    assert Rate.parse(str(Rate(count, period))) == Rate(count, period)


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        (1000, 10**9),
        (0, 0),
        (0.1, 100_000),
        ("0.25", 250_000),
        (1e3, 10**9),
        ("1000.000001", 1_000_000_001),
    ],
)
def test_amounts_are_exact(written: object, micros: int) -> None:
    """A limit is the decimal that is written, in millionths."""
    assert TypeAdapter(values.Amount).validate_python(written) == micros


@pytest.mark.parametrize(
    "written", [-1, "-0.5", "0.0000001", 0.1234567, "eur", True, None, 1e30, [1]]
)
def test_amounts_that_cannot_be_kept(written: object) -> None:
    """A limit is never rounded: a seventh decimal is refused, and so is what is no amount."""
    with pytest.raises(ValidationError):
        TypeAdapter(values.Amount).validate_python(written)


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("-5", -5), ("0.5", 0.5), ("1e3", 1000.0), ("18446744073709551616", 2**64)],
)
def test_numbers(text: str, value: float) -> None:
    """Numbers are written as in JSON; integers stay integers."""
    assert number(text) == value
    assert type(number(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+5",
        "05",
        ".5",
        "5.",
        "1_000",
        "0x1f",
        "NaN",
        "Infinity",
        "1e999",
        "12345678901234.567",
        "9" * 41,
        "1e-99999999999999999999999",
        "1e-400",
        "٥",
    ],
)
def test_numbers_that_cannot_be_kept(text: str) -> None:
    """Other spellings are refused, and so is a number whose last digits a float would lose."""
    with pytest.raises(Fault):
        number(text)


def test_keys_fall_into_pieces() -> None:
    """Placeholders are paths into the arguments; doubled braces are braces."""
    assert parts("refund:{order_id}/{customer.id}") == (
        "refund:",
        ("order_id",),
        "/",
        ("customer", "id"),
    )
    assert parts("{{x}}") == ("{", "x", "}")
    assert parts("daily") == ("daily",)
    assert parts("{args}") == (("args",),)


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "}", "a{b", "a}b", "{}", "{a.}", "{.a}", "{a b}", "{{a}", "{a{b}}", "x" * 501],
)
def test_keys_that_are_broken(text: str) -> None:
    """An empty key, a lone brace and an empty part of a placeholder are refused."""
    with pytest.raises(Fault) as caught:
        template(text)
    assert caught.value.hint


def test_a_placeholder_names_the_argument_itself() -> None:
    """{args.order_id} is refused with the spelling that works."""
    with pytest.raises(Fault) as caught:
        template("{args.order_id}")
    assert "{order_id}" in caught.value.hint


def test_plain_paths_and_numbers_are_told_apart() -> None:
    """A path has its parts, a number its text, and a CEL literal is neither."""
    assert path_of("args.a.b") == ("args", "a", "b")
    assert path_of("args.a-b") is path_of("true") is path_of("args.") is None
    assert number_of("0.5") == "0.5"
    assert number_of("args.a") is None


@pytest.mark.parametrize(
    ("written", "text"),
    [(5, "5"), (0.5, "0.5"), (1e22, "1e+22"), ("args.amount", "args.amount"), (" 5 ", "5")],
)
def test_costs(written: object, text: str) -> None:
    """A cost is a number or an expression, kept as text."""
    if written == 1e22:
        with pytest.raises(Fault):
            cost(written)
    else:
        assert cost(written) == text


@pytest.mark.parametrize(
    "written", [-1, "-0.5", True, None, [], "", "args.", "amount", "1e30", "0.12345678901234567890"]
)
def test_what_is_no_cost(written: object) -> None:
    """Negative numbers, empty texts, unknown names and other values are refused."""
    with pytest.raises(Fault):
        cost(written)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("arg.amount", "did you mean args?"),
        ("subject.tennant", "did you mean tenant?"),
        ("5", "args.amount < 100"),
        ("", "args.amount"),
    ],
)
def test_conditions_without_cel(text: str, hint: str) -> None:
    """A wrong name in a plain path, a number and nothing at all are refused with a way out."""
    with pytest.raises(Fault) as caught:
        condition(text)
    assert hint in caught.value.hint


@needs_cel
@pytest.mark.parametrize(
    "text",
    [
        "args.currency == 'EUR'",
        "subject.roles.exists(r, r == 'admin') && has(args.note)",
        "args.items.all(i, i.price < 10.0 && i.tags.exists_one(t, t in args.tags))",
        "type(args.amount) == int || double(args.amount) <= 1.5",
        "now > timestamp('2026-01-01T00:00:00Z')",
    ],
)
def test_conditions(text: str) -> None:
    """CEL over the known names is accepted; names that a macro binds are known."""
    assert condition(f"  {text}\n") == text


@needs_cel
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("args.currency = 'EUR'", "character 15"),
        ("args.currency == 'EUR", "no expression"),
        ("arg.currency == 'EUR'", "unknown name arg"),
        ("args.items.exists(i, j > 1)", "unknown name j"),
        ("x" * 1001 + " == 1", "1006 characters"),
        ("(" * 25 + "args.a" + ")" * 25, "too deeply"),
    ],
)
def test_conditions_that_are_wrong(text: str, problem: str) -> None:
    """CEL that cannot be read, or that asks for unknown names, is refused when it is loaded."""
    with pytest.raises(Fault) as caught:
        condition(text)
    assert problem in caught.value.problem
    assert caught.value.hint


@needs_cel
@pytest.mark.parametrize("text", ["args.a" + "+1" * 497, "args" + ".a" * 497, "(" * 24 + "[" * 900])
def test_no_condition_overflows_a_small_stack(text: str) -> None:
    """The longest chains that are accepted fit the stack of a thread with 512 KB."""
    ended: list[bool] = []

    def check() -> None:
        with contextlib.suppress(Fault):
            condition(text)
        ended.append(True)

    before = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=check)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert ended == [True]


def test_cel_is_imported_only_for_an_expression() -> None:
    """Paths and numbers do not pay for the import of CEL."""
    program = (
        "import sys\n"
        "from sluicegate.policy.expression import condition, cost\n"
        "condition('args.confirmed'), cost('args.amount'), cost(5)\n"
        "sys.exit('cel' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_cel_an_expression_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CEL is not installed, a policy that needs it is refused and says what to install."""
    monkeypatch.setitem(sys.modules, "cel", None)
    with pytest.raises(Fault) as caught:
        condition("args.a == 1")
    assert "common-expression-language" in caught.value.hint
