"""The behaviour of a POP3 service, as data.

A profile reproduces a known server; every item can also be set by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

__all__ = ["Profile"]


@frozen
class Profile:
    """The behaviour of a service.  Lengths in octets, times in seconds."""

    command_limit: int = 512
    """The longest command line, CRLF included ([MS-STANXPOP3] 2.1.2, 2.2.13)."""

    command_limit_range: tuple[int, int] = (40, 1024)
    """Range of ``command_limit``; RFC 2449 section 4 requires at least 255."""

    sasl_line_limit: int = 131_072
    """The longest SASL response line, and AUTH command with an initial response.

    ``command_limit`` does not apply (RFC 5034 section 4): the Kerberos ticket of a user in
    many groups takes tens of KiB.
    """

    preauth_idle_timeout: float = 60.0
    """Idle timeout before login ([MS-STANXPOP3] V0002)."""

    idle_timeout: float = 1800.0
    """Idle timeout after login ([MS-STANXPOP3] V0002)."""

    idle_notice: bool = True
    """Send -ERR before closing an idle session (V0003); RFC 1939 section 3 forbids it."""

    exclusive: bool = False
    """One session per maildrop at a time, others get ``[IN-USE]`` (RFC 1939 section 4)."""

    exact_sizes: bool = True
    """STAT and LIST report the octets that RETR sends; else file sizes."""

    refused_in_a_row: int = 10
    """Close a session after this many rejected commands in a row."""

    user_pass: bool = True
    """Offer USER and PASS."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    """SASL mechanisms to offer, in the order of CAPA."""

    cleartext: frozenset[str] = frozenset({"PLAIN", "LOGIN"})
    """Mechanisms that send plain-text passwords."""

    expire: str = ""
    """The parameters of CAPA's EXPIRE: days, ``NEVER``, optionally ``USER``.

    With ``USER`` CAPA has the user's own value after login; empty: the value that is
    passed beside the profile, if any.
    """

    login_delay: str = ""
    """The parameters of CAPA's LOGIN-DELAY: seconds, optionally ``USER``; empty: no delay.

    An earlier login gets ``[LOGIN-DELAY]``.  With ``USER`` it is the longest delay of all
    users.
    """

    implementation: str = "pop3gw"
    """The parameters of CAPA's IMPLEMENTATION; empty: not sent."""

    texts: str = "neutral"
    """The set of texts in status lines: ``neutral`` or ``exchange``."""

    language: str = "en"
    """The language that ``LANG *`` selects."""

    utf8_headers: str = "send"
    """Messages with raw UTF-8 in the header, for clients that are not in UTF8 mode.

    ``send`` sends them as stored, like every deployed server; ``refuse`` replies
    ``[UTF8]`` to RETR and TOP (RFC 6856 section 2.1).
    """


PROFILES: Mapping[str, Profile] = {
    "exchange2010": Profile(),
    # 47 violates RFC 2449 section 4, as the product did (E0006, E0007).
    "exchange2007": Profile(command_limit=47),
    "rfc1939": Profile(
        command_limit_range=(255, 1024),
        preauth_idle_timeout=600.0,
        idle_timeout=600.0,
        idle_notice=False,
        exclusive=True,
    ),
}
