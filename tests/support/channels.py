"""Two ends of a channel, joined in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gateway.processes.channel import Channel


class Ends:
    """A channel between two processes: ``parent`` and ``worker`` are its ends."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.parent, self.worker = Channel(clock), Channel(clock)
        self.to_parent, self.to_worker = Wire(self.parent, self), Wire(self.worker, self)
        self.parent.makeConnection(self.to_worker)
        self.worker.makeConnection(self.to_parent)

    def turn(self) -> None:
        """Let both say what they have to say, and what that brings about."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def answer(self, asked: Deferred[Any]) -> Any:
        """What was answered; raises what it failed with."""
        self.turn()
        found: list[Any] = []
        asked.addBoth(found.append)
        assert found, "no answer"
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def end(self) -> None:
        """One of the processes ends."""
        for channel in (self.parent, self.worker):
            if not channel.is_lost:
                channel.connectionLost(Failure(ConnectionDone()))


class Wire:
    """The transport by which one end writes to the other."""

    def __init__(self, to: Channel, ends: Ends) -> None:
        self._to = to
        self._ends = ends
        self.written: list[bytes] = []
        self.is_read = True
        self._producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: ARG002
        """Who is told that the peer does not read."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Nobody is."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """The other end gets it in its next turn."""
        self.written.append(data)
        if self.is_read:
            self._ends.clock.callLater(0, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not self._to.is_lost:
            self._to.dataReceived(data)

    def stop_reading(self) -> None:
        """The process at the other end hangs."""
        self.is_read = False
        self._producer.pauseProducing()

    def read_again(self) -> None:
        """It goes on."""
        self.is_read = True
        self._producer.resumeProducing()

    def loseConnection(self) -> None:
        """This end closes the channel."""
        self._ends.clock.callLater(0, self._ends.end)

    def abortConnection(self) -> None:
        """It does so at once."""
        self._ends.end()
