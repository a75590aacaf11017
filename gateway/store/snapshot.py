"""One state of a mailbox, as its sessions share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attrs import frozen

from gateway.model import Form, Listing
from gateway.store.scan import Stamp

__all__ = ["Reading"]

CLAIMED = 255
"""In ``Snapshot.forms``: nobody has looked, the size is what a name or the uidlist says."""

UNREADABLE = 254
"""In ``Snapshot.forms``: it could not be read, the size is a guess for this listing only."""


@frozen
class Reading:
    """How mail is read.  ``[store]`` of the configuration explains each."""

    exact: bool = True
    convert_cr: bool = False
    no_nuls: bool = False
    mark_read: bool = True
    create: bool = True
    count_hidden: bool = False
    verify_octets: int = 16 * 1024 * 1024
    lock_timeout: float = 20.0


class Size(NamedTuple):
    """How large a message is, and how that is known."""

    octets: int
    form: int = CLAIMED
    whole: bool = False
    """The stored octets end with a line end."""


class Snapshot:
    """What was there when the mailbox was read.

    Flat sequences, since an object for each of 100,000 messages would have
    to be visited by every garbage collection.
    """

    __slots__ = ("_corrected", "bases", "files", "forms", "listing", "stamp")

    def __init__(
        self,
        listing: Listing,
        bases: Sequence[str],
        files: list[str],
        forms: bytearray,
        stamp: Stamp,
    ) -> None:
        self.listing = listing
        self.bases = bases
        self.files = files
        """``new/...`` or ``cur/...``; follows renames, for all who share the snapshot."""
        self.forms = forms
        """For each message its ``Form``, or ``CLAIMED``, or ``UNREADABLE``."""
        self.stamp = stamp
        """``NEVER`` for one that is not all there was: good for this login only."""
        self._corrected: dict[int, int] = {}

    def measured(self, index: int, size: Size) -> None:
        """A message was looked at after all: right from the next listing on."""
        # The size first: a reader on another thread that sees the form relies on it.
        if size.octets != self.listing.sizes[index]:
            self._corrected[index] = size.octets
        self.forms[index] = size.form

    def known(self) -> tuple[dict[str, int], dict[str, Size]]:
        """For the next snapshot: octets of all messages but guesses, and what was measured."""
        # Copies: while this reads, other threads measure messages of sessions that are open.
        forms, corrections = bytes(self.forms), dict(self._corrected)
        octets = dict(zip(self.bases, self.listing.sizes, strict=True))
        for index, corrected in corrections.items():
            octets[self.bases[index]] = corrected
        measured = {
            base: Size(octets[base], form)
            for base, form in zip(self.bases, forms, strict=True)
            if form < UNREADABLE
        }
        if UNREADABLE in forms:
            for base, form in zip(self.bases, forms, strict=True):
                if form == UNREADABLE:
                    del octets[base]
        return octets, measured

    def form(self, index: int, stored: int) -> Form:
        """What may be relied on for a file that has ``stored`` octets now."""
        form = self.forms[index]
        if form >= UNREADABLE or stored != self.listing.sizes[index]:
            return Form.STORED
        return Form(form)
