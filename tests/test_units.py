"""Sizes, read and written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import UNLIMITED
from gateway.units import counted, parse_size, rounded_size, rounded_time, size_text


class SizeTests(SynchronousTestCase):
    def test_sizes_are_read_as_people_write_them(self) -> None:
        for text, octets in {
            "0": 0,
            "123": 123,
            "7B": 7,
            "500M": 500 * 1024**2,
            "1 GB": 1024**3,
            " 10 KiB ": 10240,
            "1.5g": 3 * 512 * 1024**2,
            "0.1K": 102,
            "2t": 2 * 1024**4,
            "3P": 3 * 1024**5,
            "Unlimited": UNLIMITED,
        }.items():
            with self.subTest(text=text):
                self.assertEqual(parse_size(text), octets)

    def test_what_is_no_size_is_named_with_the_part_that_is_wrong(self) -> None:
        for text, fault in {
            "": "expected a size as 500M, 1.5 GB or unlimited, found ''",
            "-1": "expected a size as 500M, 1.5 GB or unlimited, found '-1'",
            "many": "expected a size as 500M, 1.5 GB or unlimited, found 'many'",
            "１": "expected a size as 500M, 1.5 GB or unlimited, found '１'",
            "10 QB": "expected K, M, G, T or P after 10, found 'QB' in '10 QB'",
            "1 iB": "expected K, M, G, T or P after 1, found 'iB' in '1 iB'",
            "1,5 GB": "expected K, M, G, T or P after 1, found ',5 GB' in '1,5 GB'",
            "8192P": "expected less than 8192 P, or unlimited, found '8192P'",
        }.items():
            with self.subTest(text=text):
                self.assertEqual(str(self.assertRaises(ValueError, parse_size, text)), fault)

    @given(st.integers(0, UNLIMITED - 1))
    def test_every_number_of_octets_is_a_size(self, octets: int) -> None:
        self.assertEqual(parse_size(str(octets)), octets)

    @given(st.integers(0, 1023), st.sampled_from([1024**power for power in range(6)]))
    def test_a_size_that_is_written_is_the_one_that_is_read(self, number: int, unit: int) -> None:
        self.assertEqual(parse_size(size_text(number * unit)), number * unit)

    def test_a_size_is_written_in_the_largest_unit_that_needs_no_fraction(self) -> None:
        for octets, text in {
            0: "0",
            1000: "1000",
            1536: "1536",
            10240: "10K",
            1024**2: "1M",
            1024**5 * 3: "3P",
            UNLIMITED: "unlimited",
        }.items():
            self.assertEqual(size_text(octets), text)

    @given(st.text())
    def test_no_text_does_anything_but_parse_or_fail_with_an_expectation(self, text: str) -> None:
        try:
            self.assertGreaterEqual(parse_size(text), 0)
        except ValueError as error:
            self.assertTrue(str(error).startswith("expected"))


def test_sizes_for_people_have_three_digits_at_most_and_a_unit() -> None:
    shown = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 KB",
        1536: "1.5 KB",
        10_240: "10 KB",
        1_047_500: "1.0 MB",
        5 * 1024**3: "5.0 GB",
        123 * 1024**4: "123 TB",
        2**62: "4096 PB",
        UNLIMITED: "unlimited",
    }
    assert {octets: rounded_size(octets) for octets in shown} == shown


def test_spans_for_people_have_one_unit() -> None:
    shown = {-1.0: "0 s", 0.4: "0 s", 119: "119 s", 120: "2 min", 7199: "119 min", 7200: "2 h"}
    shown |= {172_799: "47 h", 172_800: "2 d", 90.5 * 86_400: "90 d"}
    assert {seconds: rounded_time(seconds) for seconds in shown} == shown


def test_a_number_has_its_noun() -> None:
    said = [counted(number, "mailbox", "mailboxes") for number in (0, 1, 1200)]
    assert said == ["0 mailboxes", "1 mailbox", "1,200 mailboxes"]
    assert [counted(number, "day") for number in (1, 2)] == ["1 day", "2 days"]
