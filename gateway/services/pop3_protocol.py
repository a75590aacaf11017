"""One POP3 connection: bytes to the session, actions to the world, answers back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate
from twisted.cred.credentials import UsernamePassword
from twisted.internet.interfaces import IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import GatewayError, TookTooLong, TooManySessions
from gateway.interfaces import IBody, IMechanism
from gateway.model import Listing, Peer
from gateway.pop3.actions import Action, Commit, Fetch, HangUp, StartTLS, Step
from gateway.pop3.actions import Login as UserPass
from gateway.pop3.session import Session, State
from gateway.sasl.outcome import Challenge, Proven
from gateway.services.outlet import Outlet
from gateway.services.session_log import SessionLog
from gateway.services.watch import Watch
from gateway.wire.outgoing import SLICE

if TYPE_CHECKING:
    from gateway.services.pop3 import POP3Factory

TURN = 8
"""Slices that one session may send before it lets the others have a turn."""

INPUT_HIGH = 64 * 1024
"""Octets a client may be ahead of its replies before it is no longer read from."""


@implementer(IPushProducer)
class POP3Protocol(Protocol):
    """The shell around one ``Session``."""

    transport: Any
    _log: SessionLog
    _outlet: Outlet
    _session: Session
    _watch: Watch

    def __init__(self, factory: POP3Factory, number: str) -> None:
        self._factory = factory
        self._number = number
        self._mechanism: IMechanism | None = None
        self._maildrop: Any = None
        self._give_back: Callable[[], object] | None = None
        self._entered = ""
        self._body: IBody | None = None
        self._reading = False
        self._working = 0
        """Answers that back-ends owe; a session that is over still waits for them."""
        self._pumping = False
        self._paused = False
        self._deaf = False
        self._over = False
        self._lost = False
        self._draining = False
        self._started = 0.0

    # -- the transport's side ------------------------------------------------

    def connectionMade(self) -> None:
        """Greet, whatever the state of the back-ends."""
        transport = self.transport
        secure = ISSLTransport.providedBy(transport)
        host = getattr(transport.getPeer(), "host", "")
        self._log = SessionLog(self._number, host)
        try:
            self._factory.census.connect(host)
        except TooManySessions as error:
            self._log.refused(error)
            self._refuse(secure)
            return
        self._session = self._factory.session(host, secure=secure)
        self._factory.opened(self)
        # A small reply that waits for the client's delayed ACK takes 40 ms.
        with suppress(OSError, AttributeError):  # a UNIX socket has no such thing
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self._outlet = Outlet(transport)
        clock = self._factory.clock
        self._started = clock.seconds()
        self._watch = Watch(clock, self._patience, self._expired)
        self._pump()

    def _refuse(self, secure: bool) -> None:
        self._lost = self._over = True
        if secure:
            # Whoever floods the server does not get a handshake's work as well.
            self.transport.abortConnection()
        else:
            self.transport.write(b"-ERR [SYS/TEMP] Too many connections.\r\n")
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Some of what the client sends."""
        if not self._over:
            session = self._session
            before = session.taken
            session.receive(data)
            self._pump()
            if session.taken != before:
                self._watch.touch()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The line is down.  Without QUIT nothing is removed."""
        if self._lost:
            return
        self._lost = self._over = True
        self._watch.stop()
        self._factory.census.disconnect(self._log.host)
        if self._factory.log_sessions:
            self._log.ended(self._session, self._factory.clock.seconds() - self._started)
        self._settle()

    def pauseProducing(self) -> None:
        """The client takes no more just now."""
        self._paused = True
        self._watch.hurry()

    def resumeProducing(self) -> None:
        """The client has taken what was written."""
        self._outlet.emptied()
        self._go_on()

    def _yield(self) -> None:
        """Let other sessions have their turn before a long reply goes on."""
        self._paused = True
        self._factory.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        self._watch.touch()
        if not self._over:
            self._pump()

    def stopProducing(self) -> None:
        """The line is down; ``connectionLost`` follows."""

    # -- the pump ------------------------------------------------------------

    def _pump(self) -> None:
        """Do all that can be done now.  A loop, entered once, however answers come."""
        if self._pumping or self._over:
            return
        self._pumping = True
        session, turns = self._session, TURN
        try:
            while not (self._paused or self._over):
                if session.waiting_to_send >= SLICE:
                    self._outlet.write(session.data_to_send())
                    turns -= 1
                    if not turns:
                        self._yield()
                elif self._body is not None and session.fetching:
                    if self._reading:
                        break
                    self._read_on(self._body)
                elif (action := session.next_action()) is not None:
                    self._watch.touch()
                    self._perform(action)
                elif self._draining and not self._working and session.state is not State.CLOSED:
                    self._log.end = "server stopping"
                    session.dismiss()
                elif session.waiting_to_send < SLICE:
                    break
            if not (self._paused or self._over) and (data := session.data_to_send()):
                self._outlet.write(data)
        except Exception:
            self._log.fault()
            self.abort()
        finally:
            self._pumping = False
        self._mind_input()

    def _mind_input(self) -> None:
        """Stop listening to a client that is far ahead of its replies."""
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
        match action:
            case Fetch():
                self._await(self._maildrop.retrieve(action.message), self._fetched, self._unfetched)
            case UserPass():
                self._log.method = "PASS"
                self._authenticate(UsernamePassword(action.name, action.password))
            case Step():
                self._step(action)
            case Commit():
                done = self._maildrop.finish(action.removed, action.retrieved)
                self._await(done, self._committed, self._uncommitted)
            case StartTLS():
                self._flush()
                self._outlet.close_direct()
                self.transport.startTLS(self._factory.tls)
                self._session.secured()
            case HangUp():
                self._hang_up(action.abort)

    def _await(
        self, answer: Any, good: Callable[[Any], None], bad: Callable[[Failure], None]
    ) -> None:
        """Have a back-end's answer taken, now or when it comes."""
        if answer.called and not answer.paused and not isinstance(answer.result, Failure):
            # It is there already, as nearly always; the pump that asked goes on.
            good(answer.result)
            if self._lost:
                self._settle()
            return
        self._working += 1

        def answered(result: Any, take: Callable[[Any], None]) -> None:
            self._working -= 1
            self._watch.touch()
            take(result)
            self._pump()
            if self._lost:
                self._settle()

        answer.addCallbacks(answered, answered, callbackArgs=(good,), errbackArgs=(bad,))
        answer.addErrback(self._fault)
        if self._working:
            self._watch.hurry()

    def _fault(self, failure: Failure) -> None:
        self._log.fault(failure)
        self.abort()

    def _flush(self, *, last: bool = False) -> None:
        while data := self._session.data_to_send():
            self._outlet.write(data, last=last and not self._session.waiting_to_send)

    def _hang_up(self, abort: bool) -> None:
        if self._log.end == "dropped":
            self._log.end = "aborted" if abort else "quit"
        if self._give_back is not None and self._session.retrieved:
            # No QUIT: what was read is marked all the same.
            self._abandon()
        else:
            self._leave()
        self._flush(last=not abort)
        self._over = True
        self.transport.unregisterProducer()
        if abort:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()
        self._watch.hurry()

    # -- login ---------------------------------------------------------------

    def _step(self, action: Step) -> None:
        if action.first:
            self._mechanism = self._factory.mechanisms[action.mechanism](self._peer())
            self._log.method = action.mechanism
        assert self._mechanism is not None
        self._await(self._mechanism.step(action.response), self._stepped, self._login_failed)

    def _stepped(self, outcome: Challenge | Proven) -> None:
        if self._over:
            return
        if isinstance(outcome, Challenge):
            self._session.challenged(outcome.octets)
        else:
            self._mechanism = None
            self._authenticate(outcome.credentials)

    def _authenticate(self, credentials: Any) -> None:
        name = getattr(credentials, "username", b"")
        self._log.user = bytes(name).decode("utf-8", "backslashreplace")
        login = self._factory.login(credentials, self._peer())
        self._await(login, self._enter, self._login_failed)

    def _peer(self) -> Peer:
        secure = self._session.line.secure
        return Peer(self._log.host, secure, self._number, self._certificate if secure else bytes)

    def _certificate(self) -> bytes:
        connection = getattr(self.transport, "getHandle", lambda: None)()
        shown = getattr(connection, "get_certificate", lambda: None)()
        return b"" if shown is None else bytes(dump_certificate(FILETYPE_ASN1, shown))

    def _enter(self, opened: tuple[Any, Callable[[], object]]) -> None:
        self._maildrop, self._give_back = opened
        if self._over:
            self._leave()
            return
        try:
            self._factory.census.enter(self._maildrop.name)
        except TooManySessions:
            self._login_failed(Failure())
            return
        self._entered = self._maildrop.name
        self._await(self._maildrop.listing(), self._listed, self._login_failed)

    def _listed(self, listing: Listing) -> None:
        if self._over:
            self._leave()
            return
        self._session.logged_in(listing)

    def _login_failed(self, failure: Failure) -> None:
        self._leave()
        self._log.failed(failure, "login")
        self._maildrop = None
        if not self._over:
            self._session.login_failed(_error(failure))

    def _leave(self) -> None:
        """Give back the maildrop: before the last reply, so that a client may come again."""
        give_back, self._give_back = self._give_back, None
        if self._entered:
            self._factory.census.leave(self._entered)
            self._entered = ""
        if give_back is not None:
            try:
                give_back()
            except Exception:
                self._log.fault()

    # -- messages ------------------------------------------------------------

    def _fetched(self, body: IBody) -> None:
        self._body = body
        if self._over:
            self._close_body()
            return
        self._session.fetched(body.form)

    def _unfetched(self, failure: Failure) -> None:
        self._log.failed(failure, "fetch")
        if not self._over:
            self._session.fetch_failed(_error(failure))

    def _read_on(self, body: IBody) -> None:
        try:
            data = body.read_now()
        except GatewayError:
            self._unread(Failure())
            return
        if data is None:
            self._reading = True
            self._await(body.read(), self._read, self._unread)
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._reading = False
        session = self._session
        if self._over:
            self._close_body()
            return
        if data:
            session.body(data)
        if not (data and session.wants_body):
            self._close_body()
            if session.fetching:
                session.body_ended()

    def _unread(self, failure: Failure) -> None:
        self._reading = False
        self._close_body()
        self._unfetched(failure)

    def _close_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    # -- the end -------------------------------------------------------------

    def _committed(self, _: None) -> None:
        self._leave()
        if not self._over:
            self._session.committed()
        self._log.end = "quit"

    def _uncommitted(self, failure: Failure) -> None:
        self._log.failed(failure, "QUIT")
        self._leave()
        if not self._over:
            self._session.commit_failed(_error(failure))
        self._log.end = "quit, not all was removed"

    def _abandon(self) -> None:
        done = self._maildrop.abandon(frozenset(self._session.retrieved))
        self._await(done, lambda _: self._leave(), self._abandoned)

    def _abandoned(self, failure: Failure) -> None:
        self._log.failed(failure, "marking as read")
        self._leave()

    def _settle(self) -> None:
        """Once the line is down and no answer is owed, the session is gone."""
        if self._working:
            return
        self._close_body()
        if self._give_back is not None:
            self._abandon()
        else:
            self._factory.closed(self)

    def drain(self) -> None:
        """The server is stopping: finish what is running, then go."""
        self._draining = True
        self._pump()

    def abort(self) -> None:
        """Close now, whatever is waiting to be sent."""
        self._over = True
        self.transport.abortConnection()

    # -- time ----------------------------------------------------------------

    def _patience(self) -> float:
        """Seconds without progress that are allowed in the present state."""
        patience, profile = self._factory.patience, self._session.profile
        if self._over or self._paused:
            return patience.stall
        if self._working:
            return patience.work
        if self._session.state is State.AUTHORIZATION:
            return profile.preauth_idle_timeout
        return profile.idle_timeout

    def _expired(self) -> None:
        if self._over or self._paused:
            self._log.end = "stalled"
            self.abort()
        elif self._working:
            self._log.end = "a back-end took too long"
            self._log.late()
            self._session.give_up(TookTooLong())
        else:
            self._log.end = "idle"
            self._session.idle()
        self._pump()


def _error(failure: Failure) -> BaseException:
    assert failure.value is not None
    return failure.value
