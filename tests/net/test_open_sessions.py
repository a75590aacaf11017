"""The sessions that are open, as an operator sees them."""

from __future__ import annotations

import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harness import ALICE, Wire


class OpenSessionsTests(SynchronousTestCase):
    def test_a_session_has_a_user_from_login_on_and_is_gone_with_its_client(self) -> None:
        clock = Clock()
        clock.advance(1000)
        wire = Wire(clock=clock)
        client = wire.connect(host="192.0.2.7", secure=True)
        clock.advance(30)
        before = time.time() - 30
        (shown,) = wire.factory.open_sessions()
        self.assertEqual(
            (shown.protocol, shown.user, shown.host, shown.secure), ("pop3", "", "192.0.2.7", True)
        )
        self.assertEqual(shown.id, client.protocol.connection.id)
        self.assertLessEqual(before - 1, shown.since)
        self.assertLessEqual(shown.since, time.time() - 29)
        client.log_in()
        (shown,) = wire.factory.open_sessions()
        self.assertEqual(shown.user, ALICE)
        self.assertEqual(wire.factory.open_count, 1)
        client.send(b"QUIT")
        client.hang_up()
        self.assertEqual((list(wire.factory.open_sessions()), wire.factory.open_count), ([], 0))

    def test_the_oldest_sessions_come_first_and_no_others_are_looked_at(self) -> None:
        wire = Wire()
        clients = [wire.connect() for _ in range(3)]
        clients[0].hang_up()
        first = next(iter(wire.factory.open_sessions()))
        self.assertEqual(first.id, clients[1].protocol.connection.id)

    def test_a_session_that_is_to_end_does_so_after_the_last_command_that_had_to_wait(self) -> None:
        for end in (
            lambda wire, _: wire.factory.drain(10),
            lambda _, client: client.protocol.readConnectionLost(),
        ):
            wire = Wire()
            client = wire.login()
            client.protocol.pauseProducing()
            client.protocol.dataReceived(b"RETR 1\r\n")
            end(wire, client)
            client.protocol.resumeProducing()
            wire.clock.advance(1)
            self.assertTrue(client.read().startswith(b"+OK"))
            self.assertTrue(client.line.disconnecting)

    def test_a_password_that_was_wrong_makes_nobody_a_user(self) -> None:
        wire = Wire()
        client = wire.connect()
        client.send(b"USER " + ALICE.encode(), b"PASS wrong")
        (shown,) = wire.factory.open_sessions()
        self.assertEqual(shown.user, "")
