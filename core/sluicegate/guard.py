"""Plain Python functions as tools."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pydantic

from .context import current
from .proposal import Proposal, Subject
from .schema import Schema

if TYPE_CHECKING:
    from .gate import Gate

__all__ = ["Guard"]


class Guard:
    """How calls of one function become proposals; raises TypeError for a function that cannot be guarded."""

    def __init__(
        self,
        gate: Gate,
        tool: str,
        subject: Subject | Callable[[], Subject] | None,
        schema: Mapping[str, Any] | None,
    ) -> None:
        self._gate = gate
        self._tool = tool
        self._subject = subject
        self._schema = schema

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the same signature whose calls are decided first."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{self._tool} is a generator: its body runs after the call; guard what it calls instead"
            )
        signature = inspect.signature(function)
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(
                    f"{self._tool} takes {parameter}, which has no name of its own; give it one"
                )
        schema = Schema(
            self._schema if self._schema is not None else _described(function, signature)
        )

        def propose(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Proposal:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            named: dict[str, Any] = {}
            for name, value in given.arguments.items():
                if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                    named.update(value)
                else:
                    named[name] = value
            here = current()
            subject = self._subject() if callable(self._subject) else self._subject
            return Proposal(
                self._tool,
                named,
                subject=here.subject if subject is None else subject,
                run=here.run,
                schema=schema,
                parent=here.parent,
                root=here.root,
                depth=here.depth,
                source="python",
            )

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                return await self._gate.acall(propose(args, kwargs), function)

            return guarded_async

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self._gate.call(propose(args, kwargs), function)

        return guarded


def _described(function: Callable[..., Any], signature: inspect.Signature) -> Mapping[str, Any]:
    """The JSON Schema of the signature; where a type has none, of the names alone."""
    try:
        return pydantic.TypeAdapter(cast("Any", function)).json_schema()
    except (pydantic.errors.PydanticUserError, NameError):
        kinds = signature.parameters.values()
        names = [p.name for p in kinds if p.kind is not inspect.Parameter.VAR_KEYWORD]
        open_ended = len(names) < len(signature.parameters)
        return {
            "type": "object",
            "properties": {name: {} for name in names},
            "additionalProperties": open_ended,
        }
