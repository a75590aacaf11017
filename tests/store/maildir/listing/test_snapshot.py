"""What sessions find out about messages while another thread makes the next snapshot."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Form, Listing
from gateway.store.maildir.folders.scan import NEVER
from gateway.store.maildir.listing.snapshot import (
    CLAIMED,
    UNKNOWN,
    UNREADABLE,
    Addition,
    Size,
    Snapshot,
)


class Names(tuple[str, ...]):
    """Base names; that one is read is the moment at which another thread has its turn."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        self.meanwhile()
        return super().__getitem__(index)


class MeasuredMeanwhileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.names = Names(["one", "two", "three"])
        forms = bytearray([CLAIMED, CLAIMED, UNREADABLE])
        listing = Listing([10, 20, 30], ["1", "2", "3"])
        stored = array("q", [10, 20, 30])
        self.snapshot = Snapshot(listing, self.names, [""] * 3, forms, stored, {}, NEVER)
        self.snapshot.measured(0, Size(11, Form.CLEAN))

    def test_a_message_that_is_measured_while_the_sizes_are_taken_over_stops_nothing(self) -> None:
        self.names.meanwhile = lambda: self.snapshot.measured(1, Size(21, Form.CLEAN))
        known = self.snapshot.known()
        self.assertEqual((known.octets["one"], known.forms["one"]), (11, Form.CLEAN))
        self.names.meanwhile = lambda: None
        self.assertEqual(self.snapshot.known().octets["two"], 21)

    def test_a_guess_is_not_taken_over_though_its_message_is_measured_meanwhile(self) -> None:
        self.names.meanwhile = lambda: self.snapshot.measured(2, Size(33, Form.CLEAN))
        self.assertNotEqual(self.snapshot.known().octets.get("three"), 30)


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
