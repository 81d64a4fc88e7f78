"""What the short ways of a decision leave out is checked nowhere else: neither here nor by a type checker."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

import sluicegate

CORE = Path(sluicegate.__file__).parent


def built() -> list[Any]:
    """Each `build(Kind, (field, …))` of the core: where it is, the kind, how many fields it gives."""
    found: list[Any] = []
    for path in sorted(CORE.rglob("*.py")):
        place = path.relative_to(CORE.parent).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name("build"), args=[ast.Name(kind), ast.Tuple(fields)]):
                    where = f"{'.'.join(place)}:{node.lineno}"
                    found.append(pytest.param(place, kind, len(fields), id=f"{where}-{kind}"))
                case ast.Call(func=ast.Name("build")):
                    raise AssertionError(f"{path}:{node.lineno} is not build(Kind, (field, …))")
                case _:
                    pass
    return found


@pytest.mark.parametrize(("place", "kind", "given"), built())
def test_a_tuple_that_is_built_has_all_its_fields(
    place: tuple[str, ...], kind: str, given: int
) -> None:
    """One field too few would be found when somebody asks for it, and one too many never."""
    made = getattr(importlib.import_module(".".join(place)), kind)
    assert given == len(made._fields)


def test_there_are_tuples_to_look_at() -> None:
    """The test above must not pass because nothing was found."""
    assert len(built()) >= 15
