"""Who observes a running server."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.server.observers import OBSERVERS, Observer
from gateway.config.services import Log
from gateway.config.settings import Settings
from gateway.events import EVENTS, CacheLookup, POP3SessionEnded
from gateway.model import Connection
from gateway.observe.bus import EventBus


class ObserversTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def observers(self, log: Log) -> tuple[list[Observer], EventBus]:
        """All of them, on one bus."""
        made = [make(Settings(log=log), self.clock) for make in OBSERVERS]
        events = EventBus()
        for observer in made:
            events.subscribe(observer.subscription)
        return made, events

    def test_each_wants_events_that_there_are(self) -> None:
        for observer in self.observers(Log())[0]:
            self.assertLessEqual(set(observer.subscription), set(EVENTS))

    def test_they_do_as_the_settings_say_from_start_to_stop(self) -> None:
        for sessions in (True, False):
            observers, events = self.observers(Log(sessions=sessions, counts=60))
            with capturedLogs() as lines:
                for observer in observers:
                    observer.start()
                ended = Connection("1f", "192.0.2.1"), "quit", "alice", True, "PASS"
                events.emit(POP3SessionEnded(*ended, 0, 0, 0, 0, 0, 0, 1.0, ""))
                events.emit(CacheLookup("passwords", "asked"))
                for observer in observers:
                    observer.stop()
            said = [str(formatEvent(line)) for line in lines]
            are_ends = [line.startswith("session_end: end=quit ") for line in said[:-1]]
            self.assertEqual(are_ends, [True] * sessions)
            self.assertEqual(said[-1], "passwords asked 1")
            self.assertEqual(self.clock.getDelayedCalls(), [])
