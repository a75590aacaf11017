"""What sessions find out about messages while another thread makes the next snapshot."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Form, Listing
from gateway.store.maildir.folders.scan import NEVER
from gateway.store.maildir.listing.snapshot import CLAIMED, UNREADABLE, Size, Snapshot


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
