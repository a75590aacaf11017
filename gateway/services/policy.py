"""Postfix's policy service on a transport: whether there is room for a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import (
    GatewayError,
    HomedElsewhere,
    RecipientBarred,
    RequestMalformed,
    UnknownRecipient,
)
from gateway.model import Account, Usage
from gateway.quota.policy import Answers, Request, Requests, Room, Unsaid, decide, reply
from gateway.services.reception import Reception
from gateway.services.watch import Watch

_UNSAID = {
    UnknownRecipient: Unsaid.UNKNOWN,
    # Who may not log in still gets mail as far as the quota is concerned.
    RecipientBarred: Unsaid.NOT_ASKED,
    HomedElsewhere: Unsaid.NOT_ASKED,
}

AHEAD = 256 * 1024
"""Octets of questions that may wait for their answers; Postfix sends one at a time."""


class PolicyProtocol(Protocol):
    """One connection, which Postfix keeps for many questions."""

    transport: Any
    log = Logger("pop3gw.policy")

    def __init__(self, factory: PolicyFactory) -> None:
        self._factory = factory
        self._requests = Requests()
        self._waiting = 0
        self._asking = False

    def connectionMade(self) -> None:
        """Nobody is greeted here."""
        host = getattr(self.transport.getPeer(), "host", "")
        if not self._factory.allows(host):
            self.log.warn("refused a connection from {host}", host=host)
            self.transport.abortConnection()
        patience = self._factory.idle_timeout
        self._watch = Watch(self._factory.clock, lambda: patience, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Postfix has no more questions."""
        self._watch.stop()
        # Whatever is being asked is answered to nobody.
        self._asking = True

    def dataReceived(self, data: bytes) -> None:
        """Some of a question."""
        self._watch.touch()
        self._waiting += len(data)
        if self._waiting > AHEAD:
            self.log.warn("a client asks faster than it can be answered")
            self.transport.abortConnection()
            return
        self._requests.feed(data)
        self._go_on()

    def _go_on(self) -> None:
        while not self._asking:
            try:
                request = self._requests.take_request()
            except RequestMalformed as error:
                self.log.warn("not Postfix's policy protocol: {error}", error=error)
                self.transport.abortConnection()
                return
            if request is None:
                self._waiting = 0
                return
            self._asking = True
            self._factory.found(request).addCallback(self._answer, request).addErrback(self._fault)

    def _answer(self, found: Room | Unsaid, request: Request) -> None:
        action = decide(request, found, self._factory.answers)
        if action is None:
            # No reply: Postfix asks again, and then does what it is set to.
            self.transport.loseConnection()
            return
        if not self.transport.disconnecting:
            self.transport.write(reply(action))
        self._asking = False
        self._go_on()

    def _fault(self, failure: Failure) -> None:
        self.log.failure("a fault of ours", failure)
        self.transport.abortConnection()


class PolicyFactory(ServerFactory):
    """``check_policy_service`` for Postfix."""

    noisy = False
    log = Logger("pop3gw.policy")

    def __init__(
        self,
        reception: Reception,
        *,
        clock: IReactorTime,
        allows: Callable[[str], bool],
        answers: Answers | None = None,
        idle_timeout: float = 3600.0,
    ) -> None:
        """``idle_timeout`` in seconds; Postfix itself closes after 300."""
        self.clock = clock
        self.allows = allows
        self.answers = answers or Answers()
        self.idle_timeout = idle_timeout
        self._reception = reception

    def buildProtocol(self, addr: object) -> PolicyProtocol:  # noqa: ARG002 - as all factories
        """One connection's protocol."""
        return PolicyProtocol(self)

    def found(self, request: Request) -> Deferred[Room | Unsaid]:
        """What is known of the recipient's mailbox."""
        reception, address = self._reception, request.recipient
        if address is None:
            return succeed(Unsaid.NOT_ASKED)

        def room(account: Account) -> Deferred[Room]:
            def with_limits(usage: Usage) -> Room:
                return Room(usage, reception.limits(account))

            return reception.usage(account).addCallback(with_limits)

        def unsaid(failure: Failure) -> Unsaid:
            for kind, meaning in _UNSAID.items():
                if failure.check(kind):
                    return meaning
            if failure.check(GatewayError):
                self.log.warn("{to}: {error}", to=address, error=failure.value)
            else:
                self.log.failure("{to}: a fault of ours", failure, to=address)
            return Unsaid.TROUBLE

        return reception.account(address).addCallback(room).addErrback(unsaid)
