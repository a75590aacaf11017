"""The line that tells how often caches knew the answer."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.observe.counts import Counts


class CountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def said(self, events: list[dict[str, object]]) -> list[str]:
        """The lines."""
        return [str(formatEvent(event)) for event in events if "words" in event]

    def test_what_has_happened_since_the_last_time_is_told_and_nothing_is_not(self) -> None:
        hits = {"passwords remembered": 0, "passwords asked": 0}
        counts = Counts(self.clock, [hits])
        counts.start(60)
        with capturedLogs() as events:
            self.clock.advance(60)
            hits["passwords remembered"] += 5
            self.clock.advance(60)
            hits["passwords remembered"] += 2
            hits["passwords asked"] += 1
            self.clock.advance(60)
            self.clock.advance(60)
            hits["passwords asked"] += 4
            counts.stop()
        self.assertEqual(
            self.said(events),
            [
                "passwords remembered 5",
                "passwords remembered 2, passwords asked 1",
                "passwords asked 4",
            ],
        )

    def test_zero_is_never(self) -> None:
        counts = Counts(self.clock, [{"passwords asked": 1}])
        counts.start(0)
        with capturedLogs() as events:
            self.clock.advance(10**6)
            counts.stop()
        self.assertEqual(self.said(events), [])
