"""Provenance: what holds for every value."""

from __future__ import annotations

import string

from hypothesis import assume, given
from hypothesis import strategies as st

from sluicegate.provenance import MOST_VALUES, found, sought

LETTERS = string.ascii_letters
AWKWARD = " ,;:@/\\.-+()[]{}<>\"'’“”=|#%\0\n\t\u00a0\u200b\u202e\ufeff\u0301\ud800€0123456789aZßİ１"
TEXTS = st.one_of(st.text(max_size=30), st.text(AWKWARD, max_size=30))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.decimals(),
    st.binary(max_size=3),
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=15,
)

WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=9)
PROSE = st.lists(WORDS, max_size=12).map(" ".join)
LABELS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
EMAILS = st.builds("{}.{}@{}.{}.com".format, LABELS, LABELS, LABELS, LABELS)
URLS = st.builds("https://{}.com/{}?q={}#{}".format, LABELS, LABELS, LABELS, LABELS)
NUMBERS = st.decimals(0, 10**9, places=2).map(str)
PHONES = st.integers(10**9, 10**12).map("+{}".format)
IDS = st.from_regex(r"[A-Z]{1,3}-[0-9]{3,9}[A-Z]", fullmatch=True)


@st.composite
def ibans(draw):
    account = draw(st.text(string.digits, min_size=18, max_size=18))
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02}{account}"


PLANTED = st.one_of(EMAILS, URLS, NUMBERS, PHONES, IDS, ibans())


def traced(value, content):
    known = found(content, phrases=True).values
    return all(known.intersection(atom.forms) for atom in sought(value))


@given(DOCUMENTS)
def test_every_value_is_found_in_itself(document):
    """A value handed on as it came is traced, whatever it is; a part that nothing traces aside."""
    values = found(document).values
    for atom in sought(document):
        assert not atom.forms or values.intersection(atom.forms)


@given(DOCUMENTS, DOCUMENTS)
def test_what_is_in_a_part_is_in_the_whole(document, other):
    """More around a value hides none of it."""
    assert found(document).values <= found([other, document]).values
    assert found(document).values <= found({"x": document, "y": other}).values


@given(DOCUMENTS)
def test_phrases_only_add(document):
    """The user's words are read as a result is, and then more closely."""
    assert found(document).values <= found(document, phrases=True).values


@given(DOCUMENTS)
def test_a_value_is_read_the_same_way_twice(document):
    """No order of a set, and nothing of the process, is in what is found."""
    assert found(document) == found(document)
    assert sought(document) == sought(document)


@given(DOCUMENTS)
def test_a_value_that_says_something_seeks_something(document):
    """No text is so odd that it needs no origin, unless there is only space in it."""
    if isinstance(document, str) and document.strip():
        assert sought(document)
    assert all(len(atom.shown) <= 60 and atom.shown.isprintable() for atom in sought(document))


@given(st.text(max_size=200) | st.text(AWKWARD, max_size=200))
def test_text_is_bounded(text):
    """Forms are short and few, and any text has them."""
    values, complete = found(text, phrases=True)
    assert complete
    assert len(values) <= MOST_VALUES
    assert all(len(form) <= 256 for form in values)


@given(
    PROSE, PLANTED, PROSE, st.sampled_from(["{} {} {}", "{} ({}) {}", "{} “{}”, {}", "{}: {}.\n{}"])
)
def test_a_value_in_prose_is_found(before, value, after, frame):
    """Addresses, numbers and ids are found between words, brackets, quotes and full stops."""
    assert traced(value, frame.format(before, value, after))


@given(PROSE, PLANTED, PROSE, st.data())
def test_a_value_with_one_other_character_is_not_traced(before, value, after, data):
    """One digit or letter exchanged anywhere is another value."""
    places = [at for at, character in enumerate(value) if character.isalnum()]
    at = data.draw(st.sampled_from(places))
    kind = string.digits if value[at].isdigit() else LETTERS
    other = data.draw(st.sampled_from(kind))
    assume(other.lower() != value[at].lower())
    changed = value[:at] + other + value[at + 1 :]
    assert not traced(changed, f"{before} {value} {after}")


@given(
    PROSE,
    PLANTED,
    PROSE,
    st.sampled_from("\u200b\u200c\u200d\u2060\u202a\u202e\u2066\ufeff\u00ad"),
    st.data(),
)
def test_a_value_with_an_invisible_character_is_not_traced(before, value, after, sign, data):
    """A sign that nobody sees makes a value that nobody named."""
    at = data.draw(st.integers(0, len(value)))
    assert not traced(value[:at] + sign + value[at:], f"{before} {value} {after}")


@given(
    st.lists(EMAILS, min_size=1, max_size=5),
    EMAILS,
    st.sampled_from([", ", ",", ";", "\n"]),
    st.data(),
)
def test_one_unknown_element_is_enough_to_refuse_a_list(known, evil, separator, data):
    """A list is traced if all its elements are, in a text as in JSON."""
    assume(evil not in known)
    at = data.draw(st.integers(0, len(known)))
    mixed = [*known[:at], evil, *known[at:]]
    prompt = "write to " + " and ".join(known)
    assert traced(known, prompt)
    assert traced(separator.join(known), prompt)
    assert not traced(mixed, prompt)
    assert not traced(separator.join(mixed), prompt)


@given(ibans(), st.sampled_from([" ", "-", "\u00a0"]), PROSE)
def test_an_iban_in_groups_is_the_same(iban, gap, prose):
    """Groups of four are how people write it, and no group is a value of its own."""
    groups = [iban[at : at + 4] for at in range(0, len(iban), 4)]
    text = f"{prose} {gap.join(groups)} {prose}"
    assert traced(iban, text)
    assert not traced(groups[1], text)


@given(st.decimals(-(10**12), 10**12, allow_nan=False, places=3), st.sampled_from([",", "’"]))
def test_a_number_is_the_same_with_its_thousands_marked(number, mark):
    """1,234.5 and 1’234.5 are 1234.5."""
    text = f"{number:,}".replace(",", mark)
    assert traced(number, f"pay {text} now")


@given(st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_of_json_is_found_in_its_text(number):
    """What a result shows as a number can be used as that number."""
    assert traced(number, {"n": number})
    assert traced(number, f'{{"n": {number!r}}}')
