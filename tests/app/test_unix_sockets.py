"""UNIX sockets of listeners: who has the path, and what a server that was killed leaves."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from gateway.app.obstacles import obstacle
from gateway.app.server.service import endpoint_of, listened
from gateway.endpoints import parse
from gateway.errors import ConfigError
from gateway.processes.sockets import bind


class PathTests(TestCase):
    def setUp(self) -> None:
        # Of a path in which trial works a socket would be too long.
        self.directory = tempfile.mkdtemp(prefix="pop3gw-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "lmtp")

    def listen(self) -> Any:
        """A port; raises ``ConfigError`` as a start does."""
        endpoint = endpoint_of(reactor, "lmtp.endpoint", f"unix:{self.path}")
        port = listened(endpoint.listen(Factory.forProtocol(Protocol)), "lmtp")
        self.addCleanup(port.stopListening)
        return port

    def refused(self) -> str:
        with self.assertRaises(ConfigError) as caught:
            self.listen()
        return str(caught.exception)

    def leave_socket(self) -> None:
        """What a server leaves that was killed."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.path) == 0

    def test_what_a_killed_server_left_stops_no_start(self) -> None:
        for pid in (None, os.getpid(), 1, 999_999):
            self.path = os.path.join(self.directory, f"left-by-{pid}")
            self.leave_socket()
            if pid is not None:
                # Twisted's lock, of a version before; the id may be another process's by now.
                os.symlink(str(pid), f"{self.path}.lock")
            self.listen()
            self.assertTrue(self.answers())

    def test_a_second_server_is_refused_and_the_first_keeps_the_path(self) -> None:
        self.listen()
        self.assertIn("lmtp: ", self.refused())
        self.assertIn("another program listens there", self.refused())
        self.assertTrue(self.answers())

    def test_the_next_one_has_the_path_once_the_first_has_ended(self) -> Deferred[None]:
        first = self.listen()
        ended: Deferred[None] = first.stopListening()
        return ended.addCallback(lambda _: self.assertTrue(self.listen() and self.answers()))

    def test_a_parent_of_workers_has_the_path_too(self) -> None:
        endpoint = endpoint_of(reactor, "lmtp.endpoint", f"unix:{self.path}:mode=600")
        bound = self.successResultOf(bind(endpoint, 2, balanced=False))
        self.addCleanup(bound.close)
        self.assertEqual(bound.address, self.path)
        self.assertIn("another program listens there", self.refused())

    def test_a_socket_at_which_another_program_listens_is_left_alone(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            other.listen(0)
            for _ in range(3):
                # The second time its queue is full.
                self.assertIn("another program listens there", self.refused())
                self.assertTrue(os.path.exists(self.path))

    def test_a_lock_that_cannot_be_used_is_an_obstacle_with_its_cure(self) -> None:
        os.mkdir(f"{self.path}.lock")
        found = obstacle(parse(f"unix:{self.path}"))
        self.assertTrue(found.startswith(f"{self.path}.lock: expected a file that user "))
        self.assertIn("remove it", found)
        self.assertIn(found, self.refused())
