"""
Every rule that a decision looks at, and what it said: for a proposal now, or for a journal entry.

The decision comes from the gate's own flow (`rehearsal`); the rules are read from the
same request to the ledger, at the moment before it would be carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from .canonical import FrozenDict, freeze
from .claims import Cell, Claim, Halts, Hold, Refusal, Repeat, Replay, Run, Taken, Traced, Turns
from .claims.standing import Standing
from .considered import Considered, Finding, RuleVerdict, found
from .decision import Decision, Defer, Deny, Permit, Reason
from .entries import claims_of
from .errors import LedgerError, PluginError
from .journal import Entry
from .ledger.base import Claiming, Ledger
from .ledger.overlay import Below
from .past import INPUTS
from .plugins import Objections, Plugins
from .proposal import Proposal
from .rehearsal import Asked, Rehearsal

if TYPE_CHECKING:
    from .policy.compile import CompiledPolicy
