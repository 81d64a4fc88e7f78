"""Provenance: the same value, however it is written, and the parts of a value."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sluicegate.canonical import freeze
from sluicegate.provenance import Sought, digest, found, sought


def traced(value, *contents, phrases=True):
    """Whether each part of *value* is in one of the contents, as the gate asks it."""
    known = {form for content in contents for form in found(content, phrases=phrases).values}
    return all(known.intersection(atom.forms) for atom in sought(value))


SAME = {
    "an e-mail in other case": ("ada@example.com", "Write to Ada@Example.COM, please."),
    "an e-mail in quotes": ("ada@example.com", "it is 'ada@example.com'."),
    "an e-mail in a link": ("ada@example.com", "[mail](mailto:ada@example.com)"),
    "an e-mail after its name": ("ada@example.com", "email=ada@example.com,status=open"),
    "an e-mail with a name": ("Ada Lovelace <ada@example.com>", "Ada Lovelace <ada@example.com>"),
    "an international e-mail": ("jörg@exämple.de", "an Jo\u0308rg@Exämple.de"),
    "a URL before a full stop": ("https://example.com/a", "See https://example.com/a."),
    "a URL in other case": ("https://example.com/A", "see HTTPS://Example.com:443/A"),
    "a URL without a path": ("https://example.com/", "(https://example.com)"),
    "a URL with brackets": ("https://example.com/a_(b)", "(see https://example.com/a_(b))"),
    "a URL with escapes": ("https://example.com/~a%2Fb", "https://example.com/%7Ea%2fb"),
    "a URL with commas": ("https://example.com/?x=1,2", "[t](https://example.com/?x=1,2)!"),
    "the second of two URLs": ("http://b.example/y", "http://a.example/x,http://b.example/y"),
    "a long URL": ("https://example.com/" + "a" * 500, "see https://example.com/" + "a" * 500),
    "an IBAN in groups": ("DE89370400440532013000", "to DE89 3704 0044 0532 0130 00 by Friday"),
    "an IBAN in small letters": ("de89 3704 0044 0532 0130 00", "DE89370400440532013000"),
    "an IBAN before a word": ("BE68539007547034", "to BE68 5390 0754 7034 with thanks"),
    "a phone number in groups": ("+4930123456", "call +49 (0)30 / 123456, please"),
    "a phone number with 00": ("004930123456", "call +49 30 123-456"),
    "a phone number in its country": ("0301234567", "call (030) 1234567 now"),
    "a phone number in America": ("5551234567", "call (555) 123-4567."),
    "a phone number in a row": ("+49301234567", "x,+49301234567,y"),
    "an amount with a sign": (480, "Refund €480.00."),
    "an amount with a unit": (480, "Refund 480EUR, or 480 EUR"),
    "an amount in German": (480.5, "bitte 480,50 € erstatten"),
    "an amount in English": (1234.5, "refund $1,234.50!"),
    "an amount in Switzerland": (1234.5, "CHF 1’234.50"),
    "an amount in France": (1234567, "1\u202f234\u202f567 €"),
    "an amount in India": (1234567, "₹12,34,567"),
    "an amount with a dash": (480, "nur 480,- heute"),
    "the first reading of 1,000": (1000, "transfer 1,000 now"),
    "the second reading of 1,000": (1, "transfer 1,000 now"),
    "a text that is a number": ("480.00", "refund 480"),
    "a Decimal": (Decimal("480.00"), {"amount": 480}),
    "a text with two readings": ("1.000", "send 1.000 now"),
    "a negative amount": (-5, "it was \u22125 °C"),
    "a very small number": (1e-7, "1e-7"),
    "a very large number": (1e22, {"n": 10**22}),
    "a whole float": (480.0, {"amount": 480}),
    "a number beside a hash": (1042, "what about order #1042?"),
    "an id beside a hash": ("1042", "what about order #1042?"),
    "an id with a name": ("A-1042", "order_id=A-1042;status=open"),
    "an id with a name and a colon": ("A-1042", "order:A-1042"),
    "an id in JSON that is cut off": ("A-1042", '{"order":"A-1042","items":['),
    "an id in brackets": ("A-1042", "the order (A-1042)"),
    "an id in bold": ("A-1042", "the order **A-1042**."),
    "a word in other case": ("Berlin", "a hotel in berlin"),
    "two words": ("John Smith", "cancel it for john  smith, please"),
    "two words and a genitive": ("John Smith", "cancel John Smith's order"),
    "two words and a point": ("Acme Inc.", "buy from Acme Inc. today"),
    "three words over a line": ("Anna Maria Huber", "for Anna\nMaria Huber"),
    "words with a comma": ("Smith, John", "the file of Smith, John please"),
    "an address as a list": ("12 Main Street, Springfield", "12 Main Street, in Springfield"),
    "a quotation": ("The printer on floor 3 is off", 'Title: "The printer on floor 3 is off"!'),
    "one word and a point": ("Inc.", "Acme Inc. of Bonn"),
    "a composed letter": ("Jose\u0301", "for Jos\u00e9"),
    "a word that ends in a phone number": ("tel:+4930123456", "use tel:+4930123456 now"),
    "a list with a name": ("b@x.com, Ada <a@x.com>", "b@x.com and Ada (a@x.com)"),
    "a list in a text": ("a@x.com, b@x.com; c@x.com", "a@x.com b@x.com and <c@x.com>"),
    "a list of lines": ("a@x.com\nb@x.com\n", "b@x.com a@x.com"),
    "a list of numbers": ("1001,1002,1003", "orders 1001, 1002 and 1003"),
    "a list as JSON text": ('["a@x.com", 7]', "seven (7) to a@x.com"),
    "a list with gaps": ("A-1,,B-2,", "B-2 A-1"),
    "a whole list": ("red, green and very dark blue", {"c": "red, green  and very dark blue"}),
    "a line of many words": ("all is well that ends well", "x\nAll is well that ends well\ny"),
    "space around it": ("  A-1042\n", "A-1042"),
}


@pytest.mark.parametrize(("value", "content"), SAME.values(), ids=SAME)
def test_what_a_user_would_call_the_same_value(value, content):
    """Another way to write a value does not make it another value."""
    assert traced(value, content)


ELSEWHERE = {
    "a leaf": ("A-1042", [{"a": [{"b": "A-1042"}]}]),
    "a frozen leaf": ("A-1042", freeze([{"a": [{"b": "A-1042"}]}])[0]),
    "a key": ("A-1042", {"A-1042": {"open": True}}),
    "JSON as text": ("A-1042", '{"rows": [{"id": "A-1042"}]}'),
    "JSON in JSON": ("A-1042", [{"type": "text", "text": '{"id": "A-1042"}'}]),
    "text in JSON": ("A-1042", {"note": "about A-1042."}),
    "a number in JSON": ("1042", {"id": 1042}),
    "a text in JSON": (1042, {"id": "1042"}),
    "a name and a value": ("John R. R. Smith Jr", "Name: John R. R. Smith Jr\nCity: Bonn"),
    "a cell of a table": ("John R. R. Smith Jr", "| A-1042 | John R. R. Smith Jr | 480 |"),
    "a cell of CSV": ("John R. R. Smith Jr", "A-1042,John R. R. Smith Jr,480"),
}


@pytest.mark.parametrize(("value", "content"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_where_a_result_may_hold_a_value(value, content):
    """Leaves, keys, JSON in text and cells of a table are read without `phrases`."""
    assert traced(value, content, phrases=False)


def test_phrases_are_for_the_words_of_a_user():
    """Adjacent words of a result are no value unless they are a whole line or a cell."""
    assert traced("John Smith", "tell John Smith about it")
    assert not traced("John Smith", "tell John Smith about it", phrases=False)


def test_a_text_is_read_even_if_it_was_a_key():
    """A key is taken whole only; the same text as a leaf is searched too."""
    assert traced("A-1042", [{"order A-1042": True}, "order A-1042"])


def test_a_phrase_does_not_lead_over_an_address():
    """Words on both sides of a phone number are not adjacent."""
    assert not traced("call now", "call +49 30 123456 now")


@pytest.mark.parametrize("value", [None, True, False, [], {}, "", " \n", [None, {"a": [""]}]])
def test_what_says_nothing_seeks_nothing(value):
    """Null, booleans and what is empty need no origin; the argument's schema may forbid them."""
    assert sought(value) == ()


def test_a_value_is_taken_apart():
    """Each leaf and each element once, in their order, with what a message may show."""
    value = {"to": ["a@x.com", "b@x.com; a@x.com"], "n": [5, 5.0, True], "who": "Ada <c@x.com>"}
    assert [atom.shown for atom in sought(value)] == [
        *("a@x.com", "b@x.com", "a@x.com"),  # the list may also match as a whole
        *("5", "Ada", "c@x.com"),
    ]


def test_a_whole_is_a_form_of_each_of_its_elements():
    """So any one form of each part traces a list: the whole of it, or every element."""
    assert sought("A-1; B-2") == (
        Sought("A-1", ("w:A-1", "s:A-1; B-2")),
        Sought("B-2", ("w:B-2", "s:A-1; B-2")),
    )


def test_a_key_that_is_an_address_is_a_value():
    """An object with addresses for keys cannot bring in what a list of them could not."""
    assert [atom.shown for atom in sought({"eve@evil.example": True})] == ["eve@evil.example"]
    assert not traced({"eve@evil.example": True}, "ada@example.com")
    assert [atom.shown for atom in sought({"a@x.com; b@x.com": 1})] == ["a@x.com", "b@x.com", "1"]
    assert [atom.shown for atom in sought({"DE89370400440532013000": []})]
    assert traced({"ada@example.com": True, "urgent": True}, "ada@example.com")


@pytest.mark.parametrize("key", ["to", "reply_to", "line2", "x-id", "größe", "a.b$c"])
def test_a_key_that_is_a_name_needs_no_origin(key):
    """Which names an object may have is for the argument's schema to say."""
    assert sought({key: None}) == ()


def test_the_forms_are_those_that_are_documented():
    """Other modules store digests of these texts: a change here loses what a run knows."""
    text = "480.50 to Ada@example.com https://EXAMPLE.com/a DE89 3704 0044 0532 0130 00"
    values = found(f"{text} +49 30 123456 A-1042 john Smith", phrases=True).values
    assert values >= {
        *("n:480.5", "e:ada@example.com", "u:https://example.com/a", "i:DE89370400440532013000"),
        *("p:+4930123456", "w:A-1042", "s:john", "s:john smith"),
    }


def test_a_digest_is_short_and_stable():
    """What is stored for a value is the same in every process and on every machine."""
    assert digest("e:ada@example.com") == "60cf948438e515fc63ec"
    assert len(digest("w:\ud800")) == 20
