"""One POP3 connection in memory: the real factory, session and store, a fake line and clock."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import alsoProvides

from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.events import Emit
from gateway.interfaces import IAdmission
from gateway.model import Account, Terms
from gateway.net.pop3_factory import POP3Factory, POP3Options
from gateway.observe.log import emit_to_log
from gateway.pop3.profile import PROFILES, Profile
from gateway.store.memory import MemoryMailbox, MemoryStore

ALICE, SECRET = "alice@example.org", "wonderland"
MESSAGES = (
    b"Subject: one\r\n\r\nfirst\r\n",
    b"Subject: two\r\n\r\n.dot\r\nsecond\r\n",
    b"x\r\n\r\n",
)


class Line(StringTransport):
    """A transport that tells whether and how it was closed."""

    def __init__(self, host: str) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 54321))
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As a TCP transport has it."""
        self.no_delay = enabled

    def abortConnection(self) -> None:
        """As a TCP transport has it."""
        self.aborted = True
        self.disconnecting = True


class Ticking(Clock):
    """A clock on which time passes whenever somebody looks at it."""

    tick = 0.00002

    def seconds(self) -> float:
        """Later each time."""
        self.rightNow += self.tick
        return float(self.rightNow)

    def pass_(self, seconds: float) -> None:
        """Time passes while something is being done."""
        self.rightNow += seconds

    def turn(self) -> None:
        """What is due by now is done; what that brings about is not."""
        due = [call for call in self.calls if call.getTime() <= self.rightNow]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class Wire:
    """A server, and any number of clients of it."""

    def __init__(
        self,
        messages: Iterable[bytes] = MESSAGES,
        *,
        profile: Profile | None = None,
        passwords: Mapping[str, str] | None = None,
        store: Any = None,
        portal: Portal | None = None,
        terms: Callable[[Account], Terms] = lambda _: Terms(),
        clock: Clock | None = None,
        limits: ConnectionLimits = ConnectionLimits(),
        throttle: ThrottleLimits | None = None,
        admission: Callable[[LocalAdmission], IAdmission | None] = lambda local: local,
        emit: Emit = emit_to_log,
        **options: Any,
    ) -> None:
        """``options``: of ``POP3Options``; ``admission``: what takes the place of the local one."""
        self.clock = clock or Clock()
        self.directory = MemoryDirectory(passwords or {ALICE: SECRET})
        self.store = store if store is not None else MemoryStore()
        if store is None:
            self.mailbox: MemoryMailbox = self.store.add(ALICE)
            for message in messages:
                self.mailbox.deliver(message)
        profile = profile or PROFILES["exchange2010"]
        local = LocalAdmission(
            lambda: self.clock, limits=limits, throttle=throttle, profile=profile
        )
        self.login_delay = local.login_delay
        door = admission(local)
        if portal is None:
            verified = PasswordCache(self.clock.seconds, ttl=60, size=10)
            checker = PasswordChecker(self.directory, verified)
            realm = MaildropRealm(self.directory, self.store, terms=terms, admission=door)
            portal = Portal(realm, [checker])
        self.factory = POP3Factory(
            portal,
            POP3Options(profile, **options),
            admission=door,
            emit=emit,
            clock=self.clock,
        )

    def connect(self, host: str = "127.0.0.1", *, secure: bool = False) -> Client:
        """A new client; its greeting is read."""
        client = Client(self, host, secure=secure)
        client.greeting = client.read()
        return client

    def login(self, **where: Any) -> Client:
        """A new client that is logged in."""
        client = self.connect(**where)
        client.log_in()
        return client


class Client:
    """The far end of one connection."""

    def __init__(self, wire: Wire, host: str, *, secure: bool) -> None:
        self.wire = wire
        self.greeting = b""
        self.line = Line(host)
        if secure:
            alsoProvides(self.line, ISSLTransport)
        self.protocol = wire.factory.buildProtocol(None)
        self.protocol.makeConnection(self.line)

    def send(self, *lines: bytes) -> bytes:
        """Send lines in one piece, CRLF added; what came back by now."""
        return self.send_octets(b"".join(line + b"\r\n" for line in lines))

    def send_octets(self, octets: bytes) -> bytes:
        """Send octets as they are; what came back by now."""
        if not self.line.disconnecting:
            self.protocol.dataReceived(octets)
        return self.read()

    def read(self) -> bytes:
        """What came since it was last read, all turns taken."""
        while self.wire.clock.calls and self.wire.clock.calls[0].getTime() <= (
            self.wire.clock.seconds()
        ):
            self.wire.clock.advance(0)
        data = self.line.value()
        self.line.clear()
        return data

    def log_in(self, name: str = ALICE, password: str = SECRET) -> bytes:
        """USER and PASS."""
        self.send(b"USER " + name.encode())
        return self.send(b"PASS " + password.encode())

    def lines(self, command: bytes) -> list[bytes]:
        """The lines of a multi-line response, dots as they were sent."""
        status, *lines, end, nothing = self.send(command).split(b"\r\n")
        assert status.startswith(b"+OK"), status
        assert (end, nothing) == (b".", b"")
        return lines

    def message(self, command: bytes) -> bytes:
        """The message that RETR or TOP gives, un-stuffed."""
        lines = self.lines(command)
        return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines)

    def hang_up(self) -> None:
        """Drop the connection without a word."""
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        self.protocol.connectionLost(Failure(ConnectionLost()))

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.line.disconnecting


def b64(octets: bytes) -> bytes:
    """One line of base64."""
    return base64.b64encode(octets)


def plain(name: str = ALICE, password: str = SECRET, authzid: str = "") -> bytes:
    """PLAIN's message (RFC 4616) in base64."""
    return b64(f"{authzid}\0{name}\0{password}".encode())
