"""What CAPA says: only what would work if the client tried it now (RFC 2449)."""

from __future__ import annotations

from functools import lru_cache

from attrs import frozen

from gateway.model import Terms
from gateway.pop3 import promises
from gateway.pop3.profile import Profile

CLEARTEXT = frozenset({"PLAIN", "LOGIN"})
"""Mechanisms that show the password to whoever listens on an unencrypted line."""


@frozen
class Line:
    """What is known of the connection itself."""

    secure: bool = False
    """TLS protects it."""

    can_start_tls: bool = False
    """STLS would work."""

    trusted: bool = False
    """The client's network is one where cleartext passwords are allowed."""

    @property
    def cleartext_allowed(self) -> bool:
        """Whether a password may cross this line as it is (RFC 2595 section 2.1)."""
        return self.secure or self.trusted


def mechanisms(profile: Profile, line: Line) -> tuple[str, ...]:
    """The SASL mechanisms that may be used on this line."""
    if line.cleartext_allowed:
        return profile.mechanisms
    return tuple(name for name in profile.mechanisms if name not in CLEARTEXT)


@lru_cache(maxsize=256)
def capability_lines(
    profile: Profile, line: Line, expire: str = "", terms: Terms | None = None
) -> bytes:
    """The lines of the CAPA reply.

    ``expire``: how long mail of all users stays; ``terms``: what holds for
    this one, None before login.  The same in both states, as RFC 2449
    section 5 wants, but for what differs between users and for STLS, which is
    announced only while it can be used (RFC 2595 section 4).
    """
    lines = ["TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE"]
    if profile.user_pass and line.cleartext_allowed:
        lines.append("USER")
    if usable := mechanisms(profile, line):
        lines.append("SASL " + " ".join(usable))
    if line.can_start_tls and not line.secure and terms is None:
        lines.append("STLS")
    lines += ["UTF8 USER", "LANG"]
    lines += [
        f"{tag} {value}"
        for tag, value in (
            ("EXPIRE", promises.expire(profile, expire, terms)),
            ("LOGIN-DELAY", promises.login_delay(profile, terms)),
            ("IMPLEMENTATION", profile.implementation),
        )
        if value
    ]
    return "".join(f"{text}\r\n" for text in lines).encode("ascii")
