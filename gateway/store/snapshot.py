"""From a Maildir and its uidlist to a listing that sessions can share.  Blocks: for a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from attrs import frozen
from twisted.logger import Logger

from gateway.errors import MailboxUnusable, NoSuchMailbox
from gateway.model import Listing
from gateway.store.dotlock import dotlock
from gateway.store.files import measure, store_error
from gateway.store.scan import Stamp, delivery_order, scan, size_in, stamp_of
from gateway.store.uidlist import NAME, UidList

log = Logger()

BIG = 1000
"""Messages from which on replies are rendered on the worker, not in the reactor's thread."""


@frozen
class Reading:
    """How mail is read.  ``[store]`` of the configuration explains each."""

    exact: bool = True
    convert_cr: bool = False
    no_nuls: bool = False
    mark_read: bool = True
    create: bool = True
    verify_octets: int = 16 * 1024 * 1024
    lock_timeout: float = 20.0


class Snapshot:
    """One state of a mailbox.

    ``files`` alone changes: it follows renames, for all who share it.
    """

    __slots__ = ("bases", "checked", "files", "listing", "stamp")

    def __init__(
        self,
        listing: Listing,
        bases: Sequence[str],
        files: list[str],
        checked: bytearray,
        stamp: Stamp,
    ) -> None:
        self.listing = listing
        self.bases = bases
        self.files = files
        self.checked = checked
        """For each message: has its size been held against the file, and what was seen."""
        self.stamp = stamp


TRUSTED, CANONICAL, OTHER = 0, 1, 2
"""``checked``: size as the name says; measured, stored as sent; measured, stored otherwise."""

Sizes = dict[str, tuple[int, int]]


class Reader:
    """Reads one mailbox again and again, each time only what is new."""

    def __init__(
        self, maildir: str, reading: Reading, *, now: Callable[[], float] = time.time
    ) -> None:
        self._maildir = maildir
        self._reading = reading
        self._now = now
        self._list_path = f"{maildir}/{NAME}"
        self._uidlist = UidList(self._list_path)

    def stamp(self) -> Stamp:
        """The mailbox's stamp as it is now."""
        return stamp_of(self._maildir, self._list_path)

    def read(self, before: Snapshot | None) -> Snapshot:
        """The mailbox as it is now.

        Raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``StoreDown``.
        """
        try:
            return self._read(before)
        except OSError as error:
            raise store_error(error) from error
        finally:
            if self._uidlist.torn:
                self._uidlist = UidList(self._list_path)

    def _read(self, before: Snapshot | None) -> Snapshot:
        try:
            stamp = self.stamp()
            files = scan(self._maildir)
        except FileNotFoundError:
            self._make_maildir()
            stamp, files = self.stamp(), {}
        self._uidlist.refresh()
        sizes = _known_sizes(before)
        new = [base for base in files if base not in self._uidlist.uids]
        if new:
            new = self._with_sizes(new, files, sizes)
            self._list_new(new, files, sizes)
            stamp = (*stamp[:2], self.stamp()[2])
        bases = [base for base in self._uidlist.uids if base in files]
        return self._snapshot(self._ordered(bases), files, sizes, stamp)

    def _make_maildir(self) -> None:
        if not self._reading.create:
            raise NoSuchMailbox(f"{self._maildir} is not a Maildir")
        if os.path.lexists(self._maildir) and not os.path.isdir(self._maildir):
            raise MailboxUnusable(f"{self._maildir} is not a directory")
        for folder in ("tmp", "new", "cur"):
            os.makedirs(f"{self._maildir}/{folder}", mode=0o700, exist_ok=True)

    # -- unique-ids ----------------------------------------------------------

    def _list_new(self, new: list[str], files: dict[str, str], sizes: Sizes) -> None:
        with dotlock(self._list_path, timeout=self._reading.lock_timeout):
            uidlist = self._uidlist
            uidlist.refresh()
            entries = {
                base: _fields(base, sizes)
                for base in sorted(new, key=delivery_order)
                if base not in uidlist.uids
            }
            if not entries:
                return
            try:
                uidlist.add(entries, now=self._now(), keep=files)
            except BaseException:
                # What memory says was not made to last.
                self._uidlist = UidList(self._list_path)
                raise

    def _ordered(self, bases: list[str]) -> list[str]:
        uidlist = self._uidlist
        bases.sort(key=uidlist.uids.__getitem__)
        orders = {
            base: int(order)
            for base in uidlist.fields
            if (order := uidlist.field(base, "O")) and order.isdecimal()
        }
        if orders:
            last = max(orders.values()) + 1
            bases.sort(key=lambda base: orders.get(base, last))
        return bases

    def _ids(self, bases: list[str]) -> list[str]:
        """Unique-ids as POP3 shows them: a carried-over one verbatim, else the number."""
        uidlist = self._uidlist
        ids = [str(uidlist.uids[base]) for base in bases]
        if not uidlist.fields:
            return ids
        shown: set[str] = set()
        for index, base in enumerate(bases):
            carried = uidlist.field(base, "P")
            if carried is not None:
                if _may_be_id(carried):
                    ids[index] = carried
                else:
                    log.warn("{path}: no POP3 unique-id: {id!r}", path=self._list_path, id=carried)
            if ids[index] in shown:
                log.warn("{path}: unique-id {id} is there twice", path=self._list_path, id=carried)
                ids[index] = f"{ids[index][:58]}.{uidlist.uids[base]}"
            shown.add(ids[index])
        return ids

    # -- sizes ---------------------------------------------------------------

    def _with_sizes(self, new: list[str], files: dict[str, str], sizes: Sizes) -> list[str]:
        """Measure new files whose names do not tell; those that are gone again fall out."""
        there = []
        for base in new:
            if base not in sizes and self._claimed(base) is None:
                try:
                    sizes[base] = self._measured(files[base])
                except FileNotFoundError:
                    continue
            there.append(base)
        return there

    def _claimed(self, base: str) -> int | None:
        """What the name or the uidlist says of the size."""
        if not self._reading.exact:
            size = size_in(base, "S")
            return size if size is not None else size_in(base, "W")
        size = size_in(base, "W")
        if size is None:
            listed = self._uidlist.field(base, "W")
            size = int(listed) if listed and listed.isdecimal() else None
        return size

    def _measured(self, file: str) -> tuple[int, int]:
        path = f"{self._maildir}/{file}"
        if not self._reading.exact:
            return os.stat(path).st_size, TRUSTED
        counted = measure(path, convert_cr=self._reading.convert_cr)
        return counted.octets, CANONICAL if counted.canonical else OTHER

    def _size(self, base: str, file: str, budget: Budget) -> tuple[int, int]:
        """The size and how it is known; raises ``FileNotFoundError``."""
        claimed = self._claimed(base)
        if claimed is None:
            return self._measured(file)
        if not self._reading.exact or not budget.allows(claimed):
            return claimed, TRUSTED
        size, checked = self._measured(file)
        if size != claimed:
            log.warn(
                "{maildir}: {base} claims {claimed} octets but RETR sends {size}",
                maildir=self._maildir,
                base=base,
                claimed=claimed,
                size=size,
            )
        return size, checked

    def _snapshot(
        self, bases: list[str], files: dict[str, str], sizes: Sizes, stamp: Stamp
    ) -> Snapshot:
        there: list[str] = []
        octets: list[int] = []
        checked = bytearray()
        budget = Budget(self._reading.verify_octets)
        # The newest first, since they are what a client will ask for.
        for base in reversed(bases):
            try:
                size, how = sizes.get(base) or self._size(base, files[base], budget)
            except FileNotFoundError:
                continue
            there.append(base)
            octets.append(size)
            checked.append(how)
        there.reverse()
        octets.reverse()
        checked.reverse()
        listing = Listing(octets, self._ids(there))
        if len(listing) >= BIG:
            listing.prepare()
        return Snapshot(listing, there, [files[base] for base in there], checked, stamp)


class Budget:
    """Octets that may still be read to hold claimed sizes against files."""

    def __init__(self, octets: int) -> None:
        self._octets = octets

    def allows(self, octets: int) -> bool:
        """Whether a file of so many octets may be read; it is then taken off."""
        # Opening a file costs about as much as reading 4 KiB of it.
        self._octets -= octets + 4096
        return self._octets >= 0


def _known_sizes(before: Snapshot | None) -> Sizes:
    if before is None:
        return {}
    return {
        base: (size, checked)
        for base, size, checked in zip(
            before.bases, before.listing.sizes, before.checked, strict=True
        )
    }


def _fields(base: str, sizes: Sizes) -> str:
    """The uidlist's ``W`` for a message whose name does not have it.

    Dovecot's ``W`` does not count a line end that RETR adds, so it is left
    out unless what is stored is what is sent.
    """
    known = sizes.get(base)
    if known is None or known[1] != CANONICAL or size_in(base, "W") is not None:
        return ""
    return f"W{known[0]}"


def _may_be_id(text: str) -> bool:
    return 1 <= len(text) <= 70 and all("!" <= char <= "~" for char in text)
