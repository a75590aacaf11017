"""Filters (RFC 4515) of the configuration: checks, and the filter that finds all accounts."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ANY = re.compile(r"(?:\*|\{(?:login|user)\})+")
_VALUE = r"[^()]*\{(?:login|user)\}[^()]*"
_ASSERTION = re.compile(
    rf"(?P<excluded>\(\s*!\s*)?\(\s*(?P<name>[\w.;-]*)\s*(?P<rule>[^()=]*)=(?P<value>{_VALUE})\)"
)
_EXACTLY = re.compile(r"\s*\{(?:login|user)\}\s*")
_ANYTHING = "(objectClass=*)"


def everybody(wanted: str) -> str:
    """The filter for all accounts: ``{login}`` and ``{user}`` match any value.

    A comparison by a matching rule becomes a test for presence; a negated
    comparison is left out.
    """
    return _ASSERTION.sub(_without_name, wanted)


def _without_name(found: re.Match[str]) -> str:
    excluded, name, rule, value = found.group("excluded", "name", "rule", "value")
    if excluded:
        return f"{excluded}(!{_ANYTHING})"
    if not name:
        return _ANYTHING
    return f"({name}={'*' if rule else _ANY.sub('*', value)})"


def login_attributes(wanted: str) -> tuple[str, ...]:
    """The attributes that the filter compares with the login name."""
    found = (match for match in _ASSERTION.finditer(wanted) if not match["excluded"])
    exact = (
        match["name"] for match in found if not match["rule"] and _EXACTLY.fullmatch(match["value"])
    )
    return tuple(dict.fromkeys(filter(None, exact)))


def any_of(names: tuple[str, ...], value: str) -> str:
    """The filter of entries with this value in one of the attributes; ``*``: any value."""
    return f"(|{''.join(f'({name}={value})' for name in names)})"


def check_filter(wanted: str, fields: Sequence[str] = ("login", "user")) -> None:
    """Raise ``ValueError`` if the filter is malformed or contains none of ``places``."""
    # Not above: every reader of the settings imports this module, and few set a filter.
    from ldap3.core.exceptions import LDAPException
    from pyasn1.error import PyAsn1Error

    from gateway.directory.ldap_messages import search_request

    places = [f"{{{field}}}" for field in fields]
    if not any(place in wanted for place in places):
        raise ValueError(f"no {' or '.join(places)} is in it")
    try:
        for text in (wanted, everybody(wanted)):
            search_request("", text, ["1.1"], fields, seconds=1)
    except (LDAPException, PyAsn1Error) as error:
        raise ValueError(str(error)) from None
