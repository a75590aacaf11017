"""Behind a proxy: every protocol sees the client, and who is no proxy gets nowhere."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

import proxy_headers
from certificates import own_certificate
from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.events import ConnectionOpened, ConnectionRefused, Event
from gateway.http.site import BoundedSite
from gateway.interfaces import Leave
from gateway.lmtp.profile import Profile
from gateway.mailboxes.recipients import Recipients
from gateway.model import Connection, Limits, Proxy
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.net.proxy_protocol import MOST_WAITING, ProxyAcceptor, ProxyOptions, ProxyTls
from gateway.net.tls.certificates import Certificate
from gateway.net.tls.context import TLSContext
from gateway.net.tls.transport import TLSFactory
from gateway.networks import within
from gateway.observe.bus import EventBus
from gateway.observe.log import log_lines
from harness import ALICE, SECRET, Line, Wire
from proxy_headers import binary, line, over_tls, tlv

PROXY, CLIENT, HERE = "10.0.0.1", "192.0.2.7", "10.9.9.9"
PROXIES = within([ip_network("10.0.0.0/24")])
PROXIED = [ip_network("192.0.2.0/24")]
"""Clients that may send passwords without TLS."""


class Front:
    """An acceptor before a factory, and lines to it on which a fake reactor delivers."""

    def __init__(self, protocols: Any, *, clock: Clock | None = None, **more: Any) -> None:
        self.events: list[Event] = []
        bus = EventBus()
        bus.subscribe(log_lines())
        bus.subscribe({ConnectionRefused: self.events.append})
        self.clock = clock or Clock()
        secure = more.pop("secure", False)
        options = ProxyOptions(**{"allows": PROXIES, "section": "listeners.a"} | more)
        self.acceptor = ProxyAcceptor(
            *("a", protocols, options),
            protocol="pop3",
            clock=self.clock,
            secure=secure,
            emit=bus.emit,
        )

    def connect(self, host: str = PROXY) -> Delivered | None:
        """A new connection; None: it was closed at once."""
        built = self.acceptor.buildProtocol(IPv4Address("TCP", host, 1))
        return None if built is None else Delivered(built, host, self.clock)

    def refusals(self) -> list[str]:
        """Why connections were closed."""
        return [event.reason for event in self.events]  # type: ignore[attr-defined]


class Delivered(Line):
    """A line that hands what comes to the protocol that has it now, as Twisted's do."""

    protocol: Any

    def __init__(self, protocol: Protocol, host: str, clock: Clock | None = None) -> None:
        super().__init__(host)
        self.hostAddr = IPv4Address("TCP", HERE, 110)
        self.protocol = protocol
        self._clock = clock or Clock()
        protocol.makeConnection(self)

    def send(self, *pieces: bytes) -> bytes:
        """Send, each piece by itself; what came back by now."""
        for piece in pieces:
            if piece and not self.disconnecting:
                self.protocol.dataReceived(piece)
        self.turns()
        said = self.value()
        self.clear()
        return said

    def turns(self) -> None:
        """What is due by now is done."""
        calls = self._clock.calls
        while calls and calls[0].getTime() <= self._clock.seconds():
            self._clock.advance(0)

    def drop(self) -> None:
        """The other side closes."""
        self.disconnecting = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Kept(Protocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.got += data


class Keeper:
    """A factory that keeps the ``Connection`` of each client."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.protocols: list[Kept] = []

    def buildProtocol(self, addr: Connection) -> Kept:
        """As every factory."""
        self.connections.append(addr)
        self.protocols.append(Kept())
        return self.protocols[-1]


def pop3(**how: Any) -> tuple[Wire, Front]:
    """A POP3 server behind a proxy."""
    options = {key: how.pop(key) for key in ("tls", "timeout") if key in how}
    wire = Wire(**how)
    return wire, Front(wire.factory, clock=wire.clock, **options)


class LoggedCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    @property
    def lines(self) -> list[str]:
        """The log."""
        return [*map(str, map(formatEvent, self.events))]


class ConnectionTests(SynchronousTestCase):
    def connection(self, header: bytes, **more: Any) -> Connection:
        keeper = Keeper()
        peer = Front(keeper, **more).connect()
        assert peer is not None
        peer.send(header)
        return keeper.connections[0]

    def test_it_names_the_client_and_its_proxy(self) -> None:
        for header in (line(CLIENT), binary(CLIENT)):
            found = self.connection(header)
            self.assertEqual(found[1:], (CLIENT, False, "a", Proxy(PROXY)))
        found = self.connection(binary("2001:db8::7", tlv(proxy_headers.UNIQUE_ID, b"c0ffee")))
        self.assertEqual((found.host, found.proxy), ("2001:db8::7", Proxy(PROXY, "c0ffee")))

    def test_a_client_without_an_ip_address_counts_as_its_proxy(self) -> None:
        for header in (proxy_headers.OF_A_UNIX_SOCKET, proxy_headers.OF_NO_FAMILY):
            found = self.connection(header)
            self.assertEqual(found[1:], (PROXY, False, "a", Proxy(PROXY)))

    def test_a_proxy_that_connects_for_itself_is_the_client_and_says_so(self) -> None:
        for header in (proxy_headers.LOCAL, proxy_headers.UNKNOWN):
            found = self.connection(header)
            self.assertEqual(found[1:], (PROXY, False, "a", Proxy(PROXY, local=True)))

    def test_tls_at_the_proxy_is_secure_only_where_that_is_set(self) -> None:
        for said, tls, secure in (
            (over_tls(), "stated", True),
            (over_tls(), "off", False),
            (over_tls(0), "stated", False),
            (b"", "stated", False),
            (b"", "always", True),
        ):
            found = self.connection(binary(CLIENT, said), tls=tls)
            self.assertEqual(found.secure, secure)
        self.assertFalse(self.connection(line(CLIENT), tls="stated").secure)
        self.assertTrue(self.connection(line(CLIENT), tls="always").secure)
        self.assertFalse(self.connection(proxy_headers.LOCAL, tls="always").secure)

    def test_tls_at_this_server_is_secure_whatever_the_header_says(self) -> None:
        self.assertTrue(self.connection(line(CLIENT), secure=True).secure)

    @given(
        st.sampled_from([line(CLIENT), binary(CLIENT, over_tls()), proxy_headers.LOCAL]),
        st.binary(max_size=40),
        st.sets(st.integers(0, 120)),
    )
    def test_what_follows_the_header_is_the_clients_wherever_it_is_cut(
        self, header: bytes, more: bytes, cuts: set[int]
    ) -> None:
        keeper, data = Keeper(), header + more
        peer = Front(keeper).connect()
        assert peer is not None
        ends = [*sorted(cuts), len(data)]
        peer.send(*(data[start:end] for start, end in zip([0, *ends], ends, strict=False)))
        (protocol,) = keeper.protocols
        self.assertEqual(protocol.got, more)
        # The transport itself: nothing reads the header's way any more.
        self.assertIs(peer.protocol, protocol)


class RefusedTests(LoggedCase):
    def test_who_is_no_proxy_is_closed_before_a_word_is_read(self) -> None:
        keeper = Keeper()
        peer = Front(keeper).connect("192.0.2.7")
        assert peer is not None
        self.assertTrue(peer.aborted)
        self.assertEqual(peer.send(line(CLIENT)), b"")
        peer.drop()
        self.assertEqual(keeper.connections, [])
        reason = "listeners.a: proxy_networks has no such address"
        (said,) = self.lines
        self.assertTrue(said.startswith("connection_refused: from=192.0.2.7 "), said)
        self.assertTrue(said.endswith(f' reason="{reason}"'), said)

    def test_a_client_on_this_machine_may_connect_for_itself_but_for_nobody_else(self) -> None:
        for host in ("127.0.0.1", HERE):
            keeper = Keeper()
            peer = Front(keeper).connect(host)
            assert peer is not None
            peer.send(proxy_headers.LOCAL)
            self.assertEqual(keeper.connections[0].host, host)
            peer = Front(keeper).connect(host)
            assert peer is not None
            peer.send(line(CLIENT))
            self.assertTrue(peer.aborted)
            self.assertEqual(len(keeper.connections), 1)
            (said,) = self.lines
            self.assertIn(f" from={host} ", said)
            self.assertIn('reason="listeners.a: proxy_networks has no such address"', said)
            self.events.clear()

    def test_without_a_header_or_with_a_wrong_one_it_is_closed_with_one_line(self) -> None:
        for data in (b"CAPA\r\n", b"\x16\x03\x01\x02\x00", b"PROXY TCP4\r\nCAPA\r\n"):
            self.events.clear()
            keeper = Keeper()
            peer = Front(keeper).connect()
            assert peer is not None
            self.assertEqual(peer.send(data, b"more"), b"")
            self.assertTrue(peer.aborted)
            peer.drop()
            self.assertEqual(keeper.connections, [])
            (said,) = self.lines
            self.assertIn(f"connection_refused: from={PROXY} ", said)
            self.assertIn(' reason="listeners.a: ', said)

    def test_a_header_that_does_not_come_or_comes_slowly_has_its_time(self) -> None:
        for pieces in ([], [b"PROXY TCP4"], [bytes([one]) for one in line(CLIENT)]):
            self.events.clear()
            front = Front(Keeper(), timeout=5.0)
            peer = front.connect()
            assert peer is not None
            for piece in pieces or [b""]:
                peer.send(piece)
                front.clock.advance(0.5)
            front.clock.advance(4.5)
            self.assertTrue(peer.aborted)
            peer.drop()
            (said,) = self.lines
            self.assertIn("no whole PROXY header in 5 s", said)
            self.assertEqual(front.clock.getDelayedCalls(), [])

    def test_a_header_in_time_leaves_no_timer(self) -> None:
        front = Front(Keeper())
        peer = front.connect()
        assert peer is not None
        peer.send(line(CLIENT))
        self.assertEqual(front.clock.getDelayedCalls(), [])
        front.clock.advance(60)
        self.assertEqual((front.refusals(), peer.disconnecting), ([], False))

    def test_a_connection_that_is_only_opened_and_closed_has_no_line(self) -> None:
        # As of HAProxy's "check" without "check-send-proxy", and of who looks for open ports.
        front = Front(Keeper())
        peer = front.connect()
        assert peer is not None
        peer.drop()
        self.assertEqual((self.lines, front.clock.getDelayedCalls()), ([], []))

    def test_one_that_ends_within_its_header_has_one(self) -> None:
        front = Front(Keeper())
        peer = front.connect()
        assert peer is not None
        peer.send(b"PROXY TCP4 ")
        peer.drop()
        (said,) = self.lines
        self.assertIn("ended within its PROXY header", said)

    def test_only_so_many_may_wait_for_their_header(self) -> None:
        front = Front(Keeper())
        waiting = [front.connect() for _ in range(MOST_WAITING)]
        self.assertIsNone(front.connect())
        assert waiting[0] is not None
        waiting[0].send(line(CLIENT))
        self.assertIsNotNone(front.connect())
        self.assertEqual(len(front.refusals()), 1)

    def test_a_peer_of_a_unix_socket_has_no_address_to_be_listed(self) -> None:
        keeper = Keeper()
        front = Front(keeper, allows=lambda host: not host)
        built = front.acceptor.buildProtocol(UNIXAddress(None))
        assert built is not None
        Delivered(built, "").send(line(CLIENT))
        self.assertEqual(keeper.connections[0][1:], (CLIENT, False, "a", Proxy("")))


class Pop3Tests(LoggedCase):
    def greeted(self, front: Front, header: bytes = b"") -> Delivered:
        peer = front.connect()
        assert peer is not None
        self.assertEqual(peer.send(b""), b"")
        self.assertTrue(peer.send(header or line(CLIENT)).startswith(b"+OK "))
        return peer

    def test_commands_that_come_with_the_header_are_answered(self) -> None:
        _, front = pop3(secure_networks=PROXIED)
        peer = front.connect()
        assert peer is not None
        login = b"USER %b\r\nPASS %b\r\nSTAT\r\nQUIT\r\n" % (ALICE.encode(), SECRET.encode())
        self.assertEqual(peer.send(line(CLIENT) + login).count(b"+OK"), 5)
        peer.drop()
        (said,) = [one for one in self.lines if "session_end" in one]
        self.assertIn(f" user={ALICE} from={CLIENT} via={PROXY} tls=no method=PASS ", said)

    def test_secure_networks_look_at_the_client(self) -> None:
        for header, allowed in (
            (line("127.0.0.1"), True),
            (line(CLIENT), False),
            (proxy_headers.LOCAL, False),
        ):
            _, front = pop3()
            peer = self.greeted(front, header)
            self.assertEqual(peer.send(b"USER a\r\n").startswith(b"+OK"), allowed)

    def test_a_client_on_tls_at_the_proxy_needs_none_here(self) -> None:
        _, front = pop3(tls="stated")
        peer = self.greeted(front, binary(CLIENT, over_tls()))
        said = peer.send(b"CAPA\r\nSTLS\r\n")
        self.assertIn(b"\r\nSASL PLAIN LOGIN\r\n", said)
        self.assertNotIn(b"\r\nSTLS\r\n", said)
        self.assertIn(b"-ERR TLS is already active", said)

    def test_a_channel_binding_names_the_listeners_copy_of_the_proxys_certificate(self) -> None:
        class Tls:
            certificates = (SimpleNamespace(der=b"certificate of the proxy"),)

        wire = Wire(tls=Tls())
        front = Front(wire.factory, clock=wire.clock, tls="stated")
        peer = self.greeted(front, binary(CLIENT, over_tls()))
        self.assertEqual([*peer.protocol._peer().certificates()], [b"certificate of the proxy"])
        peer = self.greeted(front, line(CLIENT))
        self.assertEqual([*peer.protocol._peer().certificates()], [])

    def test_limits_count_clients_and_not_their_proxy(self) -> None:
        _, front = pop3(limits=ConnectionLimits(per_address=1))
        self.greeted(front, line("192.0.2.1"))
        self.greeted(front, line("192.0.2.2"))
        peer = front.connect()
        assert peer is not None
        self.assertIn(b"-ERR [SYS/TEMP] Too many connections.", peer.send(line("192.0.2.1")))
        (said,) = [one for one in self.lines if "refused" in one]
        self.assertIn(f"connection_refused: from=192.0.2.1 via={PROXY} ", said)

    def test_a_client_of_a_proxys_tls_that_is_refused_reads_why(self) -> None:
        _, front = pop3(tls="stated", limits=ConnectionLimits(connections=0))
        peer = front.connect()
        assert peer is not None
        self.assertIn(b"-ERR [SYS/TEMP]", peer.send(binary(CLIENT, over_tls())))

    def test_the_throttle_delays_the_client_and_no_other_of_the_proxy(self) -> None:
        throttle = ThrottleLimits(free=1, network_free=1, delay=4.0)
        _, front = pop3(throttle=throttle, secure_networks=PROXIED)

        def guess(host: str, password: bytes) -> bytes:
            peer = self.greeted(front, line(host))
            return peer.send(b"USER %b\r\n" % ALICE.encode(), b"PASS %b\r\n" % password)

        self.assertIn(b"-ERR [AUTH]", guess(CLIENT, b"one"))
        self.assertNotIn(b"-ERR", guess(CLIENT, b"two"))
        self.assertIn(b"-ERR [AUTH]", guess("192.0.2.99", b"three"))
        waits = [one for one in self.lines if "login_delayed" in one]
        self.assertEqual([f" from={CLIENT} " in one for one in waits], [True])

    def test_a_health_check_leaves_no_line_in_the_log(self) -> None:
        for header in (proxy_headers.LOCAL, proxy_headers.UNKNOWN):
            for commands in (b"", b"QUIT\r\n", b"CAPA\r\nQUIT\r\n"):
                _, front = pop3()
                peer = self.greeted(front, header)
                peer.send(commands)
                peer.drop()
        self.assertEqual(self.lines, [])

    def test_a_proxy_behind_a_proxy_may_name_its_client_by_xclient(self) -> None:
        _, front = pop3(xclient_networks=PROXIED)
        peer = front.connect()
        assert peer is not None
        said = peer.send(line(CLIENT) + b"XCLIENT ADDR=203.0.113.5\r\n")
        greeting = b"+OK [XCLIENT] POP3 server ready.\r\n"
        self.assertEqual(said, greeting + b"+OK The client is known now.\r\n")
        connection = peer.protocol.connection
        self.assertEqual((connection.host, connection.proxy), ("203.0.113.5", Proxy(CLIENT)))
        # To HAProxy itself, which checks the server, it is an unknown command.
        peer = self.greeted(front, proxy_headers.LOCAL)
        self.assertEqual(peer.send(b"XCLIENT ADDR=203.0.113.5\r\n"), b"-ERR Unknown command.\r\n")

    def test_a_proxy_that_names_a_user_is_no_health_check(self) -> None:
        _, front = pop3()
        peer = self.greeted(front, proxy_headers.LOCAL)
        peer.send(b"USER alice\r\n")
        peer.drop()
        (said,) = self.lines
        self.assertIn(f"from={PROXY} via={PROXY}", said)

    def test_octets_that_come_before_admission_has_answered_wait(self) -> None:
        asked: list[Deferred[Leave]] = []

        _, front = pop3(admission=lambda local: _slow(local, asked))
        peer = front.connect()
        assert peer is not None
        self.assertEqual(peer.send(line(CLIENT) + b"CAPA\r\n"), b"")
        self.assertEqual(peer.producerState, "paused")
        asked[0].callback(lambda: None)
        said = peer.send(b"")
        self.assertTrue(said.startswith(b"+OK POP3 server ready.\r\n+OK Capabilities"), said)
        self.assertEqual(peer.producerState, "producing")


class TlsTests(SynchronousTestCase):
    """TLS begins after the header; a client in memory, with OpenSSL's real handshake."""

    def setUp(self) -> None:
        paths = own_certificate(self)
        self.tls = TLSContext([Certificate(*paths)], minimum="1.2")
        self.trusting = ssl.create_default_context(cafile=paths[0])

    def client(self) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
        """A client that has said its first word."""
        came, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.trusting.wrap_bio(came, going, server_hostname="localhost")
        self.assertRaises(ssl.SSLWantReadError, client.do_handshake)
        return client, came, going

    def shake(self, wire: Wire, cut: Callable[[bytes], list[bytes]]) -> bytes:
        """The greeting, after a header that comes with the client's first words."""
        factory = TLSFactory(self.tls, wire.factory)
        peer = Front(factory, clock=wire.clock, secure=True).connect()
        assert peer is not None
        client, came, going = self.client()
        came.write(peer.send(*cut(binary(CLIENT) + going.read())))
        client.do_handshake()
        came.write(peer.send(going.read()))
        said = client.read(1000)
        self.assertEqual(peer.protocol.inside.connection.host, CLIENT)
        return said

    def test_its_first_octets_may_come_with_the_header_wherever_they_are_cut(self) -> None:
        for size in (10_000, 7, 1):
            said = self.shake(Wire(), partial(_pieces, size))
            self.assertEqual(said, b"+OK POP3 server ready.\r\n")

    def test_they_may_come_before_admission_has_answered(self) -> None:
        asked: list[Deferred[Leave]] = []
        wire = Wire(admission=lambda local: _slow(local, asked))

        def answer_late(data: bytes) -> list[bytes]:
            wire.clock.callLater(0, lambda: asked[0].callback(lambda: None))
            return [data]

        self.assertEqual(self.shake(wire, answer_late), b"+OK POP3 server ready.\r\n")


def _pieces(size: int, data: bytes) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _slow(local: LocalAdmission, asked: list[Deferred[Leave]]) -> Any:
    """An admission that answers connections when a test fires what is added to ``asked``."""

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(local, name)

        def connect(self, _: Connection) -> Deferred[Leave]:
            asked.append(Deferred())
            return asked[-1]

    return Slow()


class LmtpTests(LoggedCase):
    def connect(self, header: bytes, allowed: str, *, tls: ProxyTls = "off") -> bytes:
        from gateway.directory.memory import MemoryDirectory
        from gateway.store.memory import MemoryStore

        store = MemoryStore()
        recipients = Recipients(MemoryDirectory({}), store, lambda _: Limits())
        options = LMTPOptions(
            Profile(name="mx.example.org"), lambda host: host == allowed, tls=object()
        )
        factory = LMTPFactory(recipients, store, options, clock=Clock())
        front = Front(factory, tls=tls)
        peer = front.connect()
        assert peer is not None
        said = peer.send(header + b"LHLO a\r\n")
        peer.drop()
        return said

    def test_allowed_networks_look_at_the_client(self) -> None:
        self.assertIn(b"220 mx", self.connect(line(CLIENT), CLIENT))
        self.assertNotIn(b"220 mx", self.connect(line(CLIENT), PROXY))

    def test_tls_at_the_proxy_leaves_no_starttls_to_offer(self) -> None:
        header = binary(CLIENT, over_tls())
        self.assertIn(b"STARTTLS", self.connect(header, CLIENT))
        self.assertNotIn(b"STARTTLS", self.connect(header, CLIENT, tls="stated"))

    def test_a_health_check_leaves_no_line_in_the_log(self) -> None:
        self.assertIn(b"220 mx", self.connect(proxy_headers.LOCAL, PROXY))
        self.assertEqual(self.lines, [])


class _Hello(Resource):
    isLeaf = True

    def render_GET(self, _: object) -> bytes:
        """Hello."""
        return b"hello"


class HttpTests(SynchronousTestCase):
    def test_the_access_log_has_the_client(self) -> None:
        served: list[Any] = []
        site = BoundedSite(_Hello(), Clock(), served.append)
        peer = Front(site).connect()
        assert peer is not None
        peer.send(binary(CLIENT) + b"GET /v1/quota HTTP/1.0\r\n\r\n")
        (event,) = served
        self.assertEqual((event.connection.host, event.path), (CLIENT, "/v1/quota"))

    def test_a_request_that_comes_with_the_header_is_answered(self) -> None:
        site: Any = Site(_Hello())
        peer = Front(site).connect()
        assert peer is not None
        said = peer.send(binary(CLIENT) + b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(said.endswith(b"\r\n\r\nhello"), said)


class OpenedTests(SynchronousTestCase):
    def test_subscribers_see_the_client_and_its_proxy(self) -> None:
        opened: list[Any] = []
        bus = EventBus()
        bus.subscribe({ConnectionOpened: opened.append})
        wire = Wire(emit=bus.emit)
        peer = Front(wire.factory, clock=wire.clock).connect()
        assert peer is not None
        peer.send(line(CLIENT))
        (event,) = opened
        self.assertEqual((event.connection.host, event.connection.proxy), (CLIENT, Proxy(PROXY)))
