"""What the log says of a back-end that goes and comes back."""

from __future__ import annotations

from threading import Thread
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.events import (
    BackEndAsked,
    BackEndBack,
    BackEndDown,
    BackEndReplaced,
    Event,
    ServerStopping,
)
from gateway.observe.outage import QUIET, Outage, Outages


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


class SharedOutageTests(SynchronousTestCase):
    """Several parts of a server ask one back-end, or one each."""

    def setUp(self) -> None:
        self.told: list[Event] = []
        self.clock = Clock()
        self.asked: list[BackEndAsked] = []
        self.outages = Outages(self.hear, self.clock.seconds)
        self.store, self.state = (self.outages.watch("PostgreSQL db") for _ in range(2))

    def hear(self, event: Event) -> None:
        if isinstance(event, BackEndAsked):
            self.asked.append(event)
        else:
            self.told.append(event)

    def test_each_answer_is_told_and_each_that_did_not_come(self) -> None:
        self.store.answered(0.1)
        self.state.failed("refused", 0.5)
        name = "PostgreSQL db"
        self.assertEqual(
            self.asked,
            [BackEndAsked(name, 0.1, answered=True), BackEndAsked(name, 0.5, answered=False)],
        )

    def test_who_asks_the_same_one_shares_its_outage(self) -> None:
        self.assertTrue(self.store.failed("refused", 0.5))
        self.assertTrue(self.state.failed("refused", 0.5))
        self.assertEqual(self.outages.away(), ["PostgreSQL db"])
        self.clock.advance(7)
        self.state.answered(0.1)
        self.assertEqual(self.outages.away(), [])
        self.store.answered(0.1)
        down, back = BackEndDown("PostgreSQL db", "refused"), BackEndBack("PostgreSQL db", 7)
        self.assertEqual(self.told, [down, back])

    def test_each_back_end_has_its_own(self) -> None:
        other = self.outages.watch("S3 https://s3.example.org/mail")
        self.store.failed("refused", 0.5)
        other.failed("refused", 0.5)
        self.assertEqual(len(self.told), 2)

    def test_the_last_one_to_close_it_ends_its_outage(self) -> None:
        self.store.failed("refused", 0.5)
        del self.told[:]
        for _ in range(2):
            self.store.close()
        self.assertEqual(self.told, [])
        self.state.close()
        self.assertEqual(self.told, [BackEndReplaced("PostgreSQL db")])
        self.outages.watch("PostgreSQL db").failed("refused", 0.5)
        self.assertEqual(len(self.told), 2)

    def test_at_the_end_of_the_server_none_is_replaced(self) -> None:
        self.store.failed("refused", 0.5)
        del self.told[:]
        self.outages.subscription[ServerStopping](ServerStopping(1.0))
        for one in (self.store, self.state):
            one.close()
        self.assertEqual(self.told, [])
