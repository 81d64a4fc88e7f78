"""
URLs of servers, before anything else reads them.

A password with an unquoted `/`, `?`, `#` or `@` moves the borders of a URL, so that a part of it
is taken for a host, a path or an option, and shown in an error as such. So a URL that could
be read in two ways is refused here, and nothing of it is shown.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from ..errors import LedgerError

__all__ = ["unambiguous"]

_FORM: Final = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<user>[^/?#@]*)@)?(?P<hosts>[^/?#@]*)(?P<path>[^?#@]*)"
    r"(?:\?(?P<query>[^@]*))?"
)
_HOST: Final = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::\d{0,5})?")
_OPTION: Final = re.compile(r"[A-Za-z_]+=.*")
_BROKEN: Final = re.compile(r"%(?![0-9a-fA-F]{2})")


def unambiguous(url: str) -> str:
    """
    *url*, if `scheme://user:password@host:port/path?option=value` is the only way to read it.

    Raises LedgerError, without showing any of it.
    """
    problem = _problem(url)
    if problem:
        raise LedgerError(
            f"the URL of the ledger {problem}; it is not shown, because it may hold a secret. Write "
            "scheme://user:password@host:port/path?option=value, and in a user name, password or "
            "value / as %2F, ? as %3F, # as %23, @ as %40, & as %26 and % as %25"
        )
    return url


def _problem(url: str) -> str:
    """What is wrong with *url*, in words that show nothing of it; "" if nothing is."""
    if not url.isprintable():
        return "has a character that cannot be printed"
    found = _FORM.fullmatch(url)
    if found is None:
        return "cannot be read: it has a second @, an @ behind the host, or no ://"
    if _BROKEN.search(url):
        return "has a % that is not followed by two hexadecimal digits"
    try:
        if not unquote(url, errors="strict").isprintable():
            return "stands for a character that cannot be printed"
    except UnicodeDecodeError:
        return "has bytes after % that are no UTF-8"
    if not all(_HOST.fullmatch(host) for host in found["hosts"].split(",")):
        return "has a host or a port that is none"
    if found["query"] and not all(map(_OPTION.fullmatch, found["query"].split("&"))):
        return "has an option without a value"
    return ""
