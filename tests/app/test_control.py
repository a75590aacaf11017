"""The control socket, as its clients meet it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.control import IDLE, ControlSocket, _ControlFactory
from gateway.errors import ConfigError
from gateway.events import ReloadEnded
from gateway.operations.control import LARGEST, Reloaded, ask_reload


class ControlTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[Deferred[ReloadEnded]] = []
        self.factory = _ControlFactory(self.clock, self.reload)

    def reload(self) -> Deferred[ReloadEnded]:
        """One that a test ends."""
        self.asked.append(Deferred())
        return self.asked[-1]

    def client(self) -> tuple[Protocol, StringTransport]:
        """The server's end of a new connection."""
        protocol, transport = self.factory.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_the_answer_comes_when_the_reload_is_done_and_ends_the_connection(self) -> None:
        protocol, transport = self.client()
        for octet in b'{"ask": "reload"}\n':
            protocol.dataReceived(bytes([octet]))
        self.clock.advance(10 * IDLE)
        self.assertEqual((transport.value(), transport.disconnecting), (b"", False))
        self.asked[0].callback(ReloadEnded(("a",), ("b",)))
        answer = {"changed": ["a"], "restart": ["b"], "problems": [], "kept": []}
        self.assertEqual(json.loads(transport.value()), answer)
        self.assertTrue(transport.disconnecting)

    def test_one_reload_for_a_client_whatever_it_sends_besides(self) -> None:
        protocol, _ = self.client()
        protocol.dataReceived(b'{"ask": "reload"}\n' * 3)
        protocol.dataReceived(b'{"ask": "reload"}\n')
        self.assertEqual(len(self.asked), 1)

    def test_anything_else_is_an_error_and_no_reload(self) -> None:
        deep = b"[" * 60_000 + b"\n"
        bad = (b"\n", b"{}\n", b"[]\n", b'"ask"\n', b'{"ask": 1}\n', b"\xff\n", deep)
        for line in (*bad, b"x" * (LARGEST + 1)):
            protocol, transport = self.client()
            protocol.dataReceived(line)
            self.assertIn("error", json.loads(transport.value()))
            self.assertTrue(transport.disconnecting)
        self.assertEqual(self.asked, [])

    def test_a_client_that_says_nothing_is_dropped(self) -> None:
        protocol, transport = self.client()
        protocol.dataReceived(b'{"ask"')
        self.clock.advance(IDLE)
        self.assertTrue(transport.disconnecting)

    def test_a_client_that_leaves_stops_no_reload(self) -> None:
        protocol, _ = self.client()
        protocol.dataReceived(b'{"ask": "reload"}\n')
        protocol.connectionLost()
        self.asked[0].callback(ReloadEnded())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Listening:
    """A reactor that binds nothing."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def listenUNIX(self, path: str, *_: Any, **how: Any) -> Any:
        """Remember the place."""
        assert how == {"mode": 0o600}
        self.paths.append(path)


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Listening()

    def listens(self, place: str) -> bool:
        """Whether a server with this state directory has a control socket; it starts anyway."""
        socket = ControlSocket(self.reactor, place, Deferred)
        socket.startService()
        return bool(self.reactor.paths)

    def test_where_none_can_be_the_server_starts_without(self) -> None:
        place = tempfile.mkdtemp()
        long = os.path.join(place, "x" * 120)
        os.mkdir(long)
        for bad in (long, os.path.join(place, "missing")):
            self.assertFalse(self.listens(bad))

    def test_a_file_of_that_name_is_left_alone(self) -> None:
        place = Path(tempfile.mkdtemp())
        (place / "control").write_text("mine")
        self.assertFalse(self.listens(str(place)))
        self.assertEqual((place / "control").read_text(), "mine")


def test_without_a_server_the_cure_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the server running, with this state_dir"):
        ask_reload(str(tmp_path), 1)
    assert Reloaded().problems == ()
