"""Real sockets in tests of factories."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor


def listen(case: Any, factory: Any) -> int:
    """The loopback port that a factory listens on until the end of the test."""
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    case.addCleanup(port.stopListening)
    number: int = port.getHost().port
    return number
