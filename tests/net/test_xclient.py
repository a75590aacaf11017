"""XCLIENT of Dovecot's proxies: from listed networks the client counts, to others it is unknown."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import TooManySessions
from gateway.interfaces import Leave
from gateway.model import Connection
from gateway.pop3.profile import PROFILES
from gateway.pop3.refusals import Refused
from gateway.pop3.xclient import read_xclient
from harness import ALICE, SECRET, Client, Wire

PROXY, CLIENT = "10.0.0.1", "192.0.2.7"
DOVECOT = b"XCLIENT ADDR=192.0.2.7 PORT=40000 SESSION=4hX8+9oA TTL=4"
"""As Dovecot 2.3 sends it."""

UPDATED = b"+OK The client is known now.\r\n"
UNKNOWN = b"-ERR Unknown command.\r\n"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def lines(self, word: str) -> list[str]:
        """What was logged with that word in it."""
        return [line for line in map(str, map(formatEvent, self.events)) if word in line]

    def wire(self, **how: Any) -> Wire:
        """A server with a proxy in front."""
        networks = {"xclient_networks": [ip_network("10.0.0.0/24")]}
        return Wire(**networks | how)

    def connect(self, **how: Any) -> Client:
        """A new connection of the proxy."""
        return self.wire(**how).connect(PROXY)


class OfferTests(Case):
    def test_a_proxy_is_greeted_as_dovecot_expects_it(self) -> None:
        for how, text in (({}, b"POP3 server ready."), ({"greeting": "Hello"}, b"Hello")):
            client = self.connect(**how)
            self.assertEqual(client.greeting, b"+OK [XCLIENT] %b\r\n" % text)
            self.assertIn(b"XCLIENT", client.lines(b"CAPA"))

    def test_to_anybody_else_it_is_an_unknown_command(self) -> None:
        for client in (self.wire().connect(CLIENT), Wire().connect(PROXY)):
            self.assertEqual(client.greeting, b"+OK POP3 server ready.\r\n")
            self.assertNotIn(b"XCLIENT", client.lines(b"CAPA"))
            for command in (DOVECOT, b"XCLIENT", b"XCLIENT ADDR=", b"XCLIENT \xff"):
                self.assertEqual(client.send(command), UNKNOWN)
        long = b"XCLIENT FORWARD=" + b"x" * 600
        self.assertEqual(client.send(long), b"-ERR The line is too long.\r\n")

    def test_after_the_login_it_is_refused(self) -> None:
        networks = [ip_network("10.0.0.0/24")]
        client = self.connect(secure_networks=networks)
        client.log_in()
        self.assertEqual(client.send(DOVECOT), b"-ERR Not after login.\r\n")
        self.assertNotIn(b"XCLIENT", client.lines(b"CAPA"))

    def test_a_client_is_named_once(self) -> None:
        # What passes through the proxy afterwards is the client's own.
        client = self.connect()
        self.assertEqual(client.send(DOVECOT), UPDATED)
        self.assertEqual(client.send(DOVECOT), UNKNOWN)
        self.assertNotIn(b"XCLIENT", client.lines(b"CAPA"))

    def test_it_is_there_after_stls_too(self) -> None:
        line = self.connect(tls=object()).protocol._session
        line.secured()
        line.receive(DOVECOT + b"\r\n")
        self.assertEqual(type(line.next_action()).__name__, "XClient")

    def test_a_line_may_be_longer_than_other_commands(self) -> None:
        client = self.connect(profile=PROFILES["exchange2007"])
        self.assertEqual(client.send(DOVECOT + b" FORWARD=" + b"QQ==" * 230), UPDATED)
        self.assertEqual(client.send(b"USER " + b"x" * 60), b"-ERR The line is too long.\r\n")


class ClientTests(Case):
    def test_commands_that_follow_in_one_packet_are_the_clients(self) -> None:
        client = self.connect(secure_networks=[ip_network("192.0.2.0/24")])
        said = client.send(DOVECOT, b"USER " + ALICE.encode(), b"PASS " + SECRET.encode(), b"QUIT")
        self.assertEqual(said.count(b"+OK"), 4)
        client.hang_up()
        (line,) = self.lines("session_end")
        where = f" user={ALICE} from={CLIENT} via={PROXY} proxy_session=4hX8+9oA tls=no "
        self.assertIn(where, line)

    def test_the_client_and_not_the_proxy_may_send_passwords_in_secure_networks(self) -> None:
        for networks, allowed in (("10.0.0.0/24", False), ("192.0.2.0/24", True)):
            client = self.connect(secure_networks=[ip_network(networks)])
            client.send(DOVECOT)
            self.assertEqual(client.send(b"USER a").startswith(b"+OK"), allowed)

    def test_tls_at_the_proxy_counts_only_where_that_is_set(self) -> None:
        for said, proxy_tls, secure in (
            (b" CLIENT-TRANSPORT=TLS", "stated", True),
            (b" CLIENT-TRANSPORT=TLS", "off", False),
            (b" CLIENT-TRANSPORT=insecure", "stated", False),
            (b"", "stated", False),
            (b"", "always", True),
        ):
            client = self.connect(proxy_tls=proxy_tls, tls=object())
            client.send(DOVECOT + said)
            self.assertEqual(client.send(b"USER a").startswith(b"+OK"), secure)
            self.assertEqual(b"STLS" in client.lines(b"CAPA"), not secure)
            self.assertEqual(client.protocol._peer()[:2], (CLIENT, secure))

    def test_the_limit_per_address_counts_the_client(self) -> None:
        wire = self.wire(limits=ConnectionLimits(per_address=1))
        first = wire.connect(PROXY)
        self.assertEqual(first.send(DOVECOT), UPDATED)
        second = wire.connect(PROXY)
        said = second.send(DOVECOT, b"NOOP")
        self.assertEqual(said, b"-ERR [SYS/TEMP] Too many sessions.\r\n")
        self.assertTrue(second.closed)
        second.hang_up()
        (line,) = self.lines("refused")
        self.assertIn(f" from={CLIENT} via={PROXY} proxy_session=4hX8+9oA ", line)
        first.hang_up()
        third = wire.connect(PROXY)
        self.assertEqual(third.send(DOVECOT), UPDATED)

    def test_the_client_takes_the_place_of_its_proxy_even_at_the_limit(self) -> None:
        client = self.connect(limits=ConnectionLimits(connections=1))
        self.assertEqual(client.send(DOVECOT), UPDATED)

    def test_the_throttle_delays_the_client(self) -> None:
        networks = [ip_network("192.0.2.0/24")]
        throttle = ThrottleLimits(free=1, network_free=1, delay=4.0)
        wire = self.wire(throttle=throttle, secure_networks=networks)
        for host, password in ((b"7", "one"), (b"7", "two"), (b"8", "three")):
            client = wire.connect(PROXY)
            client.send(b"XCLIENT ADDR=192.0.2." + host)
            client.log_in(password=password)
        self.assertEqual(["from=192.0.2.7 " in one for one in self.lines("login_delayed")], [True])

    def test_a_proxy_that_does_not_name_an_address_is_the_client(self) -> None:
        for attributes in (b"SESSION=abc", b"ADDR=[UNAVAILABLE]", b"ADDR="):
            client = self.connect()
            self.assertEqual(client.send(b"XCLIENT " + attributes), UPDATED)
            self.assertEqual(client.protocol.connection.host, PROXY)

    def test_attributes_that_are_none_change_nothing(self) -> None:
        for attributes in (b"ADDR", b"ADDR=localhost", b"ADDR=fe80::1%eth0", b"PORT=x", b"TTL=-1"):
            client = self.connect()
            said = client.send(b"XCLIENT ADDR=192.0.2.7 " + attributes)
            self.assertEqual(said, b"-ERR The attributes of XCLIENT are not valid.\r\n")
            self.assertEqual(client.protocol.connection.host, PROXY)
            self.assertEqual(client.send(DOVECOT), UPDATED)

    def test_a_session_that_ends_while_admission_is_asked_gives_its_place_back(self) -> None:
        asked: list[Deferred[Leave]] = []
        places: list[str] = []

        class Slow:
            """Answers for the proxy at once, and for clients when told."""

            def __init__(self, local: LocalAdmission) -> None:
                self._local = local

            def __getattr__(self, name: str) -> Any:
                return getattr(self._local, name)

            def connect(self, connection: Connection) -> Deferred[Leave]:
                if connection.host == PROXY:
                    return self._local.connect(connection)
                asked.append(Deferred())
                return asked[-1]

        admission: Callable[[LocalAdmission], Any] = Slow
        for end in (Client.hang_up, None):
            client = self.connect(admission=admission)
            self.assertEqual(client.send(DOVECOT, b"CAPA"), b"")
            if end is not None:
                end(client)
            places.append(CLIENT)
            asked.pop().callback(lambda: places.remove(CLIENT))
            if end is None:
                self.assertTrue(client.read().startswith(UPDATED))
                self.assertEqual(places, [CLIENT])
                client.hang_up()
            self.assertEqual(places, [])
            self.assertEqual(len(client.wire.factory._sessions), 0)
        client = self.connect(admission=admission)
        client.send(DOVECOT)
        client.hang_up()
        asked.pop().errback(TooManySessions("full"))
        self.assertEqual(len(client.wire.factory._sessions), 0)
        self.assertEqual(self.flushLoggedErrors(), [])


class AttributesTests(SynchronousTestCase):
    def test_addresses_are_read_as_dovecot_and_postfix_write_them(self) -> None:
        for text, host in (
            (b"192.0.2.7", "192.0.2.7"),
            (b"2001:DB8::7", "2001:db8::7"),
            (b"IPV6:2001:db8::7", "2001:db8::7"),
            (b"::ffff:192.0.2.7", "192.0.2.7"),
        ):
            self.assertEqual(read_xclient([b"addr=" + text]).host, host)

    def test_a_session_that_would_be_fields_of_the_log_is_left_out(self) -> None:
        for text, session in ((b"a+b/c", "a+b/c"), (b'a"b', ""), (b"x" * 129, ""), (b"", "")):
            self.assertEqual(read_xclient([b"SESSION=" + text]).session, session)

    @given(st.lists(st.binary(max_size=20).filter(bytes.isascii), max_size=5))
    def test_any_words_are_read_or_refused(self, words: list[bytes]) -> None:
        try:
            read_xclient(words)
        except Refused as refused:
            self.assertEqual(refused.key, "bad_client")
