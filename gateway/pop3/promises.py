"""What CAPA promises in EXPIRE and LOGIN-DELAY (RFC 2449 sections 6.5 and 6.7).

Before login a value has to hold for every user: the shortest EXPIRE and the
longest LOGIN-DELAY that anybody has, with ``USER`` where they differ.  After
login it is the user's own, without that word.
"""

from __future__ import annotations

from gateway.model import Terms
from gateway.pop3.profile import Profile

_DIFFERS = " USER"


def expire(profile: Profile, for_all: str, terms: Terms | None) -> str:
    """The parameters of EXPIRE, empty where nothing is promised.

    ``for_all``: what holds before login unless the profile says something
    else; ``terms``: what the user has, None before login.
    """
    said = profile.expire or for_all
    if terms is None:
        return said
    if profile.expire and not profile.expire.endswith(_DIFFERS):
        return said
    return terms.expire or said.removesuffix(_DIFFERS)


def login_delay(profile: Profile, terms: Terms | None) -> str:
    """The parameters of LOGIN-DELAY, empty where nothing is promised; ``terms`` as above."""
    if terms is None or not profile.login_delay:
        return profile.login_delay
    return str(delay(profile, terms))


def delay(profile: Profile, terms: Terms) -> int:
    """The seconds that have to pass between a user's logins.

    Never more than what clients were told before login.
    """
    if not profile.login_delay:
        return 0
    longest = int(profile.login_delay.removesuffix(_DIFFERS))
    if terms.login_delay is None or not profile.login_delay.endswith(_DIFFERS):
        return longest
    return min(terms.login_delay, longest)
