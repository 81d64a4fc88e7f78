"""Where a ledger is and how it is to be used: its URL, read; and how it is shown, without secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import parse_qsl, quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ...errors import LedgerError
from ..url import unambiguous

__all__ = ["Address", "Clock", "Durability"]

Durability: TypeAlias = Literal["power", "process"]
"""What an answered request survives: a crash of the server, or only the end of our own process."""

Clock: TypeAlias = Literal["server", "caller"]
"""Whose time counts: the server's, or that of each request."""

_FORM: Final = "write postgresql://user@host/database?namespace=name"
_OPTIONS: Final = ("clock", "connections", "durability", "migrate", "namespace", "timeout")
_SECRET: Final = ("password", "sslpassword", "oauth_client_secret")
_NAMESPACE: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,47}\Z")


class Address(NamedTuple):
    """
    A database and a namespace in it. *parts* are libpq's connection parameters.

    It is shown without secrets, and `scrubbed` takes them out of what others say.
    """

    parts: Mapping[str, Any]
    namespace: str = "sluicegate"
    timeout: float = 5.0
    connections: int = 4
    durability: Durability = "power"
    clock: Clock = "server"
    migrate: bool = True

    @classmethod
    def read(cls, url: str) -> Address:
        """
        The address in *url*. What is no option of ours is libpq's, such as `sslmode`.

        Raises LedgerError, without the URL's secrets.
        """
        base, _, query = unambiguous(url).partition("?")
        ours: dict[str, str] = {}
        theirs: list[tuple[str, str]] = []
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in _OPTIONS:
                theirs.append((name, value))
            elif name in ours:
                raise LedgerError(f"the URL of the ledger gives {name!r} twice")
            else:
                ours[name] = value
        rest = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in theirs)
        try:
            parts = conninfo_to_dict(f"{base}?{rest}" if rest else base)
        except psycopg.Error as error:
            told = _without(str(error).strip(), [url, base, *_passwords(url, theirs)])
            raise LedgerError(
                f"the URL of the ledger cannot be read: {told}; {_FORM}, with the options "
                f"{', '.join(_OPTIONS)} and those of libpq"
            ) from None
        return cls.checked(parts, ours)

    @classmethod
    def checked(cls, parts: Mapping[str, Any], given: Mapping[str, str]) -> Address:
        """The address with the options *given* as text. Raises LedgerError."""
        options: dict[str, Any] = dict(given)
        if "timeout" in options:
            options["timeout"] = _number("timeout", given["timeout"], "a number of seconds above 0")
        if "connections" in options:
            number = _number("connections", given["connections"], "a whole number from 1 to 64")
            if not (number.is_integer() and 1 <= number <= 64):
                raise _refused("connections", given["connections"], "a whole number from 1 to 64")
            options["connections"] = int(number)
        if "migrate" in options:
            _one_of("migrate", given["migrate"], ("yes", "no"))
            options["migrate"] = given["migrate"] == "yes"
        _one_of("durability", given.get("durability", "power"), get_args(Durability))
        _one_of("clock", given.get("clock", "server"), get_args(Clock))
        namespace = given.get("namespace", "sluicegate")
        if not _NAMESPACE.match(namespace):
            raise _refused(
                "namespace",
                namespace,
                "1 to 48 of a-z, 0-9 and _, beginning with a letter, and not with pg_",
            )
        return cls(parts, **options)

    def scrubbed(self, text: str) -> str:
        """*text* without our secrets, on one line."""
        secrets = [str(self.parts[name]) for name in _SECRET if self.parts.get(name)]
        return " ".join(_without(text, secrets).split())

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def __str__(self) -> str:
        part = self.parts.get
        user = f"{part('user')}@" if part("user") else ""
        host = part("host") or part("hostaddr") or "localhost"
        port = f":{part('port')}" if part("port") else ""
        where = f"postgresql://{user}{host}{port}/{part('dbname') or ''}"
        return f"{where} (namespace {self.namespace})"


def _number(name: str, value: str, accepted: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise _refused(name, value, accepted)
    return number


def _one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise _refused(name, value, " or ".join(accepted))


def _refused(name: str, value: str, accepted: str) -> LedgerError:
    return LedgerError(f"{name} is {value!r} in the URL of the ledger; it must be {accepted}")


def _passwords(url: str, given: list[tuple[str, str]]) -> list[str]:
    """Whatever may be a secret in a URL that cannot be read."""
    user, _, _ = url.partition("://")[2].rpartition("@")
    password = user.partition(":")[2]
    return [password, unquote(password), *(value for name, value in given if name in _SECRET)]


def _without(text: str, secrets: list[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
