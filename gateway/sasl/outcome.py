"""What a step of a mechanism answers."""

from __future__ import annotations

from typing import NamedTuple

from twisted.cred.credentials import ICredentials

__all__ = ["Challenge", "Proven"]


class Challenge(NamedTuple):
    """Send these octets and step again with the client's response."""

    octets: bytes


class Proven(NamedTuple):
    """The exchange is over; these credentials go to the portal."""

    credentials: ICredentials

    def __repr__(self) -> str:
        return "Proven(...)"
