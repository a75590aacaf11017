"""What a session costs the reactor: real sockets, a client in a thread."""

from __future__ import annotations

import gc
import socket
from typing import Any
from weakref import ref

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Server
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from gateway.net.direct_writer import DirectWriter
from harness import ALICE, SECRET, Wire
from sockets import listen

SESSION = b"USER %b\r\nPASS %b\r\nSTAT\r\nRETR 1\r\nQUIT\r\n" % (ALICE.encode(), SECRET.encode())


def talk(port: int) -> bytes:
    """All that the server says to a whole session."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(SESSION)
        said = b""
        while data := line.recv(4096):
            said += data
        return said


LARGE = 1_000_000
"""Octets that no socket takes at once."""


def read_all_and_ask(port: int) -> bytes:
    """What ``Twice`` says to a client that has read all of the first answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        left = LARGE
        while left:
            left -= len(line.recv(left))
        line.sendall(b"?")
        return line.recv(100)


class Twice(Protocol):
    """Answers twice, the first time with more than a socket takes."""

    def connectionMade(self) -> None:
        """The first answer."""
        self.writer = DirectWriter(self.transport)
        handle: Any = self.transport
        handle.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.writer.write(bytes(LARGE))

    def dataReceived(self, _: bytes) -> None:
        """The second one."""
        self.factory.waiting.clear()
        self.writer.write(b"again")


class DirectWriterTests(TestCase):
    def listen(self, factory: Any) -> int:
        """Its port; time is the reactor's."""
        factory._clock = None
        return listen(self, factory)

    @inlineCallbacks
    def test_no_reply_and_no_end_of_a_session_waits_for_the_poll_set(self) -> Any:
        waiting: list[Any] = []
        add = reactor.addWriter
        self.patch(reactor, "addWriter", lambda one: (waiting.append(one), add(one)))
        said = yield deferToThread(talk, self.listen(Wire().factory))
        self.assertTrue(said.endswith(b"\r\n.\r\n+OK Goodbye.\r\n"), said)
        self.assertEqual([one for one in waiting if isinstance(one, Server)], [])

    @inlineCallbacks
    def test_a_socket_that_was_full_is_written_to_directly_once_it_has_taken_all(self) -> Any:
        waiting: list[Any] = []
        add = reactor.addWriter
        self.patch(reactor, "addWriter", lambda one: (waiting.append(one), add(one)))
        factory: Any = Factory.forProtocol(Twice)
        factory.waiting = waiting
        said = yield deferToThread(read_all_and_ask, listen(self, factory))
        self.assertEqual(said, b"again")
        self.assertEqual([one for one in waiting if isinstance(one, Server)], [])

    @inlineCallbacks
    def test_a_session_that_has_ended_is_freed_without_the_garbage_collector(self) -> Any:
        sessions: list[Any] = []
        factory = Wire().factory
        factory.tell(lambda one: sessions.append(ref(one)), lambda _: None)
        port = self.listen(factory)
        self.addCleanup(gc.enable)
        gc.disable()
        yield deferToThread(talk, port)
        yield deferToThread(talk, port)
        # The last one may still be in the hands of the reactor.
        self.assertIsNone(sessions[0]())
        self.assertEqual(len(sessions), 2)
