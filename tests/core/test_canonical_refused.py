"""What has no canonical form is refused with its path, and never coerced."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import math
import types
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.canonical import MAX_BYTES, MAX_DEPTH, MAX_VALUES, NotCanonical, freeze


class Level(enum.IntEnum):
    HIGH = 3


class Colour(str, enum.Enum):
    RED = "red"


class Text(str):
    pass


class Whole(int):
    pass


class Real(float):
    pass


class Object(dict):
    pass


class Array(list):
    pass


class Pretender:
    """Says that it is a dict, as mocks do."""

    @property
    def __class__(self):
        return dict


class Silent:
    def __repr__(self):
        raise RuntimeError("not printable")


Pair = collections.namedtuple("Pair", "x y")


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": [0, x]}, lambda x: [[{"b": x}]]])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (math.nan, "is nan, which is no JSON number"),
        (-math.nan, "is nan, which is no JSON number"),
        (math.inf, "is inf, which is no JSON number"),
        (-math.inf, "is -inf, which is no JSON number"),
        (2**64, "is an integer of 65 bits; at most 64 bits are accepted"),
        (-(2**63) - 1, "is an integer of 64 bits"),
        (10**400, "is an integer of 1329 bits"),
        ((), "is a tuple, which is no JSON value; send a list"),
        ((1, 2), "is a tuple"),
        (Pair(1, 2), "is a Pair"),
        (set(), "is a set, which is no JSON value; send a list"),
        (frozenset("a"), "is a frozenset"),
        (range(3), "is a range"),
        (b"x", "is a bytes, which is no JSON value; send it as base64 text"),
        (bytearray(b"x"), "is a bytearray"),
        (memoryview(b"x"), "is a memoryview"),
        (decimal.Decimal("1.5"), "is a Decimal"),
        (1j, "is a complex"),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc), "is a datetime"),
        (datetime.date(2026, 1, 1), "is a date"),
        (datetime.timedelta(1), "is a timedelta"),
        (uuid.UUID(int=0), "is a UUID"),
        (Level.HIGH, "is a Level"),
        (Colour.RED, "is a Colour"),
        (Text("x"), "is a Text"),
        (Whole(1), "is a Whole"),
        (Real(1), "is a Real"),
        (Object(a=1), "is a Object"),
        (Array([1]), "is a Array"),
        (collections.OrderedDict(a=1), "is a OrderedDict"),
        (collections.defaultdict(list), "is a defaultdict"),
        (collections.UserDict(a=1), "is a UserDict"),
        (types.MappingProxyType({}), "is a mappingproxy"),
        (Pretender(), "is a Pretender"),
        (Silent(), "is a Silent"),
        (int, "is a type"),
        (NotImplemented, "is a NotImplementedType"),
        ("\ud800", "has a lone surrogate"),
        ("ok\udfffok", "has a lone surrogate"),
        ("\ude00\ud83d", "has a lone surrogate"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) and value.isascii() else None,
)
def test_no_value_outside_json_is_accepted(value, problem, wrap):
    """Numbers that are none, other types, subclasses and lone surrogates: all refused, none coerced."""
    with pytest.raises(NotCanonical) as caught:
        freeze(wrap(value))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [1, 1.5, True, None, (1,), b"a", Text("a"), Colour.RED, Level.HIGH, 10**5000, Silent()],
    ids=lambda key: type(key).__name__,
)
def test_no_key_but_a_string_is_accepted(key):
    """A key of another type is refused, also a subclass of str and one that cannot be printed."""
    with pytest.raises(NotCanonical) as caught:
        freeze({"a": [{key: 1}]})
    kind = type(key).__qualname__
    assert str(caught.value) == f"a[0] has a key that is a {kind}; keys must be strings"


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ({"a": [0, {"b": math.nan}]}, ("a", 1, "b"), "a[1].b is nan"),
        ([[], [1, 2, ()]], (1, 2), "[1][2] is a tuple"),
        ({"a": {"b": {1: 2}}}, ("a", "b"), "a.b has a key"),
        ({"a": ["ok", "\ud800"]}, ("a", 1), "a[1] has a lone surrogate"),
        ({"a": [{"\udfff": 1}]}, ("a", 0), "a[0] has a key with a lone surrogate"),
        ({"\ud800": 1}, (), "the value has a key with a lone surrogate"),
        (math.nan, (), "the value is nan"),
        ({"ä": 1, "b": [(), ()]}, ("b", 0), "b[0] is a tuple"),
    ],
)
def test_the_path_leads_to_what_is_to_blame(document, path, message):
    """The error names the first part that is wrong, as code would reach it."""
    with pytest.raises(NotCanonical) as caught:
        freeze(document)
    assert caught.value.path == path
    assert str(caught.value).startswith(message)


HOSTILE = st.text(st.sampled_from("a.[]\x00\x1b\n\x7f\x9b\u202e\ud800\udfff😀"), max_size=12)


@given(st.lists(HOSTILE, max_size=40), HOSTILE)
def test_a_message_can_always_be_printed(keys, leaf):
    """Whatever the keys are, the message is short, encodes, and has no control characters."""
    document: object = [leaf, "\ud800", math.nan]
    for key in keys:
        document = {key: document}
    with pytest.raises(NotCanonical) as caught:
        freeze(document)
    text = str(caught.value)
    assert text.encode().decode().isprintable()
    assert len(text) < 1000


# --- size -------------------------------------------------------------------------------------


def nested(levels: int, *, arrays: bool) -> object:
    """A document with *levels* containers in one another."""
    document: object = 1
    for _ in range(levels):
        document = [document] if arrays else {"a": document}
    return document


@pytest.mark.parametrize("arrays", [True, False])
def test_nesting_ends_at_64_levels(arrays):
    """64 containers in one another are accepted; 65, 100 and 50,000 are not."""
    assert freeze(nested(MAX_DEPTH, arrays=arrays))[1].count("1") == 1
    for levels in (MAX_DEPTH + 1, 100, 50_000):
        with pytest.raises(NotCanonical, match="nests deeper than 64 levels"):
            freeze(nested(levels, arrays=arrays))


@pytest.mark.parametrize(
    ("fits", "too_long"),
    [
        ("x" * (MAX_BYTES - 2), "x" * (MAX_BYTES - 1)),
        ("€" * 349_524, "€" * 349_525),
        ("\n" * (MAX_BYTES // 2 - 1), "\n" * (MAX_BYTES // 2)),
        (["x" * 500_000, "x" * 500_000], ["x" * 500_000, "x" * 600_000]),
        ({"x" * 1_000_000: 1}, {"x" * 1_050_000: 1}),
        ({str(i): "y" * 1000 for i in range(1000)}, {str(i): "y" * 1000 for i in range(1100)}),
        ([0] * MAX_VALUES, [0] * (MAX_VALUES + 1)),
    ],
    ids=["ascii", "three bytes each", "escapes", "array", "key", "object", "values"],
)
def test_a_document_ends_at_a_mebibyte(fits, too_long):
    """The canonical text has at most 1,048,576 bytes of UTF-8 and the document 100,000 values."""
    assert len(freeze(fits)[1].encode()) <= MAX_BYTES
    with pytest.raises(NotCanonical, match="at most 1,048,576 bytes|more than 100,000 values"):
        freeze(too_long)


def test_a_text_of_five_megabytes_is_refused_by_its_name():
    """The message has the number and the argument, not the text."""
    with pytest.raises(NotCanonical) as caught:
        freeze({"order": {"note": "x" * 5_000_000}})
    assert str(caught.value) == (
        "order.note is 5,000,000 characters long; at most 1,048,576 bytes are accepted"
    )


@pytest.mark.parametrize("long", [["x" * 600_000] * 2, {"c": "x" * 600_000, "d": "x" * 600_000}])
def test_a_container_that_is_too_long_is_named(long):
    """Where no text alone is too long, the list or object that holds them is to blame."""
    with pytest.raises(NotCanonical) as caught:
        freeze({"a": 1, "b": [long]})
    assert str(caught.value).startswith("b[0] is more than 1,048,576 characters long")


def test_lists_that_share_parts_do_not_expand():
    """Forty lists that each hold the one before twice are a tera-element document: refused at once."""
    document: list[object] = ["x"]
    for _ in range(40):
        document = [document, document]
    with pytest.raises(NotCanonical, match="more than 100,000 values"):
        freeze(document)


@pytest.mark.parametrize(
    "document",
    [
        ["x" * 1_000_000] * 90_000,
        {str(i): text for text in ["x" * 1_000_000] for i in range(90_000)},
        [{"k" * 1_000_000: 1}] * 40_000,
        [[["x" * 999] * 999]] * 90,
    ],
    ids=["values", "object", "keys", "nested"],
)
def test_a_long_text_that_is_shared_does_not_expand(document):
    """One text that a document holds many times is refused before it fills the memory."""
    with pytest.raises(NotCanonical, match="at most 1,048,576 bytes"):
        freeze(document)


def test_documents_that_hold_themselves_are_refused():
    """A cyclic list or object nests without end."""
    array: list[object] = []
    array.append({"a": array})
    thing: dict[str, object] = {}
    thing["a"] = [thing]
    for document in (array, thing):
        with pytest.raises(NotCanonical, match="nests deeper"):
            freeze(document)
