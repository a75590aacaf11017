"""What a retention policy removes: examples, and what holds for every mailbox and policy."""

from __future__ import annotations

from random import Random

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import StoredMessage
from gateway.retention.rules import Expired, Policy, Rule, doomed, next_due

DAY = 86_400

TIMES = st.integers(0, 40).map(float) | st.floats(0, 40)
MESSAGES = st.lists(
    st.builds(
        StoredMessage,
        received=TIMES,
        uid=st.integers(0, 99).map(str),
        octets=st.integers(0, 9),
        read=st.none() | TIMES,
    ),
    max_size=12,
    unique_by=lambda message: message.uid,
)
AGES = st.none() | st.integers(0, 30)
AGE_POLICIES = st.builds(Policy, unread=AGES, read=AGES, any=AGES, floor=AGES)
POLICIES = st.builds(
    Policy,
    unread=AGES,
    read=AGES,
    any=AGES,
    newest=st.none() | st.integers(0, 8),
    size=st.none() | st.integers(0, 40),
    floor=AGES,
)


def kept(uid: str, received: float, read: float | None = None, octets: int = 1) -> StoredMessage:
    """A message; times in days."""
    return StoredMessage(
        uid=uid,
        octets=octets,
        received=received * DAY,
        read=None if read is None else read * DAY,
    )


def uids(found: list[Expired]) -> list[str]:
    """Which messages go, in order."""
    return [one.message.uid for one in found]


def goes_by_age(message: StoredMessage, policy: Policy, now: float) -> bool:
    """Whether a rule about age removes a message: said over again, without due times."""
    if policy.floor is not None and now < message.received + policy.floor:
        return False
    read = None if message.read is None else max(message.read, message.received)
    return (
        (policy.any is not None and now >= message.received + policy.any)
        or (policy.unread is not None and read is None and now >= message.received + policy.unread)
        or (policy.read is not None and read is not None and now >= read + policy.read)
    )


def naive(messages: list[StoredMessage], policy: Policy, now: float) -> set[str]:
    """What goes, by removing one message after the other."""
    gone = {one.uid for one in messages if goes_by_age(one, policy, now)}
    staying = sorted(one for one in messages if one.uid not in gone and one.received <= now)
    while staying:
        over = (policy.newest is not None and len(staying) > policy.newest) or (
            policy.size is not None and sum(one.octets for one in staying) > policy.size
        )
        oldest = staying.pop(0)
        if not over or now < oldest.received + (policy.floor or 0):
            break
        gone.add(oldest.uid)
    return gone


class ExampleTests(SynchronousTestCase):
    def test_unread_mail_goes_after_60_days_and_read_mail_after_7(self) -> None:
        """RFC 1939 section 8."""
        policy = Policy(unread=60 * DAY, read=7 * DAY)
        mail = [kept("new", 0), kept("read at once", 0, 0), kept("read late", 0, 59)]
        for day, gone in {
            6.99999: [],
            7: ["read at once"],
            59.99999: ["read at once"],
            60: ["read at once", "new"],
            65.99999: ["read at once", "new"],
            66: ["read at once", "new", "read late"],
        }.items():
            with self.subTest(day=day):
                self.assertEqual(uids(doomed(mail, policy, day * DAY)), gone)

    def test_what_goes_says_since_when_and_by_which_rule(self) -> None:
        mail = [kept("a", 1), kept("b", 2, 3), kept("c", 4), kept("d", 5), kept("e", 9, 9)]
        policy = Policy(unread=5 * DAY, read=2 * DAY, any=20 * DAY, newest=1)
        self.assertEqual(
            doomed(mail, policy, 8 * DAY),
            [
                Expired(5.0 * DAY, mail[1], Rule.READ),
                Expired(5.0 * DAY, mail[2], Rule.NEWEST),
                Expired(6.0 * DAY, mail[0], Rule.UNREAD),
            ],
        )

    def test_of_two_rules_the_one_that_is_due_first_is_named(self) -> None:
        mail = [kept("a", 0), kept("b", 0, 3)]
        for policy, rules in (
            (Policy(unread=5 * DAY, read=9 * DAY, any=7 * DAY), [Rule.UNREAD, Rule.ANY]),
            (Policy(unread=8 * DAY, read=4 * DAY, any=7 * DAY), [Rule.ANY, Rule.READ]),
            (Policy(unread=5 * DAY, read=DAY, floor=20 * DAY), [Rule.UNREAD, Rule.READ]),
        ):
            found = sorted(doomed(mail, policy, 99 * DAY), key=lambda one: one.message.uid)
            self.assertEqual([one.rule for one in found], rules)

    def test_the_empty_policy_and_one_that_only_protects_remove_nothing(self) -> None:
        mail = [kept("a", 0), kept("b", 0, 0)]
        for policy in (Policy(), Policy(floor=DAY), Policy(hide=DAY), Policy(hold=True)):
            self.assertEqual(doomed(mail, policy, 9999 * DAY), [])
            self.assertIsNone(next_due(mail, policy, 9999 * DAY))

    def test_the_newest_are_kept_and_the_oldest_beyond_them_go(self) -> None:
        mail = [kept(uid, day) for day, uid in enumerate("abcde")]
        found = doomed(mail, Policy(newest=2), 9 * DAY)
        self.assertEqual(uids(found), ["a", "b", "c"])
        self.assertEqual([one.due for one in found], [2 * DAY, 3 * DAY, 4 * DAY])
        self.assertEqual(uids(doomed(mail, Policy(newest=0), 9 * DAY)), list("abcde"))
        self.assertEqual(doomed(mail, Policy(newest=5), 9 * DAY), [])

    def test_while_there_are_more_octets_than_the_size_the_oldest_goes(self) -> None:
        mail = [kept(uid, day, octets=10) for day, uid in enumerate("abcd")]
        self.assertEqual(doomed(mail, Policy(size=40), 9 * DAY), [])
        found = doomed(mail, Policy(size=39), 9 * DAY)
        self.assertEqual(found, [Expired(3 * DAY, mail[0], Rule.SIZE)])
        self.assertEqual(uids(doomed(mail, Policy(size=20), 9 * DAY)), ["a", "b"])
        self.assertEqual(uids(doomed(mail, Policy(size=0), 9 * DAY)), list("abcd"))

    def test_a_large_message_that_is_old_does_not_save_those_that_are_older(self) -> None:
        mail = [kept("tiny", 0), kept("huge", 1, octets=99), kept("small", 2)]
        self.assertEqual(uids(doomed(mail, Policy(size=50), 9 * DAY)), ["tiny", "huge"])

    def test_of_the_rules_about_room_the_one_that_was_broken_first_is_named(self) -> None:
        mail = [kept(uid, day, octets=10) for day, uid in enumerate("abcd")]
        for policy, rules in (
            (Policy(newest=3, size=25), [Rule.SIZE, Rule.SIZE]),
            (Policy(newest=1, size=25), [Rule.NEWEST, Rule.NEWEST, Rule.NEWEST]),
            (Policy(newest=2, size=20), [Rule.NEWEST, Rule.NEWEST]),
        ):
            self.assertEqual([one.rule for one in doomed(mail, policy, 9 * DAY)], rules)

    def test_what_goes_by_its_age_makes_room_for_others(self) -> None:
        mail = [kept("old, unread", 0), kept("read", 5, 5), kept("new", 8)]
        policy = Policy(read=DAY, newest=2, size=2)
        self.assertEqual(uids(doomed(mail, policy, 9 * DAY)), ["read"])

    def test_the_floor_keeps_what_no_room_is_left_for_until_it_ends(self) -> None:
        mail = [kept("a", 1), kept("b", 2), kept("c", 3)]
        policy = Policy(newest=1, floor=5 * DAY)
        self.assertEqual(next_due(mail, policy, 4 * DAY), 6 * DAY)
        self.assertEqual(doomed(mail, policy, 6 * DAY - 1), [])
        self.assertEqual(uids(doomed(mail, policy, 6 * DAY)), ["a"])
        self.assertEqual(uids(doomed(mail, policy, 99 * DAY)), ["a", "b"])

    def test_what_is_due_already_is_due_now(self) -> None:
        mail = [kept("a", 1), kept("b", 2)]
        for policy in (Policy(newest=1), Policy(size=1), Policy(any=3 * DAY)):
            self.assertEqual(next_due(mail, policy, 50 * DAY), 50 * DAY)

    def test_mail_of_the_future_neither_goes_nor_crowds_out_other_mail(self) -> None:
        mail = [kept("a", 1), kept("b", 100), kept("c", 101, 200)]
        for policy in (Policy(newest=1), Policy(size=1), Policy(read=0), Policy(newest=0)):
            gone = ["a"] if policy.newest == 0 else []
            self.assertEqual(uids(doomed(mail, policy, 2 * DAY)), gone)
        self.assertEqual(next_due(mail, Policy(newest=1), 2 * DAY), 100 * DAY)
        self.assertEqual(next_due(mail, Policy(read=DAY), 2 * DAY), 201 * DAY)

    def test_what_was_read_before_it_came_counts_from_when_it_came(self) -> None:
        mail = [kept("a", 10, 3)]
        self.assertEqual(next_due(mail, Policy(read=DAY), 0), 11 * DAY)

    def test_of_messages_that_came_together_the_uid_decides(self) -> None:
        mail = [kept("b", 1), kept("c", 1), kept("a", 1)]
        self.assertEqual(uids(doomed(mail, Policy(newest=1), 2 * DAY)), ["a", "b"])

    def test_an_empty_mailbox_has_nothing_due(self) -> None:
        policy = Policy(unread=0, read=0, any=0, newest=0, size=0)
        self.assertEqual(doomed([], policy, 1), [])
        self.assertIsNone(next_due([], policy, 1))

    def test_no_item_of_a_policy_is_below_zero(self) -> None:
        for name in ("unread", "read", "any", "newest", "size", "floor", "hide"):
            with self.subTest(name=name), self.assertRaises(ValueError):
                evolve(Policy(), **{name: -1})


class EveryMailboxTests(SynchronousTestCase):
    @given(MESSAGES, POLICIES, TIMES)
    def test_what_goes_is_what_removing_one_after_the_other_removes(
        self, messages: list[StoredMessage], policy: Policy, now: float
    ) -> None:
        found = uids(doomed(messages, policy, now))
        self.assertEqual(set(found), naive(messages, policy, now))
        self.assertEqual(len(set(found)), len(found))

    @given(MESSAGES, POLICIES, TIMES)
    def test_nothing_goes_below_the_floor_or_before_it_is_due(
        self, messages: list[StoredMessage], policy: Policy, now: float
    ) -> None:
        for one in doomed(messages, policy, now):
            self.assertIn(one.message, messages)
            self.assertGreaterEqual(now, one.due)
            self.assertGreaterEqual(one.due, one.message.received + (policy.floor or 0))

    @given(MESSAGES, POLICIES, TIMES)
    def test_no_message_goes_younger_than_the_rule_it_goes_by_says(
        self, messages: list[StoredMessage], policy: Policy, now: float
    ) -> None:
        limits = {Rule.UNREAD: policy.unread, Rule.READ: policy.read, Rule.ANY: policy.any}
        for _, message, rule in doomed(messages, policy, now):
            if (limit := limits.get(rule, 0)) is None:
                self.fail(f"{rule} is no rule of {policy}")
            since = message.received
            if rule is Rule.READ:
                assert message.read is not None
                since = max(since, message.read)
            elif rule is Rule.UNREAD:
                self.assertIsNone(message.read)
            self.assertGreaterEqual(now, since + limit)

    @given(MESSAGES, POLICIES, TIMES)
    def test_a_hold_keeps_everything(
        self, messages: list[StoredMessage], policy: Policy, now: float
    ) -> None:
        held = evolve(policy, hold=True)
        self.assertEqual(doomed(messages, held, now), [])
        self.assertIsNone(next_due(messages, held, now))

    @given(MESSAGES, POLICIES, TIMES, st.randoms(use_true_random=False))
    def test_the_order_of_the_messages_does_not_matter(
        self, messages: list[StoredMessage], policy: Policy, now: float, random: Random
    ) -> None:
        shuffled = random.sample(messages, len(messages))
        self.assertEqual(doomed(shuffled, policy, now), doomed(messages, policy, now))
        self.assertEqual(next_due(shuffled, policy, now), next_due(messages, policy, now))

    @given(MESSAGES, POLICIES, TIMES, st.integers(0, 12))
    def test_the_work_may_be_done_in_pieces(
        self, messages: list[StoredMessage], policy: Policy, now: float, count: int
    ) -> None:
        found = doomed(messages, policy, now)
        gone = {one.message for one in found[:count]}
        left = [message for message in messages if message not in gone]
        self.assertEqual(doomed(left, policy, now), found[count:])

    @given(MESSAGES, AGE_POLICIES, TIMES, TIMES)
    def test_for_ages_a_run_and_a_later_one_remove_what_the_later_one_alone_does(
        self, messages: list[StoredMessage], policy: Policy, one: float, other: float
    ) -> None:
        first, second = sorted((one, other))
        early = doomed(messages, policy, first)
        left = [m for m in messages if m not in {found.message for found in early}]
        self.assertEqual(
            sorted(early + doomed(left, policy, second)), doomed(messages, policy, second)
        )

    @given(MESSAGES, POLICIES, TIMES, st.sets(st.integers(0, 11)))
    def test_removing_messages_dooms_no_others(
        self, messages: list[StoredMessage], policy: Policy, now: float, removed: set[int]
    ) -> None:
        left = [message for place, message in enumerate(messages) if place not in removed]
        before = set(uids(doomed(messages, policy, now)))
        self.assertLessEqual(set(uids(doomed(left, policy, now))), before)

    @given(MESSAGES, POLICIES, TIMES)
    def test_nothing_goes_before_it_is_said_to_be_due_and_something_then(
        self, messages: list[StoredMessage], policy: Policy, now: float
    ) -> None:
        due = next_due(messages, policy, now)
        if due is None:
            self.assertEqual(doomed(messages, policy, 1e12), [])
            return
        self.assertGreaterEqual(due, now)
        self.assertNotEqual(doomed(messages, policy, due), [])
        moments = [m.received for m in messages] + [m.read for m in messages if m.read is not None]
        for moment in {now, (now + due) / 2, due - 1e-6, *moments}:
            if now <= moment < due:
                self.assertEqual(doomed(messages, policy, moment), [])

    @given(MESSAGES, AGE_POLICIES, TIMES, TIMES)
    def test_a_clock_that_is_behind_only_keeps_mail_longer(
        self, messages: list[StoredMessage], policy: Policy, now: float, behind: float
    ) -> None:
        early = uids(doomed(messages, policy, now - behind))
        self.assertLessEqual(set(early), set(uids(doomed(messages, policy, now))))

    @given(MESSAGES, POLICIES, TIMES, st.data())
    def test_a_message_with_a_later_time_is_kept_no_shorter(
        self, messages: list[StoredMessage], policy: Policy, now: float, data: st.DataObject
    ) -> None:
        """As after a copy that lost the times."""
        assume(messages)
        message = data.draw(st.sampled_from(messages))
        later = message._replace(received=message.received + data.draw(st.integers(1, 50)))
        others = [one for one in messages if one is not message]
        if message.uid not in uids(doomed(messages, policy, now)):
            self.assertNotIn(message.uid, uids(doomed([*others, later], policy, now)))
