"""Names of bodies: in the order of time, and not to be guessed."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple
from uuid import UUID

from gateway.model import Form


class Where(NamedTuple):
    """The body of a message, as its row has it."""

    body: UUID
    octets: int
    form: Form


def new_key(now: float | None = None) -> UUID:
    """A key that nothing else has: 48 bits of milliseconds since 1970, and 80 random bits.

    ``now``: Unix seconds.  Keys of one time are neighbours in the index of bodies.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    return UUID(int=(milliseconds & (2**48 - 1)) << 80 | secrets.randbits(80))


def time_of(key: UUID) -> float:
    """When a key was made, in Unix seconds."""
    return (key.int >> 80) / 1000


def object_name(key: UUID) -> str:
    """The name in the bucket.  The random part is in front, so that names spread."""
    name = key.hex
    return f"{name[-2:]}/{name}"


def find_key(name: str) -> UUID | None:
    """The key of an object; None: it is none of ours."""
    try:
        key = UUID(hex=name[3:])
    except ValueError:
        return None
    return key if object_name(key) == name else None
