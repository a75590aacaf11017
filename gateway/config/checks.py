"""Checks of single settings; every error says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from gateway.endpoints import shown
from gateway.errors import RetentionMalformed
from gateway.quota.notice import Origin
from gateway.retention.text import parse
from gateway.units import parse_size

CHECK = "check"
"""Key of a field's metadata: the function that checks its value (``gateway.config.load``)."""

SECRET = "secret"
"""Key of a field's metadata: no message shows the value."""


def checked(check: Callable[[Any], object]) -> dict[str, Any]:
    """Arguments of ``field``: ``check`` raises ``ValueError`` for a bad value."""
    return {"metadata": {CHECK: check}}


def optional(check: Callable[[Any], object]) -> dict[str, Any]:
    """As ``checked``, for a value that may be empty or None, which is not checked."""
    return checked(lambda value: check(value) if value else None)


def within(least: float, most: float) -> dict[str, Any]:
    """A number from ``least`` to ``most``."""

    def check(value: float | None) -> None:
        if value is not None and not least <= value <= most:
            raise ValueError(f"expected {least:.10g} to {most:.10g}, found {shown(value)}")

    return checked(check)


def shaped(pattern: str, expected: str) -> dict[str, Any]:
    """A text that the whole ``pattern`` matches, or each text of a list."""

    def check(value: str | tuple[str, ...] | None) -> None:
        for text in (value,) if isinstance(value, str) else value or ():
            if not re.fullmatch(pattern, text):
                raise ValueError(f"expected {expected}, found {shown(text)}")

    return checked(check)


def one_of(known: Iterable[str]) -> dict[str, Any]:
    """One of these texts, or a list of them."""
    names = tuple(known)

    def check(value: str | tuple[str, ...] | None) -> None:
        for name in (value,) if isinstance(value, str) else value or ():
            if name not in names:
                raise ValueError(f"expected {' or '.join(map(repr, names))}, found {shown(name)}")

    return checked(check)


def _check_lifetime(value: float) -> None:
    if value and not 60 <= value <= 604_800:
        raise ValueError(f"expected 0, or 60 to 604800, found {shown(value)}")


NONE_OR_LIFETIME = checked(_check_lifetime)
"""0, or seconds: a minute to a week."""
POSITIVE = within(0.001, 10**9)
COUNT = within(1, 2**31 - 1)
TEXT = shaped(r"(?!\[)[ -;=-~]{0,400}", "printable ASCII without '<' and with no leading '['")
EXPIRE = shaped(r"|(NEVER|[0-9]{1,9})( USER)?", "days or NEVER, then maybe USER (RFC 2449 6.7)")
DELAY = shaped(r"|[0-9]{1,9}( USER)?", "seconds, then maybe USER (RFC 2449 6.5)")
PATH = shaped(r"(?s:.+)", "a path")
ADDRESS = shaped(r"|[^\s@<>]+@[^\s@<>]+", "a mail address")
NAME = shaped(r"[!-~]{0,255}", "a name in ASCII without spaces, of at most 255 characters")
TOKEN = shaped(r"[!-~]{0,1000}", "printable ASCII without spaces")
SIZE = optional(parse_size)
"""A size; or empty: not set."""
SOME_SIZE = checked(parse_size)
SENDER = optional(Origin)


def _check_endpoint(value: str) -> None:
    port = re.match(r"tcp6?:(?:port=)?(\d+)(?::|$)", value)
    too_large = port is not None and float(port[1]) > 65535
    if too_large or not re.fullmatch(r"[a-z0-9]+:.+", value):
        raise ValueError(
            "expected a Twisted endpoint such as tcp:110 or unix:/run/pop3gw/lmtp,"
            f" found {shown(value)}"
        )


ENDPOINT = checked(_check_endpoint)
"""The form of an endpoint; ``gateway.endpoints`` parses it."""
NO_OR_ENDPOINT = optional(_check_endpoint)


def _check_policy(value: str) -> None:
    try:
        parse(value)
    except RetentionMalformed as error:
        raise ValueError(f"expected a policy as 'unread 60d, read 7d': {error}") from None


POLICY = optional(_check_policy)


def _check_domains(value: dict[str, Any]) -> None:
    for domain in value:
        if not re.fullmatch(r"[^\s@*/]{1,255}", domain):
            raise ValueError(f'expected domains such as "example.org", found {shown(domain)}')


DOMAINS = checked(_check_domains)


def _check_token_names(value: dict[str, Any]) -> None:
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
            fault = "expected names of tokens of letters, digits, dots, dashes and underscores"
            raise ValueError(f"{fault}, found {shown(name)}")


TOKEN_NAMES = checked(_check_token_names)


def languages(names: Iterable[str]) -> None:
    """Raise ``ValueError`` for names that are no language tags (RFC 5646): headers contain them."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,9}", name):
            raise ValueError(f"expected languages such as fr or pt-BR, found {shown(name)}")


def _check_names(value: dict[str, Any]) -> None:
    for name in value:
        if not re.fullmatch(r"[\w.-]{1,64}", name):
            raise ValueError(f"expected names of letters, digits, _ and -, found {shown(name)}")


LISTENER_NAMES = checked(_check_names)
