"""The PostgreSQL ledger: for fleets, one server for all workers on all hosts."""

from .ledger import PostgresLedger

__all__ = ["PostgresLedger"]
