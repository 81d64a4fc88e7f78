"""Provenance: a value that only looks like a known one is not known; work is bounded."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest

from sluicegate.provenance import (
    MOST_ATOMS,
    MOST_CHARACTERS,
    MOST_TOKENS,
    MOST_VALUES,
    Sought,
    found,
    sought,
)


def traced(value, *contents):
    """Whether each part of *value* is in one of the contents, with all that a prompt gives."""
    known = {form for content in contents for form in found(content, phrases=True).values}
    return all(known.intersection(atom.forms) for atom in sought(value))


GOOD = "https://good.com"
OTHER = {
    "a longer domain": ("ada@example.com.evil.com", "ada@example.com"),
    "a shorter domain": ("ada@example.com", "ada@example.com.evil.com"),
    "a longer name": ("ada@example.com", "nada@example.com"),
    "a name behind an invisible sign": ("ada@example.com", "n\u200bada@example.com"),
    "a part of a forwarding address": ("ada@example.com", "SRS0=1=x=ada@example.com"),
    "an address in an address": ("ada@example.com", "ada@example.com@evil.com"),
    "one good and one evil address": ("ada@example.com,eve@evil.com", "ada@example.com eve"),
    "an evil address in lines": ("ada@example.com\neve@evil.com", "ada@example.com"),
    "an evil address in a list": (["ada@example.com", "eve@evil.com"], "ada@example.com"),
    "a quoted local part": ('"ada@example.com,x"@evil.com', "ada@example.com x evil.com"),
    "an evil name": ("Your bank <ada@example.com>", "ada@example.com"),
    "a header in a name": ("Ada\nBcc: eve@evil.com <ada@example.com>", "Ada <ada@example.com>"),
    "an evil list as JSON": ('["ada@example.com", "eve@evil.com"]', "ada@example.com"),
    "a zero width space": ("ada@exam\u200bple.com", "ada@example.com"),
    "a Cyrillic letter": ("\u0430da@example.com", "ada@example.com"),
    "a wide at sign": ("ada\uff20example.com", "ada@example.com"),
    "a text that turns": ("A-\u202e1042", "A-1042"),
    "an invisible joiner": ("A\u20601042", "A1042"),
    "a byte order mark": ("\ufeffA1042", "A1042"),
    "a variation selector": ("A\ufe0f1042", "A1042"),
    "a soft hyphen": ("Ber\u00adlin", "Berlin"),
    "a ligature": ("\ufb01le", "file"),
    "a user before the host": ("https://good.com@evil.com", GOOD),
    "a port before the host": ("https://good.com:80@evil.com/", GOOD),
    "the user of another host": (GOOD, "https://good.com@evil.com"),
    "another user": ("https://user@good.com/", GOOD),
    "a backslash in a path": ("https://good.com:443/a\\b", "https://good.com/a\\b"),
    "a backslash before the host": ("https://good.com\\@evil.com/", GOOD),
    "an escaped host": ("https://good.com%2eevil.com/", GOOD),
    "an ideographic point": ("https://good.com\u3002evil.com/", GOOD),
    "a longer host": ("https://good.com.evil.com/", GOOD),
    "another scheme": ("http://good.com/", GOOD),
    "another port": ("https://good.com:8443/", GOOD),
    "a query": ("https://good.com/?leak=SECRET", "https://good.com/ leak=SECRET ?leak=SECRET"),
    "a fragment": ("https://good.com/#SECRET", "https://good.com/ SECRET"),
    "a path": ("https://good.com/SECRET", "https://good.com/ SECRET"),
    "a comma in a URL": ("https://good.com/a,SECRET", "https://good.com/a SECRET"),
    "a line break in a URL": ("https://good.com/\nSECRET", "https://good.com/ SECRET"),
    "an escaped slash": ("https://good.com/a%2Fb", "https://good.com/a/b"),
    "a second escape": ("https://good.com/%2541", "https://good.com/%41"),
    "a path in other case": ("https://good.com/A", "https://good.com/a"),
    "a part of a URL at a comma": ("https://good.com/a", "see https://good.com/a,b"),
    "a part of a URL at a semicolon": ("https://good.com/a", "see https://good.com/a;b"),
    "a part of a URL in a cell": ("https://good.com/a", "Link: https://good.com/a,b"),
    "a word in a URL": ("SECRET", "https://good.com/?q=SECRET"),
    "a URL in a URL": ("https://evil.com/", "https://good.com/?to=https://evil.com/"),
    "a bare domain for a URL": (GOOD, "good.com"),
    "a bare domain in a URL": ("good.com", GOOD),
    "a number in a URL": (42, "https://good.com/?id=42"),
    "a number in an id": (1042, "A1042 A-1042 1042A 1042-1 10421 x1042y"),
    "a number in a hash": (120000, "12e4"),
    "a number with a thousand": (5, "5k"),
    "a part of a number": (500, "pay 1,500 (or ~1,500, x1,500, 1,500k)"),
    "a part of a decimal": (50, "pay 480,50"),
    "a part of a number in JSON": ("500", {"amount": "1,500"}),
    "a positive number": (5, "-5"),
    "a negative number": (-5, "5"),
    "a number ten times as large": (4800, "480.0"),
    "a number that a float would round": (9007199254740993, "9007199254740992"),
    "two numbers for one": ("1,500", "1 of 500"),
    "a number with two readings": ("1.000", "1"),
    "a number with two readings, the other": ("1.000", "1000"),
    "another currency": ("$480", "€480"),
    "an id with a zero before it": ("0042", "42"),
    "an id without the zero": ("42", "0042"),
    "a number from an id": (42, "0042"),
    "an id in other case": ("a-1042", "A-1042"),
    "a longer id": ("A-1042-X", "A-1042"),
    "an IBAN with a wrong digit": ("DE89370400440532013001", "DE89 3704 0044 0532 0130 00"),
    "a shorter IBAN": ("DE8937040044053201300", "DE89 3704 0044 0532 0130 00"),
    "a longer IBAN": ("DE89370400440532013000", "DE89 3704 0044 0532 0130 000"),
    "an IBAN at the end of an id": ("DE89370400440532013000", "X-DE89370400440532013000"),
    "a group of an IBAN": (3704, "DE89 3704 0044 0532 0130 00"),
    "a group of an IBAN as a word": ("3704", "DE89 3704 0044 0532 0130 00"),
    "a dotless i in an IBAN": ("F\u01312112345600000785", "FI2112345600000785"),
    "another country's phone": ("+1234567", "1234567 EUR"),
    "an amount from a phone": (4930123456, "+4930123456 +49 30 123456"),
    "a group of a phone": (30, "+49 30 123456"),
    "a shorter phone": ("+49301234", "+49 30 1234 5678"),
    "a phone at the start of an id": ("+4930123456", "+4930123456x +4930123456/x"),
    "a shorter phone, the rest joined": ("+49301234", "+49 30 1234 5678x"),
    "amounts for a phone": ("100020003000", "1000 2000 3000"),
    "words that are not adjacent": ("John Smith", "John met Smith"),
    "words in other order": ("Smith John", "John Smith"),
    "a longer phrase": ("pay John Smith now", "John Smith"),
    "a flag": ("--force", "force"),
    "booleans in a text": ("[true, false]", "x"),
    "an empty list in a text": ("[]", "x"),
    "separators alone": (",;", "x"),
    "more than a list as JSON": ('["A-1042", {"rm": 1}]', "A-1042"),
    "keys of a text": ('{"rm -rf": null}', "x"),
    "infinity": (math.inf, "inf Infinity"),
    "no number": (math.nan, "nan NaN"),
    "a signalling Decimal": (Decimal("sNaN"), "nan sNaN"),
    "an endless integer": (10**5000, "1" + "0" * 5000),
    "what is no JSON": (b"A-1042", "A-1042"),
}


@pytest.mark.parametrize(("value", "content"), OTHER.values(), ids=OTHER)
def test_a_value_that_is_not_there_is_not_traced(value, content):
    """What differs in meaning to any tool is another value, however alike the two look."""
    assert not traced(value, content)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("DE89 3704 0044 0532 0130 01", "i:"),  # the check digits of ...00
        ("DE543704004405320130001", "i:"),  # the right check digits, a digit too long
        ("NO07 0601 1117 947", "p:"),  # an IBAN with groups like those of a phone number
        ("0123 45", "p:"),
        ("05 and 1234567 and 1000-2000", "p:"),
        ("lodash@4.17.21 root@localhost", "e:"),
        ("C://x mailto:x //good.com", "u:https"),
    ],
)
def test_what_only_looks_like_an_address_is_none(text, kind):
    """A form with a kind is given only to what really is of that kind."""
    values = found([text, f"see {text} here"]).values
    assert values
    assert not [form for form in values if form.startswith(kind)]


def test_forms_are_short():
    """Neither a long exponent nor a long text makes a long form."""
    assert sought(Decimal("-1.50E+999999999")) == (Sought("-15e999999998", ("n:-15e999999998",)),)
    assert sought(Decimal("1E-50"))[0].forms == ("n:1e-50",)
    (atom,) = sought("many words " * 500)
    assert [len(form) for form in atom.forms] == [66]
    assert traced("many  words " * 500, "many words " * 500)


def test_what_a_message_shows_is_short_and_harmless():
    """Signs that hide or turn text are spelled out, and 60 characters are the most."""
    (atom,) = sought("A\u202e\u200b\ud800\x1b[31m-" + "x" * 5000)
    assert atom.shown.startswith("A\\u202e\\u200b\\ud800\\x1b[31m-xxx")
    assert len(atom.shown) == 60
    assert atom.shown.endswith("…")


def test_what_nothing_can_trace_says_what_it_is():
    """A part without forms still has something to show."""
    assert sought([math.nan, b""]) == (Sought("a number that nothing can be compared with", ()),)
    assert sought(b"") == (Sought("a value of type bytes", ()),)


@pytest.mark.parametrize("value", [[*range(5000)], [[0] * 1000] * 1000], ids=["different", "many"])
def test_a_value_of_too_many_parts_cannot_be_traced(value):
    """More parts than a run can know are refused as one, and not looked for one by one."""
    assert sought(value) == (Sought(f"more than {MOST_ATOMS:,} values", ()),)


def test_a_list_of_too_many_elements_in_a_text_is_one_value():
    """A text with 257 elements may match as a whole and is not split."""
    assert len(sought("; ".join(f"A-{n}" for n in range(256)))) == 256
    assert len(sought("; ".join(f"A-{n}" for n in range(257)))) == 1
    assert len(sought(json.dumps([f"A-{n}" for n in range(256)]))) == 256
    assert len(sought(json.dumps([f"A-{n}" for n in range(257)]))) == 1


def test_deep_nesting_is_read():
    """Nesting deeper than Python's stack is neither an error nor a way around."""
    deep = "A-1042"
    for _ in range(20_000):
        deep = [deep]
    assert "w:A-1042" in found(deep).values
    assert [atom.shown for atom in sought(deep)] == ["A-1042"]
    assert not traced("[" * 100_000, "x")


def test_a_list_within_itself_is_too_many_values():
    """What has no end is given up, and says so."""
    endless: list[object] = ["A-1042"]
    endless.append(endless)
    assert not found(endless).complete
    assert sought(endless) == (Sought(f"more than {MOST_ATOMS:,} values", ()),)


def test_no_more_values_than_promised():
    """A content gives 4,096 values at most, and tells if there were more."""
    few = found([f"A-{n}" for n in range(MOST_VALUES)])
    many = found([f"A-{n}" for n in range(MOST_VALUES + 1)])
    assert (len(few.values), few.complete) == (MOST_VALUES, True)
    assert (len(many.values), many.complete) == (MOST_VALUES, False)
    both = found([*range(MOST_VALUES - 9), *(f"A-{n}" for n in range(10))])
    assert (len(both.values), both.complete) == (MOST_VALUES, False)


@pytest.mark.parametrize("gap", [" ", "\n"])
def test_addresses_and_numbers_come_before_words(gap):
    """Much text cannot drive out the values that policies ask for."""
    words = gap.join(f"word{n}x" for n in range(MOST_VALUES))
    values, complete = found(f"{words}\nto ada@example.com 480 +49 30 123456", phrases=True)
    assert values >= {"e:ada@example.com", "n:480", "p:+4930123456"}
    assert (len(values), complete) == (MOST_VALUES, False)


def test_too_much_text_is_cut_at_a_line():
    """A value that is cut short would be another value: 1042 is no part of 10429."""
    line = "x" * 99 + "\n"
    text = line * (MOST_CHARACTERS // 100) + "at most 10429 and A-1042 in a line that is too long"
    cut = found(text[: MOST_CHARACTERS - MOST_CHARACTERS % 100 + 12] + "9" * 100)
    assert not cut.complete
    assert not [form for form in cut.values if "10" in form]
    assert found("x" * (MOST_CHARACTERS + 1)) == (frozenset(), False)


@pytest.mark.parametrize(
    "text",
    [
        "[" + ",".join(f'"a {n}"' for n in range(100_000)) + "]",
        "\n".join("a" * (n % 50) for n in range(MOST_TOKENS + 2)),
        "AT89 " * (MOST_TOKENS + 8),
        " ".join(f"{n}-x" for n in range(MOST_TOKENS + 1)),
    ],
    ids=["too long for JSON", "lines", "spans", "words"],
)
def test_work_that_is_not_done_is_told(text):
    """Whatever limit is met, the content does not claim to be read to its end."""
    assert not found(text).complete


def test_json_in_json_has_an_end():
    """JSON within strings is read three times; what is deeper counts as text."""

    def wrapped(value, times):
        for _ in range(times):
            value = json.dumps({"text": value})
        return value

    assert "s:a b" in found(wrapped("x\na b", 3)).values
    assert "s:a b" not in found(wrapped("x\na b", 4)).values
