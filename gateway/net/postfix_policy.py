"""The Postfix policy service: whether there is room for a message."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.errors import GatewayError, HomedElsewhere, RecipientBarred, UnknownRecipient
from gateway.events import Emit, PolicyRefused
from gateway.interfaces import IAdmission
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Usage
from gateway.net.fair_turns import FairTurns
from gateway.net.sessions import SessionFactory
from gateway.net.shell import Shell
from gateway.observe.failures import complain
from gateway.observe.log import emit_to_log
from gateway.quota.postfix_policy import DUNNO, Answers, Ask, HangUp, Request, Room, Session, Unsaid
from gateway.quota.verdict import Verdict, verdict

_UNSAID = {
    UnknownRecipient: Unsaid.UNKNOWN,
    RecipientBarred: Unsaid.BARRED,
    HomedElsewhere: Unsaid.NOT_ASKED,
}

LONGEST = 500
"""Characters of an address in an event."""

AHEAD = 256 * 1024
"""Most octets of pending requests; Postfix sends one request at a time."""


class PolicyProtocol(Shell):
    """One connection, which Postfix keeps for many requests."""

    log = Logger()
    input_high = 64 * 1024
    _factory: PolicyFactory
    _session: Session

    def _greet(self) -> None:
        self._open(Session(self._factory.answers))

    def _refuse(self, error: GatewayError) -> None:  # noqa: ARG002
        self.abort()

    def dataReceived(self, data: bytes) -> None:
        """Add octets of a request."""
        super().dataReceived(data)
        if not self._over and self._session.backlog > AHEAD:
            self.log.warn("session {id}: client asks too fast", id=self.connection.id)
            self.abort()

    def _perform(self, action: Ask | HangUp) -> None:
        if isinstance(action, Ask):
            # Postfix keeps a connection, and a reload may change the answers meanwhile.
            self._session.answers = self._factory.answers
            asked = self._factory.found(action.request)
            self._await(asked, partial(self._found, action.request), self._fault)
            return
        if action.malformed:
            self.log.warn(
                "session {id}: not Postfix's policy protocol: {reason}",
                id=self.connection.id,
                reason=action.malformed,
            )
        self._hang_up(action.abort)

    def _found(self, request: Request, found: Room | Unsaid) -> None:
        answer = self._session.answered(found)
        if answer != DUNNO:
            names = "sender", "recipient", "queue_id"
            sender, recipient, message = (request[name][:LONGEST] for name in names)
            told = PolicyRefused(self.connection, sender, recipient, message, answer or "")
            self._factory.emit(told)

    def _timeouts(self) -> float:
        return self._factory.idle_timeout

    def _ended(self) -> None:
        """The session has no line in the log."""

    def _settle(self) -> None:
        self._factory.closed(self)

    def drain(self) -> None:
        """Answer the pending request, then close."""
        self._session.dismiss()
        super().drain()


@frozen
class PolicyOptions:
    """How the policy service behaves."""

    allows: Callable[[str], bool]
    """Whether a client at this address may ask; empty: of a UNIX socket."""

    answers: Answers = Answers()
    idle_timeout: float = 3600.0
    """Seconds; Postfix itself closes after 300."""


class PolicyFactory(SessionFactory):
    """``check_policy_service`` for Postfix."""

    protocol_name = "policy"
    log = Logger()

    def __init__(
        self,
        recipients: Recipients,
        options: PolicyOptions,
        *,
        admission: IAdmission | None = None,
        emit: Emit = emit_to_log,
        clock: IReactorTime | None = None,
        turns: FairTurns | None = None,
    ) -> None:
        """``admission``: the limit on connections; None: 1000.

        Requests take ``turns``, which other factories may share.
        """
        if admission is None:
            limits = ConnectionLimits(1000, 1000, setting="policy.connections")
            admission = LocalAdmission(lambda: self.clock, limits=limits)
        super().__init__(admission, emit=emit, clock=clock, turns=turns)
        self.configure(recipients, options)

    def configure(self, recipients: Recipients, options: PolicyOptions) -> None:
        """Other recipients and options from now on; an open connection keeps its answers."""
        self.allows = options.allows
        self.answers = options.answers
        self.idle_timeout = options.idle_timeout
        self._recipients = recipients

    def buildProtocol(self, addr: object) -> PolicyProtocol:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        return PolicyProtocol(self, addr)

    def found(self, request: Request) -> Deferred[Room | Unsaid]:
        """Look up the recipient's mailbox."""
        recipients, address = self._recipients, request.recipient
        if address is None:
            return succeed(Unsaid.NOT_ASKED)

        def room(account: Account) -> Deferred[Room]:
            def with_limits(usage: Usage) -> Room:
                limits = recipients.limits(account)
                said = verdict(usage, request.size, limits)
                recipients.decided("policy", said)
                if said is Verdict.OVER:
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
