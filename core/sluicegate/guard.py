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
    """
    How the calls of one function become proposals.

    Raises TypeError for a function that cannot be guarded.
    """

    def __init__(
        self,
        gate: Gate,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        subject: Subject | Callable[[], Subject] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self._gate = gate
        self._function = function
        self._tool = name or function.__name__
        self._subject = subject
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{self._tool} is a generator: its body runs after the call; guard what it calls"
            )
        self._signature = inspect.signature(function)
        for parameter in self._signature.parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(
                    f"{self._tool} takes {parameter}, which has no name of its own; give it one"
                )
        described = schema if schema is not None else _described(function, self._signature)
        self._schema = Schema(described)

    def function(self) -> Callable[..., Any]:
        """A function of the same signature whose calls are decided first."""
        function = self._function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                return await self._gate.acall(self._proposal(args, kwargs), function)

            return guarded_async

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self._gate.call(self._proposal(args, kwargs), function)

        return guarded

    def _proposal(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Proposal:
        here = current()
        subject = self._subject() if callable(self._subject) else self._subject
        return Proposal(
            self._tool,
            self._named(args, kwargs),
            subject=here.subject if subject is None else subject,
            run=here.run,
            schema=self._schema,
            parent=here.parent,
            root=here.root,
            depth=here.depth,
            tools=here.tools,
            within=here.within,
            prompt=here.prompt,
            source="python",
        )

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """What the function will receive, by name and with its defaults."""
        given = self._signature.bind(*args, **kwargs)
        given.apply_defaults()
        named: dict[str, Any] = {}
        for name, value in given.arguments.items():
            if self._signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            else:
                named[name] = value
        return named


def _described(function: Callable[..., Any], signature: inspect.Signature) -> Mapping[str, Any]:
    """The JSON Schema of the signature; where a type has none, of the names alone."""
    try:
        return pydantic.TypeAdapter(cast("Any", function)).json_schema()
    except (pydantic.errors.PydanticUserError, NameError):
        kinds = signature.parameters.values()
        names = [p.name for p in kinds if p.kind is not inspect.Parameter.VAR_KEYWORD]
        more = len(names) < len(signature.parameters)
        properties: dict[str, Any] = {name: {} for name in names}
        return {"type": "object", "properties": properties, "additionalProperties": more}
