"""
The value of an expression for one call: of a plain path, a number, or CEL.

Integers are handed to CEL as int, numbers with a fraction as double, and `now` as
timestamp. CEL compares the two kinds of numbers but does not add or multiply
them: write `double(args.amount) * 1.5`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, NamedTuple

from ..canonical import is_object, thaw
from ..proposal import Proposal
from .expression import ROOTS, number_of, path_of

__all__ = ["Expression", "ExpressionError", "Scope", "compiled_expression"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ExpressionError(ValueError):
    """The expression has no value for this call."""


class Scope(NamedTuple):
    """What an expression is about. *args* are those that would run; *now* is in µs since 1970 UTC."""

    proposal: Proposal
    args: Mapping[str, Any]
    facts: Mapping[str, Any]
    now: int


class Expression(NamedTuple):
    """A compiled expression; `value` raises ExpressionError where it has none."""

    source: str
    value: Callable[[Scope], object]

    def holds(self, scope: Scope) -> bool:
        """Whether the value is exactly true; any other kind of value raises ExpressionError."""
        value = self.value(scope)
        if value is True or value is False:
            return value
        raise ExpressionError(f"it gives a {type(value).__name__}, not true or false")


def compiled_expression(text: str) -> Expression:
    """*text*, which the policy's models have checked, ready to be evaluated."""
    if number_of(text) is not None:
        number = Decimal(text)

        def constant(_: Scope) -> object:
            return number

        return Expression(text, constant)
    path = path_of(text)
    if path is not None:
        return Expression(text, _path(path[0], path[1:]))
    return Expression(text, _cel(text))


def _path(root: str, names: tuple[str, ...]) -> Callable[[Scope], object]:
    if root == "args" and len(names) == 1:
        return _argument(names[0])

    def walk(scope: Scope) -> object:
        value = _variable(root, scope)
        for depth, name in enumerate(names):
            if not is_object(value) or name not in value:
                raise ExpressionError(f"{'.'.join((root, *names[: depth + 1]))} is missing")
            value = value[name]
        return value

    return walk


def _argument(name: str) -> Callable[[Scope], object]:
    def argument(scope: Scope) -> object:
        try:
            return scope[1][name]  # by place: names of a tuple's fields cost a little each
        except KeyError:
            raise ExpressionError(f"args.{name} is missing") from None

    return argument


def _variable(name: str, scope: Scope) -> Any:
    proposal = scope.proposal
    if name == "args":
        return scope.args
    if name == "subject":
        who = proposal.subject
        return {
            "tenant": who.tenant,
            "user": who.user,
            "agent": who.agent,
            "roles": list(who.roles),
        }
    if name == "facts":
        return scope.facts
    return proposal.run if name == "run" else _EPOCH + timedelta(microseconds=scope.now)


def _cel(text: str) -> Callable[[Scope], object]:
    import cel  # it takes a sixth of a second: only for a policy that needs it

    program = cel.compile(text)
    used = set(program.variables())
    names = tuple(name for name in ROOTS if name in used)

    def value(scope: Scope) -> object:
        try:
            return program.execute({name: thaw(_variable(name, scope)) for name in names})
        except KeyError as error:
            raise ExpressionError(f"{error.args[0]} is missing") from None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the Rust library is no Exception
            raise ExpressionError(str(error).partition("\n")[0].partition(". ")[0]) from None

    return value
