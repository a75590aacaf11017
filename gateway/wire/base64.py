"""Strict base64 (RFC 5034 section 4)."""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64

# Python's strict mode accepts "AAAA====" and non-zero trailing bits.
_SHAPE = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"
)


def decode(text: bytes) -> bytes:
    """The decoded octets.  Raises ``ValueError`` for anything but exact base64."""
    if not _SHAPE.fullmatch(text):
        raise ValueError("not base64")
    return a2b_base64(text)


def encode(octets: bytes) -> bytes:
    """One line of base64, without a line end."""
    return b2a_base64(octets, newline=False)
