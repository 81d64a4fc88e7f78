"""
The canonical form of JSON values (RFC 8785) and their deep-frozen copies.

One walk answers three questions at once: may this value be decided about at
all, what is its frozen copy, and what is its canonical text. Two proposals are
the same proposal exactly if their canonical texts are equal bytes.

The domain is wider than RFC 8785 in one point: integers up to 64 bits keep all
their digits (RFC 8785 would round above 2**53, and an account number must not
be rounded). Everything else outside JSON is refused and never coerced: NaN,
infinities, lone surrogates, larger integers, keys that are not strings, tuples,
dates, decimals, and subclasses of str, int, dict or list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring as _quoted_python
from typing import Any, Final, NoReturn, TypeAlias, TypeGuard, cast

import rfc8785

try:  # the C twin of the function above; absent on some interpreters
    from _json import encode_basestring as quoted  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # pragma: no cover
    quoted = _quoted_python

__all__ = [
    "FrozenDict",
    "FrozenList",
    "Json",
    "NotCanonical",
    "freeze",
    "is_object",
    "loads",
    "quoted",
    "thaw",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_BYTES: Final = 1_048_576
"""The largest canonical text, in bytes of UTF-8."""
MAX_DEPTH: Final = 64
"""How deep lists and objects may nest; frameworks and databases give up soon after."""
MAX_VALUES: Final = 100_000
"""How many values one document may have; shared lists could expand without end."""
_SHORT: Final = 1000
_SMALL: Final = 2**63
SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**64 - 1


class NotCanonical(ValueError):
    """The value has no canonical form. `path` leads to the part that is to blame."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path)
        return f"{_printable(where.lstrip('.')) or 'the value'} {self.problem}"


def _printable(text: str) -> str:
    """*text*, short and without anything that a terminal or UTF-8 would choke on."""
    safe = text if len(text) <= 80 else f"{text[:60]}…{text[-12:]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in safe)


def _immutable(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("what was decided is frozen; take a copy with sluicegate.thaw() to change it")


class FrozenDict(dict[str, Any]):
    """A JSON object that cannot be changed, and neither can anything in it."""

    __slots__ = ()
    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _immutable
    __ior__ = _immutable

    def __reduce__(self) -> tuple[object, ...]:
        return (FrozenDict, (dict(self),))

    def __deepcopy__(self, memo: object) -> FrozenDict:
        return self


class FrozenList(list[Any]):
    """A JSON array that cannot be changed, and neither can anything in it."""

    __slots__ = ()
    __setitem__ = __delitem__ = _immutable
    append = clear = extend = insert = pop = remove = reverse = sort = _immutable
    __iadd__ = __imul__ = _immutable

    def __reduce__(self) -> tuple[object, ...]:
        return (FrozenList, (list(self),))

    def __deepcopy__(self, memo: object) -> FrozenList:
        return self


def freeze(value: object) -> tuple[Json, str]:
    """The deep-frozen copy of *value* and its canonical text; raises NotCanonical."""
    frozen, text = _walk(value, MAX_DEPTH, [MAX_VALUES])
    if len(text) > MAX_BYTES // 4 and len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise NotCanonical(
            f"is {len(text):,} characters long; at most {MAX_BYTES:,} bytes are accepted"
        )
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise _blame_surrogate(value) from None
    return frozen, text


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether *value* is a JSON object, frozen or not."""
    return isinstance(value, Mapping)


def thaw(value: Any) -> Any:
    """A fresh, plain, changeable copy of a frozen value."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is FrozenDict or kind is dict:
        return {key: thaw(item) for key, item in value.items()}
    if kind is FrozenList or kind is list:
        return [thaw(item) for item in value]
    return value


def loads(text: str | bytes) -> Json:
    """Read JSON *text* strictly: a duplicate key, NaN or trailing text raises NotCanonical."""
    try:
        return cast("Json", _STRICT.decode(text if isinstance(text, str) else text.decode("utf-8")))
    except RecursionError:
        raise NotCanonical(f"nests deeper than {MAX_DEPTH} levels") from None
    except NotCanonical:
        raise
    except ValueError as error:
        raise NotCanonical(f"is not JSON: {_printable(str(error))}") from None


def _walk(value: Any, depth: int, budget: list[int]) -> tuple[Json, str]:
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is str:
        if len(value) > MAX_BYTES:
            raise NotCanonical(
                f"is {len(value):,} characters long; at most {MAX_BYTES:,} bytes are accepted"
            )
        return value, quoted(value)
    if kind is int:
        if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            raise NotCanonical(
                f"is an integer of {value.bit_length()} bits; at most 64 bits are accepted; "
                "send longer numbers as strings"
            )
        return value, int.__repr__(value)
    if kind is dict or kind is FrozenDict:
        return _walk_object(value, depth, budget)
    if kind is list or kind is FrozenList:
        return _walk_array(value, depth, budget)
    if kind is float:
        return value, _number(value)
    if value is None:
        return None, "null"
    if kind is bool:
        return value, "true" if value else "false"
    raise NotCanonical(f"is a {kind.__qualname__}, which is no JSON value; {_instead(value)}")


def _walk_object(value: dict[Any, Any], depth: int, budget: list[int]) -> tuple[Json, str]:
    _spend(len(value), depth, budget)
    frozen: dict[str, Json] = {}
    texts: dict[str, str] = {}
    plain = True
    size = 0
    key: Any = None
    try:
        for key, item in value.items():
            if type(key) is not str:
                raise NotCanonical(
                    f"has a key that is a {type(key).__qualname__}; keys must be strings"
                )
            kind = type(item)  # pyright: ignore[reportUnknownVariableType]
            if kind is str and len(item) <= _SHORT:  # the common leaf, without a call
                frozen[key] = item
                texts[key] = quoted(item)
            elif kind is int and -_SMALL < item < _SMALL:
                frozen[key] = item
                texts[key] = int.__repr__(item)
            else:
                frozen[key], texts[key] = _walk(item, depth - 1, budget)
                size += len(texts[key])
                if size > MAX_BYTES:
                    break
            plain = plain and key.isascii()
    except NotCanonical as error:
        if type(key) is str:
            error.path = (key, *error.path)
        raise
    if size > MAX_BYTES:
        raise NotCanonical(_TOO_LONG)
    # RFC 8785 sorts by UTF-16 code units, which is code point order for ASCII
    order = sorted(texts) if plain else sorted(texts, key=_utf16)
    return FrozenDict(frozen), "{" + ",".join([f"{quoted(k)}:{texts[k]}" for k in order]) + "}"


def _walk_array(value: list[Any], depth: int, budget: list[int]) -> tuple[Json, str]:
    _spend(len(value), depth, budget)
    frozen: list[Json] = []
    texts: list[str] = []
    size = 0
    try:
        for item in value:
            copy, text = _walk(item, depth - 1, budget)
            frozen.append(copy)
            texts.append(text)
            size += len(text)  # as it grows: one long string may be in a list many times
            if size > MAX_BYTES:
                break
    except NotCanonical as error:
        error.path = (len(frozen), *error.path)
        raise
    if size > MAX_BYTES:
        raise NotCanonical(_TOO_LONG)
    return FrozenList(frozen), "[" + ",".join(texts) + "]"


_TOO_LONG: Final = (
    f"is more than {MAX_BYTES:,} characters long; at most {MAX_BYTES:,} bytes are accepted"
)


def _spend(count: int, depth: int, budget: list[int]) -> None:
    if depth <= 0:
        raise NotCanonical(f"nests deeper than {MAX_DEPTH} levels")
    budget[0] -= count
    if budget[0] < 0:
        raise NotCanonical(f"has more than {MAX_VALUES:,} values")


def _number(value: float) -> str:
    text = float.__repr__(value)
    # Python and ECMAScript both print the shortest digits that round-trip; they
    # differ in where the exponent begins and in whole numbers ("5.0", "5").
    if not text.endswith(".0") and "e" not in text and text[-1].isdigit():
        return text
    try:
        return rfc8785.dumps(value).decode()
    except rfc8785.FloatDomainError:
        raise NotCanonical(f"is {text}, which is no JSON number") from None


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _instead(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return "send it as base64 text"
    if isinstance(value, (tuple, set, frozenset)):
        return "send a list"
    return "send a string, a number, true, false, null, a list or an object"


def _blame_surrogate(value: object) -> NotCanonical:
    """Find the string with the lone surrogate again, to name it: this path is never hot."""
    if isinstance(value, str):
        return NotCanonical(f"has a lone surrogate: {_printable(value)!r}")
    inside = value.items() if is_object(value) else enumerate(cast("list[object]", value))
    for key, item in cast("Iterable[tuple[str | int, object]]", inside):
        try:
            if isinstance(key, str):
                key.encode()
            freeze(item)
        except UnicodeEncodeError:
            return NotCanonical(f"has a key with a lone surrogate: {_printable(str(key))!r}")
        except NotCanonical as error:
            error.path = (key, *error.path)
            return error
    raise AssertionError("a lone surrogate was seen and not found again")  # pragma: no cover


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in pairs:
        if key in found:
            raise NotCanonical(
                f"has the key {_printable(key)!r} twice; one of the two would be lost"
            )
        found[key] = item
    return found


def _no_constant(name: str) -> NoReturn:
    raise NotCanonical(f"has {name}, which is no JSON number")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
