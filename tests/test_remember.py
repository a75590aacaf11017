"""What anybody may send is remembered only while it is short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.remember import SHORT, remember_short


class RememberTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: list[str] = []

        @remember_short(2)
        def upper(text: str) -> str:
            self.asked.append(text)
            if text == "bad":
                raise ValueError(text)
            return text.upper()

        self.upper = upper

    def test_a_short_text_is_asked_for_once_and_a_long_one_each_time(self) -> None:
        for text, times in (("a" * SHORT, 1), ("a" * (SHORT + 1), 3), ("", 1)):
            self.asked.clear()
            self.assertEqual([self.upper(text) for _ in range(3)], [text.upper()] * 3)
            self.assertEqual(len(self.asked), times)

    def test_a_text_without_a_result_is_asked_for_each_time(self) -> None:
        for _ in range(2):
            self.assertRaises(ValueError, self.upper, "bad")
        self.assertEqual(len(self.asked), 2)

    @given(st.lists(st.text(max_size=2 * SHORT)))
    def test_the_result_is_the_same(self, texts: list[str]) -> None:
        self.assertEqual(
            [self.upper(f"{one}!") for one in texts], [f"{one}!".upper() for one in texts]
        )
