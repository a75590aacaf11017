"""How long others are waited for."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Timeouts"]


@frozen
class Timeouts:
    """How long the server waits for others, in seconds."""

    stall: float = 300.0
    """For a client that does not take what it asked for."""

    work: float = 120.0
    """For a back-end, with one piece of work."""

    handshake: float = 60.0
    """For a client to complete a TLS handshake."""
