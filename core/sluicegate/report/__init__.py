"""
What a run has done, and what it still owes under `contracts`, as the journal says.

`report` is pure: the same entries, policy and time give the same report. `report_of` reads
the entries from a ledger, and no more of them than it takes.
"""

from __future__ import annotations

from .account import report
from .reading import report_of
from .value import Call, Owed, Report, Spent, Tally, Waiting

__all__ = ["Call", "Owed", "Report", "Spent", "Tally", "Waiting", "report", "report_of"]
