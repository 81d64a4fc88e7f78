"""
Which values a text or a result has, and which values an argument is made of.

The logic behind `origin` of a policy: an argument may be used if each of its
values also stands in the user's words, in an earlier result or in facts. Values
are compared by canonical forms, strings with the kind in front:

    n:480.5                      a number, by value
    e:ada@example.com            an e-mail address; case does not count
    u:https://example.com/a      a URL, equal as RFC 3986 section 6.2.2 and 6.2.3 say
    i:DE89370400440532013000     an IBAN with valid check digits
    p:+4930123456                a phone number without its separators
    w:A-1042                     a word with a digit or a sign in it, exactly as written
    s:john smith                 words of letters only, whatever their case, and phrases
    l:…                          the hash of a form too long to keep

This is value provenance and not information-flow tracking. It says that a value
was there to be copied, not that this is why it is used: a user who mentions two
accounts has named both, and a short number is found in many texts. It suits ids,
addresses and amounts, and it does not suit free text, commands or queries, whose
meaning is in how their words are put together. Where two values could be taken
for one another by mistake they are different values, and the call is refused:

- A text argument `1.000` matches only where it was written so, since nobody knows
  whether a tool reads one or a thousand; prose with 1.000 in it gives both numbers.
- A comma between two digits is a part of a number and not of a list (`11,12` is no
  list; `11, 12` and `11,12,13` are). A URL is never split, whatever is in it.
- A list inside a text is all addresses or has none.
- A phone number needs a plus, a leading zero or the groups of North America; +49 30
  and 030 are different, and neither is an amount.
- Version 1.10 and version 1.1 are one number. Give an id a letter, or a schema.
"""

from __future__ import annotations

from .content import MOST_CHARACTERS, MOST_TOKENS, MOST_VALUES, Found, found
from .seek import MOST_ATOMS, Sought, sought
from .words import digest

__all__ = [
    "MOST_ATOMS",
    "MOST_CHARACTERS",
    "MOST_TOKENS",
    "MOST_VALUES",
    "Found",
    "Sought",
    "digest",
    "found",
    "sought",
]
