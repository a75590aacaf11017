"""How many: connections, addresses, users; and how a server stops."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.limits import ConnectionLimits
from gateway.errors import DirectoryDown, MaildropBusy, Overloaded
from harness import ALICE, Wire


class CensusTests(SynchronousTestCase):
    def test_one_connection_too_many_is_told_so_and_closed(self) -> None:
        wire = Wire(limits=ConnectionLimits(connections=2))
        wire.connect()
        second = wire.connect()
        third = wire.connect()
        self.assertRegex(third.greeting, rb"\A-ERR \[SYS/TEMP\] [^\r\n]+\r\n\Z")
        self.assertTrue(third.closed)
        third.hang_up()
        second.hang_up()
        self.assertTrue(wire.connect().greeting.startswith(b"+OK "))
        self.assertTrue(wire.connect().greeting.startswith(b"-ERR "))

    def test_over_tls_it_is_dropped_without_the_work_of_a_handshake(self) -> None:
        wire = Wire(limits=ConnectionLimits(connections=1))
        wire.connect()
        refused = wire.connect(secure=True)
        self.assertTrue(refused.line.aborted)

    def test_one_address_cannot_take_all(self) -> None:
        wire = Wire(limits=ConnectionLimits(per_address=1))
        wire.connect("192.0.2.1")
        self.assertTrue(wire.connect("192.0.2.1").greeting.startswith(b"-ERR [SYS/TEMP] "))
        self.assertTrue(wire.connect("192.0.2.2").greeting.startswith(b"+OK "))

    def test_one_user_has_16_sessions(self) -> None:
        wire = Wire()
        sessions = [wire.login() for _ in range(16)]
        late = wire.connect()
        self.assertRegex(late.log_in(), rb"\A-ERR \[SYS/TEMP\] [^\r\n]+\r\n\Z")
        sessions[0].send(b"QUIT")
        self.assertTrue(late.log_in().startswith(b"+OK "))
        sessions[1].hang_up()
        self.assertTrue(wire.connect().log_in().startswith(b"+OK "))


class OutageTests(SynchronousTestCase):
    @pytest.mark.conformance("O-C0002", "P-21")
    def test_the_greeting_comes_though_the_directory_is_down_and_login_is_sys_temp(self) -> None:
        wire = Wire()
        for error in (DirectoryDown("no answer"), Overloaded("queue")):
            wire.directory.verify = lambda *_, error=error: fail(error)  # type: ignore[method-assign]
            client = wire.connect()
            self.assertTrue(client.greeting.startswith(b"+OK "))
            self.assertTrue(client.log_in().startswith(b"-ERR [SYS/TEMP] "))
            self.assertFalse(client.closed)

    def test_a_maildrop_in_use_is_in_use(self) -> None:
        wire = Wire()
        wire.store.open = lambda *_: fail(MaildropBusy("a"))
        self.assertTrue(wire.connect().log_in().startswith(b"-ERR [IN-USE] "))


class DrainTests(SynchronousTestCase):
    def test_idle_sessions_are_told_and_closed(self) -> None:
        wire = Wire()
        clients = [wire.connect(), wire.login()]
        drained = wire.factory.drain(10)
        for client in clients:
            self.assertRegex(client.read(), rb"\A-ERR [^\r\n]+\r\n\Z")
            self.assertTrue(client.closed)
            client.hang_up()
        self.assertIsNone(self.successResultOf(drained))

    def test_a_running_commit_is_finished_first(self) -> None:
        wire = Wire()
        client = wire.login()
        finishing: Deferred[None] = Deferred()
        client.protocol._maildrop.finish = lambda *_: finishing
        client.send(b"DELE 1", b"QUIT")
        drained = wire.factory.drain(10)
        self.assertEqual(client.read(), b"")
        finishing.callback(None)
        self.assertTrue(client.read().startswith(b"+OK "))
        client.hang_up()
        self.assertIsNone(self.successResultOf(drained))

    def test_after_its_time_everything_is_closed(self) -> None:
        wire = Wire()
        client = wire.login()
        client.protocol._maildrop.retrieve = lambda _: Deferred()
        client.send(b"RETR 1")
        drained = wire.factory.drain(10)
        wire.clock.advance(9)
        self.assertNoResult(drained)
        wire.clock.advance(1)
        self.assertTrue(client.line.aborted)
        self.assertIsNone(self.successResultOf(drained))

    def test_with_no_session_it_is_done_at_once(self) -> None:
        self.assertIsNone(self.successResultOf(Wire().factory.drain(10)))


class SecureNetworkTests(SynchronousTestCase):
    def test_loopback_in_all_its_forms_is_trusted_and_others_are_not(self) -> None:
        wire = Wire()
        trusted = ("127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1")
        for host in (*trusted, "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"):
            answer = wire.connect(host).send(b"USER " + ALICE.encode())
            self.assertEqual(answer.startswith(b"+OK "), host in trusted, host)
