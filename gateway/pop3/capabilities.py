"""CAPA: only what would work now (RFC 2449).

EXPIRE and LOGIN-DELAY (sections 6.7 and 6.5) must hold for every user before a
login: the shortest EXPIRE and the longest LOGIN-DELAY of all users, with ``USER``
where users differ.  After login each is the user's own, without that word.
"""

from __future__ import annotations

from functools import lru_cache

from attrs import frozen

from gateway.model import Terms
from gateway.pop3.profile import Profile

_DIFFERS = " USER"


@frozen
class Line:
    """State of the connection."""

    secure: bool = False
    """TLS is active."""

    can_start_tls: bool = False
    """STLS would work."""

    trusted: bool = False
    """The client's network may send plain-text passwords without TLS."""

    xclient: bool = False
    """The client is a proxy, which may send XCLIENT."""

    @property
    def cleartext_allowed(self) -> bool:
        """Whether plain-text passwords are allowed (RFC 2595 section 2.1)."""
        return self.secure or self.trusted


def mechanisms(profile: Profile, line: Line) -> tuple[str, ...]:
    """The SASL mechanisms that the connection allows."""
    if line.cleartext_allowed:
        return profile.mechanisms
    return tuple(name for name in profile.mechanisms if name not in profile.cleartext)


@lru_cache(maxsize=256)
def capability_lines(
    profile: Profile, line: Line, expire: str = "", terms: Terms | None = None
) -> bytes:
    """The lines of the CAPA reply.

    ``expire``: EXPIRE for all users; ``terms``: those of this user, None before login.  The
    same in both states (RFC 2449 section 5), except for values that differ by user, and
    for STLS, which is announced only while it can be used (RFC 2595 section 4).
    """
    lines = ["TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE"]
    if profile.user_pass and line.cleartext_allowed:
        lines.append("USER")
    if usable := mechanisms(profile, line):
        lines.append("SASL " + " ".join(usable))
    if line.can_start_tls and not line.secure and terms is None:
        lines.append("STLS")
    if line.xclient and terms is None:
        lines.append("XCLIENT")
    lines += ["UTF8 USER", "LANG"]
    lines += [
        f"{tag} {value}"
        for tag, value in (
            ("EXPIRE", announced_expire(profile, expire, terms)),
            ("LOGIN-DELAY", announced_login_delay(profile, terms)),
            ("IMPLEMENTATION", profile.implementation),
        )
        if value
    ]
    return "".join(f"{text}\r\n" for text in lines).encode("ascii")


def announced_expire(profile: Profile, for_all: str, terms: Terms | None) -> str:
    """The parameters of EXPIRE; empty: not announced.

    ``for_all``: the value before login unless the profile sets one; ``terms``: those of
    the user, None before login.
    """
    said = profile.expire or for_all
    if terms is None:
        return said
    if profile.expire and not profile.expire.endswith(_DIFFERS):
        return said
    return terms.expire or said.removesuffix(_DIFFERS)


def announced_login_delay(profile: Profile, terms: Terms | None) -> str:
    """The parameters of LOGIN-DELAY; empty: not announced; ``terms`` as above."""
    if terms is None or not profile.login_delay:
        return profile.login_delay
    return str(login_delay_seconds(profile, terms))


def login_delay_seconds(profile: Profile, terms: Terms) -> int:
    """The minimum seconds between logins of a user.

    Never more than the value announced before login.
    """
    if not profile.login_delay:
        return 0
    longest = int(profile.login_delay.removesuffix(_DIFFERS))
    if terms.login_delay is None or not profile.login_delay.endswith(_DIFFERS):
        return longest
    return min(terms.login_delay, longest)
