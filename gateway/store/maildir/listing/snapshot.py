"""One state of a mailbox, as its sessions share it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple
from weakref import WeakValueDictionary

from attrs import field, frozen

from gateway.interfaces import HighWater
from gateway.model import Form, Listing
from gateway.store.maildir.folders.scan import NEVER, Stamp
from gateway.store.maildir.uids.high_water import Mark, no_high_water

__all__ = ["MaildirOptions"]

CLAIMED = 255
"""In ``Snapshot.forms``: nobody has looked, the size is what a name or the uidlist says."""

UNREADABLE = 254
"""In ``Snapshot.forms``: it could not be read, the size is a guess for this listing only."""

PACKED = 16
"""In ``Snapshot.forms``, added to the ``Form`` of what is unpacked from the file."""

UNKNOWN = -1
"""As ``Size.version``: nobody has looked at the file."""

_FORMS = tuple(Form)


@frozen
class MaildirOptions:
    """How mail is read.  ``[store]`` of the configuration explains each."""

    exact: bool = True
    convert_cr: bool = False
    no_nuls: bool = False
    mark_read: bool = True
    create: bool = True
    count_hidden: bool = False
    verify_octets: int = 16 * 1024 * 1024
    lock_timeout: float = 20.0
    high_water: HighWater = no_high_water
    marks: WeakValueDictionary[str, Mark] = field(factory=WeakValueDictionary, eq=False, repr=False)
    _marking: Lock = field(factory=Lock, eq=False, repr=False)

    def mark_of(self, maildir: str) -> Mark:
        """How far a Maildir's ids have come: the same for all who read its uidlist at the time."""
        with self._marking:
            return self.marks.setdefault(maildir, Mark(maildir, self.high_water))


class Size(NamedTuple):
    """How large a message is, and how that is known."""

    octets: int
    form: int = CLAIMED
    whole: bool = False
    """The stored octets end with a line end."""

    stored: int = 0
    """Octets in the file when it was looked at."""

    version: int = UNKNOWN
    """``version_of`` the file when it was looked at."""

    changed: int = 0
    """When anything of the file changed, by its ``ctime``, in ns since 1970."""


class Known(NamedTuple):
    """What a snapshot knows of its messages, by base name; guesses left out."""

    octets: dict[str, int]
    forms: dict[str, int]
    versions: dict[str, int]
    young: set[str]
    doubted: set[str]
    """Those of which something else was known before: no claim about them is believed."""

    def forget(self, base: str) -> None:
        """Drop what is known of this message: somebody wrote to it, or another has its name."""
        if self.octets.pop(base, None) is not None:
            self.doubted.add(base)
        self.forms.pop(base, None)
        self.versions.pop(base, None)
        self.young.discard(base)


class Snapshot:
    """What was there when the mailbox was read.

    Flat sequences, since an object for each of 100,000 messages would have
    to be visited by every garbage collection.
    """

    __slots__ = ("_corrected", "_versions", "bases", "files", "forms", "listing", "stamp", "young")

    def __init__(
        self,
        listing: Listing,
        bases: Sequence[str],
        files: list[str],
        forms: bytearray,
        versions: array[int],
        young: set[int],
        stamp: Stamp,
    ) -> None:
        self.listing = listing
        self.bases = bases
        self.files = files
        """``new/...`` or ``cur/...``; follows renames, for all who share the snapshot."""
        self.forms = forms
        """For each message its ``Form``, perhaps ``PACKED``; or ``CLAIMED``, or ``UNREADABLE``."""
        self.young = young
        """Indexes of those that somebody may still be writing."""
        self.stamp = stamp
        """``NEVER`` for one that is not all there was, or is wrong: good for this login only."""
        self._versions = versions
        self._corrected: dict[int, int] = {}

    def measured(self, index: int, size: Size) -> None:
        """A message was looked at after all: right from the next listing on."""
        # The size first: a reader on another thread that sees the form relies on it.
        if size.octets != self.listing.sizes[index]:
            self._corrected[index] = size.octets
            self.stamp = NEVER
        self._versions[index] = size.version
        self.forms[index] = size.form

    def is_version(self, index: int, version: int) -> bool:
        """Whether nobody has written to a file of this version since it was looked at."""
        return self._versions[index] in (UNKNOWN, version)

    def refute(self, index: int) -> None:
        """Somebody has written to the file: the next listing measures it again."""
        self.forms[index] = UNREADABLE
        self.stamp = NEVER

    def known(self) -> Known:
        """For the next snapshot."""
        # Copies: while this reads, other threads measure messages of sessions that are open.
        bases, forms, corrections = self.bases, bytes(self.forms), dict(self._corrected)
        octets = dict(zip(bases, self.listing.sizes, strict=True))
        for index, corrected in corrections.items():
            octets[bases[index]] = corrected
        known = Known(
            octets,
            dict(zip(bases, forms, strict=True)),
            dict(zip(bases, self._versions, strict=True)),
            {bases[index] for index in list(self.young)},
            set(),
        )
        if UNREADABLE in forms:
            for base in [base for base, form in known.forms.items() if form == UNREADABLE]:
                known.forget(base)
        return known

    def versions(self, indexes: Iterable[int]) -> dict[str, int]:
        """``version_of`` the files of these when they were looked at, by unique-id."""
        uids, versions = self.listing.uids, self._versions
        return {uids[index]: versions[index] for index in indexes if versions[index] != UNKNOWN}

    def is_packed(self, index: int) -> bool:
        """Whether the message was unpacked from its file when it was measured."""
        return UNREADABLE > self.forms[index] >= PACKED

    def form(self, index: int) -> Form:
        """What may be relied on for a file that is the one that was listed."""
        form = self.forms[index]
        return Form.STORED if form >= UNREADABLE else _FORMS[form & ~PACKED]
