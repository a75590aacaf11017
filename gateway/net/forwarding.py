"""A factory before another one."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol, ServerFactory


class ForwardingFactory(ServerFactory):
    """Starts and stops with the factory behind it, and leaves its protocols to it."""

    noisy = False

    def __init__(self, factory: Any) -> None:
        """``factory``: an ``IProtocolFactory``."""
        self._factory = factory

    def doStart(self) -> None:
        """Start the factory behind."""
        self._factory.doStart()

    def doStop(self) -> None:
        """Stop the factory behind."""
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """The protocol of a new client; None: reject it."""
        built: Protocol | None = self._factory.buildProtocol(addr)
        return built
