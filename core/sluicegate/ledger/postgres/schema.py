"""Making the tables of a namespace, and seeing that they are those we know."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import psycopg

from ...errors import LedgerError
from .address import Address
from .line import Line, connected, trouble
from .locks import lane_of, lock_of
from .statement import Statement, identifier

__all__ = ["prepare"]

VERSION: Final = 1
_SCHEMA: Final = Path(__file__).with_name("schema.sql")

_THERE: Final = "SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s"
# Not to_regclass: it may remember that there was no such table before we waited for the lock.
_VERSIONED: Final = """
SELECT true FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = 'versions'
"""
_VERSION: Final = "SELECT max(version) FROM {ns}.versions"
_SETTINGS: Final = """
SELECT current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes')
"""


def prepare(address: Address) -> None:
    """
    See that the server is fit to keep a ledger and has one; make it if there is none.

    Raises LedgerError.
    """
    try:
        line = connected(address)
        try:
            line.until = time.monotonic() + address.timeout
            _inspect(line, address)
            version = _version(line, address)
            if version is None:
                version = _make(line, address)
        finally:
            line.drop()
    except psycopg.Error as error:
        raise trouble(address, error) from error
    if version != VERSION:
        older = "older" if version < VERSION else "newer"
        raise LedgerError(
            f"the ledger {address} has schema version {version}, and this sluicegate knows {VERSION}; "
            f"use the {older} sluicegate that made it"
        )


def _inspect(line: Line, address: Address) -> None:
    ((encoding, fsync, pages),) = line.rows(Statement(_SETTINGS))
    if encoding != "UTF8":
        raise LedgerError(
            f"{address} has the encoding {encoding}; create a database with ENCODING 'UTF8'"
        )
    if address.durability == "power" and "off" in (fsync, pages):
        raise LedgerError(
            f"{address} runs with fsync = {fsync} and full_page_writes = {pages}, so a crash may take "
            "back what was decided; set both on, or accept it with ?durability=process"
        )


def _version(line: Line, address: Address) -> int | None:
    """The schema version of the namespace, None if there is nothing."""
    if not line.rows(Statement(_VERSIONED), address.namespace):
        return None
    ((version,),) = line.rows(Statement(_VERSION, ns=identifier(address.namespace)))
    found: int | None = version
    return found or 0


def _make(line: Line, address: Address) -> int:
    """Make all tables in one transaction, unless somebody else just did."""
    name = address.namespace
    if not address.migrate:
        raise LedgerError(
            f"the ledger {address} has no tables; open it once without migrate=no, as a role that may "
            "create them"
        )
    line.rows(Statement("BEGIN; SELECT pg_advisory_xact_lock(%s)"), lock_of(name, "versions"))
    try:
        version = _version(line, address)
        if version is None:
            if not line.rows(Statement(_THERE), name):
                line.rows(Statement("CREATE SCHEMA {ns}", ns=identifier(name)))
            tables = _SCHEMA.read_text("utf-8")
            line.rows(Statement(tables, ns=identifier(name), lane=str(lane_of(name))))
            version = VERSION
        line.rows(Statement("COMMIT"))
    except psycopg.errors.InsufficientPrivilege as error:
        raise LedgerError(
            f"the ledger {address} has no tables, and this role may not create them: "
            f"{address.scrubbed(str(error))}; open it once as a role that may, then grant this one what "
            "docs/postgres.md lists"
        ) from error
    return version
