"""
For tests of policies, plugins and adapters: a clock that is told, ids that count,
and the contract that every adapter keeps (which needs pytest to be run).
"""

from __future__ import annotations

from .clock import FakeClock, counted_ids
from .contract import AdapterContract
from .coverage import assert_every_tool_guarded
from .scene import Call, Script, Told

__all__ = [
    "AdapterContract",
    "Call",
    "FakeClock",
    "Script",
    "Told",
    "assert_every_tool_guarded",
    "counted_ids",
]
