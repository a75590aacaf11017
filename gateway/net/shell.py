"""What all protocols have in common: a session on a transport, with timeouts for both sides."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import Kicked, TookTooLong
from gateway.events import HEALTH_CHECK, TLSEstablished
from gateway.model import OpenSession
from gateway.net.acceptor import AdmittedProtocol
from gateway.net.direct_writer import DirectWriter, Writer
from gateway.net.fair_turns import FIRST_TURN, TURN, FairTurns
from gateway.net.sessions import SessionFactory
from gateway.net.timeouts import IdleTimer
from gateway.net.tls.errors import reason_of
from gateway.net.tls.transport import TLSTransport, begin_tls, is_tls
from gateway.networks import is_here
from gateway.wire.dialogue import Dialogue
from gateway.wire.outgoing import SLICE

TLS_RECORD = b"\x16"
"""How a TLS handshake begins (RFC 8446 section 5.1), and no command of any protocol."""


@implementer(IPushProducer, IHalfCloseableProtocol, IHandshakeListener)
class Shell(AdmittedProtocol):
    """One connection: it feeds the session, performs its actions and gives the answers back."""

    __slots__ = (
        *("_deaf", "_draining", "_handshaking", "_idle_timer", "_input_ended", "_kicked_by"),
        *("_login_turns", "_paused", "_pumping", "_queued", "_read_on", "_seconds", "_session"),
        *("_started", "_time_is_up", "_turn_ends", "_version", "_working", "_writer", "wrote"),
    )

    input_high: int
    """Octets that may wait to be parsed before the client is no longer read from."""

    _session: Dialogue[Any]
    _writer: Writer
    _idle_timer: IdleTimer
    _seconds: Callable[[], float]
    """The clock, looked up once: it is read after each command."""

    def __init__(self, factory: SessionFactory, address: object) -> None:
        """``address``: what the factory's ``buildProtocol`` was given."""
        super().__init__(factory, address)
        self._working = 0
        """Answers that back-ends owe; a closed connection still waits for them."""
        self._pumping = False
        self._queued = False
        """The session waits for its turn."""
        self._login_turns: FairTurns | None = None
        """The queue for its turns before the login; None: it takes its turns at once."""
        self._turn_ends = 0.0
        self._time_is_up = False
        self._paused = False
        self._deaf = False
        self._read_on: Callable[[], None] | None = None
        """Reads on in the message that is being sent; None: there is nothing to read now."""
        self._input_ended = False
        """The client has closed its side; it still gets its replies."""
        self._handshaking = False
        self._version = ""
        """Of TLS, as OpenSSL names it; empty: none here."""
        self._draining = False
        self._kicked_by = ""
        """The operator who ends the session; empty: none does."""
        self.wrote = 0.0
        """When something was written last."""

    # -- what each protocol has of its own -----------------------------------

    @abstractmethod
    def _perform(self, action: Any) -> None:
        """Perform the action and answer it, now or later."""

    @abstractmethod
    def _ended(self) -> None:
        """Report the end of the session: the connection is closed."""

    @abstractmethod
    def _settle(self) -> None:
        """Give back what the session holds, once no back-end owes an answer."""

    @abstractmethod
    def _timeouts(self) -> float:
        """Seconds without progress after which the present state times out."""

    def _ending(self, how: str, reason: str = "") -> None:
        """Record how the session ends, and why where that is not plain."""

    # -- the transport's side ------------------------------------------------

    def _open(self, session: Dialogue[Any]) -> None:
        """Begin the session."""
        transport, factory = self.transport, self._factory
        clock = factory.clock
        self._session = session
        self._seconds = clock.seconds
        self._started = self._seconds()
        factory.opened(self)
        if not self.connection.listener:
            # On an endpoint of an application; sockets of listeners have the option already.
            # A small reply that waits for the client's delayed ACK takes 40 ms.
            with suppress(OSError, AttributeError):  # a UNIX socket has no such thing
                transport.setTcpNoDelay(True)
        self._handshaking = is_tls(transport)
        is_ours = self._handshaking and isinstance(transport, TLSTransport)
        self._writer = transport if is_ours else DirectWriter(transport)
        self._writer.register(self)
        self._idle_timer = IdleTimer(clock, self._started, self._allowed, self._expired)
        self._heard()

    @property
    def shown(self) -> OpenSession:
        """The session, for an operator."""
        id_, host, secure, listener, *_ = self.connection
        return OpenSession(
            id_,
            self._factory.protocol_name,
            self._logged_in(),
            host,
            listener,
            secure,
            time.time() - (self._seconds() - self._started),
            self.mailbox,
            tls=self._version,
            state="closing" if self._over else self._state(),
        )

    @property
    def mailbox(self) -> str:
        """The mailbox that the session has open; empty: none."""
        return ""

    def _state(self) -> str:
        """What the session does, for an operator."""
        return "working" if self._working else "idle"

    @property
    def names(self) -> set[str]:
        """The login names, addresses and mailboxes that it is of, as far as known."""
        return set()

    @property
    def session(self) -> Any:
        """The session, a ``Dialogue``, for a trace."""
        return self._session

    def _logged_in(self) -> str:
        """The login name; empty: nobody has logged in."""
        return ""

    def dataReceived(self, data: bytes) -> None:
        """Take what the client has sent."""
        if self._over:
            return
        if self._disconnect is None:
            self._early += data
            return
        if data[:1] == TLS_RECORD and self._nothing_came():
            self._ending("TLS to a plain port", "the client begins TLS without asking for it")
            self._hang_up(abort=False)
            return
        self._session.receive(data)
        self._heard()

    def _nothing_came(self) -> bool:
        return not (is_tls(self.transport) or self._session.taken or self._session.backlog)

    def readConnectionLost(self) -> None:
        """The client has closed its side."""
        if self._over:
            return
        if self._handshaking:
            self._tell_of_tls(None)
            self.abort()
            return
        self._input_ended = True
        self._heard()

    def writeConnectionLost(self) -> None:
        """Never called: our side closes both directions at once."""

    def handshakeCompleted(self) -> None:
        """The TLS handshake is complete."""
        self._handshaking = False
        self._idle_timer.touch()
        self._idle_timer.hurry()
        self._version = self.transport.getHandle().get_protocol_version_name()
        self._factory.emit(TLSEstablished(self.connection, self._version))

    def _heard(self) -> None:
        """Parse what has arrived, now or in this session's turn."""
        if self._queued:
            self._mind_input()
        elif self._login_turns is None:
            self._pump()
        else:
            self._queued = True
            self._login_turns.take(self._at_its_turn)

    def _at_its_turn(self) -> None:
        self._queued = False
        self._pump()

    def _at_a_further_turn(self) -> None:
        self._queued = False
        self._pump(TURN)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is closed."""
        if self._lost:
            return
        if not self._over:
            self._tell_of_tls(reason.value)
        super().connectionLost(reason)
        if self._disconnect is None:
            return
        self._idle_timer.stop()
        self._ended()
        self._settle()

    def _tell_of_tls(self, error: BaseException | None) -> None:
        if isinstance(error, SSL.Error):
            what = "TLS handshake failed" if self._handshaking else "TLS failed"
            self._ending(what, reason_of(error))
        elif self._handshaking and self._tls_began():
            self._ending("TLS handshake failed", "the client closed the connection")
        elif self._handshaking:
            # A check whether the port is open, or a client that waits for a greeting.
            self._ending("dropped before TLS began")

    def _is_from_here(self) -> bool:
        """Whether the client is on this machine."""
        own = str(getattr(self.transport.getHost(), "host", ""))
        return is_here(self.connection.host, own)

    def _tls_version(self, tls: bool) -> str:
        """As in ``POP3SessionEnded``; without a handshake that was to be, and completed: ``no``."""
        return (self._version or "yes") if tls and not self._handshaking else "no"

    def _tls_began(self) -> bool:
        return getattr(self.transport, "began", True)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True
        self._idle_timer.hurry()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._paused = False
        self._idle_timer.touch()
        if not self._queued:
            self._queued = True
            self._factory.turns.resume(self._at_a_further_turn)

    def stopProducing(self) -> None:
        """The connection is closed; ``connectionLost`` follows."""

    # -- the pump ------------------------------------------------------------

    def _pump(self, seconds: float = FIRST_TURN) -> None:
        """Perform actions for ``seconds`` at most.  A loop: answers never enter it again."""
        if self._pumping or self._queued or self._over:
            return
        session, begun = self._session, self._seconds()
        taken = session.taken
        self._pumping = True
        self._turn_ends = begun + seconds
        self._time_is_up = False
        try:
            while not (self._paused or self._over):
                if session.output.length >= SLICE:
                    self._write_slice()
                elif not self._advance():
                    break
                if self._has_more():
                    if self._is_time_up():
                        # A client that pipelines without end waits for the other clients.
                        self._queued = True
                        self._factory.turns.later(self._at_a_further_turn)
                        break
                elif session.needs_input and not (
                    self._kicked_by or self._input_ended or self._draining
                ):
                    # It waits for the client, and there is no reason to end it.
                    break
            if session.output.length and not (self._paused or self._over):
                self._write_slice()
        except Exception:
            self._fault()
        finally:
            self._pumping = False
        if session.taken != taken:
            self._idle_timer.since = begun
        if self._deaf or self._working or self._paused or self._queued:
            self._mind_input()

    def _write_slice(self, *, last: bool = False) -> None:
        output = self._session.output
        data = output.take()
        self._writer.write(data, last=last and not output.length)
        self.wrote = self._seconds()

    def _advance(self) -> bool:
        """Perform the session's next action; False if there is none now."""
        session = self._session
        if self._read_on is not None:
            self._read_on()
            return True
        if self._kicked_by and not (self._is_finishing() or session.closed):
            self._end_kicked()
            return True
        if (action := session.next_action(self._is_time_up)) is not None:
            self._perform(action)
            return True
        if session.output.length >= SLICE or (self._time_is_up and self._has_more()):
            return True
        if self._working or session.closed:
            return False
        if self._input_ended:
            # All commands are answered; a part of a command, or of a message, is of no use.
            self._ending("dropped")
            self._hang_up(abort=False)
        elif self._draining and self._may_leave():
            self._ending("server stopping")
            session.dismiss()
            return True
        return False

    def _has_more(self) -> bool:
        """Whether there may be an action without more input or answers."""
        is_amid = self._read_on is not None or self._session.output.length >= SLICE
        return is_amid or self._session.has_more

    def _may_leave(self) -> bool:
        """Whether a server that stops may end the session now."""
        return True

    def _is_time_up(self) -> bool:
        # It stays true for the rest of the turn, even if the clock is set back.
        if not self._time_is_up:
            self._time_is_up = self._seconds() >= self._turn_ends
        return self._time_is_up

    def _mind_input(self) -> None:
        """Stop reading from a client that is far ahead of its replies, or of a back-end."""
        if self._over or self._input_ended:
            return
        waiting = self._working or self._paused or self._queued
        ahead = waiting and self._session.backlog > self.input_high
        if ahead and not self._deaf:
            self._deaf = True
            self.transport.pauseProducing()
        elif self._deaf and not ahead:
            self._deaf = False
            self.transport.resumeProducing()

    def _flush(self, *, last: bool = False) -> None:
        while self._session.output.length:
            self._write_slice(last=last)

    def _await(
        self, answer: Any, good: Callable[[Any], None], bad: Callable[[Failure], None]
    ) -> None:
        """Call ``good`` or ``bad`` with a back-end's answer, now or when it comes."""
        if answer.called and not answer.paused and not isinstance(answer.result, Failure):
            # The usual case; the pump that asked goes on.
            try:
                good(answer.result)
            except Exception:
                self._fault()
            if self._lost:
                self._settle()
            return
        self._working += 1
        self._idle_timer.touch()

        def answered(result: Any, take: Callable[[Any], None]) -> None:
            self._working -= 1
            self._idle_timer.touch()
            take(result)

        def go_on(_: None) -> None:
            self._pump()
            if self._lost:
                self._settle()

        answer.addCallbacks(answered, answered, callbackArgs=(good,), errbackArgs=(bad,))
        answer.addErrback(self._fault).addCallback(go_on)
        if self._working:
            self._idle_timer.hurry()

    # -- actions of every protocol -------------------------------------------

    def _start_tls(self) -> None:
        if self._factory.tls is None:
            # A reload has taken TLS from the listener since the session began.
            self._ending("aborted", "the listener has no TLS any more")
            self.abort()
            return
        self._flush()
        self._writer.unregister()
        # Not the transport's own startTLS, which would close as soon as the client does.
        self.transport = begin_tls(self._factory.tls, self, self.transport, self._writer)
        self._writer = self.transport
        self._writer.register(self)
        self._paused = False
        self._handshaking = True
        self.connection = self.connection._replace(secure=True)
        self._session.secured()
        self._idle_timer.touch()
        self._idle_timer.hurry()

    def _hang_up(self, abort: bool) -> None:
        self._flush(last=not abort)
        self._over = True
        if self._session.only_quit and self._is_from_here():
            self._ending(HEALTH_CHECK)
        self._writer.unregister()
        if abort:
            self.transport.abortConnection()
        else:
            self._writer.close()
        if not self._lost:
            self._idle_timer.touch()
            self._idle_timer.hurry()

    # -- the end -------------------------------------------------------------

    def drain(self) -> None:
        """The server stops: finish running work, then close."""
        self._draining = True
        if self._handshaking:
            # A client that never goes on with its handshake would hold up the stop.
            self._ending("server stopping")
            self.abort()
        else:
            self._pump()

    def kick(self, operator: str) -> bool:
        """An operator ends the session; False: that is so once running work is done."""
        if self._over or self._is_finishing():
            self._kicked_by = operator
            return not self._working
        self._kicked_by = operator
        if self._handshaking or self._paused or self._session.is_amid_reply:
            # A line more would be taken for a part of the reply, or never be read.
            self._ending("kicked", f"by {operator}")
            self.abort()
        else:
            self._end_kicked()
            self._pump()
        return True

    def _end_kicked(self) -> None:
        self._ending("kicked", f"by {self._kicked_by}")
        if self._session.is_owed:
            self._session.give_up(Kicked())
        else:
            self._session.dismiss()

    def _is_finishing(self) -> bool:
        """Whether work is running that must not be cut."""
        return bool(self._working)

    def _allowed(self) -> float:
        if self._handshaking and not self._over:
            return float(self._factory.timeouts.handshake)
        return self._timeouts()

    def _expired(self) -> None:
        if self._handshaking and not self._over:
            silent = "" if self._tls_began() else ": the client sent nothing, as in plain text"
            self._ending("TLS handshake failed", f"timed out{silent}")
            self.abort()
        elif self._over or self._paused:
            self._ending("stalled")
            self.abort()
        elif self._working:
            self._ending("a back-end took too long")
            self.log.warn("session {id}: a back-end took too long", id=self.connection.id)
            self._session.give_up(TookTooLong())
        else:
            self._ending("idle")
            self._session.idle()
        self._pump()
