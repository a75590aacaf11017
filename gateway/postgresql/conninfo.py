"""Connection strings of libpq: what is in them, what libpq adds, and what cannot work.

No error has the string itself, or a part of it that may be a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, PGconn

Words = Mapping[str, str]
"""Key words of libpq, with their values."""

_NO_SERVER = "pop3gw-connects-to-none"
"""For ``target_session_attrs``: libpq looks at all other words, refuses this one, and stops."""

_UNKNOWN = re.compile(r'(?:option|parameter:) "(\w+)"')
"""How libpq names a key that it does not know."""

_NUMBERS = (
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
"""Keys of numbers: libpq checks them, and ports, as late as when it connects."""

_CHOICES = {
    "target_session_attrs": (
        "any",
        "read-write",
        "read-only",
        "primary",
        "standby",
        "prefer-standby",
    ),
    "load_balance_hosts": ("disable", "random"),
}
"""Values that ``_NO_SERVER`` keeps libpq from looking at."""


def parsed(conninfo: str) -> dict[str, str]:
    """The key words of a connection string.  Raises ``ValueError`` if they cannot work."""
    try:
        found = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        raise ValueError(_refusal(str(error))) from None
    words = {key: str(value) for key, value in found.items()}
    _check_values(words)
    database = words.get("dbname", "")
    if "://" in conninfo and "@" in database:
        # Such a password may be all digits before the "/", and so a port.
        raise ValueError("has an @ after the first /: write a / of a password as %2F")
    # The service file may be one that only the user of the gateway has, and this another user.
    outside = {key: words[key] for key in ("service",) if key in words}
    if not _probe(outside)[1] and (text := _probe(words)[1]):
        raise ValueError(f"libpq refuses it: {text}")
    return words


def secrets_in(words: Words) -> list[str]:
    """The keys of those that are secrets."""
    # libpq marks passwords as what a dialog hides, and has no mark for keys of SCRAM.
    hidden = [one.keyword.decode() for one in Conninfo.parse(b"") if one.dispchar == b"*"]
    return [key for key in words if key in hidden or key.startswith("scram_")]


def completed(words: Words) -> dict[str, str]:
    """These words, and those that libpq takes from the environment and from a service file.

    Raises ``OperationalError`` with what libpq says of words that it refuses.
    """
    found, text = _probe(words)
    if text:
        raise psycopg.OperationalError(text)
    return found


def _probe(words: Words) -> tuple[dict[str, str], str]:
    """All words by which libpq would connect, and what it says if it refuses some."""
    probe = make_conninfo(**{**words, "target_session_attrs": _NO_SERVER})
    connection = PGconn.connect_start(probe.encode())
    try:
        text = " ".join(connection.get_error_message().split())
        options = {one.keyword.decode(): one.val for one in connection.info}
    finally:
        connection.finish()
    found = {
        key: value.decode(errors="surrogateescape")
        for key, value in options.items()
        if value is not None
    }
    return found, "" if _NO_SERVER in text else text


def _refusal(text: str) -> str:
    """What an administrator reads in place of libpq's text, which repeats the string."""
    wanted = "expected a connection string such as postgresql://gateway@db.example.org/mail"
    if not (match := _UNKNOWN.search(text)):
        return wanted
    known = [one.keyword.decode() for one in Conninfo.parse(b"")]
    like = difflib.get_close_matches(match[1], known, 1)
    # What is like none of them may be a part of a password.
    more = f"{match[1]} is none, do you mean {like[0]}?" if like else "it has another one"
    return f"{wanted}, with keys of libpq only: {more}"


def _check_values(words: Words) -> None:
    # No value is shown: of a URI with a "/" in the password the port is a part of that.
    for number in filter(None, map(str.strip, words.get("port", "").split(","))):
        if not (re.fullmatch("[0-9]{1,5}", number) and 1 <= int(number) <= 65535):
            raise ValueError("port: expected a number from 1 to 65535")
    for key in _NUMBERS:
        number = words.get(key, "0").strip()
        if not (re.fullmatch("-?[0-9]{1,10}", number) and abs(int(number)) < 2**31):
            raise ValueError(f"{key}: expected a number")
    for key, values in _CHOICES.items():
        if words.get(key, values[0]) not in values:
            raise ValueError(f"{key}: expected one of {', '.join(values)}")
