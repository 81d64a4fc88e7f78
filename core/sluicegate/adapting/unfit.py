"""Calls of which nobody can tell what they are, or for whom: they become refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ..context import current
from ..decision import Code, Reason
from ..proposal import Subject

__all__ = ["SubjectSource", "Unfit", "subject_of"]

SubjectSource: TypeAlias = "Subject | Callable[[Any], Subject] | None"
"""Who calls: a subject, a function of what the framework offers, or None for `sluicegate.context`."""

_log: Final = logging.getLogger("sluicegate")


class Unfit(Exception):
    """Nobody can tell what is called, by whom, or what the function would receive."""

    def __init__(self, code: Code, message: str) -> None:
        self.code: Code = code
        super().__init__(message)

    def reason(self, source: str) -> Reason:
        """The reason for the refusal that this becomes; *source* names the adapter."""
        return Reason(self.code, source, str(self))


def subject_of(source: SubjectSource, offered: Any = None) -> Subject:
    """The subject that *source* means, given what the framework has *offered*; raises Unfit."""
    if source is None:
        return current().subject
    try:
        who: object = source(offered) if callable(source) else source
    except Exception as error:
        _log.exception("the subject of a call could not be found, so it is refused")
        problem = f"nobody can tell who is calling: {type(error).__name__}; the log says more"
        raise Unfit("missing_subject", problem) from error
    if not isinstance(who, Subject):
        problem = f"nobody can tell who is calling: subject gave a {type(who).__qualname__}"
        raise Unfit("missing_subject", problem)
    return who
