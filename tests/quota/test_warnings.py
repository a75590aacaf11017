"""When users are warned: every path on given times."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Level, WarningState
from gateway.quota.warnings import UNKNOWN, step

NORMAL, WARN, OVER = Level
DAY = 86_400.0
HOUR = 3600.0

Seen = tuple[float, Level]
"""A look at a mailbox: when, and its level then."""

LOOKS = st.lists(st.tuples(st.integers(0, 15), st.sampled_from(Level)), max_size=40)
"""Looks, each with the time since the last one; an interval is 10."""


def notices(*looks: Seen, interval: float = DAY) -> list[Seen]:
    """What is sent, and when."""
    state, sent = UNKNOWN, []
    for now, level in looks:
        state, notice = step(state, level, now, interval)
        assert state.level is level
        if notice is not None:
            sent.append((now, notice))
    return sent


def times(looks: list[tuple[int, Level]]) -> list[Seen]:
    """Looks with the time of each."""
    now, seen = 0.0, []
    for after, level in looks:
        now += after
        seen.append((now, level))
    return seen


class PathTests(SynchronousTestCase):
    def test_a_mailbox_with_room_warns_nobody(self) -> None:
        self.assertEqual(notices((0, NORMAL), (DAY, NORMAL), (9 * DAY, NORMAL)), [])

    def test_the_first_look_at_a_full_one_warns(self) -> None:
        self.assertEqual(notices((5, WARN)), [(5, WARN)])
        self.assertEqual(notices((5, OVER)), [(5, OVER)])

    def test_while_the_level_stays_it_is_said_once_in_an_interval(self) -> None:
        looks = [(hour * HOUR, WARN) for hour in range(72)]
        self.assertEqual(notices(*looks), [(0, WARN), (DAY, WARN), (2 * DAY, WARN)])
        looks = [(hour * HOUR, OVER) for hour in range(72)]
        self.assertEqual(notices(*looks), [(0, OVER), (DAY, OVER), (2 * DAY, OVER)])

    def test_worse_news_are_sent_at_once(self) -> None:
        self.assertEqual(notices((0, WARN), (1, OVER)), [(0, WARN), (1, OVER)])

    def test_a_drop_to_normal_and_back_within_the_interval_does_not_warn_again(self) -> None:
        self.assertEqual(notices((0, WARN), (1, NORMAL), (2, WARN)), [(0, WARN)])
        self.assertEqual(notices((0, OVER), (1, NORMAL), (2, OVER)), [(0, OVER)])

    def test_a_drop_to_normal_and_back_after_the_interval_warns_again(self) -> None:
        self.assertEqual(notices((0, WARN), (1, NORMAL), (DAY, WARN)), [(0, WARN), (DAY, WARN)])

    def test_from_over_to_warn_is_no_news_until_the_interval_is_past(self) -> None:
        looks = [(0, OVER), (1, WARN), (DAY - 1, WARN), (DAY, WARN)]
        self.assertEqual(notices(*looks), [(0, OVER), (DAY, WARN)])

    def test_a_mailbox_between_warn_and_over_is_told_of_each_once(self) -> None:
        looks = [(second, (WARN, OVER)[second % 2]) for second in range(1000)]
        self.assertEqual(notices(*looks), [(0, WARN), (1, OVER)])

    def test_after_a_warning_over_keeps_its_own_interval(self) -> None:
        looks = [(0, WARN), (HOUR, OVER), (DAY, OVER), (DAY + HOUR, OVER), (DAY + HOUR + 1, WARN)]
        self.assertEqual(notices(*looks), [(0, WARN), (HOUR, OVER), (DAY + HOUR, OVER)])

    def test_whoever_had_room_for_an_interval_is_forgotten(self) -> None:
        state, _ = step(UNKNOWN, OVER, 0, DAY)
        state, _ = step(state, NORMAL, DAY - 1, DAY)
        self.assertEqual(state, WarningState(NORMAL, over=0))
        self.assertEqual(step(state, NORMAL, DAY, DAY), (UNKNOWN, None))

    def test_a_warning_from_the_future_keeps_silent_for_one_interval_only(self) -> None:
        wrong = WarningState(WARN, warned=100 * DAY)
        state, notice = step(wrong, WARN, 0, DAY)
        self.assertEqual((state, notice), (WarningState(WARN, warned=0), None))
        self.assertEqual(step(state, WARN, DAY, DAY)[1], WARN)

    def test_a_shorter_interval_counts_from_now_on(self) -> None:
        state, _ = step(UNKNOWN, WARN, 0, DAY)
        self.assertIs(step(state, WARN, HOUR, HOUR)[1], WARN)


class Properties(SynchronousTestCase):
    @given(LOOKS)
    def test_no_two_notices_of_one_kind_within_an_interval(
        self, looks: list[tuple[int, Level]]
    ) -> None:
        sent = notices(*times(looks), interval=10)
        for kind in (WARN, OVER):
            at = [time for time, notice in sent if notice is kind]
            for one, next_one in pairwise(at):
                self.assertGreaterEqual(next_one - one, 10)

    @given(LOOKS)
    def test_a_notice_says_the_level_that_is(self, looks: list[tuple[int, Level]]) -> None:
        seen = times(looks)
        for sent in notices(*seen, interval=10):
            self.assertIn(sent, seen)

    @given(LOOKS)
    def test_nobody_at_a_level_goes_without_news_of_it_for_an_interval(
        self, looks: list[tuple[int, Level]]
    ) -> None:
        state, sent = UNKNOWN, []
        for now, level in times(looks):
            state, notice = step(state, level, now, 10)
            if notice is not None:
                sent.append((now, notice))
            if level is not NORMAL:
                recent = [kind for time, kind in sent if now - time < 10 and kind >= level]
                self.assertTrue(recent, "nothing as bad was said within the interval")

    @given(LOOKS)
    def test_looking_twice_changes_nothing(self, looks: list[tuple[int, Level]]) -> None:
        twice = [seen for seen in times(looks) for _ in range(2)]
        self.assertEqual(notices(*twice, interval=10), notices(*times(looks), interval=10))
