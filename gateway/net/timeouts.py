"""Timeouts of clients and back-ends."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Timeouts"]


@frozen
class Timeouts:
    """How long the server waits for others, in seconds."""

    stall: float = 300.0
    """For a client that reads none of its pending output."""

    work: float = 120.0
    """For one request to a back-end."""

    handshake: float = 60.0
    """For a client to complete a TLS handshake."""
