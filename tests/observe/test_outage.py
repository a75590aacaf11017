"""What the log says of a back-end that goes and comes back."""

from __future__ import annotations

from threading import Thread
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.events import BackEndBack, BackEndDown
from gateway.observe.outage import QUIET, Outage


class OutageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []

        def hear(event: Any) -> None:
            self.said.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        self.clock = Clock()
        self.outage = Outage("LDAP server ldap://x", self.clock.seconds)

    def test_an_outage_is_two_lines_however_many_meet_it(self) -> None:
        self.outage.answered()
        for _ in range(1237):
            self.outage.failed("refused")
            self.clock.advance(0.5)
        self.assertEqual(self.said, ["backend_down: LDAP server ldap://x down: refused"])
        for _ in range(3):
            self.outage.answered()
        self.assertEqual(self.said[1:], ["backend_up: LDAP server ldap://x back: after=618 s"])

    def test_the_next_outage_is_said_too(self) -> None:
        for _ in range(3):
            self.outage.failed("refused")
            self.outage.answered()
            self.clock.advance(QUIET)
        self.assertEqual(len(self.said), 6)

    def test_its_return_is_said_before_another_thread_says_that_it_is_down_again(
        self,
    ) -> None:
        told: list[Any] = []
        others: list[Thread] = []

        def now() -> float:
            if told and not others:
                # In the midst of ``answered``: the other thread ends now, or waits for this one.
                others.append(Thread(target=outage.failed, args=("refused",)))
                others[0].start()
                others[0].join(0.1)
            return QUIET * len(told)

        outage = Outage("LDAP", now, told.append)
        outage.failed("refused")
        outage.answered()
        others[0].join()
        kinds = [type(event) for event in told]
        self.assertEqual(kinds, [BackEndDown, BackEndBack, BackEndDown])

    @given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 1.0, 20.0]))))
    def test_lines_alternate_and_come_no_faster_than_they_can_be_read(
        self, story: list[tuple[bool, float]]
    ) -> None:
        self.said.clear()
        self.outage = Outage("LDAP", self.clock.seconds)
        began = self.clock.seconds()
        for fails, pause in story:
            if fails:
                self.outage.failed("busy")
            else:
                self.outage.answered()
            self.clock.advance(pause)
        kinds = [" down: " in line for line in self.said]
        self.assertEqual(kinds, [number % 2 == 0 for number in range(len(kinds))])
        self.assertLessEqual(len(kinds), 2 * ((self.clock.seconds() - began) // QUIET + 1))
