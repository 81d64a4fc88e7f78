"""
E-mail addresses, URLs, IBANs and phone numbers: one form for all the ways to write one.

Two writings share a form only if they are the same address to whoever is
written to, called, paid or fetched from. Where that is in doubt they do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from unicodedata import normalize

__all__ = ["Span", "email", "iban", "international", "phone", "spans", "url"]

_LONGEST: Final = 400

# No invisible character is a letter, so an address that hides one is no address.
_EMAIL: Final = re.compile(
    r"[\w.!#$%&'*+^~-]{1,64}@(?:[^\W_](?:[\w-]{0,62})\.){1,20}(?![0-9]+$)[^\W_][\w-]{1,62}"
)


def email(text: str) -> str | None:
    """The form of *text* if it is one e-mail address and nothing else; case does not count."""
    if "@" not in text or len(text) > _LONGEST:
        return None
    text = normalize("NFC", text)
    return f"e:{text.lower()}" if _EMAIL.fullmatch(text) else None


_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://([^/?#\s]*)(\S*)")
_AUTHORITY: Final = re.compile(r"((?:[^@\\]*@)?)([\w.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]*))?")
_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def url(text: str) -> str | None:
    """
    The form of *text* if it is one URL with `://` and nothing else.

    Equal as RFC 3986, section 6.2.2.1, 6.2.2.2 and 6.2.3, says: case of scheme
    and host, escapes of unreserved characters, the default port, an empty path.
    A URL whose host is none (a backslash, an escape, an invisible character)
    is compared as it stands: readers disagree about where it leads.
    """
    match = _URL.fullmatch(text)
    if not match:
        return None
    scheme, rest = match[1].lower(), match[3]
    authority = _AUTHORITY.fullmatch(normalize("NFC", match[2]))
    if not authority or "\\" in rest:
        return f"u:{text}"
    port = authority[3] or ""
    port = "" if port == _PORTS.get(scheme) else port
    if scheme in _PORTS and not rest.startswith("/"):
        rest = f"/{rest}"
    host = authority[2].lower() + (f":{port}" if port else "")
    return f"u:{scheme}://{authority[1]}{host}{_ESCAPE.sub(_escape, rest)}"


def _escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


_LENGTHS: Final = {
    text[:2]: int(text[2:])
    for text in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
        "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 "
        "IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
        "MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
        "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}
"""Characters of an IBAN by country, from the registry of SWIFT (ISO 13616)."""
_IBAN_START: Final = re.compile(r"(?<![\w-])[A-Za-z]{2}[0-9]{2}(?=[ \u00a0-]?[A-Za-z0-9])")
_IBANS: Final = {
    length: re.compile(
        rf"[A-Za-z]{{2}}[0-9]{{2}}(?:[ \u00a0-]?[A-Za-z0-9]){{{length - 4}}}(?!-?\w)"
    )
    for length in set(_LENGTHS.values())
}
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_NO_GAPS: Final = dict.fromkeys(map(ord, " \u00a0-"))
_AS_DIGITS: Final = {ord(letter): str(int(letter, 36)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def iban(text: str) -> str | None:
    """The form of *text* if it is one IBAN, of the right length and with the right check digits."""
    if len(text) > 80:
        return None
    plain = text.translate(_NO_GAPS)
    if not plain.isascii():  # before upper(), which makes an I of a dotless one
        return None
    plain = plain.upper()
    if not _IBAN.fullmatch(plain) or _LENGTHS.get(plain[:2]) != len(plain):
        return None
    turned = (plain[4:] + plain[:4]).translate(_AS_DIGITS)
    return f"i:{plain}" if int(turned) % 97 == 1 else None


_SEP: Final = r"(?:[ \u00a0./-]| [/-] )"
_INTERNATIONAL: Final = rf"(?:\+|00)[ \u00a0]?[1-9](?:{_SEP}?\(?[0-9]\)?){{6,15}}"
_NATIONAL: Final = rf"\(?0[1-9][0-9]{{0,12}}\)?(?:{_SEP}[0-9]{{2,8}}){{0,5}}"
_AMERICAN: Final = (
    r"(?:1[ .-])?(?:\([2-9][0-9]{2}\)[ \u00a0]?[0-9]{3}[ \u00a0.-]|[2-9][0-9]{2}[.-][0-9]{3}[.-]"
    r"|[2-9][0-9]{2}[ \u00a0][2-9][0-9]{2}[ \u00a0-])[0-9]{4}"
)
_PHONE: Final = re.compile(rf"{_INTERNATIONAL}|{_NATIONAL}|{_AMERICAN}")
# Digits that go on after it, in whatever grouping, make it a part of something else.
_PHONE_IN_TEXT: Final = re.compile(
    rf"(?<![\w+.,/@-])(?:(?:{_INTERNATIONAL}|{_NATIONAL})(?![ \u00a0][0-9])|{_AMERICAN})"
    r"(?![\w@]|[-.,/]\w)"
)
_NO_DIGIT: Final = re.compile(r"[^0-9]")


def phone(text: str) -> str | None:
    """
    The form of *text* if it is written as a phone number of 7 to 15 digits.

    That takes a plus, a leading zero, or the groups of North America: a plain
    number is none. +49 and 0049 are equal; +49 30 and 030 are not, since only
    the reader's country could make them so.
    """
    if len(text) > 60 or not _PHONE.fullmatch(text):
        return None
    abroad = international(text)
    # (0) is what people write between a country's number and the rest; it is not dialled
    digits = _NO_DIGIT.sub("", text.replace("(0)", "") if abroad else text)
    if abroad:
        digits = digits.removeprefix("00")
    return f"p:{'+' if abroad else ''}{digits}" if 7 <= len(digits) <= 15 else None


def international(text: str) -> bool:
    """Whether *text*, which is a phone number, names its country."""
    return text.startswith(("+", "00"))


class Span(NamedTuple):
    """What looks like an address that may have spaces in it, and its place in a text."""

    start: int
    end: int
    form: str
    """Empty if it is no address after all."""


def spans(text: str) -> Iterator[Span]:
    """What may be an IBAN or a phone number in a text, in no order."""
    rest: list[str] = []
    at = 0
    for start in _IBAN_START.finditer(text):
        length = _LENGTHS.get(start[0][:2].upper())
        match = _IBANS[length].match(text, start.start()) if length else None
        if match:
            form = iban(match[0])
            yield Span(match.start(), match.end(), form or "")
            if form and match.start() >= at:  # its groups may look like a phone number
                rest += (text[at : match.start()], "x" * len(match[0]))
                at = match.end()
    rest.append(text[at:])
    for match in _PHONE_IN_TEXT.finditer("".join(rest)):
        yield Span(match.start(), match.end(), phone(match[0]) or "")
