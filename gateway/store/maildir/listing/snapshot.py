"""A snapshot of a mailbox, shared by its sessions."""

from __future__ import annotations

import os
from array import array
from collections.abc import Container, Iterable, Sequence
from threading import Lock
from typing import NamedTuple
from weakref import WeakValueDictionary

from attrs import field, frozen

from gateway.interfaces import HighWater
from gateway.model import Form, Listing
from gateway.store.maildir.folders.files import version_of
from gateway.store.maildir.folders.scan import Stamp, stored_size, tick
from gateway.store.maildir.uids.high_water import Mark, no_high_water

__all__ = ["MaildirOptions"]

CLAIMED = 255
"""In ``Snapshot.forms``: not measured; the size is that in the name or the uidlist."""

UNREADABLE = 254
"""In ``Snapshot.forms``: unreadable; the size is a guess for this listing only."""

PACKED = 16
"""In ``Snapshot.forms``, added to the ``Form`` of a compressed message."""

UNKNOWN = -1
"""As ``Size.version``: the file was not examined."""

_CHANGED = 0
"""In place of a version: that of no file."""

FORMS = tuple(Form)
"""By their numbers: to look one up there costs less than ``Form(number)``."""


@frozen
class MaildirOptions:
    """How mail is read; see ``[store]`` of the configuration."""

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
        """The high-water mark of a Maildir, shared by the readers of its uidlist."""
        with self._marking:
            return self.marks.setdefault(maildir, Mark(maildir, self.high_water))


class Size(NamedTuple):
    """The size of a message, and its origin."""

    octets: int
    form: int = CLAIMED
    whole: bool = False
    """The stored octets end with a line end."""

    stored: int = 0
    """Octets of the file when it was examined."""

    version: int = UNKNOWN
    """``version_of`` the file when it was examined."""

    changed: int = 0
    """The ctime of the file, in ns since 1970: any change sets it."""


Correction = tuple[str, Size | None]
"""A base name, and the size that RETR found; None: the file changed, measure it again."""


class Addition(NamedTuple):
    """A message that is new in a snapshot."""

    base: str
    file: str
    uid: str
    octets: int
    form: int
    version: int
    is_young: bool


class Known(NamedTuple):
    """What a snapshot knows of its messages, by base name, without guesses."""

    octets: dict[str, int]
    forms: dict[str, int]
    versions: dict[str, int]
    young: set[str]
    doubted: set[str]
    """Messages with changed data: sizes in names are not trusted."""

    def forget(self, base: str) -> None:
        """Forget this message: its file changed, or another message has its name."""
        if self.octets.pop(base, None) is not None:
            self.doubted.add(base)
        self.forms.pop(base, None)
        self.versions.pop(base, None)
        self.young.discard(base)


class Snapshot:
    """The messages of a mailbox at the time of reading.

    Flat sequences: an object per message would make each garbage collection visit
    100,000 objects.

    Threads share it without a lock:

    - The thread of a reading makes snapshots of earlier ones, and alone sets ``stamp``.
    - Sessions find out more, in the reactor's thread and in others: they set ``_versions`` and then
      ``forms``, rename ``files``, and append to ``corrections``.  A reading may have copied the
      sizes and the stamp before, so neither can tell of a correction.
    - The next reading takes the corrections that it began with, and deletes these only once its
      snapshot is complete.  Those that come meanwhile are for the one after it.
    """

    __slots__ = (
        "_begun",
        "_in_new",
        "_versions",
        "bases",
        "corrections",
        "files",
        "forms",
        "listing",
        "stamp",
        "young",
    )

    def __init__(
        self,
        listing: Listing,
        bases: Sequence[str],
        files: list[str],
        forms: bytearray,
        versions: array[int],
        young: set[int],
        stamp: Stamp,
        begun: int = 0,
        corrections: list[Correction] | None = None,
    ) -> None:
        """``begun``: when the mailbox was scanned, in ns since 1970.

        ``corrections``: the list that all snapshots of the mailbox share.
        """
        self.listing = listing
        self.bases = bases
        self.files = files
        """``new/...`` or ``cur/...``; ``rename`` changes it for all sessions."""
        self.forms = forms
        """For each message its ``Form``, perhaps ``PACKED``; or ``CLAIMED``, or ``UNREADABLE``."""
        self.young = young
        """Indexes of messages that may still be written."""
        self.stamp = stamp
        """``NEVER`` for an incomplete snapshot: valid for this login only."""
        self.corrections: list[Correction] = [] if corrections is None else corrections
        """What sessions found out that no listing contains yet; the next login must."""
        self._begun = begun
        self._versions = versions
        self._in_new: set[str] | None = None

    @property
    def in_new(self) -> set[str]:
        """The files that are in ``new``: looked for once, and not at each new message."""
        if self._in_new is None:
            self._in_new = _in_new(self.files)
        return self._in_new

    def rename(self, index: int, file: str) -> None:
        """Another program or session gave the file of a message this name."""
        self.files[index] = file
        self._in_new = None

    def measured(self, index: int, size: Size) -> None:
        """Record a message that was measured later; used from the next listing on."""
        if size.octets != self.listing.sizes[index]:
            self.corrections.append((self.bases[index], size))
        self._versions[index] = size.version
        self.forms[index] = size.form

    def is_version(self, index: int, version: int) -> bool:
        """Whether a file of this version is unchanged since it was examined."""
        return self._versions[index] in (UNKNOWN, version)

    def is_as_listed(self, index: int, status: os.stat_result) -> bool:
        """Whether the file with this status is that which was listed.

        If it was listed by its name alone: whether it has the size in the name, and nobody
        has written to it since.
        """
        version = self._versions[index]
        if version != UNKNOWN or self.forms[index] != CLAIMED:
            return version in (UNKNOWN, version_of(status))
        is_older = self._begun - status.st_mtime_ns >= tick(status.st_mtime_ns)
        return is_older and status.st_size == stored_size(self.bases[index])

    def refute(self, index: int) -> None:
        """The file changed: the next listing measures it again."""
        if (self._versions[index], self.forms[index]) == (_CHANGED, UNREADABLE):
            return
        self.corrections.append((self.bases[index], None))
        self._versions[index] = _CHANGED
        self.forms[index] = UNREADABLE

    def longer(self, added: Sequence[Addition], stamp: Stamp) -> Snapshot:
        """This snapshot with further messages at its end."""
        first = len(self.bases)
        # In this order: a form without the version of its file would be believed of any file.
        forms = self.forms + bytes(one.form for one in added)
        versions = self._versions + array("q", [one.version for one in added])
        young = {index for index, one in enumerate(added, first) if one.is_young}
        longer = Snapshot(
            self.listing.longer([one.octets for one in added], [one.uid for one in added]),
            [*self.bases, *(one.base for one in added)],
            [*self.files, *(one.file for one in added)],
            forms,
            versions,
            self.young | young,
            stamp,
            self._begun,
            self.corrections,
        )
        if self._in_new is not None:
            longer._in_new = self._in_new | _in_new(one.file for one in added)
        return longer

    def without(self, gone: Container[str]) -> Snapshot:
        """This snapshot without the messages of these base names."""
        kept = [index for index, base in enumerate(self.bases) if base not in gone]
        sizes, uids, young = self.listing.sizes, self.listing.uids, self.young
        return Snapshot(
            Listing([sizes[index] for index in kept], [uids[index] for index in kept]),
            [self.bases[index] for index in kept],
            [self.files[index] for index in kept],
            bytearray([self.forms[index] for index in kept]),
            array("q", [self._versions[index] for index in kept]),
            {at for at, index in enumerate(kept) if index in young} if young else set(),
            self.stamp,
            self._begun,
            self.corrections,
        )

    def known(self) -> Known:
        """The data for the next snapshot, without corrections."""
        # A copy, and before the versions, as in ``longer``.
        bases, forms = self.bases, bytes(self.forms)
        known = Known(
            dict(zip(bases, self.listing.sizes, strict=True)),
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
        """``version_of`` the files of these when they were examined, by unique-id."""
        uids, versions = self.listing.uids, self._versions
        return {uids[index]: versions[index] for index in indexes if versions[index] != UNKNOWN}

    def is_packed(self, index: int) -> bool:
        """Whether the message was compressed when it was measured."""
        return UNREADABLE > self.forms[index] >= PACKED

    def form(self, index: int) -> Form:
        """The reliable data for a file that is unchanged since the listing."""
        form = self.forms[index]
        return Form.STORED if form >= UNREADABLE else FORMS[form & ~PACKED]


def _in_new(files: Iterable[str]) -> set[str]:
    return {file for file in files if file[0] == "n"}
