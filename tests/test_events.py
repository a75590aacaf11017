"""Events, the bus, and how a subscriber is added."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import BadCredentials, DirectoryDown, WrongPassword
from gateway.events import (
    EVENTS,
    CommandsDone,
    Event,
    LoginFailed,
    LoginSucceeded,
    POP3SessionEnded,
    problem_of,
)
from gateway.model import Connection
from gateway.observe.bus import EventBus
from gateway.observe.log import logged_events
from harness import ALICE, SECRET, Wire

CLIENT = Connection("1f", "192.0.2.1")


class BusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = EventBus()
        self.failed = LoginFailed(CLIENT, "alice", "PASS", problem_of(BadCredentials()))

    def test_each_subscriber_gets_the_kinds_that_it_wants_in_the_order_of_subscription(
        self,
    ) -> None:
        got: list[tuple[str, Any]] = []
        self.events.subscribe({LoginFailed: lambda event: got.append(("first", event))})
        self.events.subscribe({LoginFailed: lambda event: got.append(("second", event))})
        self.events.subscribe({LoginSucceeded: lambda event: got.append(("third", event))})
        self.events.emit(self.failed)
        self.assertEqual(got, [("first", self.failed), ("second", self.failed)])

    def test_a_subscriber_that_fails_harms_nobody(self) -> None:
        got: list[Event] = []

        def fails(_: Event) -> None:
            raise ZeroDivisionError

        self.events.subscribe({LoginFailed: fails})
        self.events.subscribe({LoginFailed: got.append})
        self.events.emit(self.failed)
        self.assertEqual(got, [self.failed])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_the_log_has_the_traceback_of_a_subscriber_that_fails(self) -> None:
        events = logged_events()
        events.subscribe({LoginFailed: lambda _: 1 // 0})
        with capturedLogs() as lines:
            events.emit(self.failed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn("subscriber to LoginFailed", "\n".join(map(formatEvent, lines)))

    def test_a_problem_has_the_reason_of_an_error_on_purpose_and_of_no_other(self) -> None:
        known = problem_of(BadCredentials("wrong password"))
        self.assertEqual((known.error, known.reason), (BadCredentials, "wrong password"))
        self.assertFalse(known.logged)
        self.assertTrue(problem_of(DirectoryDown("refused", logged=True)).logged)
        unforeseen = problem_of(RuntimeError("PASS secret"))
        self.assertEqual(unforeseen.reason, "internal error")
        self.assertTrue(unforeseen.logged)


class SessionEventTests(SynchronousTestCase):
    def story(self, *commands: bytes) -> list[Event]:
        """All events of a session with these commands."""
        got: list[Event] = []
        events = EventBus()
        events.subscribe(dict.fromkeys(EVENTS, got.append))
        client = Wire(emit=events.emit).connect()
        for command in commands:
            client.send(command)
        client.hang_up()
        return got

    def test_a_session_is_told_from_its_connection_to_its_end(self) -> None:
        name = b"USER Alice@example.org"
        login = name, b"PASS shibboleth", name, b"PASS " + SECRET.encode()
        story = self.story(*login, b"RETR 1", b"DELE 1", b"QUIT")
        kinds = [type(event).__name__ for event in story]
        self.assertEqual(
            kinds,
            [
                *("ConnectionOpened", "LoginFailed", "LoginSucceeded"),
                *("ConnectionClosed", "CommandsDone", "POP3SessionEnded"),
            ],
        )
        self.assertEqual({event[0] for event in story}, {story[0].connection})
        _, failed, succeeded, _, done, ended = story
        assert isinstance(done, CommandsDone)
        before = [("USER", True), ("PASS", True)] * 2
        commands = [(name, is_before) for name, is_before, _, _ in done.commands]
        self.assertEqual(commands, [*before, ("RETR", False), ("DELE", False), ("QUIT", False)])
        self.assertEqual([refused for *_, refused in done.commands], [False, True, *[False] * 5])
        assert isinstance(failed, LoginFailed)
        self.assertIs(failed.problem.error, WrongPassword)
        assert isinstance(succeeded, LoginSucceeded)
        self.assertEqual(succeeded[1:], (ALICE, ALICE, "PASS", "no"))
        assert isinstance(ended, POP3SessionEnded)
        self.assertEqual((ended.end, ended.retr, ended.removed), ("quit", 1, 1))
        for password in ("shibboleth", SECRET):
            self.assertNotIn(password, repr(story))
