"""Fixed windows of time, aligned to UTC: minute, hour, day, week (from Monday) and month."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from enum import Enum

__all__ = ["Window", "window_of"]

_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_THURSDAY = 3 * 86_400 * _SECOND
"""1970 began on a Thursday: three days after the Monday that weeks are counted from."""


class Window(Enum):
    """A kind of window, with its length and the offset of its edges from 1970, in µs."""

    minute = (60 * _SECOND, 0)
    hour = (3_600 * _SECOND, 0)
    day = (86_400 * _SECOND, 0)
    week = (7 * 86_400 * _SECOND, _THURSDAY)
    month = (0, 0)

    def __init__(self, length: int, offset: int) -> None:
        self.length = length
        """0 for months, which have no one length."""
        self.offset = offset

    def number(self, now: int) -> int:
        """Which window *now* (µs since 1970 UTC) falls into, counted from 1970."""
        if self.length:
            return (now + self.offset) // self.length
        moment = _moment(now)
        return (moment.year - 1970) * 12 + moment.month - 1

    def end(self, now: int) -> int:
        """When the window of *now* ends and the next one begins, in µs since 1970 UTC."""
        number = self.number(now) + 1
        if self.length:
            return number * self.length - self.offset
        first = datetime(1970 + number // 12, number % 12 + 1, 1, tzinfo=timezone.utc)
        return (first - _EPOCH) // timedelta(microseconds=1)

    @property
    def spoken(self) -> str:
        """The window of now, in a sentence."""
        return "today" if self is Window.day else f"this {self.name}"

    def shown(self, moment: int) -> str:
        """A moment at the edge of this kind of window, as short as it can be."""
        pattern = {Window.minute: "%H:%M:%S UTC", Window.hour: "%H:%M UTC", Window.day: "%H:%M UTC"}
        return _moment(moment).strftime(pattern.get(self, "%Y-%m-%d %H:%M UTC"))


def window_of(now: int, window: Window | None) -> int:
    """The number of the *window* that *now* falls into; 0 if there are no windows."""
    return 0 if window is None else window.number(now)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
