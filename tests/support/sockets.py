"""Real sockets, and other descriptors, in tests."""

from __future__ import annotations

import select
from typing import Any

from twisted.internet import reactor


def listen(case: Any, factory: Any) -> int:
    """The loopback port that a factory listens on until the end of the test."""
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    case.addCleanup(port.stopListening)
    number: int = port.getHost().port
    return number


def readable(descriptor: int, seconds: float) -> bool:
    """Whether it can be read within so many seconds.

    ``select.select`` takes no number above 1023, and what ran before may hold all others.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
