"""POP3 on a transport: performs what a session asks for, one action at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network

from attrs import evolve
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory

from gateway.admission.limits import ConnectionLimits
from gateway.admission.login_delay import LoginDelay
from gateway.admission.throttle import Throttle
from gateway.auth.login import PortalLogin
from gateway.events import Emit
from gateway.model import Connection
from gateway.net.clock import installed_clock
from gateway.net.fair_turns import FairTurns
from gateway.net.pop3_protocol import POP3Protocol
from gateway.net.sessions import Sessions
from gateway.net.timeouts import Timeouts
from gateway.networks import Network, within
from gateway.observe.log import emit_to_log
from gateway.pop3.capabilities import Line
from gateway.pop3.profile import Profile
from gateway.pop3.session import Session
from gateway.sasl.mechanisms import MECHANISMS, Maker

__all__ = ["POP3Factory"]

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class POP3Factory(ServerFactory):
    """A POP3 server before any portal.

    ``POP3Factory(portal)`` is enough: an avatar that provides ``IMaildrop``
    is used as it is, a classic ``twisted.mail.pop3.IMailbox`` is wrapped.
    """

    noisy = False

    def __init__(
        self,
        portal: Portal,
        *,
        profile: Profile | None = None,
        tls: object | None = None,
        secure_networks: Sequence[Network] = LOOPBACK,
        mechanisms: Mapping[str, Maker] = MECHANISMS,
        connection_limits: ConnectionLimits | None = None,
        login_delay: LoginDelay | None = None,
        throttle: Throttle | None = None,
        identify: Callable[[str], Deferred[str]] | None = None,
        timeouts: Timeouts | None = None,
        greeting: str = "",
        convert_cr: bool = False,
        expire: Callable[[], str] = str,
        emit: Emit = emit_to_log,
        clock: IReactorTime | None = None,
        turns: FairTurns | None = None,
    ) -> None:
        """What is not said is as in the sample configuration.

        ``tls``, an ``IOpenSSLServerConnectionCreator``, makes STLS available;
        for implicit TLS wrap the factory or use an ``ssl:`` endpoint.
        ``secure_networks`` may send passwords over an unencrypted line;
        ``throttle`` slows down who guesses them, ``identify`` tells it whose login
        name one is.  What happens before a login happens in ``turns``, which others
        may share.  ``expire`` gives the parameters of EXPIRE before login (RFC 2449
        section 6.7): asked at each connection, so it must be quick; empty: none.
        ``emit`` takes what happens; by default the log does.
        """
        self.login = PortalLogin(portal, throttle, lambda: self.clock, identify)
        profile = profile or Profile()
        usable = tuple(name for name in profile.mechanisms if name in mechanisms)
        self.profile = evolve(profile, mechanisms=usable)
        self.tls = tls
        self.mechanisms = mechanisms
        self.connection_limits = connection_limits or ConnectionLimits()
        self.login_delay = (
            LoginDelay(self.profile, lambda: self.clock.seconds())
            if login_delay is None
            else login_delay
        )
        self.timeouts = evolve(timeouts or Timeouts(), handshake=self.profile.preauth_idle_timeout)
        self.emit = emit
        self._greeting = greeting
        self._expire = expire
        self._convert_cr = convert_cr
        self._clock = clock
        self.turns = turns or FairTurns(lambda: self.clock)
        self._sessions: Sessions[POP3Protocol] = Sessions(lambda: self.clock)
        self.opened, self.closed = self._sessions.opened, self._sessions.closed
        self._trusts = within(secure_networks)

    @property
    def clock(self) -> IReactorTime:
        """Where the time comes from."""
        if self._clock is None:
            self._clock = installed_clock()
        return self._clock

    def buildProtocol(self, addr: object) -> POP3Protocol:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        return POP3Protocol(self, addr)

    def session(self, connection: Connection) -> Session:
        """A new session."""
        line = Line(
            secure=connection.secure,
            can_start_tls=self.tls is not None and not connection.secure,
            trusted=self._trusts(connection.host),
        )
        return Session(
            self.profile,
            line,
            greeting=self._greeting,
            convert_cr=self._convert_cr,
            expire=self._expire(),
        )

    def drain(self, seconds: float) -> Deferred[None]:
        """Let running work finish, close what is idle, and after ``seconds`` all that is left.

        Fires when no session holds anything any more, at the latest a moment
        after ``seconds``.
        """
        return self._sessions.drain(seconds)

    def abort(self) -> None:
        """End all sessions now."""
        self._sessions.abort()
