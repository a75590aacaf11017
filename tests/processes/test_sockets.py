"""The sockets that a parent binds for its workers."""

from __future__ import annotations

import os
import socket
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from gateway.processes.sockets import Bound, Inherited, bind

LOOPBACK = "tcp:0:interface=127.0.0.1:backlog=20"


class SocketsCase(TestCase):
    @inlineCallbacks
    def bind(self, text: str, workers: int, *, balanced: bool = True) -> Any:
        """The sockets of an endpoint."""
        endpoint = serverFromString(reactor, text)
        bound: Bound = yield bind(endpoint, workers, balanced=balanced)
        self.addCleanup(bound.close)
        return bound

    def queues(self, bound: Bound) -> list[socket.socket]:
        """The sockets, as a worker has them."""
        found = [socket.socket(fileno=os.dup(one)) for one in bound.descriptors]
        for one in found:
            self.addCleanup(one.close)
        return found


class BindTests(SocketsCase):
    @inlineCallbacks
    def test_each_worker_has_a_socket_and_clients_are_spread_over_all(self) -> Any:
        bound = yield self.bind(LOOPBACK, 3)
        queues = self.queues(bound)
        self.assertEqual(len({one.getsockname() for one in queues}), 1)
        found = Counter[int]()
        clients = []
        for _ in range(60):
            clients.append(socket.create_connection(queues[0].getsockname()))
            for number, queue in enumerate(queues):
                try:
                    queue.accept()[0].close()
                except BlockingIOError:
                    continue
                found[number] += 1
        for client in clients:
            client.close()
        self.assertEqual(sum(found.values()), 60)
        self.assertEqual(set(found), {0, 1, 2})

    @inlineCallbacks
    def test_another_server_on_the_port_is_an_error(self) -> Any:
        bound = yield self.bind(LOOPBACK, 2)
        port = bound.port.getHost().port
        yield self.assertFailure(self.bind(f"tcp:{port}:interface=127.0.0.1", 2), CannotListenError)

    @inlineCallbacks
    def test_a_server_of_one_process_on_the_port_is_an_error(self) -> Any:
        bound = yield self.bind(LOOPBACK, 1, balanced=False)
        port = bound.port.getHost().port
        yield self.assertFailure(self.bind(f"tcp:{port}:interface=127.0.0.1", 2), CannotListenError)

    @inlineCallbacks
    def test_the_sockets_of_ipv6_have_one_port(self) -> Any:
        bound = yield self.bind(r"tcp6:0:interface=\:\:1", 2)
        addresses = {one.getsockname() for one in self.queues(bound)}
        self.assertEqual(len(addresses), 1)
        self.assertEqual(bound.family, socket.AF_INET6)

    @inlineCallbacks
    def test_a_unix_socket_is_shared_and_goes_with_the_parent(self) -> Any:
        path = Path(f"/tmp/{os.getpid()}.sockets")
        bound = yield self.bind(f"unix:{path}:mode=600", 3, balanced=False)
        self.assertEqual(len(bound.descriptors), 1)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        yield bound.close()
        self.assertFalse(path.exists())

    @inlineCallbacks
    def test_a_closed_port_is_free_at_once(self) -> Any:
        bound = yield self.bind(LOOPBACK, 2)
        port = bound.port.getHost().port
        yield bound.close()
        again = yield self.bind(f"tcp:{port}:interface=127.0.0.1", 2)
        self.assertEqual(again.port.getHost().port, port)


class InheritedTests(SocketsCase):
    @inlineCallbacks
    def test_the_queue_of_a_worker_that_stopped_is_served_by_the_next(self) -> Any:
        for endpoint in (LOOPBACK, f"unix:/tmp/{os.getpid()}.inherited:mode=600"):
            yield self.serve_twice(endpoint)

    @inlineCallbacks
    def test_a_worker_neither_opens_a_unix_socket_to_others_nor_removes_it(self) -> Any:
        path = Path(f"/tmp/{os.getpid()}.private")
        bound = yield self.bind(f"unix:{path}:mode=600", 1, balanced=False)
        endpoint = Inherited(reactor, bound.descriptors[0], bound.family)
        port = yield endpoint.listen(Factory())
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        yield port.stopListening()
        self.assertTrue(path.is_socket())

    @inlineCallbacks
    def serve_twice(self, text: str) -> Any:
        """A client of each of two workers that follow one another."""
        bound = yield self.bind(text, 1, balanced=text == LOOPBACK)
        served: list[Deferred[None]] = []

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                """The client is served."""
                self.transport.write(b"+OK\r\n")  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]

            def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
                """The client has its greeting."""
                served.pop().callback(None)

        endpoint = Inherited(reactor, bound.descriptors[0], bound.family)
        factory = Factory.forProtocol(Greeting)
        for _ in range(2):
            with socket.socket(bound.family) as client:
                client.connect(bound.port.socket.getsockname())
                served.append(Deferred())
                waiting = served[0]
                port = yield endpoint.listen(factory)
                yield waiting
                self.assertEqual(client.recv(100), b"+OK\r\n")
            yield port.stopListening()
