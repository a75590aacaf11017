"""Connection strings of libpq: what is in them, and what libpq adds."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn

Words = Mapping[str, str]
"""Key words of libpq, with their values."""

_NO_SERVER = "pop3gw-connects-to-none"
"""For ``target_session_attrs``: libpq looks at all other words, refuses this one, and stops."""


def parsed(conninfo: str) -> dict[str, str]:
    """The key words of a connection string.  Raises ``ValueError``."""
    try:
        return {key: str(value) for key, value in conninfo_to_dict(conninfo).items()}
    except psycopg.ProgrammingError:
        # libpq repeats what it was given, and there may be a password in it.
        raise ValueError(
            "expected a connection string such as postgresql://gateway@db.example.org/mail"
        ) from None


def completed(words: Words) -> dict[str, str]:
    """These words, and those that libpq takes from the environment and from a service file.

    Raises ``ValueError`` with what libpq says of words that it refuses.
    """
    probe = make_conninfo(**{**words, "target_session_attrs": _NO_SERVER})
    connection = PGconn.connect_start(probe.encode())
    try:
        text = " ".join(connection.get_error_message().split())
        found = {one.keyword.decode(): one.val for one in connection.info}
    finally:
        connection.finish()
    if _NO_SERVER not in text:
        raise ValueError(text)
    return {key: value.decode() for key, value in found.items() if value is not None}
