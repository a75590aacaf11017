"""Every kind of listener takes the PROXY protocol where its section says so."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

import proxy_headers
from gateway.app.parts.acceptors import acceptor_of
from gateway.config.load import load_settings
from gateway.events import ConnectionRefused
from gateway.model import Connection, Proxy

SECTIONS = ("listeners.a", "lmtp", "policy", "http")


class Keeper(Factory):
    """Keeps the connections."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def buildProtocol(self, addr: Any) -> Protocol:
        """As every factory."""
        self.connections.append(addr)
        return Protocol()


class AcceptorOfTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.refused: list[Any] = []

    def connect(self, section: str, address: Any, more: str = "") -> list[Connection]:
        """What the listener of this section makes of a header that comes from there."""
        behind = 'proxy_protocol = true\nproxy_networks = ["10.0.0.1"]\n'
        listener = '[listeners.a]\nendpoint = "tcp:0"\n'
        other = "" if section == "listeners.a" else f"[{section}]\n"
        directory = self.mktemp()
        os.makedirs(directory)
        path = f"{directory}/pop3gw.toml"
        with open(path, "w") as file:
            file.write(f'state_dir = "{directory}"\n{listener}{other}{behind}{more}')
        settings, clock, keeper = load_settings(path, {}), Clock(), Keeper()
        acceptor = acceptor_of(clock, settings, section, keeper, emit=self.refused.append)
        built = acceptor.buildProtocol(address)
        assert built is not None
        transport = StringTransport(peerAddress=address)
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        built.makeConnection(transport)
        if not transport.disconnecting:
            built.dataReceived(proxy_headers.binary("192.0.2.7", proxy_headers.over_tls()))
        self.assertEqual(clock.getDelayedCalls(), [])
        return keeper.connections

    def test_a_listed_proxy_names_its_client(self) -> None:
        for section in SECTIONS:
            (found,) = self.connect(section, IPv4Address("TCP", "10.0.0.1", 1))
            name = section.removeprefix("listeners.")
            self.assertEqual(found[1:], ("192.0.2.7", False, name, Proxy("10.0.0.1")))

    def test_any_other_is_closed_and_the_event_names_the_section(self) -> None:
        for section in SECTIONS:
            self.assertEqual(self.connect(section, IPv4Address("TCP", "10.0.0.2", 1)), [])
            event = self.refused.pop()
            self.assertIsInstance(event, ConnectionRefused)
            self.assertEqual(event.reason, f"{section}: proxy_networks has no such address")
            protocol = "pop3" if section == "listeners.a" else section
            self.assertEqual((event.protocol, event.connection.host), (protocol, "10.0.0.2"))

    def test_every_peer_of_a_unix_socket_is_a_proxy(self) -> None:
        for section in SECTIONS:
            (found,) = self.connect(section, UNIXAddress(None))
            self.assertEqual((found.host, found.proxy), ("192.0.2.7", Proxy("")))

    def test_tls_at_the_proxy_counts_where_the_section_says_so(self) -> None:
        for section in ("listeners.a", "lmtp"):
            address = IPv4Address("TCP", "10.0.0.1", 1)
            (found,) = self.connect(section, address, 'proxy_tls = "stated"\n')
            self.assertTrue(found.secure)
