"""How a server's ports take connections."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from gateway.app.server.service import ACCEPTS, Listener, Server


class AcceptTests(TestCase):
    def test_a_burst_of_clients_is_taken_a_few_at_a_time(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        seen: list[str] = []
        at_once: list[bool] = []
        count = 5 * ACCEPTS

        class Came(Protocol):
            def connectionMade(self) -> None:
                seen.append("client")
                at_once.append(self.transport.getTcpNoDelay())
                self.transport.loseConnection()

        def others() -> None:
            seen.append("others")
            if seen.count("client") == count:
                done.callback(None)
            else:
                reactor.callLater(0, others)

        server = Server(
            reactor,
            [
                Listener(
                    "a",
                    TCP4ServerEndpoint(reactor, 0, backlog=count, interface="127.0.0.1"),
                    Factory.forProtocol(Came),
                )
            ],
            [],
            drain_timeout=1.0,
        )
        server.privilegedStartService()
        (port,) = server._ports
        self.addCleanup(port.stopListening)
        clients = [
            socket.create_connection(("127.0.0.1", port.getHost().port)) for _ in range(count)
        ]
        for client in clients:
            self.addCleanup(client.close)
        others()

        def few(_: None) -> None:
            stretches = " ".join(seen).split("others")
            self.assertLessEqual(max(len(one.split()) for one in stretches), ACCEPTS)
            # Small replies do not wait for the client's ACK of the one before.
            self.assertTrue(all(at_once))

        return done.addCallback(few)
