"""The heap of due times."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from gateway.retention.schedule import Schedule, jitter

NAMES = st.sampled_from("abcdefgh")
TIMES = st.integers(0, 20).map(float)


class ScheduleTests(SynchronousTestCase):
    def test_what_is_due_is_taken_once_and_the_first_due_first(self) -> None:
        schedule = Schedule()
        for mailbox, due in (("c", 3.0), ("a", 5.0), ("b", 4.0), ("d", 9.0)):
            schedule.put(mailbox, due)
        self.assertEqual(schedule.take(2.9, 10), [])
        self.assertEqual(schedule.take(5.0, 2), ["c", "b"])
        self.assertEqual(schedule.take(5.0, 2), ["a"])
        self.assertEqual(schedule.take(5.0, 2), [])
        self.assertEqual((schedule.next_due(), len(schedule)), (9.0, 1))

    def test_the_last_word_on_a_mailbox_counts(self) -> None:
        schedule = Schedule()
        for due in (5.0, 7.0, 5.0, 6.0):
            schedule.put("a", due)
        schedule.put("b", 1.0)
        schedule.put("b", None)
        schedule.put("never there", None)
        self.assertEqual(schedule.next_due(), 6.0)
        self.assertEqual(schedule.take(5.9, 10), [])
        self.assertEqual(schedule.take(99.0, 10), ["a"])
        self.assertIsNone(schedule.next_due())

    def test_memory_is_that_of_the_mailboxes_however_often_they_are_put(self) -> None:
        schedule = Schedule()
        for turn in range(1000):
            for mailbox in "abc":
                schedule.put(mailbox, float(turn))
        self.assertLess(len(schedule._heap), 100)
        self.assertEqual(schedule.take(999.0, 10), ["a", "b", "c"])
        for mailbox in range(1000):
            schedule.put(str(mailbox), 5.0)
        for mailbox in range(1000):
            schedule.put(str(mailbox), None)
        self.assertLess(len(schedule._heap), 100)


class ScheduleMachine(RuleBasedStateMachine):
    """A schedule beside a dict that is searched."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule()
        self.model: dict[str, float] = {}

    @rule(mailbox=NAMES, due=TIMES)
    def put(self, mailbox: str, due: float) -> None:
        """Now due then."""
        self.schedule.put(mailbox, due)
        self.model[mailbox] = due

    @rule(mailbox=NAMES)
    def remove(self, mailbox: str) -> None:
        """Due no more."""
        self.schedule.put(mailbox, None)
        self.model.pop(mailbox, None)

    @rule(mailbox=NAMES, due=TIMES, times=st.integers(70, 90))
    def put_often(self, mailbox: str, due: float, times: int) -> None:
        """So often that what is superseded has to go."""
        for turn in range(times):
            self.put(mailbox, due + turn % 2)

    @rule(now=TIMES, most=st.integers(0, 9))
    def take(self, now: float, most: int) -> None:
        """Some of those that are due."""
        due = sorted((due, mailbox) for mailbox, due in self.model.items() if due <= now)
        wanted = [mailbox for _, mailbox in due[:most]]
        assert self.schedule.take(now, most) == wanted
        for mailbox in wanted:
            del self.model[mailbox]

    @invariant()
    def same(self) -> None:
        """They agree, and memory is bounded."""
        for now in (0.0, 7.0, 20.0):
            due = sum(one <= now for one in self.model.values())
            assert self.schedule.count_due(now, 100) == due
            assert self.schedule.count_due(now, 3) == min(due, 3)
        assert self.schedule.next_due() == min(self.model.values(), default=None)
        assert len(self.schedule) == len(self.model)
        assert len(self.schedule._heap) <= 2 * len(self.model) + 64


TestSchedule = ScheduleMachine.TestCase


class JitterTests(SynchronousTestCase):
    def test_a_mailbox_has_the_same_jitter_in_every_process(self) -> None:
        self.assertAlmostEqual(jitter("alice@example.org", 3600), 3086.6413617366375)
        self.assertEqual(jitter("alice@example.org", 0), 0)
        self.assertEqual(jitter("\udc80", 60), jitter("\udc80", 60))

    def test_mailboxes_are_spread_evenly(self) -> None:
        quarters = [int(jitter(f"user{number}", 4)) for number in range(4000)]
        self.assertEqual(set(quarters), {0, 1, 2, 3})
        self.assertGreater(min(quarters.count(quarter) for quarter in range(4)), 900)
