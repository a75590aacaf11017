"""The parameters of operations, from the octets of a request.

The annotations of an operation say what it takes.  Each fault names its parameter.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from attrs import frozen

from gateway.errors import BadRequest, BadValue, NotFound
from gateway.http.routes import Operation, Route
from gateway.operations.values import Bounds

_IN_PATH = re.compile(r"\{(\w+)\}")
_NUMBER = re.compile(r"-?[0-9]{1,19}")

MOST_TEXT = 1024
"""Most characters of a text, and most items of a list."""

LARGEST: dict[Any, int] = {int: 10**18, float: 10**15}
"""The largest numbers; the smallest are as far from 0."""

_CONTROL = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))
"""Characters that no text has: they end lines, or do something to a terminal."""

TEXT = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$"
"""The pattern of a text without them."""

_FLAGS = {"true": True, "false": False, "1": True, "0": False}


@frozen
class Parameter:
    """One parameter of an operation."""

    name: str
    kind: Any
    """``str``, ``int``, ``float``, ``bool``, a ``Literal``, or a tuple of texts."""

    bounds: Bounds | None
    required: bool
    default: Any
    in_path: bool

    @property
    def is_list(self) -> bool:
        """Whether it may come several times."""
        return get_origin(self.kind) is tuple


@cache
def parameters_of(operation: Operation, path: str) -> tuple[Parameter, ...]:
    """The parameters of an operation at a path, in their order."""
    hints = get_type_hints(operation, include_extras=True)
    in_path = set(names_in(path))
    found = []
    for name, declared in list(inspect.signature(operation).parameters.items())[1:]:
        kind, bounds = _plain(hints[name])
        required = declared.default is inspect.Parameter.empty
        default = None if required else declared.default
        found.append(Parameter(name, kind, bounds, required, default, name in in_path))
    missing = in_path - {one.name for one in found}
    assert not missing, f"{path}: {operation.__name__} has no parameter {missing}"
    return tuple(found)


def names_in(path: str) -> list[str]:
    """The names in braces."""
    return _IN_PATH.findall(path)


def _plain(hint: Any) -> tuple[Any, Bounds | None]:
    """A type without ``Annotated`` and without None, and its bounds."""
    bounds = None
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        bounds = next((one for one in extras if isinstance(one, Bounds)), None)
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
        if get_origin(hint) is Annotated:
            return _plain(hint)
    return hint, bounds


def arguments_of(
    route: Route, in_path: Mapping[str, str], query: Mapping[bytes, Sequence[bytes]], body: bytes
) -> dict[str, Any]:
    """The arguments of a request.

    Raises ``BadRequest`` with a line for each fault, ``BadValue`` for values that follow the
    description of the API but cannot be, and ``NotFound`` for such a value in the path.
    """
    faults: list[str] = []
    unfit: list[str] = []
    more: dict[str, Any]
    if route.is_change:
        if query:
            faults.append(f"{_shown(next(iter(query)))}: expected no query, but a JSON object")
        more = _object(body)
    else:
        more = _query(query)
    faults += [f"{name}: expected in the path only" for name in in_path if name in more]
    given = more | dict(in_path)
    arguments = {}
    for one in parameters_of(route.operation, route.path):
        if one.name not in given:
            if one.required:
                faults.append(f"{one.name}: missing")
            continue
        value = given.pop(one.name)
        try:
            arguments[one.name] = _value(one, value, as_json=route.is_change and not one.in_path)
        except ValueError as error:
            if one.in_path:
                raise NotFound(f"{one.name}: {error}") from None
            (unfit if isinstance(error, _Unfit) else faults).append(f"{one.name}: {error}")
    faults += [f"{_shown(name)}: no such parameter" for name in given]
    if faults:
        raise BadRequest(faults + unfit)
    if unfit:
        raise BadValue(unfit)
    return arguments


class _Unfit(ValueError):
    """A value that follows the description of the API, and still cannot be."""


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise BadRequest(["body: expected UTF-8"]) from None
    except (ValueError, RecursionError) as error:
        raise BadRequest([f"body: expected JSON: {str(error)[:200]}"]) from None
    if not isinstance(found, dict):
        raise BadRequest(["body: expected a JSON object"])
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _query(query: Mapping[bytes, Sequence[bytes]]) -> dict[str, Any]:
    given = {}
    for name, values in query.items():
        try:
            given[name.decode("utf-8")] = [value.decode("utf-8") for value in values]
        except UnicodeDecodeError:
            raise BadRequest([f"{_shown(name)}: expected UTF-8"]) from None
    return given


def _value(parameter: Parameter, value: Any, *, as_json: bool) -> Any:
    """A value of the parameter's type; raises ``ValueError`` that says what was expected."""
    if value is None and not parameter.required and parameter.default is None:
        return None
    if parameter.is_list:
        if not isinstance(value, list):
            raise ValueError("expected a list of strings")
        return _texts(value)
    if isinstance(value, list) and not as_json:
        if len(value) != 1:
            raise ValueError("expected one value")
        value = value[0]
    read = _FROM_JSON if as_json else _FROM_TEXT
    if get_origin(parameter.kind) is Literal:
        return _word(value, get_args(parameter.kind))
    found = read[parameter.kind](value)
    bounds = parameter.bounds
    if bounds is not None and not bounds.least <= found <= bounds.most:
        raise ValueError(f"expected {bounds.least} to {bounds.most}")
    return found


def _texts(values: list[Any]) -> tuple[str, ...]:
    if len(values) > MOST_TEXT:
        raise ValueError(f"expected at most {MOST_TEXT} values")
    return tuple(_text(value) for value in values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    if len(value) > MOST_TEXT:
        raise ValueError(f"expected at most {MOST_TEXT} characters")
    if not _CONTROL.isdisjoint(value):
        raise ValueError("expected no control characters")
    if not value.isprintable():
        raise _Unfit("expected printable characters")
    return value


def _word(value: Any, words: tuple[Any, ...]) -> Any:
    if value not in words:
        raise ValueError(f"expected one of {', '.join(map(str, words))}")
    return value


def _int_of_text(value: str) -> int:
    if not (value.isascii() and _NUMBER.fullmatch(value)):
        raise ValueError("expected a whole number")
    return _int_of_json(int(value))


def _int_of_json(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value == value // 1:
        raise ValueError("expected a whole number")
    if abs(value) > LARGEST[int]:
        raise ValueError(f"expected at most {LARGEST[int]}")
    return int(value)


def _float_of_text(value: str) -> float:
    if len(value) > 40:
        raise ValueError("expected a number")
    try:
        return _float_of_json(float(value))
    except ValueError:
        raise ValueError("expected a number") from None


def _float_of_json(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    if not abs(value) <= LARGEST[float]:
        raise ValueError(f"expected at most {LARGEST[float]}")
    return float(value)


def _flag_of_text(value: str) -> bool:
    if value not in _FLAGS:
        raise ValueError("expected true or false")
    return _FLAGS[value]


def _flag_of_json(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


_FROM_TEXT: dict[Any, Any] = {
    str: _text,
    int: _int_of_text,
    float: _float_of_text,
    bool: _flag_of_text,
}
_FROM_JSON: dict[Any, Any] = {
    str: _text,
    int: _int_of_json,
    float: _float_of_json,
    bool: _flag_of_json,
}


def _shown(name: str | bytes) -> str:
    """A name that a client has made up, without what could be read as more."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return repr(text[:40])[1:-1]
