"""The channel between the parent and a worker: questions, answers and notes as lines of JSON."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import AskFailed, GatewayError, Overloaded, PeerGone, TookTooLong

ANSWER_WITHIN = 5.0
"""Seconds after which ``ask`` fails, unless it is given others."""

MOST_WAITING = 4 * 2**20
"""Octets that wait for a peer that does not read before messages are dropped.

Those by ``tell`` never are.
"""

MOST_OWED = 16 * 2**20
"""Octets that wait at most; the channel ends at a further message by ``tell``."""

LONGEST = 64 * 2**20
"""Octets of the longest line; a peer that sends a longer one has a bug."""

Answer = Callable[[Any], object]
"""Takes the body of a message, a JSON value, and answers it: a JSON value, or a Deferred of one.

It may fail with a ``GatewayError``; the peer gets the text of it."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


def _line(message: object) -> bytes:
    return _encode(message).encode("ascii")


@implementer(IPushProducer)
class Channel(Protocol):
    """One end of a channel.

    ``ask``, ``tell`` and ``offer`` may be called before it is connected.  What is sent within one
    turn of the reactor is one write, and arrives in its order.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._handlers: dict[str, Answer] = {}
        self._asked: dict[int, Deferred[Any]] = {}
        self._numbers = count(1)
        self._received = b""
        self._lines: list[bytes] = []
        self._octets = 0
        self._dropped = 0
        self._scheduled = False
        self._paused = True
        self._at_loss: list[Callable[[], object]] = []
        self.is_lost = False
        """Whether the peer is gone, or this end was closed."""

    def handle(self, name: str, answer: Answer) -> None:
        """Have messages called ``name`` answered so, whether the peer asks or tells."""
        self._handlers[name] = answer

    def at_loss(self, call: Callable[[], object]) -> None:
        """Call it when the peer is gone; at once if it is."""
        if self.is_lost:
            call()
        else:
            self._at_loss.append(call)

    def ask(
        self, name: str, body: object = None, *, within: float = ANSWER_WITHIN
    ) -> Deferred[Any]:
        """The peer's answer.

        Fails with ``PeerGone``; with ``TookTooLong`` after ``within`` seconds; with ``Overloaded``
        if the peer does not read; and with ``AskFailed`` if the peer cannot answer.
        """
        if self.is_lost:
            return fail(PeerGone(f"{name}: the other process is gone"))
        number = next(self._numbers)
        if not self._send({"ask": number, "name": name, "body": body}):
            return fail(Overloaded(f"{name}: the other process does not read"))

        def forget(_: object) -> None:
            self._asked.pop(number, None)

        def too_late(_: object, seconds: float) -> None:
            raise TookTooLong(f"{name}: no answer within {seconds:g} s")

        answer = self._asked[number] = Deferred[Any](forget)
        return answer.addTimeout(within, self._clock, too_late)

    def offer(self, name: str, body: object = None) -> None:
        """Send a message that has no answer and may be dropped if the peer does not read."""
        if not self.is_lost:
            self._send({"tell": name, "body": body})

    def tell(self, name: str, body: object = None) -> None:
        """Send a message that has no answer; it arrives unless the channel ends.

        Both ends keep count by such messages, so a lost one would be a fault for ever.  The
        channel ends rather than lose one.
        """
        if self.is_lost:
            return
        line = _line({"tell": name, "body": body})
        if self._fits(line, MOST_OWED):
            self._queue(line)
        else:
            self.log.error("the other process does not read: ending the channel to it")
            self._lines, self._octets = [], 0
            self._abort()

    def close(self) -> Deferred[None]:
        """Send what waits, and end the channel; fires when it is over."""
        over = Deferred[None]()
        self.at_loss(lambda: over.callback(None))
        if not self.is_lost and self.transport is not None:
            # The transport has it until the peer reads.
            self._paused = False
            self._flush()
            self.transport.unregisterProducer()  # type: ignore[attr-defined]
            self.transport.loseConnection()
        return over

    # -- sending ---------------------------------------------------------------

    def _send(self, message: object) -> bool:
        line = _line(message)
        if not self._fits(line, MOST_WAITING):
            if not self._dropped:
                self.log.warn("the other process does not read: dropping messages to it")
            self._dropped += 1
            return False
        self._queue(line)
        return True

    def _fits(self, line: bytes, most: int) -> bool:
        return not self._octets or self._octets + len(line) <= most

    def _queue(self, line: bytes) -> None:
        self._lines.append(line)
        self._octets += len(line)
        if not (self._scheduled or self._paused):
            self._scheduled = True
            self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._paused or self.is_lost or not self._lines:
            return
        self._lines.append(b"")
        data = b"\n".join(self._lines)
        self._lines, self._octets = [], 0
        self.transport.write(data)  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        """The peer does not read: messages wait here."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The peer reads again."""
        self._paused = False
        if self._dropped:
            self.log.warn("the other process reads again: dropped={count}", count=self._dropped)
            self._dropped = 0
        self._flush()

    def stopProducing(self) -> None:
        """The connection is lost, which ``connectionLost`` says too."""

    # -- receiving -------------------------------------------------------------

    def connectionMade(self) -> None:
        """Send what waits."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Take the messages in ``data``; the last one may go on in the next."""
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            try:
                self._take(json.loads(line))
            except Exception:
                self.log.failure("internal error: message of another process")
                self._abort()
                return
        if len(self._received) > LONGEST:
            self.log.error("internal error: message of another process: longer than {n}", n=LONGEST)
            self._abort()

    def _abort(self) -> None:
        self._received = b""
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _take(self, message: dict[str, Any]) -> None:
        if "answer" in message:
            answer = self._asked.pop(message["answer"], None)
            if answer is None:
                # It came too late.
                return
            error = message.get("error")
            if error is None:
                answer.callback(message["body"])
            else:
                answer.errback(AskFailed(error))
            return
        number = message.get("ask")
        name = message["name"] if number is not None else message["tell"]
        done = maybeDeferred(self._handler_of(name), message["body"])
        if number is not None:
            done.addCallback(self._answered, number)
        done.addErrback(self._failed, name, number)

    def _handler_of(self, name: str) -> Answer:
        def unknown(_: object) -> None:
            raise GatewayError(f"{name}: no such message")

        return self._handlers.get(name, unknown)

    def _answered(self, body: object, number: int) -> None:
        if not self.is_lost:
            self._send({"answer": number, "body": body})

    def _failed(self, failure: Failure, name: str, number: int | None) -> None:
        error, text = failure.value, "internal error"
        if isinstance(error, GatewayError):
            text = str(error)
            if number is None:
                self.log.warn("message of another process: {text}", text=text)
        else:
            self.log.failure("internal error: message {name}", failure, name=name)
        if number is not None and not self.is_lost:
            self._send({"answer": number, "error": text})

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Fail every question that is open."""
        self.is_lost = True
        self._lines, self._octets = [], 0
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.errback(PeerGone("the other process is gone"))
        at_loss, self._at_loss = self._at_loss, []
        for call in at_loss:
            call()


def connect(reactor: Any, descriptor: int, channel: Channel) -> None:
    """Connect a channel by one end of a socket pair, and close that descriptor."""
    factory = Factory.forProtocol(lambda: channel)
    factory.noisy = False
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)
    # The reactor has a duplicate of it.
    socket.close(descriptor)
