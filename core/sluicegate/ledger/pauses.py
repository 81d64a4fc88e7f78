"""For how long committers wait, where they do."""

from __future__ import annotations

from typing import Final

__all__ = ["AGAIN", "OVERLAP", "PAUSE"]

PAUSE: Final = 0.00005
"""Seconds between two looks at whether something has come: a fraction of a durable commit."""

AGAIN: Final = 0.5
"""Seconds until what could not be undone is tried again."""

OVERLAP: Final = 0.005
"""After so many seconds of waiting for a lane that is in use a request has another, if there is one."""
