"""
What the model sends and what the function receives: frameworks make the second of the first.

They drop names that the tool never declared, read "5000" as a number, fill in defaults,
resolve aliases and run validators. The policy has to see what comes out, and what was
dropped on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Set
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

from ..canonical import is_object
from ..schema import Schema
from .unfit import Unfit

__all__ = ["STEADY", "Receive", "Shape", "jsonable"]

Receive: TypeAlias = Callable[[dict[str, Any]], Mapping[str, Any]]
"""The framework's own way from known, checked arguments to what the function receives, by name."""

STEADY: Final = (None, bool, dict, float, frozenset, int, list, set, str, tuple)
"""Default factories that make the same value each time."""


class Shape:
    """
    How one tool takes its arguments.

    *facing* is its schema as the model is shown it. *fields* are the names that the
    function itself has for its arguments. *injected* are those that the program fills in.
    *fresh* are fields whose default is another one each time, with all their spellings;
    such a default cannot be decided about, and is left out.
    """

    def __init__(
        self,
        facing: Schema,
        *,
        fields: Collection[str] = (),
        injected: Set[str] = frozenset(),
        fresh: Mapping[str, Set[str]] | None = None,
    ) -> None:
        self.facing = facing
        self.injected = injected
        self._fields = frozenset(fields)
        self._fresh = fresh or {}
        properties: dict[str, Any] = {name: {} for name in fields or facing.names or ()}
        self._names = Schema(
            {"properties": properties, "additionalProperties": facing.names is None}
        )

    def runs(self, name: str, permitted: Mapping[str, Any]) -> bool:
        """Whether the argument *name*, as the model sent it, is among those *permitted*."""
        names = self.facing.names
        declared = names is None or name in names or name in permitted
        return declared and name not in self.injected

    def given(
        self, sent: Mapping[str, Any], receive: Receive | None
    ) -> tuple[Mapping[str, Any], Schema]:
        """
        The arguments that the policy should see where the model *sent* these, and their schema.

        Without *receive* the framework hands them on as they are. Raises Unfit.
        """
        names = self.facing.names
        known = {name: value for name, value in sent.items() if names is None or name in names}
        if receive is None or not self.facing.holds(known, closed=False):
            return sent, self.facing  # refused and not coerced: "5000" is no number
        extra = {name: value for name, value in sent.items() if name not in known}
        hidden = ", ".join(sorted(extra.keys() & self._fields))
        if hidden:  # fields that the model knows by an alias; some models take both
            accepted = ", ".join(sorted(names or ()))
            raise Unfit("args_unknown", f"it never declared {hidden}; it accepts: {accepted}")
        if not self.facing.holds(
            known
        ):  # deep inside an argument, where it would be dropped unseen
            problem = next(self.facing.errors(known))
            raise Unfit("args_invalid", f"{problem} (by the tool's own schema)")
        received = self._received(receive, known)
        fits = self.facing.holds(received)  # a validator may have made something else of it
        return {**received, **extra}, self.facing if fits else self._names

    def _received(self, receive: Receive, known: dict[str, Any]) -> dict[str, Any]:
        try:
            found = receive(known)
            received = {name: jsonable(found[name]) for name in found if name not in self.injected}
        except Exception as error:
            problem = str(error).partition("\n    For further")[0]
            message = f"the tool does not take these arguments: {problem:.500}"
            raise Unfit("args_invalid", message) from error
        for name, spellings in self._fresh.items():
            if spellings.isdisjoint(known):
                received.pop(name, None)
        return received


def jsonable(value: Any) -> Any:
    """*value* as JSON, the same each time; raises ValueError or TypeError where it has no such form."""
    from pydantic import BaseModel
    from pydantic_core import to_jsonable_python

    if isinstance(value, BaseModel):
        return {name: jsonable(item) for name, item in value}
    if isinstance(value, Decimal):  # a limit on a number must see a number
        number = int(value) if value == value.to_integral_value() else float(value)
        return number if Decimal(repr(number)) == value else str(value)
    if is_object(value):
        pairs = value.items()
        return {next(iter(to_jsonable_python({key: 0}))): jsonable(item) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in cast("list[Any]", value)]
    if isinstance(value, (set, frozenset)):
        return sorted(map(jsonable, cast("set[Any]", value)), key=json.dumps)
    return to_jsonable_python(value, by_alias=False)
