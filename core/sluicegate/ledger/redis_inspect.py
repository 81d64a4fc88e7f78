"""What a Redis or Valkey server must be like before a ledger is kept there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from redis.exceptions import ResponseError

from ..errors import LedgerError
from .redis_link import Link

__all__ = ["Durability", "Findings", "inspect"]

Durability: TypeAlias = Literal["power", "second", "memory", "unknown"]
"""
What an answered request survives on this server: loss of power · that too, but for about
the last second · only what the server's own process survives · it does not say.
"""

OLDEST: Final = {"redis": (6, 2), "valkey": (7, 2)}
"""Before them there is no XTRIM MINID, and a script may not write after it has asked the time."""

SETTINGS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")


class Findings(NamedTuple):
    """What was found: the server's name and version, and what its answers survive."""

    server: str
    durability: Durability


def inspect(link: Link, keys: Mapping[str, str], *, require_durable: bool) -> Findings:
    """
    Look the server over; *keys* are the ledger's, with the types that they must have.

    Raises LedgerError with the setting to change.
    """
    facts = _facts(link)
    server = _version(link, facts)
    if facts.get("role", "master") != "master":
        # As a writing command would be answered: a failover may be under way.
        raise ResponseError(f"READONLY its role is {facts['role']}")
    settings = _settings(link)
    policy = settings.get("maxmemory-policy") or facts.get("maxmemory_policy")
    if policy is None:
        raise LedgerError(
            f"{link.label} does not say what it does when its memory is full; permit the ledger's "
            "user CONFIG GET or INFO (see docs/redis.md, Permissions)"
        )
    if policy != "noeviction":
        raise LedgerError(
            f"{link.label} removes keys when its memory is full (maxmemory-policy {policy}), and with "
            "them what was spent; set `CONFIG SET maxmemory-policy noeviction`, and the same in its "
            "configuration file"
        )
    durability = _durability(facts, settings)
    if require_durable and durability != "power":
        raise LedgerError(_too_weak(link.label, durability, settings))
    for key, wanted in keys.items():
        kind = link.ask("TYPE", key).decode()
        if kind not in ("none", wanted):
            raise LedgerError(
                f"{link.label} has a {kind} under {key}, where a ledger has a {wanted}; give the "
                "ledger another namespace"
            )
    return Findings(server, durability)


def _facts(link: Link) -> dict[str, str]:
    try:
        text: bytes = link.ask("INFO")
    except ResponseError as error:
        if not _forbidden(error):
            raise
        return {}
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _settings(link: Link) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in SETTINGS:  # with several names at once only since 7.0
        try:
            reply = link.ask("CONFIG", "GET", name)
        except ResponseError as error:
            if not _forbidden(error):
                raise
            return {}
        found |= {
            key.decode(): value.decode() for key, value in zip(reply[::2], reply[1::2], strict=True)
        }
    return found


def _forbidden(error: ResponseError) -> bool:
    """Whether the user may not ask, or the service has taken the command away."""
    text = str(error).lower()
    return type(error).__name__ == "NoPermissionError" or "unknown command" in text


def _version(link: Link, facts: Mapping[str, str]) -> str:
    name = facts.get("server_name", "redis")
    text = facts.get(f"{name}_version", "")
    if not text:
        raise LedgerError(
            f"{link.label} does not say which version it is; permit the ledger's user INFO "
            "(see docs/redis.md, Permissions)"
        )
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    oldest = OLDEST.get(name, OLDEST["redis"])
    if version < oldest:
        accepted = " or ".join(f"{kind} {a}.{b}" for kind, (a, b) in OLDEST.items())
        raise LedgerError(f"{link.label} is {name} {text}; a ledger needs {accepted}, or later")
    return f"{name} {text}"


def _durability(facts: Mapping[str, str], settings: Mapping[str, str]) -> Durability:
    appends = settings.get("appendonly") or {"0": "no", "1": "yes"}.get(
        facts.get("aof_enabled", "")
    )
    if appends is None:
        return "unknown"
    if appends != "yes":
        return "memory"
    if not settings:
        return "unknown"
    if settings["appendfsync"] == "always":
        return "power" if settings["no-appendfsync-on-rewrite"] == "no" else "second"
    return "second" if settings["appendfsync"] == "everysec" else "memory"


def _too_weak(label: str, durability: Durability, settings: Mapping[str, str]) -> str:
    if durability == "unknown":
        return (
            f"{label} does not say whether an answer is on disk; permit the ledger's user CONFIG GET, "
            "or leave out require_durable and see to `appendfsync always` yourself"
        )
    said = ", ".join(f"{name} {settings.get(name, '?')}" for name in SETTINGS[:3])
    return (
        f"{label} may lose decisions that it has answered ({said}), and require_durable forbids it; "
        "set `CONFIG SET appendonly yes`, `CONFIG SET appendfsync always` and "
        "`CONFIG SET no-appendfsync-on-rewrite no`, and the same in its configuration file"
    )
