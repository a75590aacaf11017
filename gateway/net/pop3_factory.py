"""The POP3 factory, for listeners and for endpoints of other applications."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import evolve, frozen
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from gateway.admission.local import LocalAdmission
from gateway.auth.login import PortalLogin
from gateway.events import Emit
from gateway.interfaces import IAdmission
from gateway.model import Connection
from gateway.net.fair_turns import FairTurns
from gateway.net.pop3_protocol import POP3Protocol
from gateway.net.proxy_protocol import ProxyTls, is_secure_at
from gateway.net.sessions import SessionFactory
from gateway.net.timeouts import Timeouts
from gateway.networks import LOOPBACK, Network, within
from gateway.observe.log import emit_to_log
from gateway.pop3.capabilities import Line
from gateway.pop3.profile import Profile
from gateway.pop3.session import Session
from gateway.sasl.mechanisms import MECHANISMS, Maker

__all__ = ["POP3Factory", "POP3Options"]


@frozen
class POP3Options:
    """How a POP3 listener behaves.  The defaults are those of the sample configuration."""

    profile: Profile = Profile()
    tls: object | None = None
    """An ``IOpenSSLServerConnectionCreator``, for STLS; None: no STLS."""

    secure_networks: Sequence[Network] = LOOPBACK
    """Clients in these networks may send passwords without TLS."""

    xclient_networks: Sequence[Network] = ()
    """Proxies in these networks may name their client by XCLIENT."""

    proxy_tls: ProxyTls = "off"
    """Which clients that XCLIENT names count as secure."""

    mechanisms: Mapping[str, Maker] = MECHANISMS
    """SASL mechanisms; the profile names those that are offered."""

    identify: Callable[[str], Deferred[str]] | None = None
    """Finds the account name of a login name, an empty one for none.

    For directories that lock accounts: guesses count for the account, however
    its name is spelt.
    """

    timeouts: Timeouts = Timeouts()
    """``handshake`` is the profile's ``preauth_idle_timeout``."""

    greeting: str = ""
    convert_cr: bool = False
    """RETR sends a lone CR as CRLF."""

    expire: Callable[[], str] = str
    """The parameters of EXPIRE before login (RFC 2449 section 6.7); empty: no EXPIRE.

    Called at each connection, so it must not block.
    """


class POP3Factory(SessionFactory):
    """A POP3 server for any portal.

    ``POP3Factory(portal)`` is enough: an avatar that provides ``IMaildrop``
    is used as it is, a classic ``twisted.mail.pop3.IMailbox`` is wrapped.
    """

    protocol_name = "pop3"

    def __init__(
        self,
        portal: Portal,
        options: POP3Options = POP3Options(),
        *,
        admission: IAdmission | None = None,
        emit: Emit = emit_to_log,
        clock: IReactorTime | None = None,
        turns: FairTurns | None = None,
    ) -> None:
        """``admission``: limits that other factories may share; None: the default limits.

        ``emit`` takes events; logins take ``turns``, which others may share.  For
        implicit TLS use an ``ssl:`` endpoint.
        """
        if admission is None:
            admission = LocalAdmission(lambda: self.clock, profile=options.profile)
        super().__init__(admission, emit=emit, clock=clock, turns=turns)
        self.configure(portal, options)

    def configure(self, portal: Portal, options: POP3Options) -> None:
        """Another portal and options from now on.

        An open session keeps its profile, but a client that has yet to log in logs in to the
        new portal.
        """
        profile = options.profile
        usable = tuple(name for name in profile.mechanisms if name in options.mechanisms)
        self.profile = evolve(profile, mechanisms=usable)
        self.tls = options.tls
        self.timeouts = evolve(options.timeouts, handshake=profile.preauth_idle_timeout)
        self.login = PortalLogin(portal, self.admission, options.identify)
        self.mechanisms = options.mechanisms
        self._options = options
        self._trusts = within(options.secure_networks)
        self._is_proxy = within(options.xclient_networks)

    def buildProtocol(self, addr: object) -> POP3Protocol:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        return POP3Protocol(self, addr)

    def session(self, connection: Connection) -> Session:
        """A new session."""
        line = Line(
            secure=connection.secure,
            can_start_tls=self.tls is not None and not connection.secure,
            trusted=self._trusts(connection.host),
            xclient=self._is_proxy(connection.host),
        )
        options = self._options
        return Session(
            self.profile,
            line,
            greeting=options.greeting,
            convert_cr=options.convert_cr,
            expire=options.expire(),
        )

    def beliefs(self, client: Connection, tls: bool) -> tuple[bool, bool]:
        """Whether a client behind a proxy may send passwords without TLS, and whether it has TLS.

        ``tls``: the proxy says so.
        """
        return self._trusts(client.host), is_secure_at(self._options.proxy_tls, tls)
