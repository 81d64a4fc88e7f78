"""What has to be told of a fork, and of the end of the program."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import Final

__all__ = ["Living"]


class Living:
    """Has threads or connections, which no child of a fork inherits. It is told for as long as it lives."""

    def __init__(self) -> None:
        _LIVING.add(self)

    def before_fork(self) -> None:
        """Let go of what a child must not inherit."""

    def after_fork(self) -> None:
        """In the parent: take up again what was let go of."""

    def in_child(self) -> None:
        """Begin anew: threads, and what they wait for, stay with the parent."""

    def close(self) -> None:
        """Come to an end: the program does."""


_LIVING: Final[weakref.WeakSet[Living]] = weakref.WeakSet()


def _each(step: Callable[[Living], None]) -> None:
    for living in list(_LIVING):
        step(living)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=partial(_each, lambda living: living.before_fork()),
        after_in_parent=partial(_each, lambda living: living.after_fork()),
        after_in_child=partial(_each, lambda living: living.in_child()),
    )
atexit.register(_each, lambda living: living.close())
