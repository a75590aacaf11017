"""When each message goes, and the reason in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import StoredMessage
from gateway.retention.reasons import dues, duration, why, why_hidden
from gateway.retention.rules import Policy, doomed

DAY = 86_400
NOW = 1_700_000_000.0

TIMES = st.none() | st.integers(0, 40).map(lambda days: days * DAY)
POLICIES = st.builds(
    Policy,
    unread=TIMES,
    read=TIMES,
    any=TIMES,
    newest=st.none() | st.integers(0, 6),
    size=st.none() | st.integers(0, 60),
    floor=TIMES,
    hold=st.booleans(),
)
MESSAGES = st.lists(
    st.tuples(st.integers(-50, 2), st.integers(1, 20), st.none() | st.integers(-50, 2)),
    max_size=9,
).map(
    lambda rows: [
        StoredMessage(
            NOW + received * DAY,
            str(number),
            octets,
            None if read is None else NOW + max(read, received) * DAY,
        )
        for number, (received, octets, read) in enumerate(rows)
    ]
)


def kept(age: float, uid: str = "1", read: float | None = None) -> StoredMessage:
    return StoredMessage(NOW - age, uid, 10, read)


class DuesTests(SynchronousTestCase):
    @given(MESSAGES, POLICIES)
    def test_what_is_due_now_is_what_retention_removes_now(
        self, messages: list[StoredMessage], policy: Policy
    ) -> None:
        found = dues(messages, policy, NOW)
        due = {uid: (one.due, one.rule) for uid, one in found.items() if one.due <= NOW}
        gone = {one.message.uid: (one.due, one.rule) for one in doomed(messages, policy, NOW)}
        self.assertEqual(due, gone)

    def test_each_message_has_the_time_and_the_rule_that_comes_first(self) -> None:
        messages = [kept(10 * DAY, "old"), kept(DAY, "read", read=NOW - DAY / 2)]
        found = dues(messages, Policy(unread=60 * DAY, read=7 * DAY), NOW)
        self.assertEqual(found["old"].due, NOW + 50 * DAY)
        self.assertEqual(found["read"].due, NOW + 6.5 * DAY)

    def test_under_a_hold_and_without_a_policy_nothing_has_a_time(self) -> None:
        for policy in (Policy(), Policy(any=DAY, hold=True)):
            self.assertEqual(dues([kept(9 * DAY)], policy, NOW), {})


class WordsTests(SynchronousTestCase):
    def told(self, policy: Policy, *messages: StoredMessage) -> str:
        found = dues(messages, policy, NOW)
        return why(found[messages[0].uid], policy)

    def test_each_rule_has_its_words(self) -> None:
        cases = {
            "unread for 60 days after receipt": (Policy(unread=60 * DAY), kept(DAY)),
            "read 12 hours before": (Policy(read=DAY // 2), kept(DAY, read=NOW - 5)),
            "received 1 day before": (Policy(any=DAY), kept(5)),
            "received 1 minute before, kept for 2 days at least": (
                Policy(any=60, floor=2 * DAY),
                kept(5),
            ),
        }
        for text, (policy, message) in cases.items():
            self.assertEqual(self.told(policy, message), text)
        two = kept(2 * DAY, "a"), kept(DAY, "b")
        self.assertEqual(
            self.told(Policy(newest=1), *two), "not among the newest messages, 1 in number"
        )
        self.assertEqual(
            self.told(Policy(size=10), *two), "not among the newest messages, 10 octets together"
        )
        self.assertEqual(why_hidden(Policy(any=DAY, hide=14 * DAY)), "hidden for 14 days")

    def test_times_are_in_the_largest_unit_without_a_fraction(self) -> None:
        for seconds, text in (
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "90 seconds"),
            (3600, "1 hour"),
        ):
            self.assertEqual(duration(seconds), text)
