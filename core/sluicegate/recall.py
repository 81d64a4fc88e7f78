"""What a run remembers of the values that came up in it: digests, spread over 256 cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from .claims import Came, Note

__all__ = ["bucket", "came"]


def bucket(root: str, form: str) -> str:
    """The key of the cell in which a run keeps the value with this digest."""
    return f"came|{root}|{form[:2]}"


def came(root: str, source: str, turn: str | None, content: object) -> Iterator[Note]:
    """Notes that all values in *content* came up in *source*; the user's words are read as phrases."""
    from .provenance import digest, found  # only for policies that ask where values came from

    forms = sorted(digest(form) for form in found(content, phrases=source == "prompt").values)
    for key, group in itertools.groupby(forms, lambda form: bucket(root, form)):
        yield Came(key, source, turn, tuple(group))
