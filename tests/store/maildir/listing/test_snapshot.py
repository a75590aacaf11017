"""What sessions find out about messages while another thread makes the next snapshot."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Form, Listing
from gateway.store.maildir.folders.scan import NEVER
from gateway.store.maildir.listing.sizes import Sizes
from gateway.store.maildir.listing.snapshot import (
    CLAIMED,
    UNKNOWN,
    UNREADABLE,
    Addition,
    Size,
    Snapshot,
)


class Names(tuple[str, ...]):
    """Base names; another thread has its turn when they are looked through."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def __iter__(self) -> Iterator[str]:
        self.meanwhile()
        return super().__iter__()


class Forms(bytearray):
    """Forms; another thread has its turn when they are copied."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def __add__(self, others: Any) -> bytearray:
        self.meanwhile()
        return super().__add__(others)


class MeasuredMeanwhileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.names = Names(["one", "two", "three"])
        forms = bytearray([CLAIMED, CLAIMED, UNREADABLE])
        listing = Listing([10, 20, 30], ["1", "2", "3"])
        stored = array("q", [10, 20, 30])
        self.snapshot = Snapshot(listing, self.names, [""] * 3, forms, stored, {}, NEVER)
        self.snapshot.measured(0, Size(11, Form.CLEAN))

    def sizes(self) -> Sizes:
        """What the next listing has of this one, with the corrections known at its begin."""
        return Sizes(self.snapshot, self.snapshot.corrections.copy())

    def test_a_message_that_is_measured_while_the_sizes_are_taken_over_stops_nothing(self) -> None:
        self.names.meanwhile = lambda: self.snapshot.measured(1, Size(21, Form.CLEAN))
        sizes = self.sizes()
        self.assertEqual((sizes.octets["one"], sizes.forms["one"]), (11, Form.CLEAN))
        self.names.meanwhile = lambda: None
        self.assertEqual(self.sizes().octets["two"], 21)

    def test_a_guess_is_not_taken_over_though_its_message_is_measured_meanwhile(self) -> None:
        self.names.meanwhile = lambda: self.snapshot.measured(2, Size(33, Form.CLEAN))
        self.assertNotEqual(self.sizes().octets.get("three"), 30)

    def test_of_two_findings_about_a_message_the_last_counts(self) -> None:
        self.snapshot.refute(0)
        self.assertNotIn("one", self.sizes().octets)
        self.snapshot.measured(0, Size(12, Form.CLEAN))
        self.assertEqual(self.sizes().octets["one"], 12)

    def test_a_file_that_is_refused_again_and_again_takes_no_memory_for_it(self) -> None:
        for _ in range(3):
            self.snapshot.refute(1)
        self.assertEqual(len(self.snapshot.corrections), 2)

    def test_what_a_message_is_like_is_never_taken_over_without_the_version_of_its_file(
        self,
    ) -> None:
        listing, unknown = Listing([10], ["1"]), array("q", [UNKNOWN])
        forms = Forms([CLAIMED])
        snapshot = Snapshot(listing, ["one"], ["new/one"], forms, unknown, set(), NEVER)
        forms.meanwhile = lambda: snapshot.measured(0, Size(10, Form.CLEAN, version=7))
        longer = snapshot.longer([Addition("two", "new/two", "2", 5, CLAIMED, 8, False)], NEVER)
        is_known = longer.forms[0] == Form.CLEAN
        self.assertEqual(is_known and longer.is_version(0, 9), False)


class Files(list[str]):
    """Counts how often all of them are looked through."""

    looked = 0

    def __iter__(self) -> Iterator[str]:
        self.looked += 1
        return super().__iter__()


def snapshot_of(files: list[str]) -> Snapshot:
    count = len(files)
    listing = Listing([1] * count, [str(number) for number in range(count)])
    forms, versions = bytearray([CLAIMED]) * count, array("q", [UNKNOWN]) * count
    return Snapshot(
        listing, [f"{number}" for number in range(count)], files, forms, versions, set(), NEVER
    )


class InNewTests(SynchronousTestCase):
    @given(
        st.lists(st.sampled_from(["new", "cur"])),
        st.lists(st.tuples(st.sampled_from(["look", "add", "rename"]), st.integers(0, 99))),
    )
    def test_the_files_in_new_are_those_of_the_list_whatever_came_or_was_renamed(
        self, folders: list[str], steps: list[tuple[str, int]]
    ) -> None:
        snapshot = snapshot_of([f"{folder}/{at}" for at, folder in enumerate(folders)])
        for number, (step, which) in enumerate(steps):
            folder = ("new", "cur")[which % 2]
            if step == "add":
                file = f"{folder}/a{number}"
                added = Addition(f"a{number}", file, str(number), 1, CLAIMED, UNKNOWN, False)
                snapshot = snapshot.longer([added], NEVER)
            elif step == "rename" and snapshot.files:
                snapshot.rename(which % len(snapshot.files), f"{folder}/r{number}")
            else:
                expected = {file for file in snapshot.files if file.startswith("new/")}
                self.assertEqual(snapshot.in_new, expected)
        expected = {file for file in snapshot.files if file.startswith("new/")}
        self.assertEqual(snapshot.in_new, expected)

    def test_after_a_new_message_not_all_files_are_looked_through_again(self) -> None:
        first = snapshot_of(["new/a", "cur/b"])
        self.assertEqual(first.in_new, {"new/a"})
        second = first.longer([Addition("c", "new/c", "9", 1, CLAIMED, UNKNOWN, False)], NEVER)
        second.files = files = Files(second.files)
        self.assertEqual((second.in_new, files.looked), ({"new/a", "new/c"}, 0))
