"""The values of TOML and the environment as settings: their types, and the checks of fields."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from functools import cache, partial
from ipaddress import ip_network
from typing import Any, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from gateway.config.checks import CHECK, SECRET
from gateway.config.processes import Workers
from gateway.config.settings import Settings
from gateway.endpoints import shown
from gateway.networks import Network

_PLAIN: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
}


@cache
def converter_of(whole: type[Settings]) -> cattrs.Converter:
    """What makes settings of this class from tables; its errors are for people to read."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in _PLAIN:
        hook = _exactly(kind)
        converter.register_structure_hook(kind, hook)
        converter.register_structure_hook_func(partial(operator.eq, kind | None), hook)
    converter.register_structure_hook_func(partial(operator.eq, Workers), lambda value, _: value)
    converter.register_structure_hook_func(partial(operator.eq, Network), _network)
    for items in (str, Network):
        hook = _listed(converter, items)
        for wanted in (tuple[items, ...], tuple[items, ...] | None):  # type: ignore[valid-type]
            converter.register_structure_hook_func(partial(operator.eq, wanted), hook)
    converter.register_structure_hook_func(tables_of, partial(_tables, converter))
    for section in _sections(whole):
        checks: dict[str, Any] = {
            item.name: override(struct_hook=_checking(converter, item.metadata))
            for item in attrs.fields(section)
            if item.metadata
        }
        made = make_dict_structure_fn(section, converter, _cattrs_forbid_extra_keys=True, **checks)
        converter.register_structure_hook(section, made)
    return converter


def _sections(section: Any) -> Iterator[Any]:
    """The classes of all tables below this one and of itself, innermost first."""
    for item in attrs.fields(attrs.resolve_types(section)):
        for kind in (item.type, *get_args(item.type)):
            if attrs.has(kind):
                yield from _sections(kind)
    yield section


def _exactly(kind: Any) -> Any:
    """Accept values of this type only: ``"5"`` is no number and ``1`` is not true."""

    def structure(value: Any, _: Any) -> Any:
        if kind is float and type(value) is int and value.bit_length() < 1000:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"expected {_PLAIN[kind]}, found {shown(value)}")
        if kind is str and "\0" in value:
            raise ValueError(f"expected no NUL, found {shown(value)}")
        return value

    return structure


def _network(value: Any, _: Any) -> Network:
    try:
        if isinstance(value, str):
            return ip_network(value)
        raise ValueError
    except ValueError:
        raise ValueError(f'expected a network as "10.0.0.0/8", found {shown(value)}') from None


def _listed(converter: cattrs.Converter, kind: Any) -> Any:
    """Accept a TOML array only; cattrs would take a string for a list of its characters."""

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f'expected a list such as ["a", "b"], found {shown(value)}')
        return tuple(converter.structure(entry, kind) for entry in value)

    return structure


def tables_of(kind: Any) -> Any:
    """The class of the tables in an array of tables; None for all else."""
    inner: Any = get_args(kind)[0] if get_origin(kind) is tuple else None
    return inner if attrs.has(inner) else None


def _tables(converter: cattrs.Converter, value: Any, kind: Any) -> Any:
    """Accept an array of tables; errors count them from 1."""
    item = tables_of(kind)
    if not isinstance(value, list):
        raise ValueError(f"expected tables, each with its own [[...]], found {shown(value)}")
    tables, errors = [], []
    for number, entry in enumerate(value, 1):
        try:
            tables.append(converter.structure(entry, item))
        except Exception as error:
            note = IterableValidationNote(f"table {number}", number, item)
            error.__notes__ = [*getattr(error, "__notes__", ()), note]
            errors.append(error)
    if errors:
        raise IterableValidationError("tables", errors, kind)
    return tuple(tables)


def _checking(converter: cattrs.Converter, metadata: Mapping[str, Any]) -> Any:
    check = metadata.get(CHECK)

    def structure(value: Any, kind: Any) -> Any:
        structured = converter.structure(value, kind)
        if check is not None:
            check(structured)
        return structured

    def structure_secret(value: Any, kind: Any) -> Any:
        expected = f"expected {_PLAIN[kind]}"
        try:
            structured = converter.structure(value, kind)
            if check is not None:
                check(structured)
        except Exception as error:
            # A check says what it expects before what it found.
            wanted, found, _ = str(error).partition(", found ")
            if found and isinstance(value, kind):
                expected = wanted
            raise ValueError(f"{expected} (what was found is not shown)") from None
        return structured

    return structure_secret if SECRET in metadata else structure
