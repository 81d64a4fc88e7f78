"""What is wrong with a policy, before it is known where in the file that is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeAlias

__all__ = ["Fault", "Path", "accepted", "shown", "spoken"]

Path: TypeAlias = "tuple[str | int, ...]"
"""The way from the top of the document to one value: names and list positions."""


class Fault(ValueError):
    """
    One mistake in a policy: what it is, and in *hint* what to write instead.

    *at* leads to the value that is to blame, from the value that was being looked
    at; *on_key* blames the name of that value. *also* are further mistakes that
    were found on the way.
    """

    def __init__(
        self,
        problem: str,
        hint: str = "",
        *,
        at: Path = (),
        on_key: bool = False,
        also: tuple[Fault, ...] = (),
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.at = at
        self.on_key = on_key
        self.also = also

    def under(self, path: Path) -> list[Fault]:
        """This fault and those that came with it, seen from *path* further up."""
        here = Fault(self.problem, self.hint, at=(*path, *self.at), on_key=self.on_key)
        return [here, *(fault for more in self.also for fault in more.under(path))]

    @staticmethod
    def refuse(faults: Iterable[Fault]) -> None:
        """Raise *faults* as one; do nothing if there are none."""
        found = list(faults)
        if found:
            found[0].also += tuple(found[1:])
            raise found[0]


def accepted(word: object, names: Iterable[str]) -> str:
    """Which *names* there are, and which of them *word* was probably meant to be."""
    names = list(names)
    hint = f"accepted: {', '.join(names)}"
    if isinstance(word, str) and len(word) <= 100:
        folded = {name.casefold(): name for name in names}
        close = get_close_matches(word.casefold(), list(folded), n=1)
        if close:
            return f"did you mean {folded[close[0]]}? {hint}"
    return hint


def spoken(path: Path) -> str:
    """*path* for people: tools.issue_refund.once, limits[2].window."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_name(part)}" for part in path)
    return text.lstrip(".") or "the policy"


def shown(value: object) -> str:
    """*value* for people, short, and what kind of value it is where it has no short form."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}…{text[-12:]}"


def _name(part: str) -> str:
    return part if part.isprintable() and len(part) <= 80 else shown(part)
