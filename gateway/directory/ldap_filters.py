"""Filters (RFC 4515) of one's own, made to find everybody at once."""

from __future__ import annotations

import re

_FIELD = re.compile(r"\*?\{(?:login|user)\}\*?")
_VALUE = r"[^()]*\{(?:login|user)\}[^()]*"
_ASSERTION = re.compile(
    rf"(?P<excluded>\(\s*!\s*)?\(\s*(?P<name>[\w.;-]*)\s*(?P<rule>[^()=]*)=(?P<value>{_VALUE})\)"
)
_ANYTHING = "(objectClass=*)"


def everybody(wanted: str) -> str:
    """The filter without the name: ``{login}`` and ``{user}`` may be anything.

    What is compared with a name by a rule of its own must be there; what must
    not equal it says nothing.
    """
    return _ASSERTION.sub(_without_name, wanted)


def _without_name(found: re.Match[str]) -> str:
    excluded, name, rule, value = found.group("excluded", "name", "rule", "value")
    if excluded:
        return f"{excluded}(!{_ANYTHING})"
    if not name:
        return _ANYTHING
    anything = "*" if rule else re.sub(r"\*+", "*", _FIELD.sub("*", value))
    return f"({name}={anything})"


def any_of(names: tuple[str, ...], value: str) -> str:
    """The filter for entries one of whose attributes has this value, in which ``*`` is any."""
    return f"(|{''.join(f'({name}={value})' for name in names)})"
