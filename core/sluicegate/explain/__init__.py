"""Every rule that a decision looks at, and what it said: for a proposal now, or for a journal entry."""

from __future__ import annotations

from .considered import Considered, Left, RuleVerdict
from .explanation import Explanation, explain, explain_entry

__all__ = ["Considered", "Explanation", "Left", "RuleVerdict", "explain", "explain_entry"]
