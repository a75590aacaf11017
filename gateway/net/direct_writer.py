"""Writing to a transport, by the shortest way there is."""

from __future__ import annotations

from collections.abc import Callable
from socket import MSG_MORE
from typing import Any, Protocol

from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Client, Server


class Writer(Protocol):
    """What sessions write with."""

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Send, in order after all that was written before.

        What is the ``last`` leaves in one packet with the end of the stream,
        and has to be followed by ``close``.
        """

    def close(self) -> None:
        """Close the connection: at once, or when all is sent."""

    def register(self, producer: Any) -> None:
        """Pause this producer, an ``IPushProducer``, while too much waits to be sent."""

    def unregister(self) -> None:
        """There is no producer any more."""


class DirectWriter:
    """Writes at once where the socket takes it, and through the transport where not.

    ``transport.write`` leaves the sending to the reactor's next turn, which
    costs a poll and two changes to the poll set for each reply.  A plain TCP
    socket mostly takes a reply as it is; only what it does not take goes
    through the transport, and so does everything after it until the
    transport has sent it all, to keep the order.
    """

    __slots__ = ("_is_direct", "_is_registered", "_producer", "_send", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._producer: Any = None
        self._is_registered = False
        """Whether the transport has the producer, which it needs when something waits there."""
        self._send: Callable[..., int] | None = None
        if type(transport) in (Server, Client) and not transport.TLS:
            self._send = transport.getHandle().send
        self._is_direct = self._send is not None

    def write(self, data: bytes, *, last: bool = False) -> None:
        """As in ``Writer``."""
        if self._send is not None and (self._is_direct or self._has_sent_all()):
            try:
                sent = self._send(data, MSG_MORE if last else 0)
            except OSError:
                # Full, or broken: the transport finds out which.
                sent = 0
            self._is_direct = sent == len(data)
            if self._is_direct:
                return
            data = data[sent:]
        if self._producer is not None and not self._is_registered:
            self._is_registered = True
            self._transport.registerProducer(self._producer, True)
        self._transport.write(data)

    def close(self) -> None:
        """As in ``Writer``.

        ``loseConnection`` waits even with nothing to send until the socket may be written to,
        which costs a poll, two changes to the poll set and an empty send.
        """
        if self._is_direct or (self._send is not None and self._has_sent_all()):
            self._transport.connectionLost(connectionDone)
        else:
            self._transport.loseConnection()

    def register(self, producer: Any) -> None:
        """As in ``Writer``."""
        self._producer = producer

    def unregister(self) -> None:
        """As in ``Writer``."""
        self._producer = None
        if self._is_registered:
            self._is_registered = False
            self._transport.unregisterProducer()

    def _has_sent_all(self) -> bool:
        # Twisted tells only a producer that it has paused, and it pauses none for a short rest.
        return not (self._transport._tempDataLen or self._transport.dataBuffer)
