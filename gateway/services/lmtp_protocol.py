"""One LMTP connection: bytes to the session, actions to the world, answers back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import GatewayError, TookTooLong
from gateway.interfaces import IIncoming
from gateway.lmtp.actions import Abort, Action, Begin, Finish, HangUp, Recipient, StartTLS, Write
from gateway.lmtp.session import Session
from gateway.lmtp.trace import date_of, trace_header
from gateway.model import Account
from gateway.services.watch import Watch
from gateway.wire.outgoing import SLICE

if TYPE_CHECKING:
    from gateway.services.lmtp import LMTPFactory

INPUT_HIGH = 256 * 1024
"""Octets a client may be ahead of the store before it is no longer read from."""


@implementer(IPushProducer)
class LMTPProtocol(Protocol):
    """The shell around one ``Session``."""

    transport: Any
    log = Logger("pop3gw.lmtp")
    _session: Session
    _watch: Watch

    def __init__(self, factory: LMTPFactory, number: str) -> None:
        self._factory = factory
        self._number = number
        self._host = ""
        self._messages = 0
        self._accounts: list[Account] = []
        self._incoming: IIncoming | None = None
        self._working = 0
        """Answers that directory and store owe; a line that is down still waits for them."""
        self._pumping = False
        self._paused = False
        self._deaf = False
        self._over = False
        self._lost = False
        self._draining = False

    # -- the transport's side ------------------------------------------------

    def connectionMade(self) -> None:
        """Greet, or send away who may not deliver here."""
        transport, factory = self.transport, self._factory
        self._host = getattr(transport.getPeer(), "host", "")
        if (refusal := factory.refusal(self._host)) is not None:
            self._over = self._lost = True
            reply, why = refusal
            self.log.warn("refused a connection from {host}: {why}", host=self._host, why=why)
            transport.write(reply.line)
            transport.loseConnection()
            return
        self._session = factory.session()
        factory.opened(self)
        with suppress(OSError, AttributeError):  # a UNIX socket has no such thing
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self._watch = Watch(factory.clock, self._patience, self._expired)
        self._pump()

    def dataReceived(self, data: bytes) -> None:
        """Some of what the client sends."""
        if self._over:
            return
        before = self._session.taken
        self._session.receive(data)
        self._pump()
        if self._session.taken != before:
            self._watch.touch()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The line is down.  What was not finished is nowhere."""
        if self._lost:
            return
        self._lost = self._over = True
        self._watch.stop()
        tally = self._session.tally
        self.log.info(
            "session {number}: over; from={host} tls={tls} lhlo={lhlo} messages={messages}"
            " delivered={delivered} refused={refused} octets={octets}",
            number=self._number,
            host=self._host or "-",
            tls="yes" if self._session.secure else "no",
            # One word, or a client could write fields of its own.
            lhlo=repr(self._session.lhlo)[1:-1].replace(" ", "\\x20") or "-",
            messages=tally.messages,
            delivered=tally.delivered,
            refused=tally.refused,
            octets=tally.octets,
        )
        self._settle()

    def pauseProducing(self) -> None:
        """The client takes no more replies just now."""
        self._paused = True
        self._watch.hurry()

    def resumeProducing(self) -> None:
        """The client has taken what was written."""
        self._paused = False
        self._watch.touch()
        self._pump()

    def stopProducing(self) -> None:
        """The line is down; ``connectionLost`` follows."""

    # -- the pump ------------------------------------------------------------

    def _pump(self) -> None:
        """Do all that can be done now.  A loop, entered once, however answers come."""
        if self._pumping or self._over:
            return
        self._pumping = True
        session = self._session
        try:
            while not (self._paused or self._over):
                if (action := session.next_action()) is not None:
                    self._perform(action)
                elif session.waiting_to_send > SLICE:
                    # The session waits until it is told no more than it can keep.
                    self._flush()
                elif self._draining and not self._working and self._incoming is None:
                    self._draining = False
                    session.dismiss()
                else:
                    break
            if not self._over:
                self._flush()
        except Exception:
            self.log.failure("session {number}: a fault of ours", number=self._number)
            self.abort()
        finally:
            self._pumping = False
        self._mind_input()

    def _flush(self) -> None:
        while data := self._session.data_to_send():
            self.transport.write(data)

    def _mind_input(self) -> None:
        """Stop listening to a client that is faster than the store."""
        if self._over:
            return
        ahead = self._session.backlog > INPUT_HIGH and (self._working or self._paused)
        if ahead and not self._deaf:
            self._deaf = True
            self.transport.pauseProducing()
        elif self._deaf and not ahead:
            self._deaf = False
            self.transport.resumeProducing()

    def _perform(self, action: Action) -> None:
        session = self._session
        match action:
            case Write():
                assert self._incoming is not None
                done = self._incoming.write(action.data)
                self._await(done, lambda _: session.written(), session.write_failed)
            case Recipient():
                self._recipient(action)
            case Begin():
                self._begin(action)
            case Finish():
                self._finish()
            case Abort():
                self._await(
                    self._closed(), lambda _: session.aborted(), lambda _: session.aborted()
                )
            case StartTLS():
                self._flush()
                self.transport.startTLS(self._factory.tls)
                session.secured()
            case HangUp():
                self._flush()
                self._over = True
                self.transport.unregisterProducer()
                if action.abort:
                    self.transport.abortConnection()
                else:
                    self.transport.loseConnection()
                self._watch.hurry()

    def _await(
        self,
        answer: Deferred[Any],
        good: Callable[[Any], None],
        bad: Callable[[BaseException], None],
    ) -> None:
        """Have a back-end's answer taken, now or when it comes."""
        self._working += 1

        def failed(failure: Failure) -> None:
            error = failure.value
            assert error is not None
            self._tell(failure, error)
            bad(error)

        def over(result: Any) -> Any:
            self._working -= 1
            self._watch.touch()
            return result

        def go_on(_: Any) -> None:
            self._pump()
            if self._lost:
                self._settle()

        answer.addBoth(over).addCallbacks(good, failed).addErrback(self._fault).addCallback(go_on)
        if self._working:
            self._watch.hurry()

    def _tell(self, failure: Failure, error: BaseException) -> None:
        number, host = self._number, self._host or "-"
        if isinstance(error, GatewayError):
            kind = type(error).__name__
            self.log.info(
                "session {number}: {kind}: {error}", number=number, kind=kind, error=error
            )
        else:
            self.log.failure(
                "session {number} from {host} failed", failure, number=number, host=host
            )

    def _fault(self, failure: Failure) -> None:
        self.log.failure("session {number}: a fault of ours", failure, number=self._number)
        self.abort()

    # -- mail ----------------------------------------------------------------

    def _recipient(self, action: Recipient) -> None:
        reception = self._factory.reception

        def accepted(account: Account) -> None:
            del self._accounts[action.place :]
            self._accounts.append(account)
            self._session.accepted()

        asked = reception.account(action.address)
        asked.addCallback(reception.make_room, action.size)
        self._await(asked, accepted, self._session.refused)

    def _begin(self, action: Begin) -> None:
        self._messages += 1
        header = trace_header(
            action.sender,
            action.recipients,
            utf8=action.utf8,
            secure=self._session.secure,
            lhlo=self._session.lhlo,
            client=self._host,
            name=self._session.profile.name,
            number=f"{self._number}.{self._messages}",
            date=date_of(int(self._factory.now())),
        )

        def opened(incoming: IIncoming) -> Deferred[None]:
            self._incoming = incoming
            return incoming.write(header)

        def failed(error: BaseException) -> None:
            # Nothing is open for a session whose begin has failed.
            self._await(self._closed(), lambda _: None, lambda _: None)
            self._session.begin_failed(error)

        asked = self._factory.store.receive(self._accounts[0]).addCallback(opened)
        self._await(asked, lambda _: self._session.begun(), failed)

    def _finish(self) -> None:
        """Deliver to each mailbox once, however often it was named, and tell each recipient."""
        incoming, reception = self._incoming, self._factory.reception
        assert incoming is not None
        # The last reply lets the next message begin, before this one is closed.
        self._incoming = None
        places: dict[str, list[int]] = {}
        for place, account in enumerate(self._accounts):
            places.setdefault(account.mailbox, []).append(place)
        commits = []
        for numbers in places.values():
            account = self._accounts[numbers[0]]
            done = maybeDeferred(incoming.commit, account, reception.limits(account))
            self._await(done, *self._told(account, numbers))
            commits.append(done)
        closed = DeferredList(commits).addCallback(lambda _: incoming.close())
        self._await(closed, lambda _: None, lambda _: None)

    def _told(
        self, account: Account, numbers: list[int]
    ) -> tuple[Callable[[Any], None], Callable[[BaseException], None]]:
        name = f"{self._number}.{self._messages}"

        def delivered(_: None) -> None:
            self.log.info("message {name} is in the mailbox of {to}", name=name, to=account.name)
            for number in numbers:
                self._session.delivered(number)
            try:
                self._factory.delivered(account)
            except Exception:
                # The message is there all the same, and the client is to read so.
                self.log.failure("message {name}: a fault of ours", name=name)

        def refused(error: BaseException) -> None:
            for number in numbers:
                self._session.delivered(number, error)

        return delivered, refused

    def _closed(self) -> Deferred[Any]:
        incoming, self._incoming = self._incoming, None
        return DeferredList([] if incoming is None else [incoming.close()], consumeErrors=True)

    # -- the end -------------------------------------------------------------

    def _settle(self) -> None:
        """Once the line is down and no answer is owed, the session is gone."""
        if self._working:
            return
        if self._incoming is not None:
            self._await(self._closed(), lambda _: None, lambda _: None)
        else:
            self._factory.closed(self)

    def drain(self) -> None:
        """The server is stopping: finish the message that is coming in, then go."""
        self._draining = True
        self._pump()

    def abort(self) -> None:
        """Close now, whatever is waiting to be sent."""
        self._over = True
        self.transport.abortConnection()

    def _patience(self) -> float:
        """Seconds without progress that are allowed in the present state."""
        if self._working:
            return self._factory.patience.work
        if self._over or self._paused:
            return self._factory.patience.stall
        return self._session.profile.idle_timeout

    def _expired(self) -> None:
        if self._over or self._paused:
            self.abort()
        elif self._working:
            self.log.warn("session {number}: a back-end took too long", number=self._number)
            self._session.give_up(TookTooLong())
        else:
            self._session.idle()
        self._pump()
