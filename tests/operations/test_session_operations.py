"""Sessions of two processes, listed and ended by an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from answers import result
from gateway.app.server.questions import Questions, SingleProcess
from gateway.app.server.service import Listener, Server
from gateway.config.retention import Retention
from gateway.errors import BadRequest, NotFound
from gateway.interfaces import IProcesses
from gateway.operations.users.sessions import Kicks, kick_session, kick_sessions, list_sessions
from harness import ALICE, Wire
from operator_tools import Desk

BOB = "bob@example.org"


@implementer(IProcesses)
class Several:
    """Processes with these servers."""

    def __init__(self, servers: list[Server]) -> None:
        self._processes = []
        for server in servers:
            questions = Questions()
            questions.answer("sessions", server.open_sessions)
            questions.answer("kick", server.kick)
            self._processes.append(SingleProcess(questions))

    def ask_each(self, question: str, argument: object = None) -> Deferred[list[Any]]:
        """As ``IProcesses.ask_each``."""
        return gatherResults(one.ask_parent(question, argument) for one in self._processes)

    def ask_parent(self, question: str, argument: object = None) -> Deferred[Any]:
        """As ``IProcesses.ask_parent``."""
        return succeed((question, argument))


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wires = [Wire(passwords={ALICE: "wonderland", BOB: "wonderland"}) for _ in range(2)]
        for wire in self.wires:
            wire.store.add(BOB)
        self.servers = [
            Server(Clock(), [Listener("x", None, None, wire.factory)], [], drain_timeout=1)  # type: ignore[arg-type]
            for wire in self.wires
        ]
        desk = Desk(Retention(), now=0)
        self.tools = evolve(desk.tools, processes=Several(self.servers))
        self.alice = self.wires[0].login(host="192.0.2.1", secure=True)
        self.wires[0].clock.advance(100)
        self.bob = self.wires[1].connect("2001:db8::1", secure=True)
        self.bob.log_in(BOB)
        self.wires[1].clock.advance(50)
        self.nobody = self.wires[1].connect("192.0.2.200")

    def done(self, operation: Callable[..., Any], **parameters: Any) -> Any:
        """What an operation returns."""
        return result(Deferred.fromCoroutine(operation(self.tools, **parameters)))

    def addresses(self, **parameters: Any) -> list[str]:
        """The clients of the sessions that are listed."""
        return [one.address for one in self.done(list_sessions, **parameters).items]

    def test_those_of_all_processes_are_listed_the_oldest_first_in_pages(self) -> None:
        everybody = ["192.0.2.1", "2001:db8::1", "192.0.2.200"]
        self.assertEqual(self.addresses(), everybody)
        self.assertEqual([self.addresses(page=n, per_page=1) for n in range(4)],
                         [[one] for one in everybody] + [[]])  # fmt: skip
        self.assertEqual(self.done(list_sessions, per_page=1).total, 3)

    def test_a_user_an_address_a_network_and_a_protocol_can_be_asked_for(self) -> None:
        for asked, found in (
            ({"user": "ALICE@example.org"}, ["192.0.2.1"]),
            ({"user": "bob@EXAMPLE.org"}, ["2001:db8::1"]),
            ({"user": "alice"}, []),
            ({"address": "192.0.2.0/24"}, ["192.0.2.1", "192.0.2.200"]),
            ({"address": "192.0.2.1"}, ["192.0.2.1"]),
            ({"address": "2001:DB8:0::1"}, ["2001:db8::1"]),
            ({"address": "192.0.2.77/25"}, ["192.0.2.1"]),
            ({"user": ALICE, "address": "192.0.2.200"}, []),
            ({"protocol": "lmtp"}, []),
            ({"protocol": "pop3"}, ["192.0.2.1", "2001:db8::1", "192.0.2.200"]),
        ):
            self.assertEqual(self.addresses(**asked), found, asked)

    def test_what_is_no_address_is_named(self) -> None:
        for bad in ("x", "192.0.2", "192.0.2.0/33", "::1%eth0/1/2", "1" * 50):
            with self.assertRaisesRegex(BadRequest, "address: expected an IP address"):
                self.addresses(address=bad)

    def kicked(self, kicks: Kicks) -> list[str]:
        """The addresses of the clients."""
        return [one.session.address for one in kicks.sessions]

    def test_one_is_kicked_by_its_id_in_whichever_process_it_is(self) -> None:
        session = self.bob.protocol.connection.id
        kicks = self.done(kick_session, session=session)
        self.assertEqual(self.kicked(kicks), ["2001:db8::1"])
        closed = [client.closed for client in (self.alice, self.bob, self.nobody)]
        self.assertEqual(closed, [False, True, False])

    def test_an_id_that_is_none_is_said_so(self) -> None:
        with self.assertRaises(NotFound):
            self.done(kick_session, session="nonsense")

    def test_who_names_no_session_ends_none(self) -> None:
        with self.assertRaisesRegex(BadRequest, "session: expected the id of a session"):
            self.done(kick_session, session="")
        for server in self.servers:
            self.assertEqual(server.kick({"session": "", "user": "", "operator": "desk"}), [])
        self.assertFalse(any(one.closed for one in (self.alice, self.bob, self.nobody)))

    def test_all_of_a_user_or_of_a_network_are_kicked(self) -> None:
        self.assertEqual(self.kicked(self.done(kick_sessions, user=ALICE)), ["192.0.2.1"])
        self.assertTrue(self.alice.closed)
        self.assertEqual(self.kicked(self.done(kick_sessions, address="::/0")), ["2001:db8::1"])
        self.assertEqual(self.kicked(self.done(kick_sessions, user="nobody")), [])
        self.assertFalse(self.nobody.closed)

    def test_without_anybody_named_nobody_is_kicked(self) -> None:
        with self.assertRaisesRegex(BadRequest, "expected a user or an address"):
            self.done(kick_sessions)
        self.assertFalse(self.alice.closed)
