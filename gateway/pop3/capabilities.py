"""What CAPA says: only what would work if the client tried it now (RFC 2449)."""

from __future__ import annotations

from functools import lru_cache

from attrs import frozen

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
def capability_lines(profile: Profile, line: Line, logged_in: bool) -> bytes:
    """The lines of the CAPA reply.

    The same in both states, as RFC 2449 section 5 wants, but for STLS, which
    is announced only while it can be used (RFC 2595 section 4).
    """
    lines = ["TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE"]
    if profile.user_pass and line.cleartext_allowed:
        lines.append("USER")
    if usable := mechanisms(profile, line):
        lines.append("SASL " + " ".join(usable))
    if line.can_start_tls and not line.secure and not logged_in:
        lines.append("STLS")
    lines += ["UTF8 USER", "LANG"]
    lines += [
        f"{tag} {value}"
        for tag, value in (
            ("EXPIRE", profile.expire),
            ("LOGIN-DELAY", profile.login_delay),
            ("IMPLEMENTATION", profile.implementation),
        )
        if value
    ]
    return "".join(f"{text}\r\n" for text in lines).encode("ascii")
