"""The open sessions of all workers, as their parent lists them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from gateway.app.parent import Parent
from gateway.app.start import assemble
from gateway.observe.log_file import publish
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop


class Client(Protocol):
    """A POP3 client that logs in."""

    def __init__(self) -> None:
        self.logged_in = Deferred[None]()
        self._lines = [f"USER {USER}\r\n", f"PASS {PASSWORD}\r\n"]

    def dataReceived(self, data: bytes) -> None:  # noqa: ARG002
        """A reply, one for each command."""
        assert self.transport is not None
        if self._lines:
            self.transport.write(self._lines.pop(0).encode())
        elif not self.logged_in.called:
            self.logged_in.callback(None)


class OpenSessionsTests(TestCase):
    timeout = 60

    @inlineCallbacks
    def test_sessions_of_all_workers_are_listed_the_oldest_first(self) -> Any:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        gateway = Gateway(place, "[processes]\nworkers = 2\n")
        fill(gateway.maildir, [])
        parent = assemble(reactor, str(gateway.config), {}, pass_on=publish)
        assert isinstance(parent, Parent)
        parent.privilegedStartService()
        parent.startService()
        self.addCleanup(parent.stopService)
        clients = [Client() for _ in range(8)]
        for client in clients:
            endpoint = HostnameEndpoint(reactor, "127.0.0.1", gateway.plain)
            yield connectProtocol(endpoint, client)
            yield client.logged_in
        listed = yield parent.open_sessions()
        self.assertEqual(len({one.id for one in listed}), 8)
        self.assertEqual([one.since for one in listed], sorted(one.since for one in listed))
        for one in listed:
            self.assertEqual(
                (one.protocol, one.user, one.host, one.listener),
                ("pop3", USER, "127.0.0.1", "plain"),
            )
        for client in clients:
            assert client.transport is not None
            client.transport.loseConnection()
