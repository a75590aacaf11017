"""One LMTP connection: it performs a session's look-ups and deliveries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import ClientNotAllowed, GatewayError
from gateway.events import (
    HEALTH_CHECK,
    DeliveryFailed,
    Envelope,
    LMTPSessionEnded,
    MessageDelivered,
    RecipientRefused,
)
from gateway.interfaces import IIncoming
from gateway.lmtp import replies
from gateway.lmtp.actions import Abort, Action, Begin, Finish, HangUp, Recipient, StartTLS, Write
from gateway.lmtp.session import Session
from gateway.lmtp.trace import date_of, trace_header
from gateway.model import Account, OpenSession
from gateway.net.shell import Shell
from gateway.net.some_at_once import SomeAtOnce
from gateway.observe.failures import complain, problem_in
from gateway.wire.header_fields import message_id

if TYPE_CHECKING:
    from gateway.net.lmtp_factory import LMTPFactory


R = TypeVar("R")

HEAD = 16 * 1024
"""Octets at the start of a message in which its Message-ID is looked for."""

DELIVERIES = 50
"""Mailboxes that get a message at the same time: those of one with thousands of recipients would
fill the queue of threads, and the rest of them, and mail of others, would be refused for now."""

MOST_ADDRESSES = 10
"""Recipients of a message that an event names."""


class LMTPProtocol(Shell):
    """The shell around one ``Session``."""

    log = Logger()
    input_high = 256 * 1024
    _factory: LMTPFactory
    _session: Session

    def __init__(self, factory: LMTPFactory, address: object) -> None:
        super().__init__(factory, address)
        self._messages = 0
        self._end, self._reason = "over", ""
        self._accounts: list[Account] = []
        self._receiver: Account | None = None
        """The recipient with the mailbox that the present message is received into."""
        self._incoming: IIncoming | None = None
        self._head = b""
        """The first octets of the message that is coming, for its Message-ID."""
        self._sender = self._message_id = ""
        self._addresses: tuple[str, ...] = ()
        """The recipients of that message, in the order of ``_accounts``."""
        self._content_ended = 0.0
        """When the client had sent the message that is being delivered."""

    # -- the line ------------------------------------------------------------

    def _greet(self) -> None:
        self._open(self._factory.session(self.connection))

    def _refuse(self, error: GatewayError) -> None:
        not_allowed = isinstance(error, ClientNotAllowed)
        reply = replies.NOT_FROM_HERE if not_allowed else replies.TOO_MANY_CONNECTIONS
        self.transport.write(reply.line)
        self.transport.loseConnection()

    @property
    def names(self) -> set[str]:
        """Those of the accounts that the message goes to."""
        accounts = self._accounts
        return {name for one in accounts for name in (one.name, one.mailbox, *one.addresses)}

    def _ended(self) -> None:
        """Emit the session's end.  A message that was not finished is not stored."""
        session, counts = self._session, self._session.counts
        self._factory.emit(
            LMTPSessionEnded(
                self.connection,
                self._end,
                self._tls_version(session.secure),
                session.lhlo,
                counts.messages,
                counts.delivered,
                counts.refused,
                counts.octets,
                self._reason,
            )
        )

    def _ending(self, how: str, reason: str = "") -> None:
        if reason or how == HEALTH_CHECK:
            self._end, self._reason = how, reason

    def _settle(self) -> None:
        if self._working:
            return
        if self._incoming is not None:
            self._await(self._closed(), _ignore, _ignore)
        else:
            self._factory.closed(self)

    def _timeouts(self) -> float:
        if self._working:
            return self._factory.timeouts.work
        if self._over or self._paused:
            return self._factory.timeouts.stall
        return self._session.profile.idle_timeout

    @property
    def shown(self) -> OpenSession:
        """The session, for an operator."""
        return super().shown._replace(octets=self._session.counts.octets)

    def _state(self) -> str:
        if self._incoming is not None:
            return "receiving"
        return "delivering" if self._working else "idle"

    # -- actions -------------------------------------------------------------

    def _may_leave(self) -> bool:
        return self._incoming is None

    def _perform(self, action: Action) -> None:
        session = self._session
        match action:
            case Write():
                assert self._incoming is not None
                if len(self._head) < HEAD:
                    self._head += action.data[: HEAD - len(self._head)]
                done = self._incoming.write(action.data)
                self._await(done, lambda _: session.written(), self._failed(self._write_failed))
            case Recipient():
                self._recipient(action)
            case Begin():
                self._begin(action)
            case Finish():
                self._finish()
            case Abort():
                self._await(self._closed(), lambda _: session.aborted(), self._fault)
            case StartTLS():
                self._start_tls()
            case HangUp():
                self._hang_up(action.abort)

    def _failed(
        self,
        take: Callable[[BaseException], None],
        recipient: str | None = None,
        envelope: Callable[[], Envelope] | None = None,
    ) -> Callable[[Failure], None]:
        """An errback for the failure of one recipient, or of the message for all of them."""
        told = envelope or self._envelope

        def failed(failure: Failure) -> None:
            error = failure.value
            assert error is not None
            client = self.connection
            problem = problem_in(failure, self.log, "session {id}: internal error", id=client.id)
            if recipient is None:
                self._factory.emit(DeliveryFailed(client, problem, told()))
            else:
                self._factory.emit(RecipientRefused(client, recipient, problem, told()))
            take(error)

        return failed

    @property
    def _message(self) -> str:
        """The id of the present message in Received."""
        return f"{self.connection.id}.{self._messages}"

    def _envelope(self, numbers: Sequence[int] | None = None) -> Envelope:
        """The present message for these recipients, or for all."""
        places = range(len(self._addresses)) if numbers is None else numbers
        addresses = tuple(self._addresses[place] for place in islice(places, MOST_ADDRESSES))
        mailbox = "" if numbers is None else self._accounts[numbers[0]].mailbox
        if not self._message_id:
            self._message_id = message_id(self._head)
        return Envelope(self._sender, addresses, mailbox, self._message, self._message_id)

    def _not_closed(self, failure: Failure) -> None:
        complain(self.log, "session {id}: cannot close a message", failure, id=self.connection.id)

    # -- mail ----------------------------------------------------------------

    def _recipient(self, action: Recipient) -> None:
        recipients, mailboxes = self._factory.recipients, [""]

        def found(account: Account) -> Deferred[Account]:
            mailboxes.append(account.mailbox)
            return recipients.make_room(account, action.size)

        def envelope() -> Envelope:
            return Envelope(self._session.sender, (action.address,), mailboxes[-1])

        def accepted(account: Account) -> None:
            del self._accounts[action.place :]
            self._accounts.append(account)
            self._session.accepted()

        asked = recipients.account(action.address).addCallback(found)
        refused = self._failed(self._session.refused, action.address, envelope)
        self._await(asked, accepted, refused)

    def _begin(self, action: Begin) -> None:
        self._messages += 1
        self._sender, self._addresses = action.sender, action.recipients
        self._head, self._message_id = b"", ""
        header = trace_header(
            action.sender,
            action.recipients,
            utf8=action.utf8,
            secure=self._session.secure,
            lhlo=self._session.lhlo,
            client=self.connection.host,
            name=self._session.profile.name,
            number=self._message,
            date=date_of(int(self._factory.now())),
        )

        def opened(incoming: IIncoming) -> Deferred[None]:
            self._incoming = incoming
            return incoming.write(header)

        def failed(error: BaseException) -> None:
            self._factory.receivers.failed(receiver)
            # After a failed begin the session has nothing open.
            self._await(self._closed(), _ignore, _ignore)
            self._session.begin_failed(error)

        self._receiver = receiver = self._factory.receivers.choose(self._accounts)
        asked = self._factory.store.receive(receiver).addCallback(opened)
        self._await(asked, lambda _: self._session.begun(), self._failed(failed))

    def _write_failed(self, error: BaseException) -> None:
        assert self._receiver is not None
        self._factory.receivers.failed(self._receiver)
        self._session.write_failed(error)

    def _finish(self) -> None:
        """Deliver once to each mailbox, and answer for each recipient."""
        incoming, recipients = self._incoming, self._factory.recipients
        assert incoming is not None
        # The last reply may start the next message before this one is closed.
        self._incoming = None
        self._content_ended, octets = self._seconds(), self._session.octets
        places: dict[str, list[int]] = {}
        for place, account in enumerate(self._accounts):
            places.setdefault(account.mailbox, []).append(place)

        def committed(result: R) -> R:
            deliveries.ended()
            return result

        def deliver(numbers: list[int]) -> None:
            account = self._accounts[numbers[0]]
            done = maybeDeferred(incoming.commit, account, recipients.limits(account))
            # Before the answer: a closed connection waits for the close too.
            done.addBoth(committed)
            self._await(done, *self._told(account, numbers, octets))

        deliveries = SomeAtOnce(
            places.values(),
            deliver,
            most=DELIVERIES,
            # Who has got no reply, or one that it failed, sends it again.
            may_go_on=lambda: not (self._lost or self._session.closed),
            end=lambda: self._await(maybeDeferred(incoming.close), _ignore, self._not_closed),
        )
        deliveries.go_on()

    def _told(
        self, account: Account, numbers: list[int], octets: int
    ) -> tuple[Callable[[None], None], Callable[[Failure], None]]:
        # The last reply may start the next message before another recipient has its answer.
        envelope, receiver = self._envelope(numbers), self._receiver

        def delivered(_: None) -> None:
            seconds = self._seconds() - self._content_ended
            for number in numbers:
                self._session.delivered(number)
            name = envelope.message
            self._factory.emit(
                MessageDelivered(self.connection, name, account, octets, seconds, envelope)
            )

        def refused(error: BaseException) -> None:
            if account is receiver:
                self._factory.receivers.failed(account)
            for number in numbers:
                self._session.delivered(number, error)
            self._factory.recipients.not_taken(account, error)

        return delivered, self._failed(refused, account.name, lambda: envelope)

    def _closed(self) -> Deferred[list[tuple[bool, None]]]:
        incoming, self._incoming = self._incoming, None
        return DeferredList([] if incoming is None else [incoming.close()], consumeErrors=True)


def _ignore(_: object) -> None:
    """Ignore the result."""
