"""How a POP3 service behaves, as data.

A profile is a starting point that reproduces a known server; every item of it
can also be set alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

__all__ = ["Profile"]


@frozen
class Profile:
    """One service's behaviour.  Lengths are octets, times seconds."""

    command_limit: int = 512
    """The longest command line, CRLF included ([MS-STANXPOP3] 2.1.2, 2.2.13)."""

    command_limit_range: tuple[int, int] = (40, 1024)
    """What ``command_limit`` may be set to; RFC 2449 section 4 wants 255 at the least."""

    sasl_line_limit: int = 131_072
    """The longest SASL response line, and AUTH command with an initial response.

    No command limit holds for these (RFC 5034 section 4): a Kerberos ticket
    of a user in many groups takes tens of KiB.
    """

    preauth_idle_timeout: float = 60.0
    """Until a session that has not logged in is closed ([MS-STANXPOP3] V0002)."""

    idle_timeout: float = 1800.0
    """Until a session that has logged in is closed ([MS-STANXPOP3] V0002)."""

    idle_notice: bool = True
    """Say so before closing an idle session (V0003); RFC 1939 section 3 wants silence."""

    exclusive: bool = False
    """One session per maildrop at a time, others get ``[IN-USE]`` (RFC 1939 section 4)."""

    exact_sizes: bool = True
    """STAT and LIST count what RETR sends; else what the message takes on disk."""

    refused_in_a_row: int = 10
    """Close a session after this many rejected commands in a row."""

    user_pass: bool = True
    """USER and PASS are offered."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    """SASL mechanisms offered, in the order in which CAPA lists them."""

    cleartext: frozenset[str] = frozenset({"PLAIN", "LOGIN"})
    """Mechanisms that show the password to whoever listens on an unencrypted line."""

    expire: str = ""
    """The parameters of CAPA's EXPIRE: days, ``NEVER``, optionally ``USER``.

    With ``USER`` a user reads after login what is known of their own mail;
    empty: what is handed in beside the profile, if anything.
    """

    login_delay: str = ""
    """The parameters of CAPA's LOGIN-DELAY: seconds, optionally ``USER``; empty: no delay.

    Who logs in again sooner gets ``[LOGIN-DELAY]``.  With ``USER`` it is the
    longest that any user may have.
    """

    implementation: str = "pop3gw"
    """The parameters of CAPA's IMPLEMENTATION; empty: not sent."""

    texts: str = "neutral"
    """The set of texts in status lines: ``neutral`` or ``exchange``."""

    language: str = "en"
    """The language that ``LANG *`` selects."""

    utf8_headers: str = "send"
    """A message with raw UTF-8 in its header, for a client that is not in UTF8 mode.

    ``send`` gives it as it is, as every deployed server does; ``refuse``
    answers ``[UTF8]`` to RETR and TOP (RFC 6856 section 2.1).
    """


PROFILES: Mapping[str, Profile] = {
    "exchange2010": Profile(),
    # 47 breaks RFC 2449 section 4, and is what the product did (E0006, E0007).
    "exchange2007": Profile(command_limit=47),
    "rfc1939": Profile(
        command_limit_range=(255, 1024),
        preauth_idle_timeout=600.0,
        idle_timeout=600.0,
        idle_notice=False,
        exclusive=True,
    ),
}
