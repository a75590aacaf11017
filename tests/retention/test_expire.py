"""What EXPIRE promises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import StoredMessage
from gateway.retention.expire import after_login, before_login, days_kept
from gateway.retention.rules import Policy, doomed
from gateway.retention.text import parse

DAY = 86_400

TIMES = st.none() | st.integers(0, 5 * DAY) | st.integers(0, 5).map(lambda days: days * DAY)
POLICIES = st.builds(
    Policy,
    unread=TIMES,
    read=TIMES,
    any=TIMES,
    newest=st.none() | st.integers(0, 2),
    size=st.none() | st.integers(0, 2),
    floor=TIMES,
    hold=st.booleans(),
)


class AfterLoginTests(SynchronousTestCase):
    def test_the_rule_that_may_remove_a_message_first_is_announced(self) -> None:
        for text, said in {
            "never": "NEVER",
            "floor 3d, hide 7d": "NEVER",
            "hold, unread 60d, read 7d": "NEVER",
            "unread 60d, read 7d": "7",
            "unread 5d, read 7d": "5",
            "unread 60d": "60",
            "any 2w, read 30d": "14",
            "read 7d, floor 30d": "30",
            "newest 100": "0",
            "size 1G, unread 60d": "0",
            "size 1G, unread 60d, floor 3d": "3",
            "newest 100, read 2d, floor 1d": "1",
            "read 0d": "0",
            "read 7d, hide 14d": "7",
        }.items():
            with self.subTest(text=text):
                self.assertEqual(after_login(parse(text)), said)

    def test_days_are_rounded_down(self) -> None:
        for text, said in {"read 47h": "1", "read 48h": "2", "any 12h": "0"}.items():
            self.assertEqual(after_login(parse(text)), said)

    @given(
        POLICIES,
        st.lists(st.tuples(st.integers(0, 9 * DAY), st.none() | st.integers(0, 9 * DAY))),
        st.integers(0, 20 * DAY),
    )
    def test_no_message_goes_younger_than_was_promised(
        self, policy: Policy, times: list[tuple[int, int | None]], now: int
    ) -> None:
        mail = [
            StoredMessage(came, str(number), 1, read) for number, (came, read) in enumerate(times)
        ]
        days = days_kept(policy)
        for one in doomed(mail, policy, now):
            assert days is not None
            self.assertGreaterEqual(now - one.message.received, days * DAY)


class BeforeLoginTests(SynchronousTestCase):
    def test_the_smallest_value_is_announced_and_whether_users_differ(self) -> None:
        for texts, said in {
            (): "NEVER",
            ("never", "hold"): "NEVER",
            ("read 7d",): "7",
            ("read 7d", "any 1w"): "7",
            ("read 7d", "any 30d"): "7 USER",
            ("read 7d", "never"): "7 USER",
            ("never", "read 0d", "read 7d"): "0 USER",
        }.items():
            with self.subTest(texts=texts):
                self.assertEqual(before_login(map(parse, texts)), said)

    @given(st.lists(POLICIES))
    def test_it_never_promises_more_than_a_user_has(self, policies: list[Policy]) -> None:
        said = before_login(policies).split()
        values = [after_login(policy) for policy in policies]
        if said[0] != "NEVER":
            self.assertIn(said[0], values)
            self.assertTrue(all(v == "NEVER" or int(v) >= int(said[0]) for v in values))
        self.assertEqual(said[1:], ["USER"] if len(set(values)) > 1 else [])
