"""The canonical form: equal to RFC 8785, and exact beyond it for integers of 64 bits."""

from __future__ import annotations

import json
import math
import struct

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.canonical import NotCanonical, freeze, loads, thaw

AWKWARD = '\x00\x08\t\n\x0b\x0c\r\x1f\x7f\x80\x85"\\/<>&éß\u2028\u2029\ud7ff\ue000\ufb33\ufeff\uffff😀𐀀\U0010ffff'
TEXTS = st.one_of(st.text(max_size=8), st.text(AWKWARD, max_size=8))
SAFE = 2**53 - 1
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**25), 10**25).map(float),
    st.floats(-1e-300, 1e-300, allow_subnormal=True),
    st.builds(
        lambda digits, exponent: float(f"{digits}e{exponent}"),
        st.integers(-(10**17), 10**17),
        st.integers(-30, 30),
    ),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-SAFE, SAFE), FLOATS, TEXTS)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXTS, inner, max_size=5)),
    max_leaves=20,
)


@given(DOCUMENTS)
@example({"\ud7ff": 1, "\ue000": 2, "😀": 3, "\uffff": 4})
@example({"": {"": [[], {}, ""]}})
def test_the_text_is_that_of_rfc_8785(document):
    """For any JSON document the fast path gives the bytes of the reference library."""
    assert freeze(document)[1].encode() == rfc8785.dumps(document)


@given(FLOATS)
@example(-0.0)
@example(0.0)
@example(5e-324)
@example(2.2250738585072014e-308)
@example(1.7976931348623157e308)
@example(1e16)
@example(1e20)
@example(1e21)
@example(-1e21)
@example(1e22)
@example(123456789012345680000.0)
@example(0.000001)
@example(1e-7)
@example(0.0001)
@example(1e-5)
def test_floats_are_printed_as_ecmascript_prints_them(number):
    """Signed zero, whole numbers, subnormals and exponents look as RFC 8785 says."""
    assert freeze(number)[1].encode() == rfc8785.dumps(number)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_the_samples_of_the_rfc(bits, text):
    """The numbers of RFC 8785, appendix B: an oracle that is no library."""
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert freeze(number)[1] == text


def test_keys_are_sorted_by_utf_16_code_units():
    """The sample of RFC 8785, section 3.2.3: an astral key comes before U+FB33."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    text = freeze(dict.fromkeys(names))[1]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert [name for name, _ in json.loads(text, object_pairs_hook=list)] == ordered


@given(st.integers(-(2**63), 2**64 - 1))
@example(2**53 + 1)
@example(-(2**63))
@example(2**64 - 1)
def test_integers_of_64_bits_keep_all_their_digits(number):
    """An account number above 2**53 is not rounded, wherever it stands."""
    assert freeze([number, {"a": number}]) == (
        [number, {"a": number}],
        f'[{number},{{"a":{number}}}]',
    )


@given(st.floats(allow_nan=False, allow_infinity=False).filter(float.is_integer))
def test_a_whole_float_is_the_same_number_as_the_integer(number):
    """JSON has one kind of number: 5.0 and 5 give one text, as far as a float can count."""
    if abs(number) <= 2**53:
        assert freeze(number)[1] == freeze(int(number))[1]
    else:
        assert float(freeze(number)[1]) == number


def test_true_is_not_one():
    """Python takes True for 1; the canonical form does not."""
    assert [freeze(value)[1] for value in (True, 1, False, 0)] == ["true", "1", "false", "0"]


@given(DOCUMENTS)
def test_the_text_reads_back_as_the_document(document):
    """No two documents share a text: reading it gives the document that went in."""
    read = json.loads(freeze(document)[1], parse_int=float)
    assert read == json.loads(json.dumps(document), parse_int=float)


@given(st.dictionaries(TEXTS, LEAVES, max_size=8), st.randoms())
def test_the_order_of_keys_does_not_matter(document, random):
    """Objects that differ in the order of their keys alone are the same object."""
    pairs = list(document.items())
    random.shuffle(pairs)
    assert freeze(dict(pairs))[1] == freeze(document)[1]


# --- reading JSON text ------------------------------------------------------------------------


@given(DOCUMENTS)
def test_loads_reads_what_json_reads(document):
    """Text without faults means the same as it does to the standard library."""
    text = json.dumps(document)
    assert loads(text) == loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"amount": 1, "amount": 500}', "amount"),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "b"),
        ('[[{"a": 1, "\\u0061": 2}]]', "a"),
        ('{"": 1, "": 2}', ""),
    ],
)
def test_a_duplicate_key_is_refused(text, key):
    """Whichever of the two would win, the other one was somebody's intention."""
    with pytest.raises(NotCanonical, match=f"has the key '{key}' twice"):
        loads(text)


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_are_no_json_are_refused(name):
    """Python's reader takes NaN and infinities; JSON has neither."""
    with pytest.raises(NotCanonical, match=f"has {name}, which is no JSON number"):
        loads(f'{{"amount": {name}}}')


def test_a_number_that_overflows_is_no_number():
    """1e400 is read as infinity, and infinity has no canonical form."""
    assert loads("1e400") == math.inf
    with pytest.raises(NotCanonical, match="a is inf"):
        freeze(loads('{"a": 1e400}'))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{} {}",
        "{'a': 1}",
        '{"a": 1,}',
        "\ufeff{}",
        '"\n"',
        "01",
        "+1",
        ".5",
        "nul",
        b"\xff\xfe{}",
        b'{"a": "\xed\xa0\x80"}',
        "9" * 5000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_json_is_refused(text):
    """Text that only some readers would take is taken by none."""
    with pytest.raises(NotCanonical, match="is not JSON"):
        loads(text)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000])
def test_endless_nesting_is_refused(text):
    """A reader that runs out of stack refuses; it does not crash the process."""
    with pytest.raises(NotCanonical, match="nests deeper|is not JSON"):
        loads(text)


@given(DOCUMENTS)
def test_thaw_leaves_plain_values_as_they_are(document):
    """Thawing what was never frozen is a deep copy with the same text."""
    assert freeze(thaw(document))[1] == freeze(document)[1]
