"""Postfix's policy service on a transport: whether there is room for a message."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import (
    HomedElsewhere,
    RecipientBarred,
    RequestMalformed,
    UnknownRecipient,
)
from gateway.events import ConnectionRefused, Emit
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Usage
from gateway.net.acceptor import connection_of
from gateway.net.fair_turns import FIRST_TURN, TURN, FairTurns
from gateway.net.idle_timer import IdleTimer
from gateway.net.sessions import Sessions
from gateway.observe.failures import complain
from gateway.observe.log import emit_to_log
from gateway.quota.postfix_policy import Answers, Request, Requests, Room, Unsaid, decide, reply
from gateway.quota.verdict import Verdict, verdict

_UNSAID = {
    UnknownRecipient: Unsaid.UNKNOWN,
    RecipientBarred: Unsaid.BARRED,
    HomedElsewhere: Unsaid.NOT_ASKED,
}

AHEAD = 256 * 1024
"""Octets of questions that may wait for their answers; Postfix sends one at a time."""

INPUT_HIGH = 64 * 1024
"""Octets that a client may be ahead before it is no longer read from."""


@implementer(IPushProducer, IHalfCloseableProtocol)
class PolicyProtocol(Protocol):
    """One connection, which Postfix keeps for many questions."""

    transport: Any
    log = Logger("pop3gw.policy")

    def __init__(self, factory: PolicyFactory, address: object) -> None:
        self._factory = factory
        self._address = address
        self._requests = Requests()
        self._asking = False
        self._going_on = False
        self._queued = False
        self._paused = False
        self._deaf = False
        self._input_ended = False
        self._over = False
        self._draining = False

    def connectionMade(self) -> None:
        """Nobody is greeted here."""
        connection = self.connection = connection_of(self._address, self.transport)
        if (why := self._factory.refusal(connection.host)) is not None:
            self._factory.emit(ConnectionRefused(connection, "policy", why))
            self.abort()
        else:
            self._factory.opened(self)
            self.transport.registerProducer(self, True)
        idle_timeout = self._factory.idle_timeout
        self._idle_timer = IdleTimer(
            self._factory.clock, lambda: idle_timeout, self.transport.abortConnection
        )

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Postfix has no more questions."""
        self._idle_timer.stop()
        self._factory.closed(self)
        # Whatever is being asked is answered to nobody, and nothing more is asked.
        self._over = True

    def readConnectionLost(self) -> None:
        """No more questions come; those that came are answered."""
        if not self._over:
            self._input_ended = True
            self._go_on()

    def writeConnectionLost(self) -> None:
        """Our side closes as a whole only."""

    def pauseProducing(self) -> None:
        """Its answers are not read: it gets no more of them just now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Its answers are read again."""
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """The line is down; ``connectionLost`` follows."""

    def drain(self) -> None:
        """Answer what is being asked, then go."""
        self._draining = True
        if not self._asking:
            self._leave()

    def abort(self) -> None:
        """Go now."""
        self._over = True
        self.transport.abortConnection()

    def _leave(self) -> None:
        self._over = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Some of a question."""
        if self._over:
            return
        self._idle_timer.touch()
        self._requests.feed(data)
        if len(self._requests) > AHEAD:
            self.log.warn("a client asks faster than it can be answered")
            self.abort()
            return
        self._go_on()

    def _go_on(self) -> None:
        """Ask what can be asked, unless what is left waits for its turn."""
        if self._queued or self._going_on:
            self._mind_input()
        else:
            self._at_its_turn()

    def _mind_input(self) -> None:
        """Stop listening to a client that is far ahead of its answers."""
        ahead = len(self._requests) > INPUT_HIGH
        if ahead is not self._deaf and not (self._over or self._input_ended):
            self._deaf = ahead
            (self.transport.pauseProducing if ahead else self.transport.resumeProducing)()

    def _at_its_turn(self, seconds: float = FIRST_TURN) -> None:
        """Ask all that can be asked in that time.  A loop, however answers come."""
        self._queued = False
        self._going_on = True
        try:
            self._ask(self._factory.clock.seconds() + seconds)
        finally:
            self._going_on = False
        self._mind_input()

    def _ask(self, end: float) -> None:
        while not (self._asking or self._paused or self._over):
            try:
                request = self._requests.take_request()
            except RequestMalformed as error:
                self.log.warn("not Postfix's policy protocol: {error}", error=error)
                self.abort()
                return
            if request is None:
                if self._input_ended:
                    self._leave()
                return
            self._asking = True
            self._factory.found(request).addCallback(self._answer, request).addErrback(self._fault)
            if self._factory.clock.seconds() >= end:
                self._queued = True
                self._factory.turns.later(partial(self._at_its_turn, TURN))
                return

    def _answer(self, found: Room | Unsaid, request: Request) -> None:
        self._asking = False
        if self._over:
            return
        action = decide(request, found, self._factory.answers)
        if action is None:
            # No reply: Postfix asks again, and then does what it is set to.
            self._leave()
            return
        self.transport.write(reply(action))
        if self._draining:
            self._leave()
        else:
            self._go_on()

    def _fault(self, failure: Failure) -> None:
        self.log.failure("a fault of ours", failure)
        self.abort()


class PolicyFactory(ServerFactory):
    """``check_policy_service`` for Postfix."""

    noisy = False
    log = Logger("pop3gw.policy")

    def __init__(
        self,
        recipients: Recipients,
        *,
        clock: IReactorTime,
        allows: Callable[[str], bool],
        answers: Answers | None = None,
        connections: int = 1000,
        idle_timeout: float = 3600.0,
        turns: FairTurns | None = None,
        emit: Emit = emit_to_log,
    ) -> None:
        """``allows`` tells of a client's address whether it may ask.

        ``idle_timeout`` in seconds; Postfix itself closes after 300.  Questions are
        answered in ``turns``, which others may share.  ``emit`` takes what happens.
        """
        self.clock = clock
        self.emit = emit
        self.turns = turns or FairTurns(lambda: clock)
        self._allows = allows
        self._connections = connections
        self._open: Sessions[PolicyProtocol] = Sessions(lambda: clock)
        self.opened, self.closed = self._open.opened, self._open.closed
        self.answers = answers or Answers()
        self.idle_timeout = idle_timeout
        self._recipients = recipients

    def buildProtocol(self, addr: object) -> PolicyProtocol:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        return PolicyProtocol(self, addr)

    def refusal(self, host: str) -> str | None:
        """Why a client is not heard, for the log; or None."""
        if not self._allows(host):
            return "policy.allowed_networks has no such address"
        if len(self._open) >= self._connections:
            return f"{len(self._open)} connections are open (policy.connections)"
        return None

    def drain(self, seconds: float) -> Deferred[None]:
        """Answer what is being asked, and after ``seconds`` drop the rest."""
        return self._open.drain(seconds)

    def abort(self) -> None:
        """End all connections now."""
        self._open.abort()

    def found(self, request: Request) -> Deferred[Room | Unsaid]:
        """What is known of the recipient's mailbox."""
        recipients, address = self._recipients, request.recipient
        if address is None:
            return succeed(Unsaid.NOT_ASKED)

        def room(account: Account) -> Deferred[Room]:
            def with_limits(usage: Usage) -> Room:
                limits = recipients.limits(account)
                if verdict(usage, request.size, limits) is Verdict.OVER:
                    recipients.over_quota(account, request.size)
                return Room(usage, limits)

            return recipients.usage(account).addCallback(with_limits)

        def unsaid(failure: Failure) -> Unsaid:
            for kind, meaning in _UNSAID.items():
                if failure.check(kind):
                    return meaning
            complain(self.log, "{to}", failure, to=address)
            return Unsaid.TROUBLE

        return recipients.account(address).addCallback(room).addErrback(unsaid)
