"""The line that tells how often caches knew the answer."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.events import CacheLookup
from gateway.observe.counts import Counts
from gateway.observe.log import logged_events


class CountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events = logged_events()
        self.counts = Counts(self.clock)
        self.events.subscribe(self.counts.subscription)

    def happens(self, outcome: str, times: int) -> None:
        """The cache of passwords is asked so often."""
        for _ in range(times):
            self.events.emit(CacheLookup("passwords", outcome))

    def said(self, events: list[dict[str, object]]) -> list[str]:
        """The lines."""
        return [str(formatEvent(event)) for event in events if "words" in event]

    def test_what_has_happened_since_the_last_time_is_told_and_nothing_is_not(self) -> None:
        self.counts.start(60)
        with capturedLogs() as events:
            self.clock.advance(60)
            self.happens("remembered", 5)
            self.clock.advance(60)
            self.happens("remembered", 2)
            self.happens("asked", 1)
            self.clock.advance(60)
            self.clock.advance(60)
            self.happens("asked", 4)
            self.counts.stop()
        self.assertEqual(
            self.said(events),
            [
                "passwords remembered 5",
                "passwords remembered 2, passwords asked 1",
                "passwords asked 4",
            ],
        )

    def test_zero_is_never(self) -> None:
        self.counts.start(0)
        self.happens("asked", 1)
        with capturedLogs() as events:
            self.clock.advance(10**6)
            self.counts.stop()
        self.assertEqual(self.said(events), [])
