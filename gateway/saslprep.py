"""Login names and passwords in the one form in which they are compared: SASLprep (RFC 4013)."""

from __future__ import annotations

import re
import stringprep
from unicodedata import ucd_3_2_0

from gateway.printable import printable
from gateway.remember import remember_short

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)

_ACTING = re.compile(
    # A UPN has its domain already: another one before it adds nothing.
    r"(?:[^\\/]+[\\/](?=[^\\/]+@)|)(?P<who>[^\\/]+[\\/][^\\/]+|[^\\/]+@[^\\/]+)"
    r"[\\/](?P<mailbox>[^\\/]+)"
)


def saslprep(text: str, *, stored: bool = False) -> str:
    """Prepare a query string, or with ``stored`` one that will be kept.

    Raises ``ValueError`` for what RFC 4013 prohibits, and for text that
    preparation would empty.
    """
    if text.isascii() and text.isprintable() and text:
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if not stringprep.in_table_b1(char)
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared:
        raise ValueError("nothing is left of the text")
    for char in prepared:
        if any(prohibits(char) for prohibits in _PROHIBITED):
            raise ValueError("the text has a prohibited character")
        if stored and stringprep.in_table_a1(char):
            raise ValueError("the text has a character that Unicode 3.2 does not know")
    if any(map(stringprep.in_table_d1, prepared)):
        if any(map(stringprep.in_table_d2, prepared)):
            raise ValueError("the text mixes writing directions")
        if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
            raise ValueError("the text does not begin and end in its writing direction")
    return prepared


@remember_short(256)
def login_name(name: bytes) -> str:
    """The canonical form of a login name: UTF-8, SASLprep, lower case, single spaces.

    One function, used by everyone, so that no two places can differ about
    who ``Alice`` is.  Raises ``ValueError`` where there is no such form.
    """
    # Remembered, since each login asks four times: for USER, throttle, directory and log.
    prepared = saslprep(name.decode("utf-8")).lower()
    if " " in prepared:
        # Directories do not tell them apart (RFC 4518 section 2.6.1).
        prepared = re.sub(" +", " ", prepared).strip()
        if not prepared:
            raise ValueError("nothing is left of the text")
    return prepared


def split_login(login: str) -> tuple[str, str]:
    """The user who logs in, and the wanted mailbox; empty: the user's own.

    The four forms of USER in [MS-OXPOP3]: ``domain/delegate/mailbox`` and
    ``delegate@domain/mailbox``, where the mailbox is an alias or a UPN; with
    backslashes, as in older versions of Exchange, too.  ``domain/user`` alone
    is nobody's delegate.
    """
    acting = _ACTING.fullmatch(login)
    return (acting["who"], acting["mailbox"]) if acting else (login, "")


def shown_name(name: bytes) -> str:
    """The login name for the log: ``login_name``, or with escapes where it is not valid."""
    try:
        return login_name(name)
    except ValueError:
        return printable(name.decode("utf-8", "backslashreplace"))
