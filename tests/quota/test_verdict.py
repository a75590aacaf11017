"""Limits and verdicts."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import UNLIMITED, Level, Limits, Quota, Usage
from gateway.quota.limits import resolve
from gateway.quota.verdict import Verdict, level, verdict

NUMBERS = st.integers(0, 40)
MAYBE = st.none() | NUMBERS
USAGES = st.builds(Usage, octets=st.integers(-5, 50), messages=st.integers(-2, 12))
LIMITS = st.builds(
    Limits, octets=MAYBE, messages=MAYBE, grace_octets=st.integers(0, 15), warn_octets=MAYBE
)
SIZES = st.integers(-1, 60)


def larger(least: int | None, more: int | None) -> int | None:
    """A limit raised, or lifted by None."""
    return None if least is None or more is None else least + more


class LimitsTests(SynchronousTestCase):
    @given(USAGES, SIZES, LIMITS)
    def test_a_mailbox_with_room_has_room_whatever_the_grace(
        self, usage: Usage, size: int, limits: Limits
    ) -> None:
        room = limits.room(size)
        has_room = usage.octets <= room.octets and usage.messages <= room.messages
        if has_room and room.octets >= 0 and room.messages >= 0:
            self.assertIs(verdict(usage, size, limits), Verdict.FINE)
        elif min(usage.octets, usage.messages) >= 0:
            self.assertIsNot(verdict(usage, size, evolve(limits, grace_octets=0)), Verdict.FINE)

    def test_the_room_of_a_mailbox_without_limits_is_a_number_of_sql(self) -> None:
        most = Usage(UNLIMITED, UNLIMITED)
        self.assertEqual(Limits().room(10), most)
        self.assertEqual(Limits(octets=2**70, messages=2**70).room(10), most)

    def test_each_item_is_the_accounts_own_else_the_domains_else_the_stores(self) -> None:
        account = Quota(octets=100)
        domain = Quota(octets=200, messages=20)
        store = Quota(octets=300, messages=30, warn_octets=3)
        self.assertEqual(
            resolve(account, domain, store, 7),
            Limits(octets=100, messages=20, warn_octets=3, grace_octets=7),
        )

    def test_zero_is_a_limit_and_silence_is_none(self) -> None:
        self.assertEqual(
            resolve(Quota(octets=0), Quota(messages=0), Quota(octets=9, messages=9)),
            Limits(octets=0, messages=0),
        )
        self.assertEqual(resolve(Quota(), Quota(), Quota()), Limits())

    def test_unlimited_overrules_a_default(self) -> None:
        store = Quota(octets=1, warn_octets=1, messages=1)
        none = Quota(octets=UNLIMITED, warn_octets=UNLIMITED, messages=UNLIMITED)
        self.assertEqual(resolve(none, store, store, warn_percent=90), Limits())
        self.assertEqual(resolve(Quota(), none, store), Limits())

    def test_a_part_of_the_limit_warns_where_nobody_says_a_figure_below_it(self) -> None:
        for account, store, warn in (
            (Quota(octets=1000), Quota(), 900),
            (Quota(), Quota(octets=500), 450),
            (Quota(octets=1000), Quota(warn_octets=5000), 900),
            (Quota(octets=1000), Quota(warn_octets=800), 800),
            (Quota(octets=1000, warn_octets=2000), Quota(), 2000),
            (Quota(octets=1000), Quota(warn_octets=UNLIMITED), None),
            (Quota(), Quota(), None),
        ):
            with self.subTest(account=account, store=store):
                limits = resolve(account, Quota(), store, warn_percent=90)
                self.assertEqual(limits.warn_octets, warn)


class VerdictTests(SynchronousTestCase):
    def check(self, limits: Limits, usage: Usage, expected: dict[int, Verdict]) -> None:
        """Sizes and what is said to them."""
        for size, wanted in expected.items():
            with self.subTest(limits=limits, usage=usage, size=size):
                self.assertIs(verdict(usage, size, limits), wanted)

    def test_a_mailbox_without_limits_takes_everything(self) -> None:
        self.check(Limits(), Usage(2**70, 2**70), {0: Verdict.FINE, 2**70: Verdict.FINE})

    def test_the_last_octet_fits_and_the_next_does_not(self) -> None:
        limits = Limits(octets=100)
        self.check(limits, Usage(90, 1), {10: Verdict.FINE, 11: Verdict.OVER})
        self.check(limits, Usage(100, 1), {1: Verdict.OVER})

    def test_a_message_larger_than_the_whole_quota_is_told_apart(self) -> None:
        limits = Limits(octets=100, grace_octets=20)
        for usage in (Usage(), Usage(100, 1), Usage(500, 5)):
            self.check(limits, usage, {121: Verdict.LARGER_THAN_QUOTA})
        self.check(limits, Usage(), {100: Verdict.FINE, 120: Verdict.FINE})

    def test_the_grace_is_for_one_message_that_begins_below_the_limit(self) -> None:
        limits = Limits(octets=100, grace_octets=20)
        self.check(limits, Usage(99, 1), {21: Verdict.FINE, 22: Verdict.OVER})
        self.check(limits, Usage(100, 1), {1: Verdict.OVER})

    def test_an_unknown_size_does_not_get_into_a_full_mailbox(self) -> None:
        self.check(Limits(octets=10), Usage(10, 1), {0: Verdict.OVER, -1: Verdict.OVER})
        self.check(Limits(octets=10), Usage(9, 1), {0: Verdict.FINE})
        self.check(Limits(octets=0), Usage(), {0: Verdict.LARGER_THAN_QUOTA})

    def test_messages_are_counted_too(self) -> None:
        limits = Limits(messages=2)
        self.check(limits, Usage(10**9, 1), {10**9: Verdict.FINE})
        self.check(limits, Usage(0, 2), {0: Verdict.OVER})
        self.check(Limits(messages=0), Usage(), {1: Verdict.OVER})

    def test_where_nothing_is_allowed_a_count_below_zero_helps_nobody(self) -> None:
        for limits in (Limits(octets=0, grace_octets=5), Limits(messages=0)):
            self.check(limits, Usage(-3, -3), {1: Verdict.OVER})
            self.assertIs(level(Usage(-3, -3), limits), Level.OVER)

    @given(USAGES, SIZES, LIMITS)
    def test_larger_than_quota_is_what_an_empty_mailbox_of_that_many_octets_cannot_take(
        self, usage: Usage, size: int, limits: Limits
    ) -> None:
        fits = limits.octets is None or max(size, 1) <= limits.octets + limits.grace_octets
        self.assertEqual(verdict(usage, size, limits) is not Verdict.LARGER_THAN_QUOTA, fits)

    @given(USAGES, SIZES, LIMITS, NUMBERS, NUMBERS, NUMBERS)
    def test_more_mail_or_a_larger_message_never_helps(
        self, usage: Usage, size: int, limits: Limits, octets: int, messages: int, more: int
    ) -> None:
        fuller = Usage(usage.octets + octets, usage.messages + messages)
        self.assertLessEqual(verdict(usage, size, limits), verdict(fuller, size + more, limits))
        self.assertLessEqual(level(usage, limits), level(fuller, limits))

    @given(USAGES, SIZES, LIMITS, MAYBE, MAYBE, NUMBERS)
    def test_raised_limits_never_harm(
        self,
        usage: Usage,
        size: int,
        limits: Limits,
        octets: int | None,
        messages: int | None,
        grace: int,
    ) -> None:
        raised = evolve(
            limits,
            octets=larger(limits.octets, octets),
            messages=larger(limits.messages, messages),
            grace_octets=limits.grace_octets + grace,
        )
        self.assertLessEqual(verdict(usage, size, raised), verdict(usage, size, limits))
        self.assertLessEqual(level(usage, raised), level(usage, limits))

    @given(USAGES, SIZES, SIZES, LIMITS)
    def test_the_grace_never_lets_two_in(
        self, usage: Usage, first: int, second: int, limits: Limits
    ) -> None:
        if verdict(usage, first, limits) is not Verdict.FINE or limits.octets is None:
            return
        after = Usage(usage.octets + max(first, 1), usage.messages + 1)
        if after.octets > limits.octets:
            self.assertIsNot(verdict(after, second, limits), Verdict.FINE)

    @given(LIMITS, st.lists(st.integers(1, 30)))
    def test_whatever_comes_the_mailbox_holds_no_more_than_limit_and_grace(
        self, limits: Limits, sizes: list[int]
    ) -> None:
        usage = Usage()
        for size in sizes:
            if verdict(usage, size, limits) is Verdict.FINE:
                usage = Usage(usage.octets + size, usage.messages + 1)
        if limits.octets is not None:
            self.assertLessEqual(usage.octets, limits.octets + limits.grace_octets)
        if limits.messages is not None:
            self.assertLessEqual(usage.messages, limits.messages)


class LevelTests(SynchronousTestCase):
    def test_levels_begin_at_their_figures(self) -> None:
        limits = Limits(octets=100, messages=5, warn_octets=80, grace_octets=50)
        for usage, expected in (
            (Usage(79, 4), Level.NORMAL),
            (Usage(80, 4), Level.WARN),
            (Usage(99, 4), Level.WARN),
            (Usage(100, 4), Level.OVER),
            (Usage(0, 5), Level.OVER),
        ):
            with self.subTest(usage=usage):
                self.assertIs(level(usage, limits), expected)

    def test_what_came_in_vain_makes_it_full_from_where_warnings_begin(self) -> None:
        limits = Limits(octets=100, messages=5, warn_octets=80)
        for usage, wanted, expected in (
            (Usage(79, 4), 22, Level.NORMAL),
            (Usage(80, 4), 20, Level.WARN),
            (Usage(80, 4), 21, Level.OVER),
            (Usage(80, 4), 101, Level.WARN),
        ):
            with self.subTest(usage=usage, wanted=wanted):
                self.assertIs(level(usage, limits, wanted), expected)
        self.assertIs(level(Usage(10, 4), Limits(octets=100), 91), Level.OVER)
        self.assertIs(level(Usage(80), evolve(limits, grace_octets=5), 25), Level.WARN)

    @given(USAGES, SIZES, LIMITS, NUMBERS, NUMBERS)
    def test_a_message_that_came_in_vain_never_makes_less_of_it(
        self, usage: Usage, wanted: int, limits: Limits, octets: int, messages: int
    ) -> None:
        fuller = Usage(usage.octets + octets, usage.messages + messages)
        self.assertLessEqual(level(usage, limits), level(usage, limits, wanted))
        self.assertLessEqual(level(usage, limits, wanted), level(fuller, limits, wanted))

    @given(USAGES, SIZES, LIMITS)
    def test_a_message_for_which_there_is_room_makes_nothing_of_it(
        self, usage: Usage, wanted: int, limits: Limits
    ) -> None:
        if verdict(usage, wanted, limits) is not Verdict.OVER:
            self.assertIs(level(usage, limits, wanted), level(usage, limits))

    @given(USAGES, LIMITS)
    def test_over_is_where_not_even_an_octet_gets_in(self, usage: Usage, limits: Limits) -> None:
        over = verdict(usage, 1, limits) is not Verdict.FINE
        self.assertEqual(level(usage, limits) is Level.OVER, over)
