"""The types of operations as schemas of JSON (OpenAPI 3.1, JSON Schema 2020-12)."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from textwrap import dedent
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from gateway.operations.values import Bounds

Schema = dict[str, Any]

_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
    object: {},
}


class Schemas:
    """Schemas of types; those of classes are components, by the name of the class."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._classes: dict[str, Any] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type of an operation; raises ``TypeError`` for what JSON has not."""
        if isinstance(kind, type | TypeVar) or kind is Any:
            plain = _PLAIN.get(kind)
            return dict(plain) if plain is not None else self._of_class(kind, {})
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._bounded(arguments[0], arguments[1:])
        if origin in (Union, UnionType):
            return _either([self.of(one) for one in arguments])
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset):
            if len(arguments) > 1 and arguments[1] is not ...:
                raise TypeError(f"{kind}: expected a class with names for its values")
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is not None and attrs.has(origin):
            return self._of_class(origin, dict(zip(_parameters(origin), arguments, strict=True)))
        raise TypeError(f"{kind}: expected a type that JSON can have")

    def _bounded(self, kind: Any, extras: tuple[Any, ...]) -> Schema:
        schema = self.of(kind)
        for bounds in extras:
            if isinstance(bounds, Bounds):
                schema |= {"minimum": bounds.least, "maximum": bounds.most}
        return schema

    def _of_class(self, kind: Any, given: Mapping[Any, Any]) -> Schema:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"enum": [one.value for one in kind]}
        fields = _fields(kind)
        name = kind.__name__ + "".join(_name(one) for one in given.values())
        if self._classes.setdefault(name, (kind, tuple(given.values()))) != (
            kind,
            tuple(given.values()),
        ):
            raise TypeError(f"{kind}: expected a name that no other class has")
        if name not in self.components:
            # Before its parts, which may be of the same class.
            schema = self.components[name] = {"type": "object"}
            described = descriptions(kind)
            schema["description"] = text_of(kind.__doc__)
            schema["properties"] = {
                field: self._described(given.get(hint, hint), given, described.get(field))
                for field, hint in fields.items()
            }
            schema["required"] = list(fields)
            schema["additionalProperties"] = False
        return {"$ref": f"#/components/schemas/{name}"}

    def _described(self, hint: Any, given: Mapping[Any, Any], text: str | None) -> Schema:
        for parameter, kind in given.items():
            if parameter in getattr(hint, "__parameters__", ()):
                hint = hint[kind]
        schema = self.of(hint)
        return schema | {"description": text} if text else schema


def _parameters(kind: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = kind.__parameters__
    return found


def _fields(kind: Any) -> dict[str, Any]:
    if not (attrs.has(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))):
        raise TypeError(f"{kind}: expected a class of attrs")
    hints = get_type_hints(kind, include_extras=True)
    names = [one.name for one in attrs.fields(kind)] if attrs.has(kind) else kind._fields
    return {name: hints[name] for name in names}


def _either(schemas: list[Schema]) -> Schema:
    if all(set(one) == {"type"} for one in schemas):
        return {"type": [one["type"] for one in schemas]}
    return {"anyOf": schemas}


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", "")).capitalize() if kind in _PLAIN else kind.__name__


def text_of(docstring: str | None) -> str:
    """A docstring as Markdown."""
    return inspect.cleandoc(docstring or "").replace("``", "`")


@cache
def descriptions(kind: Any) -> Mapping[str, str]:
    """The docstrings of the fields of a class."""
    (tree,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, line in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(line, ast.Expr)
            and isinstance(line.value, ast.Constant)
        ):
            found[before.target.id] = text_of(str(line.value.value))
    return found
