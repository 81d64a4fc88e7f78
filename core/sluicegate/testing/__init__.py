"""For tests of policies, plugins and adapters: a clock that is told, ids that count, and the contract."""

from __future__ import annotations

from .clock import FakeClock, counted_ids

__all__ = ["FakeClock", "counted_ids"]
