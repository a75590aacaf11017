"""One POP3 connection: it performs a session's logins, fetches and commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate
from twisted.cred.credentials import ICredentials, UsernamePassword
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.auth.login import Opened
from gateway.errors import GatewayError, MechanismUnknown
from gateway.events import (
    ActionFailed,
    ConnectionRefused,
    LoginFailed,
    LoginSucceeded,
    POP3SessionEnded,
    Problem,
)
from gateway.interfaces import (
    Challenge,
    IBody,
    IHeaderMaildrop,
    IMaildrop,
    IMechanism,
    IQuickMaildrop,
    IWholeBody,
    Leave,
    Proven,
)
from gateway.model import Connection, Form, Listing, OpenSession, Peer, Proxy
from gateway.net.command_times import CommandTimes
from gateway.net.shell import Shell
from gateway.net.tls.context import TLSConnection
from gateway.observe.failures import problem_in
from gateway.pop3.actions import Action, Commit, Fetch, HangUp, Login, StartTLS, Step, XClient
from gateway.pop3.session import Session, State
from gateway.saslprep import shown_name
from gateway.wire.outgoing import SLICE

if TYPE_CHECKING:
    from gateway.net.pop3_factory import POP3Factory


class POP3Protocol(Shell):
    """The shell around one ``Session``."""

    __slots__ = (
        *("_body", "_end", "_give_back", "_leave_mailbox", "_maildrop", "_mechanism", "_method"),
        *("_reason", "_retrieve_header", "_small_for_header", "_small_message", "_times", "_user"),
    )

    log = Logger()
    input_high = 64 * 1024
    _factory: POP3Factory
    _session: Session
    _maildrop: IMaildrop
    """The maildrop; set at login."""

    def __init__(self, factory: POP3Factory, address: object) -> None:
        super().__init__(factory, address)
        self._user = ""
        """The login name, as far as the client has given one."""
        self._method = ""
        """``PASS`` or the SASL mechanism."""
        self._end = ""
        """How the session ended; empty: the client closed the connection."""
        self._reason = ""
        """Why it ended so, or why nobody logged in, unless another event has the reason."""
        self._mechanism: IMechanism | None = None
        self._give_back: Callable[[], object] | None = None
        self._leave_mailbox: Leave | None = None
        self._body: IBody | None = None
        self._small_message: Callable[[int], tuple[bytes, Form] | None] | None = None
        """Reads a small message at once, in a maildrop that can."""
        self._small_for_header = self._small_message
        """The same for TOP 0; None too where the header can be read alone."""
        self._retrieve_header: Callable[[int], Deferred[IBody]]
        """Opens a message, or only its header in a maildrop that can; set at login."""

    # -- the line ------------------------------------------------------------

    def _greet(self) -> None:
        """Send the greeting, even while a back-end is down."""
        factory = self._factory
        session = factory.session(self.connection)
        self._login_turns = factory.turns
        self._times = CommandTimes(self, session, factory.clock.seconds, factory.emit)
        self._open(session)

    def _refuse(self, error: GatewayError) -> None:  # noqa: ARG002
        if ISSLTransport.providedBy(self.transport):
            # A TLS handshake would cost more than the rejected connection.
            self.transport.abortConnection()
        else:
            self.transport.write(b"-ERR [SYS/TEMP] Too many connections.\r\n")
            self.transport.loseConnection()

    @property
    def names(self) -> set[str]:
        """The login name, also of a login that failed, and the mailbox."""
        claimed = shown_name(self._session.not_logged_in[0])
        return {self._user, claimed, self.mailbox} - {""}

    def _logged_in(self) -> str:
        is_trying = self._working and self._session.state is State.AUTHORIZATION
        return self._user if is_trying or self._give_back is not None else ""

    @property
    def mailbox(self) -> str:
        """The mailbox, from the opening of the maildrop to the last reply."""
        return "" if self._give_back is None else self._maildrop.name

    @property
    def shown(self) -> OpenSession:
        """The session, for an operator."""
        counts, shown = self._session.counts, super().shown
        octets = counts.retr_octets + counts.top_octets
        return shown._replace(method=self._method if shown.user else "", octets=octets)

    def _state(self) -> str:
        session = self._session
        if session.state is State.AUTHORIZATION:
            return "logging in" if self._working else "before login"
        if session.state is State.UPDATE:
            return "removing"
        return "sending" if session.fetching or self._paused else "logged in"

    def _is_finishing(self) -> bool:
        return self._session.state is State.UPDATE

    def _ended(self) -> None:
        """Emit the session's end.  Without QUIT nothing is removed."""
        self._times.end()
        session, counts = self._session, self._session.counts
        name, refusal = session.not_logged_in
        self._factory.emit(
            POP3SessionEnded(
                self.connection,
                self._end or "dropped",
                self._user or shown_name(name),
                self._tls_version(session.line.secure),
                self._method,
                counts.retr,
                counts.retr_octets,
                counts.top,
                counts.top_octets,
                counts.removed,
                len(session.marks.listing.sizes),
                self._seconds() - self._started,
                self._reason or refusal,
            )
        )

    def _ending(self, how: str, reason: str = "") -> None:
        self._end, self._reason = how, reason

    def _settle(self) -> None:
        if self._working:
            return
        self._close_body()
        if self._give_back is not None:
            self._abandon()
        else:
            self._factory.closed(self)

    def _timeouts(self) -> float:
        timeouts, profile = self._factory.timeouts, self._session.profile
        if self._over or self._paused:
            return timeouts.stall
        if self._working:
            return timeouts.work
        if self._session.state is State.AUTHORIZATION:
            return profile.preauth_idle_timeout
        return profile.idle_timeout

    # -- actions -------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case Fetch():
                small = self._small_message if action.lines != 0 else self._small_for_header
                if small is None or (text := small(action.message)) is None:
                    whole, header = self._maildrop.retrieve, self._retrieve_header
                    opened = (header if action.lines == 0 else whole)(action.message)
                    self._await(opened, self._fetched, self._unfetched)
                else:
                    self._session.message(*text)
            case Login():
                self._method = "PASS"
                self._authenticate(UsernamePassword(action.name, action.password))
            case Step():
                self._step(action)
            case Commit():
                done = self._maildrop.finish(action.removed, action.retrieved)
                self._await(done, self._committed, self._uncommitted)
            case StartTLS():
                self._start_tls()
            case XClient():
                self._behind_proxy(action)
            case HangUp():
                self._hang_up(action.abort)

    def _hang_up(self, abort: bool) -> None:
        self._end = self._end or ("aborted" if abort else "quit")
        if self._give_back is not None and self._session.marks.retrieved:
            # Without QUIT retrieved messages are still marked as read.
            self._abandon()
        else:
            self._leave()
        super()._hang_up(abort)

    # -- XCLIENT -------------------------------------------------------------

    def _behind_proxy(self, action: XClient) -> None:
        """Count the client in place of its proxy."""
        before, host = self.connection, action.host or self.connection.host
        proxy = Proxy(before.host, action.session)
        client = before._replace(host=host, proxy=proxy)
        leave, self._disconnect = self._disconnect, _nothing
        assert leave is not None
        leave()
        asked = self._factory.admit(client)
        self._await(asked, partial(self._identified, client, action.tls), self._unwanted(client))

    def _identified(self, client: Connection, tls: bool, disconnect: Leave) -> None:
        if self._lost:
            disconnect()
            return
        self._disconnect = disconnect
        trusted, tls = self._factory.beliefs(client, tls)
        secure = self.connection.secure or tls
        self.connection = client._replace(secure=secure)
        self._session.identified(trusted=trusted, secure=secure)

    def _unwanted(self, client: Connection) -> Callable[[Failure], None]:
        def refused(failure: Failure) -> None:
            failure.trap(GatewayError)
            self._factory.emit(ConnectionRefused(client, "pop3", str(failure.value)))
            self._session.give_up(_error(failure))

        return refused

    # -- login ---------------------------------------------------------------

    def _step(self, action: Step) -> None:
        if action.first:
            self._method = action.mechanism
            make = self._factory.mechanisms.get(action.mechanism)
            if make is None:
                # A reload has taken it away since the session began.
                self._login_failed(Failure(MechanismUnknown(action.mechanism)))
                return
            self._mechanism = make(self._peer())
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

    def _authenticate(self, credentials: ICredentials) -> None:
        self._user = shown_name(bytes(getattr(credentials, "username", b"")))
        login = self._factory.login(credentials, self._peer())
        self._await(login, self._enter, self._login_failed)

    def _peer(self) -> Peer:
        id_, host, secure, listener, *_ = self.connection
        return Peer(host, secure, id_, self._certificates if secure else tuple, listener)

    def _certificates(self) -> Sequence[bytes]:
        connection = getattr(self.transport, "getHandle", lambda: None)()
        if isinstance(connection, TLSConnection):
            return connection.certificates
        shown = getattr(connection, "get_certificate", lambda: None)()
        if shown is not None:
            return (dump_certificate(FILETYPE_ASN1, shown),)
        # TLS has ended at a proxy, which may have a copy of the certificate.
        return [one.der for one in getattr(self._factory.tls, "certificates", ())]

    def _enter(self, opened: Opened) -> None:
        self._maildrop, self._give_back = opened
        quick = IQuickMaildrop(self._maildrop, None)
        self._small_message = None if quick is None else quick.small_message
        headers = IHeaderMaildrop(self._maildrop, None)
        retrieve = self._maildrop.retrieve
        self._retrieve_header = retrieve if headers is None else headers.retrieve_header
        # A message at hand would save a question to the database, but count as read: the
        # store would fetch the one after it, of which the client wants the header only.
        self._small_for_header = self._small_message if headers is None else None
        if self._over:
            self._leave()
            return
        self._await(self._maildrop.listing(), self._listed, self._login_failed)

    def _listed(self, listing: Listing) -> None:
        if self._over:
            self._leave()
            return
        maildrop = self._maildrop
        asked = self._factory.admission.enter(self.connection, maildrop.name, maildrop.terms)
        self._await(asked, partial(self._entered, listing), self._login_failed)

    def _entered(self, listing: Listing, leave: Leave) -> None:
        self._leave_mailbox = leave
        if self._over:
            self._leave()
            return
        mailbox = self._maildrop
        self._session.logged_in(listing, mailbox.terms)
        self._login_turns = None
        tls = self._tls_version(self._session.line.secure)
        self._factory.emit(
            LoginSucceeded(self.connection, self._user, mailbox.name, self._method, tls)
        )
        profile = self._session.profile
        if profile.idle_timeout < profile.preauth_idle_timeout:
            self._idle_timer.hurry()

    def _login_failed(self, failure: Failure) -> None:
        self._leave()
        problem = self._problem(failure, "login")
        tls = self._tls_version(self._session.line.secure)
        self._factory.emit(LoginFailed(self.connection, self._user, self._method, problem, tls))
        with suppress(AttributeError):  # there may be none yet
            del self._maildrop
        if not self._over:
            self._session.login_failed(_error(failure))

    def _leave(self) -> None:
        """Give back the maildrop before the last reply: the client may log in again at once."""
        give_back, self._give_back = self._give_back, None
        if self._leave_mailbox is not None:
            self._leave_mailbox()
        if give_back is not None:
            try:
                give_back()
            except Exception:
                self.log.failure("session {id}: internal error", id=self.connection.id)

    # -- messages ------------------------------------------------------------

    def _fetched(self, body: IBody) -> None:
        whole: IWholeBody | None = IWholeBody(body, None)
        if self._over:
            body.close()
        elif whole is not None and len(whole.content) <= SLICE:
            whole.close()
            self._session.message(whole.content, whole.form)
        else:
            self._body = body
            self._session.fetched(body.form)
            self._read_on = self._read_more

    def _unfetched(self, failure: Failure) -> None:
        self._action_failed(failure, "fetch")
        if not self._over:
            self._session.fetch_failed(_error(failure))

    def _read_more(self) -> None:
        """Read without waiting: all of a small message, a piece of a large one."""
        session, body = self._session, self._body
        if body is None or not session.fetching:
            # It was given up.
            self._read_on = None
            return
        try:
            while data := body.read_now():
                session.body(data)
                if not session.wants_body:
                    break
                if session.output.length >= SLICE or self._is_time_up():
                    return
        except GatewayError:
            self._unread(Failure())
            return
        if data is None:
            self._read_on = None
            self._await(body.read(), self._read, self._unread)
        else:
            self._end_body()

    def _read(self, data: bytes) -> None:
        session = self._session
        if self._over:
            self._close_body()
            return
        if data:
            session.body(data)
        if data and session.wants_body:
            self._read_on = self._read_more
        else:
            self._end_body()

    def _end_body(self) -> None:
        self._close_body()
        if self._session.fetching:
            self._session.body_ended()

    def _unread(self, failure: Failure) -> None:
        self._close_body()
        self._unfetched(failure)

    def _close_body(self) -> None:
        body, self._body, self._read_on = self._body, None, None
        if body is not None:
            body.close()

    # -- the end -------------------------------------------------------------

    def _committed(self, _: None) -> None:
        self._leave()
        if not self._over:
            self._session.committed()
        self._end = "quit"

    def _uncommitted(self, failure: Failure) -> None:
        self._action_failed(failure, "QUIT")
        self._leave()
        if not self._over:
            self._session.commit_failed(_error(failure))
        self._end = "quit, not all was removed"

    def _abandon(self) -> None:
        done = self._maildrop.abandon(frozenset(self._session.marks.retrieved))
        self._await(done, lambda _: self._leave(), self._abandoned)

    def _abandoned(self, failure: Failure) -> None:
        self._action_failed(failure, "marking as read")
        self._leave()

    def _action_failed(self, failure: Failure, action: str) -> None:
        problem = self._problem(failure, action)
        self._factory.emit(ActionFailed(self.connection, self._user, action, problem))

    def _problem(self, failure: Failure, doing: str) -> Problem:
        what = "session {id}: {doing} of {user} from {host} failed"
        id_, host, *_ = self.connection
        return problem_in(failure, self.log, what, id=id_, doing=doing, user=self._user, host=host)


def _nothing() -> None:
    """Give back nothing: no place is taken."""


def _error(failure: Failure) -> BaseException:
    assert failure.value is not None
    return failure.value
